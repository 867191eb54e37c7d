"""The figures in the texts are those that the benchmarks measured."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("benchmark", "page", "results"),
    [
        ("quality", "README.md", "quality"),
        ("label_curve", "docs/labels.md", "label_curve"),
        ("speed_table", "docs/performance.md", "speed"),
        ("changes", "docs/performance.md", "changes"),
    ],
)
def test_table_is_made_from_the_measured_results(
    benchmark: str, page: str, results: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    module = importlib.import_module(benchmark)
    results = json.loads((ROOT / "benchmarks" / "results" / f"{results}.json").read_text())
    text = (ROOT / page).read_text()
    assert module.with_table(text, results) == text
    assert len(text.splitlines()) > 40
