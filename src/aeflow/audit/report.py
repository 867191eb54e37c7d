"""Audits as a table on a terminal, and as a report of one file with pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from aeflow.audit.audit import Audit
from aeflow.audit.near_duplicates import Pair
from aeflow.audit.plots import MAX_PAIRS, Twins, pair_sheet, separation_chart, spreads
from aeflow.data.loader import image_of
from aeflow.data.records import label_name
from aeflow.errors import DataError, count
from aeflow.privacy import pseudonym
from aeflow.reporting.html import render
from aeflow.reporting.style import as_data_uri
from aeflow.runtime.console import Terminal
from aeflow.runtime.files import write_text
from aeflow.runtime.folders import alone, refuse_former_set, together
from aeflow.runtime.inputs import Inputs

JSON, HTML = "audit.json", "audit.html"
MAX_LISTED = 10  # images named under a finding, and refusals listed
COLOURS = {"stop": "bold red", "warn": "yellow", "note": "dim"}


def print_audit(found: Audit, identify: bool = False) -> None:
    """Print the findings as a table, the worst first, and the images that could not be read."""
    console = Terminal()
    patients = len({record.patient for record in found.records})
    title = f"{count(len(found.records), 'image')} of {count(patients, 'patient')}"
    table = Table(title=title, title_justify="left", show_lines=True)
    table.add_column("")
    table.add_column("finding", ratio=2, overflow="fold")
    table.add_column("what was found", ratio=4)
    table.add_column("what to do", ratio=3)
    for finding in found.findings:
        severity = Text(finding.severity, style=COLOURS[finding.severity])
        images = _listed(found, finding.images, identify)
        found_text = finding.found + (f"\n{images}" if images else "")
        table.add_row(severity, *(escape(text) for text in (finding.name, found_text, finding.remedy)))
    if found.findings:
        console.print(table)
    else:
        console.print(f"{title}: nothing was found")
    for index, error in found.refusals[:MAX_LISTED]:
        console.print(f"{_name(found, index, identify)}: {error.found}; {error.remedy}", markup=False, highlight=False)
    if len(found.refusals) > MAX_LISTED:
        console.print(f"and {len(found.refusals) - MAX_LISTED} more that cannot be read: see --json or --out")


def check(out: Path, overwrite: bool) -> None:
    """Raise OutputError if a former audit is where one is to be written."""
    refuse_former_set(out, (JSON, HTML), Inputs(), overwrite)


def write_audit(found: Audit, out: Path | str, identify: bool = False) -> Path:
    """Write audit.json and audit.html into a folder, which is made; return the path of the report.

    Raises DataError if the folder cannot be written.
    """
    folder = Path(out)
    figures = {}
    if found.classes:
        figures["classes"] = separation_chart(found.classes)
    if any(": " not in separation.attribute for separation in found.classes):  # categories have no spread
        figures["spreads"] = spreads(found.classes, found.attributes, found.records)
    if found.shifts:
        figures["shifts"] = separation_chart(found.shifts)
    if twins := list(_twins(found)):
        figures["pairs"] = pair_sheet(twins)
    numbers = found.to_json(identify)
    page = render(
        "audit.html.j2",
        audit=numbers,
        listed={finding.name: _listed(found, finding.images, identify) for finding in found.findings},
        refused=[
            {"image": _name(found, index, identify), "found": error.found, "remedy": error.remedy}
            for index, error in found.refusals
        ],
        pictures={name: as_data_uri(figure) for name, figure in figures.items()},
    )
    try:
        inputs = Inputs(file for record in found.records for file in record.files)
        with alone(folder), together(folder, (JSON, HTML), inputs) as staged:
            write_text(staged / JSON, json.dumps(numbers, indent=1, allow_nan=False))
            write_text(staged / HTML, page)
    except OSError as error:
        raise DataError(folder, f"cannot be written ({error.strerror})", "give another folder with --out") from error
    return folder / HTML


def _twins(found: Audit) -> Iterator[Twins]:
    """Yield near copies, those across splits first, then images with the same pixels across splits or labels."""
    records = found.records

    def apart(a: int, b: int) -> int:
        return (records[a].split == records[b].split) + (records[a].label == records[b].label)

    near = sorted(found.near, key=lambda pair: (apart(pair.a, pair.b), -pair.correlation))
    exact = [Pair(group[0], i, 1.0) for group in found.exact for i in group[1:] if apart(group[0], i) < 2]
    for pair in [*near, *exact][:MAX_PAIRS]:
        alike = f"correlation {pair.correlation:.3f}" if pair in near else "the same pixels"
        a, b = image_of(records[pair.a]), image_of(records[pair.b])
        yield Twins((a.pixels, b.pixels), (_where(found, pair.a), _where(found, pair.b)), alike)


def _where(found: Audit, index: int) -> str:
    """Return the number, split and label of an image."""
    record = found.records[index]
    return f"no. {index + 1}: {record.split + ', ' if record.split else ''}{label_name(record.label)}"


def _name(found: Audit, index: int, identify: bool) -> str:
    """Return the number of an image, and its name or pseudonym."""
    name = found.records[index].name
    return f"no. {index + 1} ({name if identify else pseudonym(name)})"


def _listed(found: Audit, images: tuple[int, ...], identify: bool) -> str:
    """Return the first images of a finding by number, or by name."""
    shown = [_name(found, i, True) if identify else str(i + 1) for i in images[:MAX_LISTED]]
    more = f" and {len(images) - MAX_LISTED:,} more" if len(images) > MAX_LISTED else ""
    return f"images {', '.join(shown)}{more}" if images else ""
