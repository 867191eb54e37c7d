"""Guard of a model's intended input: images that look like those that it was trained on.

A score says how abnormal an image is, *compared with images of the same kind*; of a photograph it says nothing. So the
input statistics of each image are compared with those of the train normals, and an image is outside the intended input
if one of them is out of bounds.

One rule makes every bound. Each statistic is on a scale on which its spread is even (logarithm, log-odds, Fisher's z).
Held-out normals are recaptured: changed as another scanner or export would change them (``data.augment.recapture``).
The bounds are

    mean of the recaptured normals  ±  (SPREADS * their standard deviation + MARGIN)

About one in a thousand of them is beyond the spreads. The margin, a factor of 1.6 and none for the layout, leaves room
for disease: it was chosen on train folders, so that at most 2 % of recaptured abnormal images are outside, and images
of another part of the body still are. The fit for a model uses neither an abnormal image nor a test split.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from aeflow._types import Floats
from aeflow.imageio.image import Acquisition
from aeflow.model.output_names import PICTURE_SIDE

SPREADS, MARGIN = 3.0, math.log(1.6)
SIDE = PICTURE_SIDE  # pixels of the small picture in which the layout is compared

# Statistics of the pixels that ``model.input_statistics`` measures, in this order, and the reason given if one is out
# of bounds.
PLAIN = {
    "mean": "brightness",  # log-odds of the mean grey
    "white": "brightness",  # logarithm of the share of clipped pixels
    "spread": "contrast",  # logarithm of the standard deviation
    "colour": "colour",  # logarithm of the mean distance of the channels
    "detail": "sharpness",  # logarithm of the step to the next pixel, in standard deviations
}
# Then Fisher's z of the correlation with the average train normal, both as small pictures, and the logarithm of the
# distance of the pooled features. The first may be high but not low, the second low but not high.
REASONS = {**PLAIN, "layout": "layout", "features": "features"}

# The same statistics in tables of scores, in that order. They are seven numbers of exposure and framing.
INPUT_COLUMNS = {
    "mean": "input_brightness",
    "white": "input_clipped",
    "spread": "input_contrast",
    "colour": "input_colour",
    "detail": "input_sharpness",
    "layout": "input_layout",
    "features": "input_features",
}

REGION, REGION_SPREADS = "region", 5.0  # reason if a learnt region is beyond so many spreads of the train normals
# What each reason means, for people; the first three are facts of the header (``SeenInputs``).
MEANINGS = {
    "modality": "of another modality than the train normals",
    "photometric interpretation": "of other colours in the file than the train normals",
    "size": "less than half as large as the smallest train normal",
    "brightness": "much brighter or darker than the train normals, or clipped to white",
    "contrast": "much more or less contrast than the train normals",
    "colour": "much more or less colour than the train normals",
    "sharpness": "much sharper or more blurred than the train normals",
    "layout": "arranged in another way than the train normals, as another view or part of the body is",
    "features": "unlike the train normals as a whole",
    REGION: "the region was not found where it lies in the train normals",
}
MIN_REGION_STD = 0.02  # of a statistic; one that hardly varies must not put every image outside

MeanStd = tuple[float, float]
Bounds = tuple[float | None, float | None]


@dataclass(frozen=True, slots=True)
class SeenInputs:
    """Facts of the train normals that their headers gave; a fact that no header gave is not compared."""

    modalities: tuple[str, ...] = ()
    colours: tuple[str, ...] = ()
    shortest: int | None = None  # the shortest side of all images in pixels

    @classmethod
    def of(cls, acquisitions: Iterable[Acquisition]) -> Self:
        """Collect the facts of every train normal."""
        known = list(acquisitions)
        return cls(
            modalities=tuple(sorted({acquisition.kind for acquisition in known if acquisition.kind})),
            colours=tuple(sorted({acquisition.colours for acquisition in known if acquisition.colours})),
            shortest=min((min(acquisition.size) for acquisition in known if acquisition.size), default=None),
        )

    def outside(self, acquisition: Acquisition) -> tuple[str, ...]:
        """Return the facts never seen: another modality, other colours, or less than half of the shortest side."""
        small = self.shortest is not None and acquisition.size is not None and 2 * min(acquisition.size) < self.shortest
        found = {
            "modality": bool(self.modalities)
            and acquisition.kind is not None
            and acquisition.kind not in self.modalities,
            "photometric interpretation": bool(self.colours)
            and acquisition.colours is not None
            and acquisition.colours not in self.colours,
            "size": small,  # it would be enlarged, and hold no detail
        }
        return tuple(reason for reason, out in found.items() if out)


@dataclass(frozen=True, slots=True)
class InputGuard:
    """Bounds of the input statistics, fitted on train normals, beyond which a model is not meant for an image.

    ``distance(s)^2 = |factor' (s - mean) / scale|^2 / D``: Mahalanobis' with a shrunk covariance (Ledoit and Wolf 2004)
    of standardised features ``s`` (D,), so that neither shift nor scale of a feature changes it; about 1 for train
    normals.
    """

    mean: Floats  # (D,)
    scale: Floats  # (D,)
    factor: Floats  # (D, D)
    picture: Floats  # (SIDE * SIDE,) the average train normal, of mean 0 and length 1
    bounds: dict[str, Bounds]
    seen: SeenInputs = field(default_factory=SeenInputs)
    region: list[MeanStd] | None = None  # of each statistic of a learnt region; None if the region was not learnt

    def values(self, input_statistics: Floats) -> dict[str, Floats]:
        """Return each statistic of images on its scale, (n,) each, from ``input_statistics`` (n, T)."""
        plain, pictures, s = np.split(
            np.asarray(input_statistics, float), [len(PLAIN), len(PLAIN) + SIDE * SIDE], axis=1
        )
        deviations = ((s - self.mean) / self.scale) @ self.factor
        return {
            **dict(zip(PLAIN, plain.T, strict=True)),
            "layout": np.arctanh(0.999 * (_centred(pictures) @ self.picture)),
            "features": 0.5 * np.log(np.square(deviations).mean(axis=1) + 1e-12),
        }

    def columns(self, input_statistics: Floats) -> dict[str, Floats]:
        """Return ``values`` of images (n, T) by their columns in tables of scores."""
        return {INPUT_COLUMNS[name]: value for name, value in self.values(input_statistics).items()}

    def outside(
        self, input_statistics: Floats, acquisition: Acquisition | None = None, region_statistics: Floats | None = None
    ) -> tuple[str, ...]:
        """Return why an image with ``input_statistics`` (T,) is outside the intended input.

        ``region_statistics`` are those of ``model.regions.plausibility``. Each reason comes once; there is none for an
        image within.
        """
        values = {name: float(value[0]) for name, value in self.values(input_statistics[None]).items()}
        found = [REASONS[name] for name, value in values.items() if not _within(value, self.bounds[name])]
        known = self.seen.outside(acquisition) if acquisition is not None else ()
        if self.region is not None and region_statistics is not None:
            mean, std = np.array(self.region).T
            found += [REGION] if (np.abs(region_statistics - mean) > REGION_SPREADS * std).any() else []
        return tuple(dict.fromkeys([*known, *reversed(found)]))

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the arrays to keep beside the weights."""
        return {name: getattr(self, name).astype(np.float32) for name in ARRAYS}

    def to_json(self) -> dict[str, Any]:
        """Return the rest as plain values."""
        return {"bounds": self.bounds, "seen": asdict(self.seen), "region": self.region}

    @classmethod
    def of(cls, kept: Mapping[str, NDArray[np.float32]], values: dict[str, Any]) -> Self:
        """Rebuild from ``arrays()`` and ``to_json()``; raises KeyError, TypeError or ValueError if they do not fit."""
        arrays = {name: np.asarray(kept[name], float) for name in ARRAYS}
        width = len(arrays["mean"])
        if [arrays[name].shape for name in ARRAYS] != [(width,), (width,), (width, width), (SIDE * SIDE,)]:
            raise ValueError("arrays that do not fit together")
        bounds: dict[str, Bounds] = {name: (values["bounds"][name][0], values["bounds"][name][1]) for name in REASONS}
        seen = values["seen"]
        return cls(
            **arrays,
            bounds=bounds,
            seen=SeenInputs(tuple(seen["modalities"]), tuple(seen["colours"]), seen["shortest"]),
            region=None if values["region"] is None else [(float(mean), float(std)) for mean, std in values["region"]],
        )


