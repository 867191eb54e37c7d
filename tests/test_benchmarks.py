"""The README's numbers are those that the benchmark measured."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_readme_table_is_made_from_the_measured_results() -> None:
    spec = importlib.util.spec_from_file_location("quality", ROOT / "benchmarks" / "quality.py")
    assert spec
    assert spec.loader
    quality = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(quality)
    results = json.loads((ROOT / "benchmarks" / "results" / "quality.json").read_text())
    readme = (ROOT / "README.md").read_text()
    assert quality.with_table(readme, results) == readme
    assert len(results["sets"]) == 2
