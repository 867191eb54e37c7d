"""Limits: what the environment says holds, in the workers too, and what it cannot mean is refused."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from aeflow.errors import SettingsError
from aeflow.imageio.limits import Limits, parse
from helpers.image_files import noise, png


def test_pairs_change_limits() -> None:
    assert parse("") == Limits()
    assert parse("max_bytes=1e9, max_seconds=0.5") == Limits(max_bytes=1_000_000_000, max_seconds=0.5)


@pytest.mark.parametrize("text", ["max_byte=1", "max_bytes", "max_bytes=many", "max_bytes=nan", "max_bytes=inf"])
def test_what_is_no_limit_is_named(text: str) -> None:
    with pytest.raises(SettingsError, match="is no limit; write for instance max_bytes=1e9"):
        parse(text)


@pytest.mark.parametrize("text", ["max_bytes=0", "max_seconds=-1", "max_frames=0.2"])
def test_a_limit_that_refuses_everything_is_none(text: str) -> None:
    with pytest.raises(SettingsError, match="would refuse everything"):
        parse(text)


ASK = """
from pathlib import Path
from aeflow.data.records import find_images
from aeflow.data.loader import stream
print([str(x) if isinstance(x, Exception) else x.shape for _, x in stream(find_images([Path("image")]), 32)])
"""


def test_limits_of_the_environment_reach_the_workers(tmp_path) -> None:
    (tmp_path / "image").write_bytes(png(noise("u1"), 0))
    for text, found in (("max_pixels=1000", "where the limit is 1000"), ("max_pixels=1e6", "(3, 32, 32)")):
        env = {**os.environ, "AEFLOW_LIMITS": text}
        asked = subprocess.run([sys.executable, "-c", ASK], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert found in asked.stdout, asked.stderr