ARRAYS = ("mean", "scale", "factor", "picture")


def fit_guard(
    train: Floats, recaptured: Floats, seen: SeenInputs | None = None, regions: Floats | None = None
) -> InputGuard:
    """Fit on the input statistics (n, T) of train normals and those (m, T) of recaptured held-out ones.

    ``regions`` (n, T) are the statistics of train normals' learnt regions.
    """
    from sklearn.covariance import ledoit_wolf  # a second to import, and scoring does without

    _, pictures, s = np.split(np.asarray(train, float), [len(PLAIN), len(PLAIN) + SIDE * SIDE], axis=1)
    mean, scale = s.mean(axis=0), s.std(axis=0)
    scale = np.maximum(scale, 1e-2 * scale.mean() + 1e-6)  # a feature that hardly varies must not outweigh the others
    covariance, _ = ledoit_wolf((s - mean) / scale, assume_centered=True)
    factor = np.linalg.cholesky(np.linalg.inv(covariance))
    arrays = {"mean": mean, "scale": scale, "factor": factor, "picture": _centred(pictures.mean(axis=0)[None])[0]}
    arrays = {name: array.astype(np.float32).astype(float) for name, array in arrays.items()}  # as they are kept
    values = InputGuard(**arrays, bounds={}).values(recaptured)
    bounds: dict[str, Bounds] = {name: bounds_of(value, MARGIN) for name, value in values.items()}
    low, _ = bounds_of(values["layout"], margin=0.0)  # disease hardly moves it, and inverted images are not far below
    bounds |= {"layout": (low, None), "features": (None, bounds["features"][1])}
    region = None
    if regions is not None:
        spreads = np.maximum(regions.std(axis=0), MIN_REGION_STD)
        region = list(zip(regions.mean(axis=0).tolist(), spreads.tolist(), strict=True))
    return InputGuard(**arrays, bounds=bounds, seen=seen or SeenInputs(), region=region)


def bounds_of(values: Floats, margin: float) -> tuple[float, float]:
    """Return the bounds by the rule above, from the values (m,) of recaptured normals."""
    width = SPREADS * float(values.std(ddof=1)) + margin
    return float(values.mean()) - width, float(values.mean()) + width


def _centred(pictures: Floats) -> Floats:
    """Return pictures (n, P) with mean 0 and length 1; one without contrast becomes all 0."""
    centred = pictures - pictures.mean(axis=1, keepdims=True)
    length: Floats = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(length, 1e-6))


def _within(value: float, bounds: Bounds) -> bool:
    """Return if a value is finite and within bounds."""
    low, high = bounds
    return (low is None or value >= low) and (high is None or value <= high) and math.isfinite(value)
