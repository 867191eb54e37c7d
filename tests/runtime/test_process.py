"""Process settings: set in time, and never against the user."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from aeflow.errors import SettingsError
from aeflow.runtime.process import pick_device, prepare


def policy(**environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    program = "import aeflow, os, sys; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    return subprocess.run(
        [sys.executable, "-c", program], env={**kept, **environment}, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_idle_threads_sleep_unless_the_user_said_otherwise() -> None:
    assert policy() == "passive False"  # set before torch is there to read it
    assert policy(OMP_WAIT_POLICY="active") == "active False"


def test_prepare_may_be_called_again() -> None:
    prepare()
    prepare()


def test_devices() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(SettingsError, match="'tpu' is not supported; choose auto, cpu or cuda"):
        pick_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(SettingsError, match="no CUDA device is available; choose auto or cpu"):
            pick_device("cuda")
