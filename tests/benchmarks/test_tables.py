"""The figures in the texts are those that the benchmarks measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.common import RESULTS, ROOT, with_table
from benchmarks.quality.table import short_table
from benchmarks.speed import changes
from benchmarks.speed.table import floors_table
from benchmarks.studies.label_curve import report


@pytest.mark.parametrize(
    ("name", "table", "page", "results"),
    [
        ("quality", short_table, "README.md", "quality"),
        ("label curve", report.table, "docs/labels.md", "label_curve"),
        ("speed", floors_table, "docs/performance.md", "speed"),
        ("changes", changes.table, "docs/performance.md", "changes"),
    ],
)
def test_table_is_made_from_the_measured_results(
    name: str, table: Callable[[Any], str], page: str, results: str
) -> None:
    measured = json.loads((RESULTS / f"{results}.json").read_text())
    text = (ROOT / page).read_text()
    assert with_table(text, name, table(measured)) == text
    assert len(text.splitlines()) > 40


def test_a_page_without_the_place_of_a_table_is_an_error() -> None:
    page = "a\n<!-- some: written by a program -->\nold\n<!-- /some -->\nb\n"
    assert with_table(page, "some", r"\1 new" + "\n") == page.replace("old", r"\1 new")
    for other in (page.replace("/some", "/other"), page + page):
        with pytest.raises(ValueError, match="places for the table 'some'"):
            with_table(other, "some", "new\n")
