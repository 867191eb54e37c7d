"""Commands of the command line, run in this process or in one of their own."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from aeflow.cli import app, main

AEFLOW = str(Path(sys.executable).with_name("aeflow"))  # the command itself, as a shell would find it


def within(*arguments: object, ok: int = 0) -> tuple[str, str]:
    """Run a command in this process, without the seconds that a start takes; return its stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
        main([*map(str, arguments)])
    assert end.value.code == ok, err.getvalue()
    return out.getvalue(), err.getvalue()


def error_of(*arguments: object) -> str:
    """Return the one line of error that a command prints, after notes of what it was at, with nothing on stdout."""
    out, err = within(*arguments, ok=2)
    assert out == ""
    [line] = [line for line in err.strip().splitlines() if not line.startswith("note: ")]
    return line.removeprefix("error: ")


def call(*arguments: object, ok: int = 0, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does, in a process of its own."""
    command = [sys.executable, "-c", "from aeflow.cli import main; main()", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == ok, done.stderr
    assert "Traceback" not in done.stderr
    return done


def every_command(group: TyperGroup | None = None, before: str = "") -> Iterator[str]:
    """Yield all commands of the program, or of a group, as one types them."""
    for name, one in (group or typer.main.get_command(app)).commands.items():  # type: ignore[attr-defined]
        if isinstance(one, TyperGroup):
            yield from every_command(one, f"{before}{name} ")
        else:
            yield f"{before}{name}"
