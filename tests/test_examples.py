"""The examples run as they stand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, *arguments: object) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"flowgmm_table.py"}


def test_flowgmm_on_a_table() -> None:
    assert "FlowGMM              accuracy 0." in run("flowgmm_table.py")
    assert len((EXAMPLES / "flowgmm_table.py").read_text().splitlines()) <= 40  # a reader takes it in at a glance
