"""Pixel-level metrics over any number of images in constant memory.

Score maps are counted into histograms, each image with a Poisson(1) weight for each resample: a bootstrap over patients
that needs no second pass (Chamandy et al., 2012). A patient's weights depend on seed and patient alone, so neither the
order of the images nor their number a patient matters.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.integrate import trapezoid

from aeflow._types import Floats
from aeflow.errors import DataError
from aeflow.metrics.intervals import bounds, wilson

FPR_LIMIT = 0.3  # AUPRO's usual limit (Bergmann et al., 2021): with more false positives a map is of no use
RESAMPLES = 200
BATCH = 128  # images in a matrix product: one product each would move all histograms through memory every time


class PixelMetrics:
    """AUROC, AUPRO and Dice of score maps against masks, streaming, each with a 95 % interval over patients.

    ``scale`` (low, high) is the range of most scores: s -> t / (1 + |t|) with t = (s - low) / (high - low) takes any
    score into one of ``bins`` bins, and pixels of one bin count as tied. ``threshold`` is the map's threshold for Dice,
    above which a pixel is called abnormal. Raises DataError unless low < high and all three are finite.
    """

    def __init__(self, scale: tuple[float, float], threshold: float, bins: int = 8192, seed: int = 0) -> None:
        if not (np.isfinite([*scale, threshold]).all() and scale[0] < scale[1]):
            found = f"scale {scale} and threshold {threshold}"
            raise DataError("pixel metrics", found, "give a finite threshold and a scale (low, high) with low < high")
        self.scale, self.threshold, self.bins, self.seed = scale, threshold, bins, seed
        self._sides = [bins, 2 * bins, 3 * bins]
        self._patients: set[bytes] = set()
        self._images = self._waiting = 0
        # a row for each resample, and row 0 for the images as they are: normal pixels, abnormal pixels and regions (of
        # weight 1 each) by bin, then true and false positives and false negatives at the threshold, and regions
        self._counts = np.zeros((1 + RESAMPLES, 3 * bins + 4))
        self._batch = np.zeros((BATCH, 3 * bins + 4))
        self._weights = np.ones((1 + RESAMPLES, BATCH))

    def update(self, score_map: NDArray[np.floating[Any]], mask: NDArray[np.bool_], patient: str) -> None:
        """Count one image: score map (H, W) and mask (H, W), True where abnormal; raises DataError if they misfit."""
        scores, truth = np.asarray(score_map, np.float64), np.asarray(mask, bool)
        if scores.shape != truth.shape or scores.ndim != 2:
            raise DataError("pixel metrics", f"map {scores.shape} and mask {truth.shape}", "give both as (H, W)")
        if not np.isfinite(scores).all():
            raise DataError("pixel metrics", "a map with values that are not finite", "leave out its image")
        bin_of, (box, regions) = self._bin(scores), _regions(truth)
        inside = np.flatnonzero(regions)
        found, region = bin_of[box].ravel()[inside], regions.ravel()[inside].astype(np.intp)
        called = scores > self.threshold
        hits, sizes = int(np.count_nonzero(called[box].ravel()[inside])), np.bincount(region)
        normal, abnormal, overlap, plain = np.split(self._batch[self._waiting], self._sides)  # views to write into
        abnormal[:] = np.bincount(found, minlength=self.bins)
        normal[:] = np.bincount(bin_of.ravel(), minlength=self.bins) - abnormal
        overlap[:] = np.bincount(found, 1 / sizes[region], minlength=self.bins)
        plain[:] = hits, np.count_nonzero(called) - hits, len(inside) - hits, len(sizes[1:])
        key = hashlib.sha256(f"{self.seed}/{patient}".encode()).digest()
        self._weights[1:, self._waiting] = np.random.default_rng(list(key)).poisson(1.0, RESAMPLES)
        self._patients.add(key)
        self._images += 1
        self._waiting += 1
        if self._waiting == BATCH:
            self._flush()

    def result(self) -> dict[str, Any] | None:
        """Return the pixel-level part of `metrics.json`; None until abnormal as well as normal pixels were seen.

        AUROC over all pixels; AUPRO: the mean share found of an abnormal region (8-connected), integrated over the
        false positive rate up to 0.3, divided by 0.3; Dice 2 TP / (2 TP + FP + FN) over all pixels at the threshold.
        "oracle" holds the best Dice of any threshold on these very images. A single patient gives no interval.
        """
        self._flush()
        normal, abnormal, _, _ = np.split(self._counts, self._sides, axis=1)
        defined = (normal.sum(1) > 0) & (abnormal.sum(1) > 0)  # a resample may hold no abnormal pixel
        if not defined[0]:
            return None
        false, true, overlap, plain = np.split(self._counts[defined], self._sides, axis=1)
        false, true, overlap = _descending(false), _descending(true), _descending(overlap)
        fpr, tpr, pro = false / false[:, -1:], true / true[:, -1:], overlap / plain[:, 3:]
        dice = 2 * plain[:, 0] / (2 * plain[:, 0] + plain[:, 1] + plain[:, 2])
        best = (2 * true / (true + true[:, -1:] + false)).max(1)
        return {
            "n_images": self._images,
            "n_regions": int(self._counts[0, -1]),
            "n_patients": len(self._patients),
            "auroc": self._metric(trapezoid(tpr, fpr)),
            "aupro": self._metric(_area_up_to(FPR_LIMIT, fpr, pro) / FPR_LIMIT),
            "dice": self._metric(dice),
            "threshold": self.threshold,
            "fpr_limit": FPR_LIMIT,
            # the fixed threshold falls between two bins, and counts as one of "any"
            "oracle": {"dice": self._metric(np.maximum(best, dice))},
        }

    def _bin(self, scores: Floats) -> NDArray[np.intp]:
        """Return the bin of each score."""
        t = scores - self.scale[0]
        t /= self.scale[1] - self.scale[0]
        t /= np.abs(t) + 1
        t += 1  # in [0, 2]
        t *= self.bins / 2
        return np.minimum(t, self.bins - 1, out=t).astype(np.intp)

    def _flush(self) -> None:
        """Add the waiting images to the counts."""
        self._counts += self._weights[:, : self._waiting] @ self._batch[: self._waiting]
        self._waiting = 0

    def _metric(self, values: Floats) -> dict[str, Any]:
        """Return the value of row 0 with the quantiles of the other rows."""
        value, (low, high) = float(values[0]), map(float, bounds(values[1:]))
        if (patients := len(self._patients)) == 1:
            return {"value": value, "low": None, "high": None, "interval": None}
        if low < high:
            return {"value": value, "low": low, "high": high, "interval": "patient bootstrap"}
        low, high = wilson(min(1.0, value) * patients, patients)  # resamples that all agree show no uncertainty
        return {"value": value, "low": low, "high": high, "interval": "wilson"}


def _regions(truth: NDArray[np.bool_]) -> tuple[tuple[slice, slice], NDArray[np.int32]]:
    """Return the box around all true pixels of a mask (H, W), and in it each pixel's region, 8-connected, or 0.

    Only the box is labelled: a small lesion then takes a tenth of the time.
    """
    sides = [np.flatnonzero(truth.any(axis=axis)) for axis in (1, 0)]
    rows, columns = (slice(at[0], at[-1] + 1) if len(at) else slice(0) for at in sides)
    regions, _ = ndimage.label(truth[rows, columns], structure=np.ones((3, 3)))
    return (rows, columns), regions


def _descending(histogram: Floats) -> Floats:
    """Return counts (R, bins + 1) above each edge of the bins, from the highest edge (nothing above) to the lowest."""
    return np.pad(np.cumsum(histogram[:, ::-1], 1), ((0, 0), (1, 0)))


def _area_up_to(limit: float, x: Floats, y: Floats) -> Floats:
    """Return the areas under curves (R, K) from x = 0 to the limit."""
    at_limit = np.array([np.interp(limit, *curve) for curve in zip(x, y, strict=True)])
    return np.asarray(trapezoid(np.where(x < limit, y, at_limit[:, None]), np.minimum(x, limit)))
