"""Picture of one image in all versions."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt

from aeflow.data.records import Record
from benchmarks.studies.altered_copies.copies import LungFinder, seen


def draw(image: Path, find: LungFinder, path: Path) -> None:
    """Draw an image whole and in each version, side by side."""
    [(_, found)] = seen([Record(image, image.name, "test", 1, image.stem, None, None)], find)
    figure, panels = plt.subplots(1, len(found), figsize=(2.2 * len(found), 2.5), layout="constrained")
    for axes, (name, (x, _)) in zip(panels, found.items(), strict=True):
        axes.imshow(x[0, 0], cmap="gray", vmin=0, vmax=1)
        axes.set_title(name, fontsize=9)
        axes.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
