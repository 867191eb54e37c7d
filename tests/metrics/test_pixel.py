"""Laws: pixel AUROC equals scikit-learn's, AUPRO its definition, Dice exactly; memory does not grow."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from aeflow.errors import DataError
from aeflow.metrics.pixel import FPR_LIMIT, PixelMetrics


def blobs(n: int, seed: int = 0, size: int = 32) -> list[tuple[np.ndarray, np.ndarray]]:
    """Score maps with abnormal discs, brighter on average; every fourth image is normal."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    images = []
    for i in range(n):
        mask = np.zeros((size, size), bool)
        for _ in range(0 if i % 4 == 3 else generator.integers(1, 4)):
            row, column, radius = [*generator.uniform(0, size, 2).tolist(), generator.uniform(1, size / 6)]
            mask |= (y - row) ** 2 + (x - column) ** 2 <= radius**2
        images.append((generator.gamma(2.0, 1.0, (size, size)) + generator.uniform(0.5, 4) * mask, mask))
    return images


def measured(images: list[tuple[np.ndarray, np.ndarray]], **options: int) -> PixelMetrics:
    metrics = PixelMetrics((2.0, 8.0), threshold=5.0, **options)
    for i, (score_map, mask) in enumerate(images):
        metrics.update(score_map, mask, patient=f"p{i // 2}")
    return metrics


def naive_aupro(images: list[tuple[np.ndarray, np.ndarray]], limit: float) -> float:
    """AUPRO by its definition: one threshold after another over all distinct values, one region after another."""
    normal = np.concatenate([s[~m] for s, m in images])
    regions = []
    for scores, mask in images:
        labelled, n = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [scores[labelled == region] for region in range(1, n + 1)]
    thresholds = np.unique(np.concatenate([s.ravel() for s, _ in images]))[::-1]
    fpr, pro = [0.0], [0.0]
    for threshold in thresholds:
        fpr.append(float(np.mean(normal >= threshold)))
        pro.append(float(np.mean([np.mean(region >= threshold) for region in regions])))
        if fpr[-1] > limit:
            break
    grid = np.append([x for x in fpr if x < limit], limit)
    return float(np.trapezoid(np.interp(grid, fpr, pro), grid) / limit)


def test_auroc_equals_scikit_learn_and_the_error_shrinks_with_the_bins() -> None:
    images = blobs(12)
    scores = np.concatenate([s.ravel() for s, _ in images])
    exact = roc_auc_score(np.concatenate([m.ravel() for _, m in images]), scores)
    errors = {}
    for bins in (16, 256, 8192):
        result = measured(images, bins=bins).result()
        assert result is not None
        errors[bins] = abs(result["auroc"]["value"] - exact)
    assert errors[8192] < 1e-5
    assert errors[8192] < errors[256] < errors[16]


def test_auroc_never_errs_by_more_than_the_pixels_that_share_a_bin() -> None:
    """|AUROC - exact| <= Σ_k p_k n_k / 2 with the shares of abnormal and normal pixels in bin k."""
    images = blobs(6, seed=3)
    scores, truth = (np.concatenate([pair[i].ravel() for pair in images]) for i in (0, 1))
    for bins in (4, 16, 64, 256):
        t = (scores - 2.0) / 6.0
        bin_of = ((t / (1 + np.abs(t)) + 1) / 2 * bins).astype(int)
        shares = [np.bincount(bin_of[side], minlength=bins) / side.sum() for side in (truth, ~truth)]
        result = measured(images, bins=bins).result()
        assert result is not None
        assert abs(result["auroc"]["value"] - roc_auc_score(truth, scores)) <= np.dot(*shares) / 2 + 1e-12


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_aupro_equals_its_definition(seed: int) -> None:
    images = blobs(5, seed, size=24)
    result = measured(images).result()
    assert result is not None
    assert result["aupro"]["value"] == pytest.approx(naive_aupro(images, FPR_LIMIT), abs=1e-3)
    assert result["n_regions"] == sum(ndimage.label(m, structure=np.ones((3, 3)))[1] for _, m in images)


def test_aupro_counts_every_region_alike() -> None:
    """One large region found, one small one missed: AUPRO 1/2, whatever their sizes."""
    mask = np.zeros((20, 20), bool)
    mask[:10, :10], mask[15, 15] = True, True
    scores = np.where(mask, 5.0, 0.0) + np.random.default_rng(0).random((20, 20))
    scores[15, 15] = -1.0
    metrics = PixelMetrics((0.0, 5.0), 2.0)
    metrics.update(scores, mask, "a")
    result = metrics.result()
    assert result is not None
    assert result["aupro"]["value"] == pytest.approx(0.5, abs=1e-3)
    assert result["auroc"]["value"] > 0.98


