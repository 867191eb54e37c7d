"""Page of a comparison: one file that needs no other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aeflow.drift.charts import CONTAMINATION, MOST_ABNORMAL
from aeflow.drift.drift import Drift
from aeflow.drift.plots import MOST_SOURCES, SHADES, figures
from aeflow.drift.statistics import FALSE_DISCOVERIES
from aeflow.drift.words import called, findings, name_of, share
from aeflow.errors import DataError, OutputError
from aeflow.reporting.html import render
from aeflow.reporting.style import as_data_uri
from aeflow.runtime.files import beginning, refuse_former, write_text
from aeflow.runtime.inputs import Inputs

MARK = b'<meta name="generator" content="aeflow drift'


def check(page: Path, inputs: Sequence[Path], overwrite: bool) -> None:
    """Raise an error if a page cannot be written: DataError for its name, OutputError for what is there already."""
    if page.suffix != ".html":
        raise DataError(page, "the name does not say HTML", "end it in .html")
    Inputs(inputs).spare(page)
    if page.is_file() and page.stat().st_size and MARK not in beginning(page):
        raise OutputError(page, "is there already, and is no page of this command", "move it away, or name another")
    refuse_former(page, overwrite)


def write_report(found: Drift, page: Path) -> None:
    """Write the page, whole or not at all."""
    page.parent.mkdir(parents=True, exist_ok=True)
    pictures = {name: as_data_uri(figure) for name, figure in figures(found).items()}
    text = render(
        "drift.html.j2",
        found=found,
        findings=findings(found),
        pictures=pictures,
        share=share,
        called=called,
        allowed=(CONTAMINATION, MOST_ABNORMAL),
        name_of=name_of,
        false_discoveries=FALSE_DISCOVERIES,
        drawn=(MOST_SOURCES, len(SHADES)),
    )
    write_text(page, text)
