"""Pixel-level metrics over any number of images in constant memory.

Score maps are counted into histograms, each image's times a Poisson(1) weight a resample: the bootstrap over patients
that needs no second pass (Chamandy et al., 2012). A patient's weights depend on seed and patient alone, so neither the
order of the images nor their number a patient matters.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from aeflow.errors import DataError
from aeflow.evaluation.intervals import bounds, wilson

Floats = NDArray[np.float64]
FPR_LIMIT = 0.3  # AUPRO's usual limit (Bergmann et al., 2021): with more false positives a map is of no use
RESAMPLES = 200
BATCH = 32  # images between two matrix products; one product an image would move all histograms through memory each time


class PixelMetrics:
    """AUROC, AUPRO and Dice of score maps against masks, streaming, each with a 95 % interval over patients.

    ``scale`` (low, high) is where most scores lie: s -> t / (1 + |t|) with t = (s - low) / (high - low) takes any score
    into one of ``bins`` bins, and pixels of one bin count as tied. ``threshold`` is the map threshold that Dice is
    taken at, above which a pixel is called abnormal. Raises DataError unless low < high and all three are finite.
    """

    def __init__(self, scale: tuple[float, float], threshold: float, bins: int = 8192, seed: int = 0) -> None:
        if not (np.isfinite([*scale, threshold]).all() and scale[0] < scale[1]):
            found = f"scale {scale} and threshold {threshold}"
            raise DataError("pixel metrics", found, "give a finite threshold and a scale (low, high) with low < high")
        self.scale, self.threshold, self.bins, self.seed = scale, threshold, bins, seed
        self._patients: set[bytes] = set()
        self._images = self._regions = 0
        # one row an image or a resample: normal pixels, abnormal pixels, regions (each of weight 1) by bin, then four
        # plain counts: true positives, false positives, false negatives at the threshold, and regions
        self._columns = 3 * bins + 4
        self._total = np.zeros((1 + RESAMPLES, self._columns))  # row 0 holds the images as they are
        self._batch = np.zeros((BATCH, self._columns))
        self._weights = np.ones((1 + RESAMPLES, BATCH))

    def update(self, score_map: NDArray[np.floating[Any]], mask: NDArray[np.bool_], patient: str) -> None:
        """Count one image: score map (H, W), mask (H, W) with True on abnormal pixels; raises DataError on bad ones."""
        scores, truth = np.asarray(score_map, np.float64), np.asarray(mask, bool)
        if scores.shape != truth.shape or scores.ndim != 2:
            raise DataError("pixel metrics", f"map {scores.shape} and mask {truth.shape}", "give both as (H, W)")
        if not np.isfinite(scores).all():
            raise DataError("pixel metrics", "a map with values that are not finite", "leave out its image")
        regions, number = ndimage.label(truth, structure=np.ones((3, 3)))
        bin_of, called = self._bin(scores), scores > self.threshold
        hit, at = bin_of[truth], regions[truth]
        row = self._batch[self._images % BATCH]
        normal, abnormal, overlap, plain = np.split(row, [self.bins, 2 * self.bins, 3 * self.bins])
        normal[:] = np.bincount(bin_of[~truth], minlength=self.bins)
        abnormal[:] = np.bincount(hit, minlength=self.bins)
        overlap[:] = np.bincount(hit, 1 / np.bincount(at)[at] if number else None, minlength=self.bins)
        plain[:] = (called & truth).sum(), (called & ~truth).sum(), (~called & truth).sum(), number
        key = hashlib.sha256(f"{self.seed}/{patient}".encode()).digest()[:8]
        poisson = np.random.default_rng(int.from_bytes(key)).poisson(1.0, RESAMPLES)
        self._weights[1:, self._images % BATCH] = poisson
        self._patients.add(key)
        self._images += 1
        self._regions += number
        if self._images % BATCH == 0:
            self._flush(BATCH)

    def result(self) -> dict[str, Any] | None:
        """"pixel" of `metrics.json`; null until abnormal as well as normal pixels were seen.

        AUROC over all pixels; AUPRO: the mean share of an abnormal region (8-connected) that is found, integrated over
        the false positive rate up to 0.3 and divided by it; Dice 2 TP / (2 TP + FP + FN) over all pixels at the
        threshold; "oracle" holds the best Dice of these very images. With a single patient no interval is given.
        """
        self._flush(self._images % BATCH)
        normal, abnormal, overlap, plain = np.split(self._total, [self.bins, 2 * self.bins, 3 * self.bins], axis=1)
        if not (normal[0].any() and abnormal[0].any()):
            return None
        with np.errstate(invalid="ignore"):  # a resample without any abnormal pixel is 0 / 0 and then left out
            true, false = _descending(abnormal), _descending(normal)
            tpr, fpr = true / true[:, -1:], false / false[:, -1:]
            pro = _descending(overlap) / plain[:, 3:]
            dice = 2 * plain[:, 0] / (2 * plain[:, 0] + plain[:, 1] + plain[:, 2])
            curve = 2 * true / (true + true[:, -1:] + false)
        auroc = np.trapezoid(tpr, fpr, axis=1)
        aupro = np.array([_area_up_to(FPR_LIMIT, x, y) for x, y in zip(fpr, pro, strict=True)]) / FPR_LIMIT
        best = np.fmax(curve.max(axis=1), dice)  # the fixed threshold lies between two bins, and counts as well
        edge = self.threshold if best[0] > curve[0].max() else self._value(self.bins - int(curve[0].argmax()))
        return {
            "n_images": self._images,
            "n_regions": self._regions,
            "n_patients": len(self._patients),
            "auroc": self._metric(auroc),
            "aupro": self._metric(aupro),
            "dice": self._metric(dice),
            "threshold": self.threshold,
            "fpr_limit": FPR_LIMIT,
            "oracle": {"threshold": edge, "dice": self._metric(best)},
        }

    def _flush(self, images: int) -> None:
        self._total += self._weights[:, :images] @ self._batch[:images]
        self._images_done = images

    def _bin(self, scores: Floats) -> NDArray[np.intp]:
        t = (scores - self.scale[0]) / (self.scale[1] - self.scale[0])
        squashed = (t / (1 + np.abs(t)) + 1) / 2  # in [0, 1]
        return np.minimum((squashed * self.bins).astype(np.intp), self.bins - 1)
