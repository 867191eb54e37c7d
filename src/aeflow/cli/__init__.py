"""The command line, which parses, calls and prints; no other wing may import it.

Results go to stdout, everything else to stderr. Exit code 0: done. 1: done, but some inputs were refused, or an audit
found something. 2: wrong use, or a broken model.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from aeflow._version import __version__
from aeflow.cli.options import app
from aeflow.errors import AeflowError

# Each import adds its commands, in the order of the help.
# isort: off
from aeflow.cli import train, evaluate, score, explain, info, export, bench, recalibrate, tune, audit  # noqa: F401
from aeflow.cli import data, cache  # noqa: F401
# isort: on

__all__ = ["app", "main"]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: every foreseen error is one line on stderr and exit code 2."""
    try:
        app(args=arguments)
    except AeflowError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stderr.close()
        sys.exit(0)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
