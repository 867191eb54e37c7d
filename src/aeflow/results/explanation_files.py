"""Explanation as files: ``explain.png`` and ``explain.json``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from aeflow.data.slices import refuse_folder
from aeflow.errors import DataError
from aeflow.reporting.score_picture import Frame, encoded
from aeflow.results.explanation import Explanation
from aeflow.runtime.extras import extra
from aeflow.runtime.files import write_bytes, write_text
from aeflow.runtime.folders import alone, refuse_former_set, together
from aeflow.runtime.inputs import Inputs

PICTURE, FACTS = "explain.png", "explain.json"


def check(out: Path, image: Path, overwrite: bool) -> None:
    """Raise DataError if ``out`` is a file, OutputError if the image or a former explanation is in the way.

    ImageError if the image is a folder.
    """
    refuse_folder(image)
    if out.is_file():
        raise DataError(out, "is a file", "give a folder with --out")
    refuse_former_set(out, (PICTURE, FACTS), Inputs([image]), overwrite)


def write(explanation: Explanation, scales: dict[str, tuple[float, float]], out: Path, image: Path) -> None:
    """Write the explanation of an image into the folder ``out``; ``scales``: see ``Calibration.map_limits``."""
    with alone(out), together(out, (PICTURE, FACTS), Inputs([image])) as staged:
        write_bytes(staged / PICTURE, _picture(explanation, scales))
        write_text(staged / FACTS, json.dumps(explanation.to_json(), indent=1, allow_nan=False))


def _picture(explanation: Explanation, scales: dict[str, tuple[float, float]]) -> bytes:
    """Return the figure of a network's explanation as PNG; without a network the picture of the score."""
    if explanation.beside is None:
        frame = Frame(scales, explanation.score.pictures[0].shape[1])
        return encoded(np.asarray(frame.picture(explanation.score)))
    with extra("report"):
        from aeflow.reporting.style import png
        from aeflow.results.explanation_figure import draw
    return png(draw(explanation, explanation.beside, scales["anomaly"]))
