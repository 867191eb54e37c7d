"""Metrics as a short table on a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

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
    counts = f"{metrics['n_normal']} normal and {metrics['n_abnormal']} abnormal images"
    table = Table(title=f"split {metrics['split']}: {counts}", title_justify="left")
    for column in ("metric", "value", "95 % interval"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    lines = {label: metrics[name] for name, label in NAMES.items()}
    for name, pixel in (metrics["pixel"] or {}).items():
        lines |= {f"{what}, {name} map": pixel[key] for key, what in PIXEL_NAMES.items()} if pixel else {}
    study = metrics["study"] or {}
    lines |= {f"{NAMES[name]}, studies": study[name] for name in ("auroc", "sensitivity", "specificity") if study}
    for label, metric in lines.items():
        if metric is None:
            table.add_row(label, "-", "")
        else:
            low_high = "" if metric["low"] is None else f"{metric['low']:.3f} to {metric['high']:.3f}"
            table.add_row(label, f"{metric['value']:.3f}", low_high)
    console = Console()
    console.print(table)
    threshold = metrics["threshold"]
    console.print(f"threshold {threshold['value']:.3f} from {threshold['from']}: {threshold['rule']}")