def test_dice_is_exact_and_below_the_oracle() -> None:
    images = blobs(10)
    called, truth = np.stack([s > 5.0 for s, _ in images]), np.stack([m for _, m in images])
    result = measured(images, bins=8).result()
    assert result is not None
    dice = 2 * (called & truth).sum() / (called.sum() + truth.sum())
    assert result["dice"]["value"] == pytest.approx(dice, abs=1e-15)
    assert result["oracle"]["dice"]["value"] >= dice
    fine = measured(images).result()
    scores = np.stack([s for s, _ in images])
    best = max(2 * ((scores > t) & truth).sum() / ((scores > t).sum() + truth.sum()) for t in np.linspace(0, 12, 600))
    assert fine is not None
    assert fine["oracle"]["dice"]["value"] == pytest.approx(best, abs=2e-3)


def test_any_range_works() -> None:
    images = blobs(4)
    for factor in (1e-9, 1.0, 1e9):
        metrics = PixelMetrics((2.0 * factor, 8.0 * factor), 5.0 * factor)
        for i, (scores, mask) in enumerate(images):
            metrics.update(scores * factor, mask, str(i))
        result = metrics.result()
        assert result is not None
        expected = roc_auc_score(np.stack([m for _, m in images]).ravel(), np.stack([s for s, _ in images]).ravel())
        assert result["auroc"]["value"] == pytest.approx(expected, abs=1e-3)


def test_order_and_reading_in_between_change_nothing() -> None:
    images = blobs(70)
    straight = measured(images).result()
    metrics = PixelMetrics((2.0, 8.0), 5.0)
    for i in reversed(range(70)):
        metrics.update(*images[i], patient=f"p{i // 2}")
        if i % 10 == 0:
            metrics.result()
    other = metrics.result()
    assert straight is not None
    assert other is not None
    for name in ("auroc", "aupro", "dice"):
        assert other[name] == pytest.approx(straight[name], abs=1e-12)


def test_intervals_hold_the_value_and_narrow_with_more_patients() -> None:
    widths = []
    for n in (24, 240):
        result = measured(blobs(n)).result()
        assert result is not None
        json.dumps(result, allow_nan=False)
        for metric in (result["auroc"], result["aupro"], result["dice"], result["oracle"]["dice"]):
            assert metric["low"] < metric["value"] < metric["high"]
            assert metric["interval"] == "patient bootstrap"
        widths.append(result["auroc"]["high"] - result["auroc"]["low"])
    assert widths[1] < widths[0] / 2


def test_the_interval_is_that_of_a_bootstrap_over_patients() -> None:
    """Against a plain bootstrap that draws whole patients with replacement and pools their raw pixels."""
    images = blobs(60, size=12)
    result = measured(images).result()
    generator, areas = np.random.default_rng(0), []
    for _ in range(300):
        drawn = [images[2 * p + k] for p in generator.integers(30, size=30) for k in (0, 1)]
        areas.append(roc_auc_score(*(np.concatenate([pair[i].ravel() for pair in drawn]) for i in (1, 0))))
    assert result is not None
    low, high = np.quantile(areas, [0.025, 0.975])
    assert result["auroc"]["low"] == pytest.approx(low, abs=0.25 * (high - low))
    assert result["auroc"]["high"] == pytest.approx(high, abs=0.25 * (high - low))


def test_memory_does_not_grow_with_the_images() -> None:
    images = blobs(8, size=64)
    metrics = PixelMetrics((2.0, 8.0), 5.0)
    for i in range(64):
        metrics.update(*images[i % 8], patient=str(i))
    tracemalloc.start()
    for i in range(64, 320):
        metrics.update(*images[i % 8], patient=str(i))
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 100_000  # a digest a patient; one map alone is 32 kB


def test_what_cannot_be_measured_is_null() -> None:
    assert PixelMetrics((0.0, 1.0), 0.5).result() is None
    for fill in (False, True):
        metrics = PixelMetrics((0.0, 1.0), 0.5)
        metrics.update(np.random.default_rng(0).random((8, 8)), np.full((8, 8), fill), "a")
        assert metrics.result() is None


def test_a_single_patient_gives_no_interval_and_perfection_no_certainty() -> None:
    scores, mask = np.zeros((8, 8)), np.zeros((8, 8), bool)
    scores[2:4, 2:4], mask[2:4, 2:4] = 1.0, True
    metrics = PixelMetrics((0.0, 1.0), 0.5)
    metrics.update(scores, mask, "a")
    alone = metrics.result()
    assert alone is not None
    assert alone["auroc"] == {"value": 1.0, "low": None, "high": None, "interval": None}
    metrics.update(scores, mask, "b")
    result = metrics.result()
    assert result is not None
    for name in ("auroc", "aupro", "dice"):
        assert result[name]["value"] == result[name]["high"] == pytest.approx(1.0)
        assert result[name]["low"] < 0.5


def test_wrong_use_is_named() -> None:
    for scale, threshold in (((1.0, 1.0), 0.5), ((0.0, np.inf), 0.5), ((0.0, 1.0), np.nan)):
        with pytest.raises(DataError, match="low < high"):
            PixelMetrics(scale, threshold)
    metrics = PixelMetrics((0.0, 1.0), 0.5)
    with pytest.raises(DataError, match="mask"):
        metrics.update(np.zeros((4, 4)), np.zeros((4, 5), bool), "a")
    with pytest.raises(DataError, match="not finite"):
        metrics.update(np.full((4, 4), np.nan), np.zeros((4, 4), bool), "a")
