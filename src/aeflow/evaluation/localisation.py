"""What an evaluation says about where a model looks, in figures and in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aeflow._types import Floats32
from aeflow.data.records import Record
from aeflow.metrics.image import auroc_metric
from aeflow.metrics.localisation import Localisation, looks, mean_of_hottest

Bools = NDArray[np.bool_]
NAMES = {  # of the figures of one group of images -> (name, meaning) by what the masks mark
    "hottest_point": ("Hottest point in the {}", "share of {} images whose hottest point lies there"),
    "hottest_area": ("Hottest 5 % in the {}", "mean share of the hottest 5 % of positions, {} images"),
    "border": ("Hottest 5 % at the border", "within a tenth of a side from the edge, {} images"),
}
GROUPS = (("region", "abnormal"), ("region", "normal"), ("lesion", "abnormal"))
CONCLUSIONS = {
    "there": "the model looks there",
    "elsewhere": "the score is carried by something outside of the {}",
    "undecided": "that cannot be told from chance",
}


class Line(NamedTuple):
    """One figure for a table."""

    name: str
    meaning: str
    metric: Mapping[str, Any] | None


class Words(NamedTuple):
    """A sentence, and whether it is a warning."""

    text: str
    warns: bool


class WhereMapsLook:
    """Localisation of a split's anomaly maps, streaming: against region masks and lesion masks, by label."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._groups = {group: Localisation(seed) for group in GROUPS}
        self._parts: list[tuple[float, float]] = []  # of the map inside and outside of the region, an image
        self._labels: list[int] = []
        self._patients: list[str] = []

    def add(
        self, record: Record, score_map: Floats32, mask: Bools | None, region: Bools | None, counts: Bools | None = None
    ) -> None:
        """Count a labelled image: map, lesion mask, region mask, and where positions count (else everywhere), (H, W).

        Unlabelled images are passed over, and so are lesion masks of normal ones. Where nothing counts, since the model
        found no region, its map is the same everywhere: it is measured over the whole picture, where it gives chance.
        Raises as Localisation.update.
        """
        if record.label is None:
            return
        if counts is not None and not counts.any():
            counts = None
        if region is not None:
            side = "abnormal" if record.label else "normal"
            self._groups["region", side].update(score_map, region, record.patient, counts)
            self._add_parts(record, score_map, region, counts)
        if mask is not None and record.label:
            self._groups["lesion", "abnormal"].update(score_map, mask, record.patient, counts)

    def _add_parts(self, record: Record, score_map: Floats32, region: Bools, counts: Bools | None) -> None:
        """Keep the image's hottest means inside and outside of the region, if both have positions."""
        area = np.ones_like(region) if counts is None else counts
        inside, outside = (score_map[side & area].astype(np.float64) for side in (region, ~region))
        if inside.size and outside.size:
            self._parts.append((mean_of_hottest(inside), mean_of_hottest(outside)))
            self._labels.append(int(record.label or 0))
            self._patients.append(record.patient)

    def result(self) -> dict[str, Any] | None:
        """Return the localisation part of `metrics.json`; None if no image had a mask to measure against.

        ``parts`` has the AUROC of the mean of the map's hottest 5 % inside of the region, and of that outside of it,
        over the images that have both; null if a label is missing.
        """
        found = {group: measure.result() for group, measure in self._groups.items()}
        if not any(found.values()):
            return None
        areas: list[dict[str, Any] | None] = [
            auroc_metric([part[i] for part in self._parts], self._labels, self._patients, self.seed) for i in (0, 1)
        ]
        return {
            "region": {
                "abnormal": found["region", "abnormal"],
                "normal": found["region", "normal"],
                "parts": {
                    "n_normal": self._labels.count(0),
                    "n_abnormal": self._labels.count(1),
                    "inside": areas[0],
                    "outside": areas[1],
                },
            },
            "lesion": {"abnormal": found["lesion", "abnormal"]},
        }


def lines(localisation: Mapping[str, Any] | None) -> list[Line]:
    """Return the figures of `metrics.json`'s localisation for a table, without groups that have no image."""
    if not localisation:
        return []
    found = []
    for target, side in GROUPS:
        for key, (name, meaning) in NAMES.items() if localisation[target][side] else ():
            name = f"{name.format(target)}, {side}"
            found.append(Line(name, meaning.format(side), localisation[target][side][key]))
    parts = localisation["region"]["parts"]
    for place in ("inside", "outside") if parts["n_normal"] + parts["n_abnormal"] else ():
        meaning = f"of the map's hottest 5 % {place} of the region alone"
        found.append(Line(f"AUROC {place} of the region", meaning, parts[place]))
    return found


def words(localisation: Mapping[str, Any] | None) -> list[Words]:
    """Return what the figures say: the model looks at a place if the hottest point's interval lies above chance.

    It looks elsewhere if the interval lies below chance. Where the hottest point of normal images lies is a hint only.
    """
    if not localisation:
        return []
    found = []
    for target, side in GROUPS:
        if not (group := localisation[target][side]):
            continue
        point = group["hottest_point"]
        within = "" if point["low"] is None else f" ({100 * point['low']:.0f} to {100 * point['high']:.0f})"
        text = (
            f"The hottest point of the anomaly map lies in the {target} in {100 * point['value']:.0f} of 100 {side} "
            f"images{within}, by chance in {100 * point['chance']:.0f}"
        )
        view = looks(point)
        if side == "abnormal":
            text = f"{text}: {CONCLUSIONS[view].format(target)}"
        found.append(Words(f"{text}.", side == "abnormal" and view == "elsewhere"))
    return found
