"""Images that are the same: to the bit, or up to compression, size, brightness and a slight crop.

Near copies are found by perceptual hashes (ImageHash's phash, 256 bits) and proved by correlation of small pictures,
because chest X-rays of different persons have similar hashes. All constants were chosen on train folders of two public
sets (chest X-ray, brain MRI) and on copies made of them: JPEG at quality 30, half and 1.3 times the size, brightness,
gamma, 2, 3 and 5 % cut off each side. Every copy correlated at 0.94 or more and was within 34 bits; images of
different persons correlated at 0.90 at most. A crop of one side alone by more than about 2 % may be missed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter

MAX_BITS = 60  # bits in which the hashes of a pair differ, at most, if it is compared
MIN_CORRELATION = 0.93  # from this two images are copies
MAX_PAIRS = 200_000  # pairs compared; if there are more, those with the nearest hashes
ROWS = 512  # hashes compared with all others at once: 20 MB for 10,000 images
PAIRS_AT_ONCE = 1024  # pairs correlated at once

SIDE = 32  # side in pixels of the correlated pictures; on a finer one an uneven crop costs more
CROPS = (0.0, 0.015, 0.03, 0.045)  # cut off each side of one image until it fits the other
MAX_SHIFT = 2  # pixels by which the two may be shifted
SMOOTHING = 2.0  # pixels; coarser structures are the anatomy that all images share, and are removed


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images, by index, that are near copies."""

    a: int
    b: int
    correlation: float


def same(digests: Sequence[str | None]) -> list[list[int]]:
    """Return groups of two or more indices with the same digest, in order; None equals nothing."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, digest in enumerate(digests):
        if digest is not None:
            groups[digest].append(index)
    return [group for group in groups.values() if len(group) > 1]


def near(
    hashes: NDArray[np.uint8], pictures: NDArray[np.uint8], patients: Sequence[str], most: int = MAX_PAIRS
) -> tuple[list[Pair], bool]:
    """Return near copies among images of different patients, and True if every pair with like hashes was compared.

    ``hashes`` (N, crops, bytes), ``pictures`` (N, S, S). Neighbouring slices of one patient are alike by nature.
    """
    a, b, complete = _candidates(hashes, np.unique(np.asarray(patients, str), return_inverse=True)[1], most)
    if not len(a):
        return [], True
    used, inverse = np.unique(np.concatenate([a, b]), return_inverse=True)
    spectra = np.stack([_spectra(pictures[used], crop) for crop in CROPS], axis=1)
    first, second = inverse[: len(a)], inverse[len(a) :]
    correlation = np.full(len(a), -1.0)
    for start in range(0, len(a), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        x, y = spectra[first[part]], spectra[second[part]]
        for crop in range(len(CROPS)):
            for left, right in ((x[:, crop], y[:, 0]), (x[:, 0], y[:, crop])):
                correlation[part] = np.maximum(correlation[part], _highest(left, right))
    found = np.flatnonzero(correlation >= MIN_CORRELATION)
    return [Pair(int(a[i]), int(b[i]), float(min(1.0, correlation[i]))) for i in found], complete


def _candidates(
    hashes: NDArray[np.uint8], patient: NDArray[np.int64], most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], bool]:
    """Return pairs a < b of different patients whose hashes differ in MAX_BITS at most, cropped either way.

    With bits as -1 and 1, the number of differing bits is (bits - x . y) / 2: counting is a matrix product.
    """
    signs = 2 * np.unpackbits(hashes, axis=2).astype(np.float32) - 1
    bits, complete = signs.shape[2], True
    pairs = np.zeros((0, 3), np.int64)
    for start in range(0, len(signs), ROWS):
        rows = slice(start, start + ROWS)
        dot = signs[rows, 0] @ signs[start:, 0].T
        for crop in range(1, signs.shape[1]):
            np.maximum(dot, signs[rows, 0] @ signs[start:, crop].T, out=dot)
            np.maximum(dot, signs[rows, crop] @ signs[start:, 0].T, out=dot)
        i, j = np.nonzero(dot >= bits - 2 * MAX_BITS)
        a, b = i + start, j + start
        kept = (a < b) & (patient[a] != patient[b])
        new = np.stack([((bits - dot[i, j]) / 2).astype(np.int64), a, b], axis=1)[kept]
        pairs = np.concatenate([pairs, new])
        if len(pairs) > most:
            pairs, complete = pairs[np.lexsort(pairs.T[::-1])[:most]], False
    return pairs[:, 1], pairs[:, 2], complete


def _spectra(pictures: NDArray[np.uint8], crop: float) -> NDArray[np.complex64]:
    """Return Fourier transforms (N, SIDE, SIDE // 2 + 1) of the cropped pictures without coarse parts, at unit norm."""
    to = _average(pictures.shape[1], crop)
    x = to @ pictures.astype(np.float32) @ to.T
    x -= gaussian_filter(x, (0, SMOOTHING, SMOOTHING))
    x -= x.mean(axis=(1, 2), keepdims=True)
    x /= np.maximum(np.linalg.norm(x, axis=(1, 2), keepdims=True), 1e-6)
    return np.asarray(fft.rfft2(x), np.complex64)


def _average(side: int, crop: float) -> NDArray[np.float32]:
    """Return (SIDE, side): each row averages the stretch of an axis that becomes one pixel once ``crop`` is cut off."""
    edges = np.linspace(crop * side, (1 - crop) * side, SIDE + 1)
    pixel = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    weights = np.clip(overlap, 0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def _highest(x: NDArray[np.complex64], y: NDArray[np.complex64]) -> NDArray[np.float64]:
    """Return the highest correlation of each pair over shifts of up to MAX_SHIFT pixels."""
    correlation = fft.irfft2(x * y.conj(), s=(SIDE, SIDE))
    near_zero = np.r_[-MAX_SHIFT : MAX_SHIFT + 1]
    return np.asarray(correlation[:, near_zero[:, None], near_zero].max(axis=(1, 2)), np.float64)
