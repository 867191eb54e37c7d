"""Where maps lie in drawn lungs: only abnormal images that have a mask are asked, and the page is of the results."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.common import CHEST, DOCS, RESULTS, with_table
from benchmarks.studies.lung_masks import MASKS, RESULT, drawn, table


def test_only_abnormal_train_images_with_a_mask_are_asked(tmp_path: Path) -> None:
    images = tmp_path / CHEST / "train"
    for name in ("normal/a.png", "abnormal/b.png", "abnormal/c.png"):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        (images / name).touch()
    (tmp_path / MASKS).mkdir(parents=True)
    for name in ("a.png", "b.png"):
        (tmp_path / MASKS / name).touch()
    [record] = drawn(tmp_path)
    assert (record.path.name, record.region) == ("b.png", tmp_path / MASKS / "b.png")


def test_the_table_sets_shares_against_chance() -> None:
    metric = {"value": 0.6, "low": 0.5, "high": 0.7, "chance": 0.3}
    of = {"hottest_point": metric, "hottest_area": metric, "border": metric}
    text = table({"default": {"0": of, "1": of}})
    assert "| default | 2 | 0.600 (0.50 to 0.70) | 0.30 | 2.00 | 0.600 (0.50 to 0.70) | 2.00 |" in text
    assert "| aeflow-1 | not measured |" in text


def test_the_page_is_of_the_results() -> None:
    page = (DOCS / "where-it-looks.md").read_text()
    assert with_table(page, "drawn lungs", table(json.loads((RESULTS / RESULT).read_text()))) == page
