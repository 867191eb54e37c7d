"""Shortcuts: trivial attributes that separate images without looking at what they show.

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

SUSPECT = 0.6  # AUROC: a trained model easily beats weaker ones
CLEAR = 0.55  # and the interval's lower end, so that few images do not raise an alarm
STRONG = 0.7  # as good as some published models: no figure can be trusted before this is explained
FEWEST = 10  # images in each group; with fewer an interval means little
MIN_VOLUME = 5  # images of a patient from which its file names count as slices


@dataclass(frozen=True, slots=True)
class Separation:
    """Separation of a second group of images from a first by one attribute."""

    attribute: str  # or "attribute: category" if it is not a number
    groups: tuple[str, str]
    counts: tuple[int, int]
    auroc: float  # at least 0.5
    low: float  # 95 % interval by DeLong's variance, over images
    high: float
    higher: bool  # the second group has the higher values, or more of the category
    outside: float  # share of the second group outside the middle 95 % of the first

    @property
    def suspect(self) -> bool:
        """True if the separation is strong enough to be looked at, and not by chance."""
        return self.auroc >= SUSPECT and self.low > CLEAR


def by_class(attributes: Mapping[str, Floats], records: Sequence[Record]) -> list[Separation]:
    """Return the separations of abnormal from normal images, within each split that has both; the strongest first."""
    found: list[Separation] = []
    for split in dict.fromkeys(record.split for record in records):
        groups = [_group(records, split, label) for label in (0, 1)]
        place = f" in {split}" if split else ""
        found += _separations(attributes, groups, (f"normal{place}", f"abnormal{place}"))
    return sorted(found, key=lambda separation: -separation.auroc)


def by_split(attributes: Mapping[str, Floats], records: Sequence[Record]) -> list[Separation]:
    """Return the separations of other splits' normals from train normals; the strongest first."""
    found: list[Separation] = []
    for split in ("val", "test"):
        groups = [_group(records, "train", 0), _group(records, split, 0)]
        found += _separations(attributes, groups, ("normal in train", f"normal in {split}"))
    return sorted(found, key=lambda separation: -separation.auroc)


def attributes_of(
    numbers: Sequence[Mapping[str, float] | None], names: Sequence[Mapping[str, str] | None], records: Sequence[Record]
) -> dict[str, Floats]:
    """Return each attribute's value of each record (N,), NaN if it has none; a category is 1 for its images, else 0.

    ``numbers`` and ``names`` are the traits of each record, None if it could not be read.
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
    """Return the separation by each attribute, of several categories only the best."""
    orders: list[Floats] = []
    best: dict[str, Separation] = {}
    for attribute, values in attributes.items():
        first, second = (values[group & np.isfinite(values)] for group in groups)
        if min(len(first), len(second)) < FEWEST:
            continue
        both = np.concatenate([first, second])
        order = rankdata(both)
        if (both == both[0]).all() or any(_same(order, other) for other in orders):
            continue  # the same ranking under another name, as bytes per pixel if all images have one size
        orders.append(order)
        area, low, high = delong(both, np.arange(len(both)) >= len(first))
        higher = area >= 0.5
        if not higher:
            area, low, high = 1 - area, 1 - high, 1 - low
        bounds = np.quantile(first, [0.025, 0.975])
        outside = float(((second < bounds[0]) | (second > bounds[1])).mean())
        found = Separation(attribute, names, (len(first), len(second)), area, low, high, higher, outside)
        key = attribute.partition(": ")[0]  # the best of several categories stands for the attribute
        if key not in best or found.auroc > best[key].auroc:
            best[key] = found
    return list(best.values())


def _same(order: Floats, other: Floats) -> bool:
    """Return if two rankings are equal, or one is the reverse of the other."""
    return len(order) == len(other) and bool((order == other).all() or (order + other == len(order) + 1).all())


def _group(records: Sequence[Record], split: str | None, label: int) -> Bools:
    """Return which records have a split and a label."""
    return np.array([record.split == split and record.label == label for record in records], bool)


def _places(records: Sequence[Record]) -> Floats:
    """Return each image's place among its patient's, 0 the first and 1 the last slice; NaN if that is unknown.

    The place comes from the records' positions, else from the last number in the file names of patients with
    MIN_VOLUME images or more.
    """
    rows: dict[tuple[str, str | None], list[int]] = {}
    for index, record in enumerate(records):
        rows.setdefault((record.patient, record.split), []).append(index)
    place = np.full(len(records), np.nan)
    for indices in rows.values():
        positions = [records[i].position for i in indices]
        if len(indices) >= MIN_VOLUME and not any(position is not None for position in positions):
            positions = [_last_number(records[i].path.stem) for i in indices]
        at = np.array([np.nan if position is None else position for position in positions], np.float64)
        if len(np.unique(at[np.isfinite(at)])) > 1:
            place[indices] = (at - np.nanmin(at)) / (np.nanmax(at) - np.nanmin(at))
    return place


def _last_number(stem: str) -> float | None:
    """Return the last number in a file name, None if there is none."""
    digits = ""
    for character in reversed(stem):
        if character in "0123456789":
            digits = character + digits
        elif digits:
            break
    return float(digits) if digits else None
