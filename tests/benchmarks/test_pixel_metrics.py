"""The benchmark of pixel metrics compares with values that are exact."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.speed.pixel_metrics import exact, measure


def test_pixel_metrics_of_full_size_maps_are_exact() -> None:
    """Maps of 256 x 256 with several regions each, against scikit-learn and a plain AUPRO of every threshold."""
    found = measure(12)
    assert found["off_from_exact"]["auroc"] < 1e-6
    assert found["off_from_exact"]["aupro"] < 1e-5


def test_the_plain_aupro_finds_what_is_plain() -> None:
    mask = np.zeros((8, 8), bool)
    mask[0, :2], mask[4:6, 4:6] = True, True
    best = np.where(mask, 1.0, 0.0)
    assert exact([(best, mask)]) == pytest.approx({"auroc": 1.0, "aupro": 1.0})
    half = np.where(np.arange(8)[:, None] < 3, best, 0.0)  # one region of two is found, the rest lies with the normals
    assert exact([(half, mask)])["aupro"] == pytest.approx(0.5 + 0.5 * 0.3 / 2, abs=1e-9)
