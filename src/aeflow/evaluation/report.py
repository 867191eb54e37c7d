"""Report of an evaluation, one file that needs no other, and the model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from aeflow.errors import DataError
from aeflow.evaluation import localisation
from aeflow.reporting.html import public, render
from aeflow.reporting.style import as_data_uri
from aeflow.runtime.files import write_text


class Picture(NamedTuple):
    """Texts of a figure: its heading, a description for people who cannot see it, and how to read it."""

    heading: str
    alt: str
    caption: str


FIGURES = {
    "scores": Picture(
        "Scores by true class",
        "Density curves of the scores of normal images (green) and abnormal images (red) with the threshold.",
        "Each curve shows how the scores of one class spread; each tick below is one image. The less green and red "
        "overlap, the better. Normal images right of the line are false alarms, abnormal images left of it are missed. "
        "Where the green curve lies right of the dashed one, the normal images of this split differ from those the "
        "model was trained on.",
    ),
    "confusion": Picture(
        "Confusion matrix",
        "Two by two table of images by truth and verdict, with counts and shares of each row.",
        "Rows are the truth, columns the verdict at the threshold; the darker, the larger the share of the row.",
    ),
    "roc": Picture(
        "ROC curve",
        "ROC curve with a 95 % band and the operating point.",
        "Sensitivity against the false positive rate at every possible threshold; the dashed diagonal is guessing. "
        "At each point the band holds 95 % of the curves of resampled patients. The dot is the threshold in use.",
    ),
    "precision_recall": Picture(
        "Precision and recall",
        "Precision-recall curve with a 95 % band and the operating point.",
        "Of the images called abnormal, the share that is abnormal (precision), against the share of abnormal images "
        "found (recall). The dashed line is what calling every image abnormal gives. Precision depends on how common "
        "abnormal images are, and here they are as common as in this split.",
    ),
    "most_abnormal": Picture(
        "Most abnormal",
        "The images with the highest scores, their reconstructions and maps.",
        "The highest scores of the split.",
    ),
    "most_normal": Picture(
        "Most normal",
        "The images with the lowest scores, their reconstructions and maps.",
        "The lowest scores of the split.",
    ),
    "false_positives": Picture(
        "False alarms",
        "Normal images called abnormal, their reconstructions and maps.",
        "Normal images above the threshold, the highest scores first.",
    ),
    "false_negatives": Picture(
        "Missed",
        "Abnormal images called normal, their reconstructions and maps.",
        "Abnormal images that did not pass the threshold, the lowest scores first.",
    ),
    "training": Picture(
        "Losses",
        "Curves of the losses by epoch on train images and on held-out train normals.",
        "Training stops when held-out train normals gain no more; the weights of the best epoch are kept. Train below "
        "held-out is overfitting; how far they part says how much.",
    ),
    "epochs": Picture(
        "Scores during training",
        "Small density plots of the scores, one for each of several epochs.",
        "Scores by epoch on one common axis, in the units of that epoch's held-out normals. Abnormal train images, "
        "where there are any, are only watched here: neither the epoch nor the threshold is chosen on them.",
    ),
}
GALLERIES = ("most_abnormal", "most_normal", "false_positives", "false_negatives")
METRIC_TEXTS = {
    "auroc": ("AUROC", "chance that an abnormal image scores above a normal one"),
    "average_precision": ("Average precision", "mean precision over all recalls"),
    "f1": ("F1", "harmonic mean of precision and sensitivity"),
    "accuracy": ("Accuracy", "share of right verdicts"),
    "sensitivity": ("Sensitivity", "share of abnormal images that are flagged"),
    "specificity": ("Specificity", "share of normal images that pass"),
}
PIXEL_METRIC_TEXTS = {
    "auroc": ("Pixel AUROC", "chance that an abnormal pixel scores above a normal one"),
    "aupro": ("AUPRO", "share found of each abnormal region, mean up to 30 % false positives"),
    "dice": ("Dice", "overlap with the masks at the map's fixed threshold"),
}


def write_report(
    path: Path | str,
    *,
    title: str,
    run: Mapping[str, Any],
    metrics: Mapping[str, Any] | None,
    history: Sequence[Mapping[str, Any]],
    figures: Mapping[str, Figure | bytes],
    refusals: Sequence[Mapping[str, str]],
) -> None:
    """Write report.html: one file, no script, nothing loaded from elsewhere; every given text is escaped.

    ``run`` holds "settings" and, if known, "training" and "version"; ``metrics`` is `metrics.json`, or None before
    an evaluation; ``figures`` has keys of `FIGURES` and figures or PNG bytes; ``refusals`` have "path" and "error".
    Folders of absolute paths are left out. Raises DataError for an unknown figure.
    """
    unknown = sorted(figures.keys() - FIGURES.keys())
    if unknown:
        raise DataError("report", f"no place for a figure '{unknown[0]}'", f"use one of {', '.join(FIGURES)}")
    text = render(
        "report.html.j2",
        **TEMPLATE_NAMES,
        title=title,
        run=run,
        metrics=metrics,
        history=history,
        pictures={
            name: {**FIGURES[name]._asdict(), "src": as_data_uri(figures[name])} for name in FIGURES if name in figures
        },
        refusals=[
            {"path": public(row["path"]), "error": public(row["error"].replace(row["path"], public(row["path"])))}
            for row in refusals
        ],
    )
    write_text(Path(path), text)


def write_model_card(path: Path | str, *, run: Mapping[str, Any], metrics: Mapping[str, Any] | None) -> None:
    """Write model_card.md, from the same ``run`` and ``metrics`` as the report; every given text is escaped."""
    write_text(Path(path), render("model_card.md.j2", **TEMPLATE_NAMES, run=run, metrics=metrics))


def surplus_alarms(run: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, float] | None:
    """Return the allowed and the found false positive rate if the found one is clearly higher, else None.

    Clearly: even the lower end of its interval exceeds what the threshold allows.
    """
    specificity, allowed = metrics["specificity"], run.get("rate")
    if specificity is None or allowed is None or 1 - specificity["high"] <= allowed:
        return None
    low, high = 1 - specificity["high"], 1 - specificity["low"]
    return {"allowed": allowed, "found": 1 - specificity["value"], "low": low, "high": high}


# Names of metrics and figures in both templates, and a function that they call.
TEMPLATE_NAMES = {
    "names": METRIC_TEXTS,
    "pixel_names": PIXEL_METRIC_TEXTS,
    "galleries": GALLERIES,
    "surplus_alarms": surplus_alarms,
    "localisation_lines": localisation.lines,
    "localisation_words": localisation.words,
}
