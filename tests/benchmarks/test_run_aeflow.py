"""A model in the quality benchmark: what is measured of its maps."""

from __future__ import annotations

from pathlib import Path

import aeflow
from aeflow.data.records import read_records
from benchmarks.quality.run_aeflow import scored


def test_a_graph_has_figures_of_both_maps_where_there_are_masks(openvino_export: Path, data: Path) -> None:
    """A graph gives the residual map only to who asks for the reconstruction, too."""
    test = read_records(data, "test")
    found, maps, seconds = scored(aeflow.load(openvino_export).scorer, test)
    assert len(found) == len(test)
    assert all(0 <= maps["pixel"][name]["auroc"]["value"] <= 1 for name in ("anomaly", "residual"))
    assert maps["localisation"]["lesion"]["abnormal"] is not None
    assert seconds > 0
