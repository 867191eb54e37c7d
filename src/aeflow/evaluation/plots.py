"""Figures of a report, each a pure function of numbers: normal is green, abnormal is red."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from aeflow.errors import DataError
from aeflow.metrics.image import precision_recall_band, precision_recall_curve, roc_band, roc_curve
from aeflow.reporting.density import curve, draw, finite, view_of
from aeflow.reporting.gallery import gallery
from aeflow.reporting.palette import ABNORMAL, FAINT, INK, MUTED, NEUTRAL, NORMAL, PAPER, WIDTH
from aeflow.reporting.panels import Panel, panel_title
from aeflow.reporting.style import as_data_uri, grid, new_figure, save_png, styled

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

MAX_EPOCHS = 12  # epochs on one sheet at most
DASHES = (0, (4, 2))


@styled
def score_distributions(
    normal: ArrayLike,
    abnormal: ArrayLike,
    threshold: float,
    held_out: ArrayLike | None = None,
    source: str = "held-out train normals",
) -> Figure:
    """Draw density curves of the scores by true class, a tick an image below, and the threshold.

    Either class may be empty. ``held_out`` are the scores of the normals that the threshold came from, and ``source``
    names these. The axis shows the bulk of every group; at its ends is the number of images beyond it. Raises DataError
    if no score is given.
    """
    groups = [("normal", finite(normal), NORMAL), ("abnormal", finite(abnormal), ABNORMAL)]
    held = finite(held_out)
    view = view_of([groups[0][1], groups[1][1], held], threshold)
    figure = new_figure(WIDTH, 4.0)
    axes, rug = figure.subplots(2, 1, sharex=True, height_ratios=[9, 1])
    axes.axvspan(threshold, view[1], color=FAINT, alpha=0.45, linewidth=0)
    axes.axvline(threshold, color=INK, linewidth=1.4)
    handles: list[Any] = []
    for lane, (name, scores, colour) in enumerate(groups):
        if len(scores):
            draw(axes, scores, view, colour)
            handles.append(Patch(color=colour, label=f"{name} ({len(scores):,})"))
        inside = scores[(scores >= view[0]) & (scores <= view[1])]
        alpha = float(np.clip(60 / (len(inside) + 1), 0.06, 0.9))  # few ticks are seen one by one, many as a shade
        rug.vlines(inside, 0.1 - lane, 0.9 - lane, color=colour, linewidth=0.9, alpha=alpha)
    if len(held):
        (line,) = axes.plot(*curve(held, view), color=NORMAL, linewidth=1.5, linestyle=DASHES)
        line.set_label(f"{source} ({len(held):,})")
        handles.append(line)
    handles.append(Patch(color=FAINT, label="above the threshold: called abnormal"))
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), handlelength=1.3, columnspacing=1.8)
    right = threshold > sum(view) / 2
    axes.annotate(
        f"threshold {threshold:.3g}",
        (threshold, 1),
        (-6 if right else 6, -4),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="right" if right else "left",
        va="top",
        fontweight="bold",
    )
    everything = np.concatenate([scores for _, scores, _ in groups])
    for x, side, beyond in ((0, "left", everything < view[0]), (1, "right", everything > view[1])):
        if beyond.any():
            text = f"◂ {beyond.sum()} beyond" if side == "left" else f"{beyond.sum()} beyond ▸"
            axes.text(x, 0.9, text, transform=axes.transAxes, ha=side, color=MUTED, fontsize=9)
    axes.set(xlim=view, ylim=(0, 1.1 * axes.get_ylim()[1]), yticks=[], ylabel="density")  # room for the label
    axes.spines["left"].set_visible(False)
    axes.tick_params(bottom=False)
    rug.set(yticks=[], ylim=(-1, 1), xlabel="score (higher is more abnormal)")
    rug.spines[["left"]].set_visible(False)
    return figure


@styled
def epoch_sheet(epochs: Sequence[tuple[int, ArrayLike, ArrayLike | None]], best_epoch: int) -> Figure:
    """Draw score densities during training, small multiples on shared axes.

    ``epochs`` are (epoch, held-out normals, train abnormals). At most 12 are shown, evenly chosen, the first, the last
    and the best among them. Raises DataError if there is none, or the best is not among them.
    """
    numbers = [epoch for epoch, _, _ in epochs]
    if best_epoch not in numbers:
        raise DataError("epoch sheet", f"best epoch {best_epoch} is not among {numbers}", "give its scores, too")
    chosen = _evenly(len(epochs), numbers.index(best_epoch))
    scores = [(finite(epochs[i][1]), finite(epochs[i][2])) for i in chosen]
    view = view_of([group for pair in scores for group in pair])
    columns = min(4, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = new_figure(WIDTH, 0.7 + 1.5 * rows)
    sheet = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, i, (normal, abnormal) in zip(sheet, chosen, scores, strict=False):
        for group, colour in ((normal, NORMAL), (abnormal, ABNORMAL)):
            if len(group):
                draw(axes, group, view, colour)
        best = numbers[i] == best_epoch
        axes.set_title(f"epoch {numbers[i]}" + (" · best" if best else ""), fontweight="bold" if best else "normal")
        if best:
            axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, edgecolor=INK, linewidth=1.6))
        axes.set(xlim=view, yticks=[])
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(4))
    sheet[0].set_ylim(0, None)  # shared, so only once all curves are drawn
    for axes in sheet[len(chosen) :]:
        axes.set_visible(False)
    handles = [Patch(color=NORMAL, label="held-out train normals")]
    if any(len(abnormal) for _, abnormal in scores):
        handles.append(Patch(color=ABNORMAL, label="labelled train abnormals"))
    figure.legend(handles=handles, loc="outside upper left", ncols=2, handlelength=1.3)
    figure.supxlabel("score (higher is more abnormal)", fontsize=10)
    return figure


@styled
def roc(scores: ArrayLike, labels: ArrayLike, patients: Sequence[str], metrics: Mapping[str, Any]) -> Figure:
    """Draw the ROC curve with its 95 % band over patients and the operating point of `metrics.json` with its intervals.

    Raises DataError if a class is missing.
    """
    at = np.linspace(0, 1, 101)
    fpr, tpr, _ = roc_curve(scores, labels)
    figure, axes = _square("false positive rate (1 - specificity)", "true positive rate (sensitivity)")
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=DASHES, label="chance")
    axes.fill_between(at, *roc_band(scores, labels, patients, at), color=NEUTRAL, alpha=0.18, linewidth=0)
    axes.plot(fpr, tpr, color=NEUTRAL, label=f"AUROC {_interval(metrics['auroc'])}")
    sensitivity, specificity = metrics["sensitivity"], metrics["specificity"]
    axes.errorbar(
        1 - specificity["value"],
        sensitivity["value"],
        xerr=[[specificity["high"] - specificity["value"]], [specificity["value"] - specificity["low"]]],
        yerr=[[sensitivity["value"] - sensitivity["low"]], [sensitivity["high"] - sensitivity["value"]]],
        **OPERATING_POINT,
    )
    axes.legend(loc="lower right")
    return figure


@styled
def precision_recall(
    scores: ArrayLike, labels: ArrayLike, patients: Sequence[str], metrics: Mapping[str, Any]
) -> Figure:
    """Draw the precision-recall curve with its 95 % band over patients.

    Also the operating point, and the share of abnormal images. Raises DataError if a class is missing.
    """
    at = np.linspace(0, 1, 101)[1:]
    precision, recall, _ = precision_recall_curve(scores, labels)
    figure, axes = _square("recall (sensitivity)", "precision (positive predictive value)")
    share = float(np.mean(np.asarray(labels)))
    axes.axhline(share, color=MUTED, linewidth=1, linestyle=DASHES, label=f"every image called abnormal {share:.3f}")
    low, high = precision_recall_band(scores, labels, patients, at)
    axes.fill_between(at, low, high, color=NEUTRAL, alpha=0.18, linewidth=0)
    axes.plot(recall, precision, color=NEUTRAL, label=f"average precision {_interval(metrics['average_precision'])}")
    counts = metrics["confusion"]
    called = counts["true_positive"] + counts["false_positive"]
    if called:
        axes.errorbar(metrics["sensitivity"]["value"], counts["true_positive"] / called, **OPERATING_POINT)
    axes.legend(loc="lower left")
    return figure


@styled
def confusion_matrix(metrics: Mapping[str, Any]) -> Figure:
    """Draw images by truth (rows) and verdict (columns) from `metrics.json`, shaded by their share of the row."""
    counts = metrics["confusion"]
    rows = [
        ("normal", (counts["true_negative"], counts["false_positive"]), ("rightly passed", "false alarm")),
        ("abnormal", (counts["false_negative"], counts["true_positive"]), ("missed", "rightly flagged")),
    ]
    figure = new_figure(WIDTH / 2, WIDTH / 2 * 0.92)
    axes = figure.subplots()
    for y, (_, numbers, meanings) in enumerate(rows):
        for x, (number, meaning) in enumerate(zip(numbers, meanings, strict=True)):
            share = number / sum(numbers) if sum(numbers) else 0.0
            axes.add_patch(Rectangle((x + 0.02, y + 0.02), 0.96, 0.96, color=NEUTRAL, alpha=0.06 + 0.86 * share))
            ink = PAPER if share > 0.5 else INK
            axes.text(x + 0.5, y + 0.40, f"{number:,}", ha="center", va="center", fontsize=22, color=ink)
            axes.text(x + 0.5, y + 0.61, meaning, ha="center", va="center", color=ink)
            of_row = f"{share:.1%} of {sum(numbers):,}" if sum(numbers) else "no images"
            axes.text(x + 0.5, y + 0.74, of_row, ha="center", va="center", color=ink, fontsize=9)
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.set(xlim=(0, 2), ylim=(2, 0), xticks=[0.5, 1.5], yticks=[0.5, 1.5], aspect="equal")
    axes.set_xticklabels(["called normal", "called abnormal"], fontsize=10)
    axes.set_yticklabels(["normal", "abnormal"], rotation=90, va="center", fontsize=10)
    for label, colour in zip([*axes.get_xticklabels(), *axes.get_yticklabels()], [NORMAL, ABNORMAL] * 2, strict=True):
        label.set_color(colour)
        label.set_fontweight("bold")
    axes.set_ylabel("truth")
    axes.spines[:].set_visible(False)
    return figure


@styled
def training_curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the loss and its parts by epoch from `history.csv`, train against held-out normals, and mark the best epoch.

    Each row needs ``epoch``; a part (loss, flow, reconstruction) without a finite value in ``train_*`` or
    ``held_out_*`` gets no panel, and without ``best`` no epoch is marked. Raises DataError if nothing is left.
    """
    epochs = [float(row["epoch"]) for row in history]
    best = [float(row["epoch"]) for row in history if float(row.get("best") or 0)]
    curves = {
        part: {side: [float(row.get(f"{side}_{part}") or "nan") for row in history] for side in ("train", "held_out")}
        for part in ("loss", "flow", "reconstruction")
    }
    parts = [part for part, sides in curves.items() if np.isfinite([*sides["train"], *sides["held_out"]]).any()]
    if not parts:
        raise DataError("training curves", "no losses in the history", "give the rows of history.csv")
    figure = new_figure(WIDTH, 2.9)
    for axes, part in zip(np.atleast_1d(np.asarray(figure.subplots(1, len(parts)))), parts, strict=True):
        marker = "o" if len(epochs) == 1 else ""
        axes.plot(epochs, curves[part]["train"], color=NEUTRAL, linewidth=1.5, marker=marker, label="train")
        axes.plot(epochs, curves[part]["held_out"], color=NORMAL, marker=marker, label="held-out train normals")
        for epoch in best[-1:]:
            value = curves[part]["held_out"][epochs.index(epoch)]
            axes.axvline(epoch, color=INK, linewidth=0.8, linestyle=DASHES, zorder=1)
            style = {"color": PAPER, "markeredgecolor": NORMAL, "markeredgewidth": 1.8, "markersize": 7}
            axes.plot(epoch, value, "o", label=f"best epoch ({epoch:g})", **style)
        if len(epochs) == 1:
            axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
        axes.set(title={"loss": "total loss", "flow": "flow term"}.get(part, f"{part} term"), xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
        grid(axes)
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=3)
    return figure


