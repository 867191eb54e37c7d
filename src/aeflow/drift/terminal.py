"""A comparison as text on a terminal, and as plain values for programs."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from aeflow.drift.drift import Drift
from aeflow.drift.source import Source
from aeflow.drift.words import called, findings, name_of, share
from aeflow.errors import count
from aeflow.runtime.console import Terminal

COLOURS = {"alarm": "bold red", "look": "yellow", "fine": "green"}


def print_drift(found: Drift) -> None:
    """Print the findings, then a line for each source, then what differs from the normals of the training."""
    console, every = Terminal(), found.sources[0]
    console.print(f"{count(every.images, 'image')} of {count(found.patients, 'patient')}, model {found.model}")
    console.print(called(found, every), markup=False, highlight=False)
    for finding in findings(found):
        style = COLOURS[finding.severity]
        console.print(f"[{style}]{finding.severity}[/{style}]  [bold]{escape(finding.title)}[/bold]", highlight=False)
        console.print(f"       {finding.text}", markup=False, highlight=False)
        if finding.remedy:
            console.print(f"       To do: {finding.remedy}.", markup=False, highlight=False)
    if len(found.sources) > 1:
        console.print(_sources(found))
    if every.comparisons:
        console.print(_statistics(every))


def _sources(found: Drift) -> Table:
    table = Table(title="sources", title_justify="left")
    for name in ("source", "images", "patients", "called abnormal", "outside", "alarms: other images"):
        table.add_column(name, justify="left" if name == "source" else "right")
    for source in found.sources:
        numbers = f"{source.images:,}", f"{len(source.rows):,}"
        alarms = len(source.other_images.alarms)
        table.add_row(escape(source.name), *numbers, share(source.flagged), share(source.outside), str(alarms))
    return table


def _statistics(source: Source) -> Table:
    title = "against the held-out normals (all but the score: images in the more normal half)"
    table = Table(title=title, title_justify="left")
    for name in ("statistic", "images", "shift, sd", "95 % interval", "spread", "q"):
        table.add_column(name, justify="left" if name == "statistic" else "right")
    for one in source.comparisons:
        interval = f"{one.low:+.2f} to {one.high:+.2f}"
        style = "bold" if one.significant else "dim"
        numbers = f"{one.images:,}", f"{one.shift:+.2f}", interval, f"{one.spread:.2f}", f"{one.q:.2g}"
        table.add_row(name_of(one.statistic), *numbers, style=style)
    return table


def to_json(found: Drift) -> dict[str, Any]:
    """Return plain values: the findings, and of each source its shares, comparisons, alarms and last chart values."""
    return {
        "model": found.model,
        "broken": found.broken,
        "findings": [asdict(finding) for finding in findings(found)],
        "patients": found.patients,
        "rows_without_score": found.refused,
        "rows_repeated": found.repeated,
        "promised_false_positive_rate": found.promised,
        "budget": found.budget,
        "notes": found.notes,
        "sources": [_source(found, source) for source in found.sources],
    }


def _source(found: Drift, source: Source) -> dict[str, Any]:
    def place(image: float) -> str | int:
        """Return where an image of the charts stands: its cell in the column of the order, or the number of its row."""
        row = source.rows[round(image)]
        return row + 1 if found.order is None else found.at[row]

    charts = {}
    for name, curve in source.curves.items():
        alarms = [
            {
                "at": place(alarm.at),
                "since": {key: place(time) for key, time in alarm.onset._asdict().items()},
                "statistic": alarm.statistic,
                "kind": alarm.kind,
                "evidence": alarm.evidence,
            }
            for alarm in curve.alarms
        ]
        charts[name] = {"line": curve.line, "value": curve.values[-1] if curve.values else 0.0, "alarms": alarms}
    comparisons = [
        {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
        for row in map(asdict, source.comparisons)
    ]
    return {
        "name": source.name,
        "images": source.images,
        "patients": len(source.rows),
        "patients_that_look_normal": source.looks_normal,
        "called_abnormal": asdict(source.flagged),
        "outside": asdict(source.outside),
        "charts": charts,
        "comparisons": comparisons,
    }
