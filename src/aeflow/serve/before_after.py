"""What a recalibration changes: images of the worklist as the model that serves calls them, and as the new run does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Row, select

from aeflow.artifacts.layout import read_metadata
from aeflow.serve.database import Database
from aeflow.serve.intake import Intake
from aeflow.serve.tables import images

PLACE = "compared-"  # beginning of the name of the folder with links to the images
MOST = 200  # images that are scored anew: the labelled ones, then those that came last


@dataclass(frozen=True, slots=True)
class Change:
    """How many of the same images each model calls abnormal, and what that is for those that readers labelled."""

    images: int
    abnormal: tuple[int, int]  # called so before and after
    thresholds: tuple[float, float]
    missed: int  # labelled abnormal and called so before, normal now
    cleared: int  # labelled normal and called abnormal before, normal now
    lowest: float  # p-value that the new model can give
    tied: int  # images that have it


def change_by(out: Path, worklist: Database, intake: Intake, threshold: float) -> Change | None:
    """Return what the run ``out`` changes beside the model that serves; None if it scored no image of it.

    Raises subprocess.CalledProcessError if it can score none of them.
    """
    before = _chosen(worklist, intake.worklist.model)
    if not before:
        return None
    after = _scored(out, [intake.path_of(row.content) for row in before], intake.folder)
    both = [(row, after[number]) for number, row in enumerate(before) if number in after]
    calibration = read_metadata(out)["calibration"]
    return summed(both, (threshold, calibration["threshold"]), 1 / (len(calibration["scores"]) + 1))


def summed(both: Iterable[tuple[Row[Any], dict[str, Any]]], thresholds: tuple[float, float], lowest: float) -> Change:
    """Return the change between rows of the worklist and rows of the same images by the new run."""
    pairs = list(both)
    turned = [row.label for row, new in pairs if (row.verdict, new["verdict"]) == ("abnormal", "normal")]
    return Change(
        len(pairs),
        (sum(row.verdict == "abnormal" for row, _ in pairs), sum(new["verdict"] == "abnormal" for _, new in pairs)),
        thresholds,
        turned.count("abnormal"),
        turned.count("normal"),
        lowest,
        sum(new["p_value"] <= lowest * (1 + 1e-9) for _, new in pairs),
    )


def _chosen(worklist: Database, model: int) -> list[Row[Any]]:
    """Return images of a model that are whole files."""
    columns = (images.c.content, images.c.verdict, images.c.label)
    chosen = select(*columns).where(images.c.model == model, images.c.slice == 0)
    order = (images.c.label == "", images.c.at.desc())
    with worklist.reading() as connection:
        return list(connection.execute(chosen.order_by(*order).limit(MOST)))


def _scored(out: Path, paths: list[Path], folder: Path) -> dict[int, dict[str, Any]]:
    """Return the rows of `aeflow score` by the number of the path; a file that cannot be read any more has none."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=PLACE) as place:
        for number, path in enumerate(paths):
            if path.is_file():
                os.link(path, Path(place) / f"{number:06}")
        command = [sys.executable, "-m", "aeflow", "score", str(out), place, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    rows = {int(Path(row["path"]).name): row for row in found if not row.get("error")}
    if not rows:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return rows
