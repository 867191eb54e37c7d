"""Every measured figure in the texts is the one in the results, and what is said of it holds."""

from __future__ import annotations

import json
import re
from functools import cache

import pytest

from helpers.data import ROOT
from scripts import figures

PAGES = sorted((ROOT / "docs").glob("*.md"))


@pytest.fixture
def results(monkeypatch, tmp_path):
    """A made-up file of results in place of the measured ones."""
    loaded = cache(figures._loaded.__wrapped__)
    monkeypatch.setattr(figures, "_loaded", loaded)
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    rows = [{"k": 5, "draw": 0, "auroc": 0.75}, {"k": 5, "draw": 1, "auroc": 0.25}, {"k": 10, "draw": 0, "auroc": 0.9}]
    found = {"sets": {"a b": {"rows": rows}, "c": {"rows": [{"k": 5, "draw": 0, "auroc": 1.0}]}}, "images": 12345}
    (tmp_path / "made.json").write_text(json.dumps(found))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_figures_of_a_page_are_the_measured_ones(page):
    text = page.read_text()
    assert figures.stale(text) == []
    assert figures.false_statements(text) == []


def test_the_reproduction_notes_say_where_each_figure_comes_from():
    text = (ROOT / "docs" / "paper.md").read_text()
    assert len(figures.FIGURE.findall(text)) > 40
    assert len(figures.STATEMENT.findall(text)) > 10
    # A measured share has three decimals here, a published one two; each of the first has its comment.
    bare = [found[0] for found in re.finditer(r"\b0\.\d{3}\b(?!(?: %)?<!--)", re.sub(r"<!--.*?-->", "<!--", text))]
    assert bare == []


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("0.1<!-- the made: sets/a b/rows/k=10/auroc -->", "0.9"),
        ("0.11<!-- mean made: sets/a b/rows/k=5/auroc -->", "0.50"),
        ("1.000<!-- sd made: sets/a b/rows/k=5/auroc -->", "0.354"),
        ("0.0 %<!-- max made: sets/*/rows/draw=0/auroc -->", "100.0 %"),
        ("7<!-- count made: sets/*/rows/k=5&draw=0 -->", "2"),
        ("1,000<!-- the made: images -->", "12,345"),
        ("1000<!-- the made: images -->", "12345"),
    ],
)
def test_a_figure_is_written_from_its_place_and_keeps_its_form(before, after):
    written = figures.with_figures(f"so: {before}, and on")
    assert written == f"so: {after}{before[before.index('<!--') :]}, and on"
    assert len(figures.stale(before)) == 1
    assert figures.stale(written) == []


@pytest.mark.usefixtures("results")
def test_a_statement_is_held_against_the_results():
    true = "<!-- holds: mean made: sets/a b/rows/k=5/auroc < the made: sets/a b/rows/k=10/auroc -->"
    assert figures.false_statements(true) == []
    assert figures.false_statements(true.replace(" < ", " > ")) == [
        "does not hold: mean made: sets/a b/rows/k=5/auroc > the made: sets/a b/rows/k=10/auroc (0.5000, 0.9000)"
    ]
    assert figures.false_statements("<!-- holds: 0.5 > the made: sets/a b/rows/k=10/auroc -->")


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize(
    "comment",
    [
        "1<!-- the made: sets/d/rows -->",
        "1<!-- the made: sets/a b/rows/k=5/auroc -->",
        "1<!-- mean made: sets/a b/rows/k=7/auroc -->",
        "1<!-- sd made: sets/a b/rows/k=10/auroc -->",
        "1<!-- the nowhere: images -->",
    ],
)
def test_a_comment_that_names_no_figure_is_an_error(comment):
    with pytest.raises(figures.FigureError):
        figures.with_figures(comment)
    with pytest.raises(figures.FigureError):
        figures.false_statements("<!-- holds: about a third > 0 -->")
