"""Command-line options that benchmarks share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.common import DOCS, RESULTS, SETS

SHARED: dict[str, dict[str, Any]] = {
    "--data": {"type": Path, "help": "folder of the data sets, each in aeflow's layout"},
    "--sets": {"nargs": "+", "choices": SETS, "default": SETS, "help": "data sets to measure"},
    "--run": {"type": Path, "help": "trained model"},
    "--runs": {"type": Path, "help": "folder of trained models; missing ones are trained into it"},
    "--seed": {"type": int, "default": 0},
    "--seeds": {"type": int, "nargs": "+"},
    "--set": {
        "action": "append",
        "default": [],
        "dest": "changes",
        "metavar": "NAME=VALUE",
        "help": "change a setting",
    },
    "--work": {"type": Path, "help": "folder that keeps trainings until you delete it"},
    "--out": {"type": Path, "default": RESULTS, "help": "folder of the results"},
    "--images": {"type": Path, "default": DOCS / "images", "help": "folder of the pictures"},
    "--picture": {"type": Path, "help": "file of the picture"},
    "--page": {"type": Path, "help": "page whose table is written"},
    "--anomalib-python": {"type": Path, "help": "Python of an environment with anomalib"},
}


class Parser(argparse.ArgumentParser):
    """Parser of a benchmark's options, which shows the program's docstring as its help."""

    def __init__(self, program: str, description: str | None) -> None:
        super().__init__(
            prog=f"python -m benchmarks.{program}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def share(self, *names: str, **changes: Any) -> None:
        """Add shared options; ``changes`` replace what ``SHARED`` says of them."""
        for name in names:
            self.add_argument(name, **{**SHARED[name], **changes})
