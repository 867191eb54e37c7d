"""Every measured figure in the texts is the one in the results, and what is said of it holds."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))


@pytest.fixture
def figures(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    module = importlib.import_module("figures")
    module._loaded.cache_clear()
    yield module
    module._loaded.cache_clear()


@pytest.fixture
def results(figures, monkeypatch, tmp_path):
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    rows = [{"k": 5, "draw": 0, "auroc": 0.75}, {"k": 5, "draw": 1, "auroc": 0.25}, {"k": 10, "draw": 0, "auroc": 0.9}]
    found = {"sets": {"a b": {"rows": rows}, "c": {"rows": [{"k": 5, "draw": 0, "auroc": 1.0}]}}, "images": 12345}
    (tmp_path / "made.json").write_text(json.dumps(found))
    return figures


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_figures_of_a_page_are_the_measured_ones(figures, page):
    text = page.read_text()
    assert figures.stale(text) == []
    assert figures.false_statements(text) == []


def test_the_reproduction_notes_say_where_each_figure_comes_from(figures):
    text = (ROOT / "docs" / "paper.md").read_text()
    assert len(figures.FIGURE.findall(text)) > 40
    assert len(figures.STATEMENT.findall(text)) > 10
    # A measured share has three decimals here, a published one two; each of the first has its comment.
    bare = [found[0] for found in re.finditer(r"\b0\.\d{3}\b(?!(?: %)?<!--)", re.sub(r"<!--.*?-->", "<!--", text))]
    assert bare == []


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
def test_a_figure_is_written_from_its_place_and_keeps_its_form(results, before, after):
    written = results.with_figures(f"so: {before}, and on")
    assert written == f"so: {after}{before[before.index('<!--') :]}, and on"
    assert len(results.stale(before)) == 1
    assert results.stale(written) == []


def test_a_statement_is_held_against_the_results(results):
    true = "<!-- holds: mean made: sets/a b/rows/k=5/auroc < the made: sets/a b/rows/k=10/auroc -->"
    assert results.false_statements(true) == []
    assert results.false_statements(true.replace(" < ", " > ")) == [
        "does not hold: mean made: sets/a b/rows/k=5/auroc > the made: sets/a b/rows/k=10/auroc (0.5000, 0.9000)"
    ]
    assert results.false_statements("<!-- holds: 0.5 > the made: sets/a b/rows/k=10/auroc -->")


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
def test_a_comment_that_names_no_figure_is_an_error(results, comment):
    with pytest.raises(results.FigureError):
        results.with_figures(comment)
    with pytest.raises(results.FigureError):
        results.false_statements("<!-- holds: about a third > 0 -->")
