"""Streams drawn from measured images: false alarms where nothing changed, and delays where something did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from aeflow._types import Floats
from aeflow.calibration.calibration import Calibration
from aeflow.calibration.held_out import SCORE
from aeflow.drift.charts import ALARM, OtherImages, OtherScores
from aeflow.metrics.intervals import wilson
from benchmarks.studies.drift.images import ABNORMAL, PLAIN, Measured

LENGTH, STREAMS = 10_000, 10  # of the streams without a change
BLOCK = 500  # images for which a changing share of abnormal ones stays as it is
BEFORE, AFTER, DRAWS = 1000, 1000, 20  # images before and after a change, and how often each is drawn
SOON = 200  # images within which an alarm is wanted
SHARES = {"none": 0.0, "5 %": 0.05, "20 %": 0.2, "changing, 0 to 20 %": None}

Rows = NDArray[np.integer[Any]]


@dataclass
class World:
    """Measured images, the reference of the charts, and what p-values are ranks among."""

    measured: Measured
    normals: dict[str, Floats]  # the model's held-out normals, of one image a patient
    calibration: Calibration

    def own(self, rng: np.random.Generator) -> tuple[dict[str, Floats], Rows]:
        """Return the model's own reference, and the rows of all unseen normals."""
        return self.normals, np.arange(len(self.measured.groups[PLAIN]))

    def drawn(self, rng: np.random.Generator) -> tuple[dict[str, Floats], Rows]:
        """Return as large a reference of unseen normals, and the rows of the others."""
        plain = self.measured.groups[PLAIN]
        order, n = rng.permutation(len(plain)), len(self.normals[SCORE])
        reference = dict(zip(self.measured.columns, plain[order[:n]].T, strict=True))
        return reference, order[n:]


@dataclass
class Watched:
    """Charts beside one another over one stream."""

    images: OtherImages
    scores: OtherScores
    calibration: Calibration
    alarms: dict[str, list[Any]] = field(default_factory=lambda: {"images": [], "scores": []})

    def take(self, row: dict[str, float]) -> None:
        """Take an image."""
        found = self.images.update(row), self.scores.update(self.calibration.p_value(row[SCORE]))
        for name, alarm in zip(self.alarms, found, strict=True):
            if alarm is not None:
                self.alarms[name].append(alarm)


def false_alarms(world: World, seed: int) -> dict[str, Any]:
    """Count alarms of both charts on streams without a change of scanner, by reference and share of abnormal images."""
    found: dict[str, Any] = {}
    for number, (reference, draw) in enumerate((("its own", world.own), ("drawn anew", world.drawn))):
        for place, (name, share) in enumerate(SHARES.items()):
            counts = {"images": 0, "scores": 0}
            for stream in range(STREAMS):
                rng = np.random.default_rng([seed, number, place, stream])
                normals, members = draw(rng)
                watched = _charts(world, normals, stream)
                for row in rows(world, rng, members, LENGTH, share):
                    watched.take(row)
                for chart, alarms in watched.alarms.items():
                    counts[chart] += len(alarms)
            total = LENGTH * STREAMS
            found.setdefault(reference, {})[name] = {
                "images": total,
                **{f"other {chart}": _rate(alarms, total) for chart, alarms in counts.items()},
            }
    return found


def delays(world: World, scanners: list[str], seed: int) -> dict[str, Any]:
    """Measure the delay of an alarm after a change, by scanner, images before, and share of abnormal images."""
    found: dict[str, Any] = {}
    for number, scanner in enumerate(scanners):
        for before in (BEFORE, 0):
            for name in ("none", "20 %"):
                share, draws = SHARES[name], []
                for draw in range(DRAWS):
                    rng = np.random.default_rng([seed, 7, number, before, draw])
                    normals, members = world.own(rng)
                    watched = _charts(world, normals, draw)
                    for row in rows(world, rng, members, before, share):
                        watched.take(row)
                    early = len(watched.alarms["images"])
                    taken = np.arange(len(world.measured.groups[scanner]))
                    for row in rows(world, rng, taken, AFTER, share, scanner):
                        watched.take(row)
                        if len(watched.alarms["images"]) > early:
                            break
                    draws.append((watched.alarms["images"][early:], watched.alarms["scores"], early))
                found.setdefault(scanner, {}).setdefault(f"after {before}", {})[name] = _delay(draws, before)
    return found


