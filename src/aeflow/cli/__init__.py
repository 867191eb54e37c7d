"""The command line, which parses, calls and prints; no other wing may import it.

Results go to stdout, everything else to stderr. Exit code 0: done. 1: done, but some inputs were refused, or an audit
found something. 2: wrong use, or a broken model. 3: ``drift`` gives an alarm.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Annotated

import typer

from aeflow._version import __version__
from aeflow.cli.options import app
from aeflow.errors import AeflowError, broken, stop_behind
from aeflow.runtime.files import UNENCODABLE
from aeflow.runtime.terminal import print

# Each import adds its commands, in the order of the help.
# isort: off
from aeflow.cli import train, evaluate, score, explain, info, export, bench, recalibrate, drift, tune, audit  # noqa: F401
from aeflow.cli import serve, node, data, cache, settings, demo  # noqa: F401
# isort: on

__all__ = ["app", "main"]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: every foreseen error is one line on stderr and exit code 2.

    What a stream's encoding cannot hold, as bytes of a file's name, is written as escapes.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=UNENCODABLE)
    code = _run(arguments)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = _hushed(code)
    except OSError as error:
        code = _failed(broken(error, "standard output"))
    sys.exit(code)


def _run(arguments: Sequence[str] | None) -> str | int | None:
    """Return the exit code of a command."""
    try:
        app(args=arguments)
    except SystemExit as end:  # so a command ends always; click's exit code for a reader who has seen enough is 1
        if (stop := stop_behind(end)) is not None:  # of which typer makes an exit code
            return _stopped(stop)
        return _hushed(0) if isinstance(end.__context__, BrokenPipeError) else end.code
    except AeflowError as error:
        return _failed(error)
    except OSError as error:
        return _failed(broken(error, "the system"), error)
    except KeyboardInterrupt as stop:
        return _stopped(stop)
    return 0


def _failed(error: Exception, noted: Exception | None = None) -> int:
    print(f"error: {error}{_noted(noted or error)}", file=sys.stderr)
    return 2


def _stopped(stop: KeyboardInterrupt) -> int:
    print(f"stopped{_noted(stop)}", file=sys.stderr)
    return 130


def _noted(error: BaseException) -> str:
    """Return what a command has left behind, as noted where it ended."""
    notes = getattr(error, "__notes__", [])
    return f" ({', '.join(notes)})" if notes else ""


def _hushed(code: str | int | None) -> str | int | None:
    """Send what is still waiting for a reader who has gone nowhere, and return the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
