"""The figures of a report, each a pure function of numbers: normal is green, abnormal is red."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from aeflow.evaluation.gallery import Panel, gallery, panel_title
from aeflow.evaluation.style import (
    ABNORMAL,
    NORMAL,
    WIDTH,
    as_data_uri,
    new_figure,
    save_png,
    styled,
)

__all__ = [
    "Panel",
    "as_data_uri",
    "confusion_matrix",
    "epoch_sheet",
    "gallery",
    "panel_title",
    "precision_recall",
    "roc",
    "save_png",
    "score_distributions",
    "training_curves",
]

Floats = NDArray[np.float64]
SHEET = 12  # epochs on one sheet at most
BINS = 1024  # of the histogram under a density curve


@styled
def score_distributions(
    normal: ArrayLike, abnormal: ArrayLike, threshold: float, held_out: ArrayLike | None = None
) -> Figure:
    """Density curves of the scores by true class, a tick an image below, and the threshold; either class may be empty.

    ``held_out`` are the scores of held-out train normals, which the threshold came from. The axis shows the bulk of
    every class; how many scores lie beyond it is written at its ends. Raises DataError where no score is given.
    """
    groups = [("normal", _scores(normal), NORMAL), ("abnormal", _scores(abnormal), ABNORMAL)]
    held = _scores(held_out if held_out is not None else [])
    low, high = _view([scores for _, scores, _ in groups] + [held], [threshold])
    figure = new_figure(WIDTH, 4.2)
    axes, rug = figure.subplots(2, 1, sharex=True, height_ratios=[8, 1])
    handles = []
    for name, scores, colour in groups:
        if len(scores):
            _density(axes, scores, (low, high), colour)
            handles.append(Line2D([], [], color=colour, linewidth=6, label=f"{name} ({len(scores):,})"))
    if len(held):
        x, y = _curve(held, (low, high))
        axes.plot(x, y, color=NORMAL, linewidth=1.4, linestyle=(0, (4, 2)))
        label = f"held-out train normals ({len(held):,})"
        handles.append(Line2D([], [], color=NORMAL, linewidth=1.4, linestyle=(0, (4, 2)), label=label))
    for lane, (_, scores, colour) in enumerate(groups):
        inside = scores[(scores >= low) & (scores <= high)]
        alpha = float(np.clip(40 / max(len(scores), 1), 0.15, 0.9))
        rug.vlines(inside, -lane + 0.1, -lane + 0.9, color=colour, linewidth=0.9, alpha=alpha)
    beyond = [(np.concatenate([s for _, s, _ in groups]) < low).sum(), (np.concatenate([s for _, s, _ in groups]) > high).sum()]