def more_abnormal(world: World, seed: int) -> dict[str, Any]:
    """Measure what both charts say if the share of abnormal images rises from 5 to 20 %."""
    draws, other = [], 0
    for draw in range(DRAWS):
        rng = np.random.default_rng([seed, 9, draw])
        normals, members = world.own(rng)
        watched = _charts(world, normals, draw)
        for share in (0.05, 0.2):
            for row in rows(world, rng, members, BEFORE, share):
                watched.take(row)
        draws.append([alarm for alarm in watched.alarms["scores"] if alarm.at >= BEFORE])
        other += len(watched.alarms["images"])
    delays = [alarms[0].at + 1 - BEFORE for alarms in draws if alarms]
    return {
        "draws": DRAWS,
        "found": _share(len(delays), DRAWS),
        "median_delay": float(np.median(delays)) if delays else None,
        "higher": sum(alarms[0].kind == "higher" for alarms in draws if alarms),
        "alarms of other images": other,
    }


def rows(
    world: World, rng: np.random.Generator, members: Rows, length: int, share: float | None, scanner: str = PLAIN
) -> Iterator[dict[str, float]]:
    """Yield images of a stream: normals drawn from ``members``, by a scanner, and abnormal ones at a share.

    A share of None is another one, of 0 to 20 %, for each ``BLOCK``. Abnormal images are of the training's scanner.
    """
    normal, sick = world.measured.groups[scanner], world.measured.groups[ABNORMAL]
    now = share or 0.0
    for number in range(length):
        if share is None and number % BLOCK == 0:
            now = rng.uniform(0, 0.2)
        row = sick[rng.integers(len(sick))] if rng.random() < now else normal[members[rng.integers(len(members))]]
        yield dict(zip(world.measured.columns, row.tolist(), strict=True))


def _charts(world: World, normals: dict[str, Floats], seed: int) -> Watched:
    watched = {name: normals[name].tolist() for name in world.measured.columns}
    n = len(world.calibration.scores)
    return Watched(OtherImages(watched, ALARM, seed), OtherScores(n, ALARM, seed), world.calibration)


def _delay(draws: list[tuple[list[Any], list[Any], int]], before: int) -> dict[str, Any]:
    """Return delays, how many alarms came in time, how often the onset's interval is right, and what moved."""
    first = [alarms[0] for alarms, *_ in draws if alarms]
    late = sorted(alarm.at + 1 - before for alarm in first)
    soon = sum(delay <= SOON for delay in late)
    right = sum(alarm.onset.low - 0.5 <= before <= alarm.onset.high + 0.5 for alarm in first)
    every = late + [np.inf] * (len(draws) - len(late))
    median = float(np.median(every))
    return {
        "draws": len(draws),
        "within": _share(soon, len(draws)),
        "found": _share(len(late), len(draws)),
        "median_delay": median if np.isfinite(median) else None,
        "onset_within": _share(right, len(first)) if first else None,
        "onset_width": float(np.median([alarm.onset.high - alarm.onset.low for alarm in first])) if first else None,
        "moved": dict(Counter(alarm.statistic for alarm in first).most_common(3)),
        "scores_moved": sum(any(alarm.at >= before for alarm in scores) for _, scores, _ in draws),
        "alarms_before": sum(early for *_, early in draws),
    }


def _rate(alarms: int, images: int) -> dict[str, float]:
    """Return alarms in 10,000 images with the exact 95 % interval of a Poisson rate."""
    low = chi2.ppf(0.025, 2 * alarms) / 2 if alarms else 0.0
    high = chi2.ppf(0.975 if alarms else 0.95, 2 * (alarms + 1)) / 2
    return {
        "alarms": alarms,
        **{k: 1e4 * float(v) / images for k, v in (("rate", alarms), ("low", low), ("high", high))},
    }


def _share(found: int, of: int) -> dict[str, float]:
    low, high = wilson(found, of)
    return {"value": found / of, "low": low, "high": high}
