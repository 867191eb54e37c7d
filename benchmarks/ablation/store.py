"""Results so far, and how well each proxy ranked the rows: ``ablation.json``.

::

    sets/<set>/<row>/            means over its seeds of the proxies, of ``value`` (their mean) and of ``test``
        changes, against         its changes, and the row it is compared with
        seeds/<seed>/            the figures of one seed, and the digest of settings and images
        sd/<figure>              over seeds, null for one
        change/<figure>          mean over seeds of the difference to that row of the same seed
        change_sd/<figure>       over seeds, null for one
    ranks/<set, or both>/<proxy>/   spearman, chosen, test, best, best_test: see ``rank``

It is written again after each measurement, whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from aeflow.tuning.proxy import FIGURES
from benchmarks.ablation.rows import DEFAULT, ROWS, Row
from benchmarks.common import BRAIN, CHEST, write_results

Figures = Mapping[str, float | None]
TEST, VALUE, OLDER = "test", "value", "older choice"
PROXIES = (*FIGURES, VALUE)
# The default was first chosen on these, summed over the sets; another imitation of a scanner made its shifted images.
OLDER_PARTS = {CHEST: "shifted, abnormal", BRAIN: "clean, abnormal"}
BOTH = "both"  # the mean over all sets
ORDER = [row.name for row in ROWS]


class Store:
    """Results in a folder."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "ablation.json"
        self.results: dict[str, Any] = {"machine": "", "sets": {}, "ranks": {}}
        if self.file.exists():
            self.results |= json.loads(self.file.read_text())

    def has(self, data: str, name: str, seed: int, digest: str) -> bool:
        """Return True if a row is there, with these settings on these images."""
        seeds = self.results["sets"].get(data, {}).get(name, {}).get("seeds", {})
        return bool(seeds.get(str(seed), {}).get("digest") == digest)

    def add(self, data: str, row: Row, seed: int, digest: str, figures: Figures) -> None:
        """Keep the figures of a seed, throw away those of other settings or images, and write the file."""
        of_set = self.results["sets"].setdefault(data, {})
        seeds = of_set.get(row.name, {}).get("seeds", {})
        seeds = {key: old for key, old in seeds.items() if old["digest"] == digest}
        seeds[str(seed)] = {"digest": digest, **figures}
        ordered = dict(sorted(seeds.items(), key=lambda one: int(one[0])))
        of_set[row.name] = {"changes": row.changes, "against": row.against, "seeds": ordered}
        found = {name: of_set[name] for name in ORDER if name in of_set}
        of_set = {name: one | summary(one, found.get(one["against"], {})) for name, one in found.items()}
        self.results["sets"][data] = of_set
        self.results["ranks"] = ranks(self.results["sets"])
        write_results(self.file, self.results)


def summary(row: Mapping[str, Any], against: Mapping[str, Any]) -> dict[str, Any]:
    """Return means and spreads of a row's seeds, and of their differences to another row's of the same seeds."""
    seeds, of_other = row["seeds"], against.get("seeds", {})
    found: dict[str, Any] = {"sd": {}, "change": {}, "change_sd": {}}
    for figure in (*PROXIES, TEST):
        found[figure], found["sd"][figure] = _mean_and_sd([one[figure] for one in seeds.values()])
        changes = [one[figure] - of_other[seed][figure] for seed, one in seeds.items() if seed in of_other]
        found["change"][figure], found["change_sd"][figure] = _mean_and_sd(changes)
    return found


def _mean_and_sd(values: list[float]) -> tuple[float | None, float | None]:
    """Return mean and standard deviation; None for what too few values do not give."""
    mean = float(np.mean(values)) if values else None
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else None


def ranks(sets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return ``rank`` of each proxy on each set, and on their mean, where the older choice has a rank, too."""
    levels = {
        data: {name: level(row, of_set) for name, row in of_set.items()}
        for data, of_set in sets.items()
        if DEFAULT in of_set
    }
    levels = {data: {name: one for name, one in of_set.items() if one} for data, of_set in levels.items()}
    found = {data: {proxy: rank(rows, proxy) for proxy in PROXIES} for data, rows in levels.items()}
    if len(levels) > 1:
        shared = [name for name in ORDER if all(name in rows for rows in levels.values())]
        mean = {
            name: {
                figure: float(np.mean([rows[name][figure] for rows in levels.values()])) for figure in (*PROXIES, TEST)
            }
            for name in shared
        }
        found[BOTH] = {proxy: rank(mean, proxy) for proxy in PROXIES}
        if OLDER_PARTS.keys() <= levels.keys():
            for name, one in mean.items():
                one[OLDER] = sum(levels[data][name][figure] for data, figure in OLDER_PARTS.items())
            found[BOTH][OLDER] = rank(mean, OLDER)
    return found


def level(row: Mapping[str, Any], of_set: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return a row's figures as the default's mean plus its change, so that rows of one seed and of several compare.

    A row that is compared with another than the default has that one's level below its change.
    """
    other = of_set.get(row["against"])
    if other is None or row["change"][TEST] is None:  # no seed in common
        return {}
    below = other if row["against"] == DEFAULT else level(other, of_set)
    return {figure: below[figure] + row["change"][figure] for figure in (*PROXIES, TEST)} if below else {}


def rank(rows: Mapping[str, Mapping[str, float]], proxy: str) -> dict[str, Any]:
    """Return Spearman's correlation of a proxy with the test AUROC over rows, and the row it would have chosen.

    ``chosen`` has the AUROC ``test``; ``best`` is the row that the test split itself would have chosen, with
    ``best_test``. No correlation if all rows are alike.
    """
    values, tests = ([one[figure] for one in rows.values()] for figure in (proxy, TEST))
    varies = len({*values}) > 1 and len({*tests}) > 1
    chosen, best = (max(rows, key=lambda name: rows[name][figure]) for figure in (proxy, TEST))
    return {
        "spearman": float(spearmanr(values, tests).statistic) if varies else None,
        "rows": len(rows),
        "chosen": chosen,
        "test": rows[chosen][TEST],
        "best": best,
        "best_test": rows[best][TEST],
    }