OPERATING_POINT: dict[str, Any] = {
    "fmt": "o",
    "color": INK,
    "markersize": 6.5,
    "elinewidth": 1.3,
    "zorder": 5,
    "label": "at the threshold",
}


def _square(x: str, y: str) -> tuple[Figure, Axes]:
    """Return a square figure and its axes, from 0 to 1 both."""
    figure = new_figure(WIDTH / 2, WIDTH / 2)
    axes = figure.subplots()
    axes.set(xlim=(-0.015, 1.015), ylim=(-0.015, 1.015), xlabel=x, ylabel=y, aspect="equal")
    grid(axes)
    return figure, axes


def _interval(metric: Mapping[str, Any]) -> str:
    """Return a metric as text with its interval."""
    if metric["low"] is None:
        return f"{metric['value']:.3f}"
    return f"{metric['value']:.3f} ({metric['low']:.3f} to {metric['high']:.3f})"


def _evenly(n: int, best: int) -> list[int]:
    """Return up to 12 of n places, evenly spread, the first, the last and the best among them."""
    chosen = sorted({round(i) for i in np.linspace(0, n - 1, min(n, MAX_EPOCHS))})
    if best not in chosen:
        inner = range(1, len(chosen) - 1)
        chosen[min(inner, key=lambda i: abs(chosen[i] - best))] = best
    return chosen
