"""Metrics as a short table on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from aeflow.errors import count
from aeflow.evaluation.localisation import lines as lines_of_localisation
from aeflow.evaluation.localisation import words
from aeflow.runtime.console import Terminal

NAMES = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "f1": "F1",
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
}
PIXEL_NAMES = {"auroc": "pixel AUROC", "aupro": "AUPRO", "dice": "Dice"}


def print_table(metrics: dict[str, Any]) -> None:
    """Print each metric with its 95 % interval, the numbers of images, and the threshold."""
    counts = f"{metrics['n_normal']:,} normal and {count(metrics['n_abnormal'], 'abnormal image')}"
    table = Table(title=f"split {metrics['split']}: {counts}", title_justify="left")
    for column in ("metric", "value", "95 % interval"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    lines: dict[str, Mapping[str, Any] | None] = {label: metrics[name] for name, label in NAMES.items()}
    for name, pixel in (metrics["pixel"] or {}).items():
        lines |= {f"{what}, {name} map": pixel[key] for key, what in PIXEL_NAMES.items()} if pixel else {}
    study = metrics["study"] or {}
    lines |= {f"{NAMES[name]}, studies": study[name] for name in ("auroc", "sensitivity", "specificity") if study}
    lines |= {
        _with_chance(line.name, line.metric): line.metric for line in lines_of_localisation(metrics["localisation"])
    }
    for label, metric in lines.items():
        if metric is None:
            table.add_row(label, "-", "")
        else:
            low_high = "" if metric["low"] is None else f"{metric['low']:.3f} to {metric['high']:.3f}"
            table.add_row(label, f"{metric['value']:.3f}", low_high)
    console = Terminal()
    console.print(table)
    for sentence in words(metrics["localisation"]):
        console.print(sentence.text)
    threshold = metrics["threshold"]
    console.print(f"threshold {threshold['value']:.3f} from {threshold['from']}: {threshold['rule']}")


def _with_chance(name: str, metric: Mapping[str, Any] | None) -> str:
    """Return the name of a figure of localisation with what chance has, if it can be had."""
    name = name[0].lower() + name[1:] if name.startswith("Hottest") else name
    return f"{name} (chance {metric['chance']:.3f})" if metric and "chance" in metric else name
