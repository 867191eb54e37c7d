"""Trivial attributes that tell images apart without looking at what they show.

An attribute is measured by the AUROC with which it alone separates two groups of images, counted so that it is at
least 0.5 whichever group has the higher values: normal from abnormal images within a split (a model may learn the
attribute instead of the disease), and train normals from the normals of another split (a threshold moves).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from aeflow._types import Floats
from aeflow.data.records import Record
from aeflow.metrics.intervals import delong

Bools = NDArray[np.bool_]

SUSPECT = 0.6  # AUROC: weaker ones a trained model easily beats
CLEAR = 0.55  # and the interval's lower end, so that few images do not raise an alarm
STRONG = 0.7  # as good as some published models: no figure can be trusted before this is explained
FEWEST = 10  # images in each group; with fewer an interval means little
VOLUME = 5  # images of a patient from which file names count as slices


@dataclass(frozen=True, slots=True)
class Separation:
    """How well one attribute tells a second group of images from a first."""

    attribute: str  # or "attribute: category" where it is not a number
    groups: tuple[str, str]
    counts: tuple[int, int]
    auroc: float  # at least 0.5
    low: float  # 95 % interval by DeLong's variance, over images
    high: float
    higher: bool  # the second group has the higher values, or more of the category
    outside: float  # share of the second group outside the middle 95 % of the first

    @property
    def suspect(self) -> bool:
        """Strong enough to be looked at, and not by chance."""
        return self.auroc >= SUSPECT and self.low > CLEAR


def by_class(attributes: Mapping[str, Floats], records: Sequence[Record]) -> list[Separation]:
    """Normal against abnormal images, within each split that has both; the strongest first."""
    found: list[Separation] = []
    for split in dict.fromkeys(record.split for record in records):
        groups = [_group(records, split, label) for label in (0, 1)]
        place = f" in {split}" if split else ""
        found += _separations(attributes, groups, (f"normal{place}", f"abnormal{place}"))
    return sorted(found, key=lambda one: -one.auroc)


def by_split(attributes: Mapping[str, Floats], records: Sequence[Record]) -> list[Separation]:
    """Train normals against the normals of each other split; the strongest first."""
    found: list[Separation] = []
    for split in ("val", "test"):
        groups = [_group(records, "train", 0), _group(records, split, 0)]
        found += _separations(attributes, groups, ("normal in train", f"normal in {split}"))
    return sorted(found, key=lambda one: -one.auroc)


def attributes_of(
    numbers: Sequence[Mapping[str, float] | None], names: Sequence[Mapping[str, str] | None], records: Sequence[Record]
) -> dict[str, Floats]:
    """Each attribute's value of each record (N,), NaN where there is none; a category is 1 where an image is of it.

    ``numbers`` and ``names`` are the traits of each record, None where it could not be read.
    """
    keys = dict.fromkeys(key for row in numbers for key in row or ())
    found = {key: np.array([(row or {}).get(key, np.nan) for row in numbers]) for key in keys}
    categories = sorted({(key, value) for row in names for key, value in (row or {}).items()})
    for key, value in categories:
        has = np.array([np.nan if row is None or key not in row else float(row[key] == value) for row in names])
        if np.nanmin(has) < np.nanmax(has):
            found[f"{key}: {value}"] = has
    place = _places(records)
    if np.isfinite(place).any():
        found["slice position"] = place
        found["distance from the middle slice"] = np.abs(place - 0.5)
    return found


def _separations(attributes: Mapping[str, Floats], groups: Sequence[Bools], names: tuple[str, str]) -> list[Separation]:
    orders: list[Floats] = []
    best: dict[str, Separation] = {}
    for attribute, values in attributes.items():
        first, second = (values[group & np.isfinite(values)] for group in groups)
        if min(len(first), len(second)) < FEWEST:
            continue
        both = np.concatenate([first, second])
        order = rankdata(both)
        if (both == both[0]).all() or any(_same(order, other) for other in orders):
            continue  # the same ranking under another name, as bytes per pixel where all images have one size
        orders.append(order)
        area, low, high = delong(both, np.arange(len(both)) >= len(first))
        higher = area >= 0.5
        if not higher:
            area, low, high = 1 - area, 1 - high, 1 - low
        bounds = np.quantile(first, [0.025, 0.975])
        outside = float(((second < bounds[0]) | (second > bounds[1])).mean())
        one = Separation(attribute, names, (len(first), len(second)), area, low, high, higher, outside)
        key = attribute.partition(": ")[0]  # of several categories the best stands for the attribute
        if key not in best or one.auroc > best[key].auroc:
            best[key] = one
    return list(best.values())


def _same(order: Floats, other: Floats) -> bool:
    """Whether two rankings are one, or one the reverse of the other."""
    return len(order) == len(other) and bool((order == other).all() or (order + other == len(order) + 1).all())


def _group(records: Sequence[Record], split: str | None, label: int) -> Bools:
    return np.array([record.split == split and record.label == label for record in records], bool)


def _places(records: Sequence[Record]) -> Floats:
    """Where each image lies among its patient's, 0 the first and 1 the last slice; NaN where that is not known.

    From the records' positions, else from the last number of the file names of patients with VOLUME images or more.
    """
    rows: dict[tuple[str, str | None], list[int]] = {}
    for index, record in enumerate(records):
        rows.setdefault((record.patient, record.split), []).append(index)
    place = np.full(len(records), np.nan)
    for indices in rows.values():
        told = [records[i].position for i in indices]
        if len(indices) >= VOLUME and not any(value is not None for value in told):
            told = [_last_number(records[i].path.stem) for i in indices]
        at = np.array([np.nan if value is None else value for value in told], np.float64)
        if len(np.unique(at[np.isfinite(at)])) > 1:
            place[indices] = (at - np.nanmin(at)) / (np.nanmax(at) - np.nanmin(at))
    return place


def _last_number(stem: str) -> float | None:
    digits = ""
    for character in reversed(stem):
        if character in "0123456789":
            digits = character + digits
        elif digits:
            break
    return float(digits) if digits else None
