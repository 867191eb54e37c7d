"""Traits that may tell two groups of images apart, and changes that carry one trait from one group to the other.

Every change is the same for all images of a group, as another machine makes it: it moves the group's average onto the
other's and leaves the differences between images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from aeflow._types import Floats
from aeflow.metrics.intervals import delong

Greys = NDArray[np.float32]  # (n, H, W) in [0, 1]
Change = Callable[[Greys], Greys]

LEVELS = 64  # of the histogram and the tone curve
RINGS = 48  # of the power spectrum
PENALTY = 0.01  # C of the logistic regression; not tuned
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Separable:
    """AUROC with which a cross-validated classifier tells two groups apart, with DeLong's interval."""

    auroc: float
    low: float
    high: float
    width: int  # numbers that it sees of an image


def separable(first: Floats, second: Floats, patients: Sequence[str], seed: int = 0) -> Separable:
    """Fit logistic regressions on the rows of both groups, and measure out of fold; no patient is in two folds."""
    x = np.concatenate([first, second])
    x = x[:, x.std(axis=0) > 0]
    y = np.arange(len(x)) >= len(first)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, class_weight="balanced", max_iter=2000))
    found = cross_val_predict(model, x, y, groups=np.asarray(patients), cv=folds, method="decision_function")
    return Separable(*delong(found, y), x.shape[1])


def histograms(x: Greys) -> Floats:
    """Return the share of pixels at each grey level, (n, LEVELS)."""
    return np.stack([np.histogram(one, LEVELS, (0, 1))[0] / one.size for one in x])


def spectra(x: Greys) -> Floats:
    """Return the logarithm of the power in rings of rising frequency over all power, (n, RINGS): contrast-free."""
    ring = rings(x.shape[1])
    window = np.outer(np.hanning(x.shape[1]), np.hanning(x.shape[1]))
    rows = []
    for one in x:
        power = np.abs(np.fft.fft2((one - one.mean()) * window)) ** 2
        total = np.bincount(ring.ravel(), power.ravel(), RINGS + 1)[:RINGS]
        mean = total / np.bincount(ring.ravel())[:RINGS]
        rows.append(np.log(mean + 1e-12) - np.log(total.sum()))
    return np.stack(rows)


def rings(side: int) -> NDArray[np.intp]:
    """Return the ring of each frequency of ``fft2`` (side, side); RINGS in the corners, beyond Nyquist's."""
    f = np.fft.fftfreq(side)
    return np.asarray(np.minimum((np.hypot(f[:, None], f[None]) * 2 * RINGS).astype(np.intp), RINGS))


def centre(x: Greys) -> Greys:
    """Enlarge the middle half of each side."""
    side = x.shape[1]
    return _resized(x, (side / 4, side / 4, 3 * side / 4, 3 * side / 4))


def rim(x: Greys) -> Greys:
    """Replace the middle three quarters of each side by the image's mean."""
    eighth = x.shape[1] // 8
    found = x.copy()
    found[:, eighth:-eighth, eighth:-eighth] = x.mean(axis=(1, 2))[:, None, None]
    return found


def towards(source: Greys, target: Greys) -> dict[str, Change]:
    """Return the changes that give images of ``source`` each trait of ``target``; the last is a control without one."""
    tone = partial(_tone, _quantiles(source), _quantiles(target))
    sharp = partial(_filtered, np.exp((spectra(target).mean(axis=0) - spectra(source).mean(axis=0)) / 2))
    crop = partial(_resized, box=_box(source.mean(axis=0), target.mean(axis=0)))

    def bright(x: Greys) -> Greys:
        a, b = (np.array([one.mean(axis=(1, 2)).mean(), one.std(axis=(1, 2)).mean()]) for one in (source, target))
        return np.asarray(((x - a[0]) * (b[1] / a[1]) + b[0]).clip(0, 1), np.float32)

    bent = partial(_tone, _quantiles(crop(source)), _quantiles(target))
    side = source.shape[1]
    return {
        "brightness and contrast": bright,
        "tone curve (histogram)": tone,
        "sharpness (power spectrum)": sharp,
        "crop and zoom (average image)": crop,
        "crop, zoom and tone curve": lambda x: bent(crop(x)),
        "none: resampled by half a pixel": partial(_resized, box=(0.5, 0.5, side - 0.5, side - 0.5)),
    }


def _quantiles(x: Greys) -> Floats:
    return np.quantile(x, np.linspace(0, 1, LEVELS)).astype(np.float64)


def _tone(source: Floats, target: Floats, x: Greys) -> Greys:
    """Apply one tone curve to all: the quantiles of the one group become those of the other."""
    steps = np.arange(len(source)) * 1e-9  # equal quantiles, of black borders, in rising order
    return np.interp(x, source + steps, target).astype(np.float32)


def _filtered(gain: Floats, x: Greys) -> Greys:
    """Apply one linear filter to all, with a gain for each ring of frequencies, at most 3 either way."""
    bounded = np.append(gain, gain[-1]).clip(1 / 3, 3)[rings(x.shape[1])]
    bounded[0, 0] = 1
    return np.stack([np.fft.ifft2(np.fft.fft2(one) * bounded).real.clip(0, 1) for one in x]).astype(np.float32)


def _box(source: NDArray[np.floating], target: NDArray[np.floating]) -> tuple[float, float, float, float]:
    """Return the part of the one average image that looks most like the other (correlation)."""
    side = source.shape[0]
    small = np.asarray(PIL.Image.fromarray(target.astype(np.float32)).resize((56, 56)))

    def unlike(p: NDArray[np.float64]) -> float:
        cut = PIL.Image.fromarray(_resized(source[None].astype(np.float32), tuple(p * side))[0]).resize((56, 56))
        return -float(np.corrcoef(np.asarray(cut).ravel(), small.ravel())[0, 1])

    starts = [np.array([share, share, 1 - share, 1 - share]) for share in (0.0, 0.04, 0.08)]
    steps = np.array([[0, 0, 0, 0], *(0.04 * np.eye(4) * [1, 1, -1, -1])])
    found = [minimize(unlike, s, method="Nelder-Mead", options={"initial_simplex": s + steps}) for s in starts]
    left, top, right, bottom = (float(v) * side for v in min(found, key=lambda one: one.fun).x)
    return left, top, right, bottom


def _resized(x: Greys, box: Sequence[float]) -> Greys:
    """Enlarge the ``box`` (left, top, right, bottom) of each image to its whole; outside, the edge is repeated."""
    side = x.shape[1]
    border = side // 4
    left, top, right, bottom = (float(np.clip(v, -border, side + border)) + border for v in box)
    padded = (np.pad(one, border, mode="edge") for one in x)
    cuts = [
        PIL.Image.fromarray(one).resize((side, side), PIL.Image.Resampling.BILINEAR, box=(left, top, right, bottom))
        for one in padded
    ]
    return np.stack([np.asarray(one) for one in cuts]).clip(0, 1)
