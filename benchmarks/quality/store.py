"""Results so far: ``quality.json``, and every image's score in ``quality_scores.parquet``.

::

    quality.json            sets/<set>/<method>/[one row a seed], features/<set>, and the output of summarise()
    quality_scores.parquet  set, method, seed, image (its place among the test images), patient (a number), label, score

Both are written again after each run, whole or not at all.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from aeflow.data.records import Record
from aeflow.runtime.files import write_bytes
from benchmarks.common import SETS, write_results
from benchmarks.inputs import labels_of
from benchmarks.quality import statistics
from benchmarks.quality.methods import GROUPS, METHODS
from benchmarks.quality.statistics import Truth

Key = tuple[str, str, int]  # set, method, seed
COLUMNS = {
    "set": pa.dictionary(pa.int8(), pa.string()),
    "method": pa.dictionary(pa.int8(), pa.string()),
    "seed": pa.int8(),
    "image": pa.int32(),
    "patient": pa.int32(),
    "label": pa.int8(),
    "score": pa.float64(),
}
REFERENCES = ("default", "aeflow-1")  # what others are compared with
ORDER = [name for method in METHODS for name in method.names]


class Store:
    """Results in a folder."""

    def __init__(self, folder: Path) -> None:
        self.json, self.parquet = folder / "quality.json", folder / "quality_scores.parquet"
        self.results: dict[str, Any] = {"machine": "", "features": {}, "sets": {}}
        self.scores: dict[Key, NDArray[np.float64]] = {}
        self.truths: dict[str, Truth] = {}
        if self.json.exists():
            self.results |= json.loads(self.json.read_text())
        if self.parquet.exists():
            self._read()

    def has(self, data: str, names: Sequence[str], seed: int, digest: str) -> bool:
        """Return True if all rows of a run are there, with these settings on these images."""
        of_set = self.results["sets"].get(data, {})
        return all(
            any(row["seed"] == seed and row.get("digest") == digest for row in of_set.get(name, [])) for name in names
        )

    def add(self, data: str, name: str, row: dict[str, Any], scores: NDArray[np.float64] | None, truth: Truth) -> None:
        """Put a row in place of that of the same seed; rows of other settings or images are thrown away."""
        rows = self.results["sets"].setdefault(data, {}).setdefault(name, [])
        gone = [old for old in rows if old["seed"] == row["seed"] or old.get("digest") != row["digest"]]
        rows[:] = sorted([old for old in rows if old not in gone] + [row], key=lambda one: one["seed"])
        for old in gone:
            self.scores.pop((data, name, old["seed"]), None)
        self.truths[data] = truth
        if scores is not None:
            self.scores[data, name, row["seed"]] = scores

    def save(self) -> None:
        """Write both files; methods stand in the table's order."""
        sets = self.results["sets"]
        self.results["sets"] = {
            data: {name: sets[data][name] for name in ORDER if name in sets[data]} for data in sorted(sets)
        }
        self.results |= summarise(self.scores, self.truths)
        keys = sorted(self.scores, key=lambda key: (key[0], ORDER.index(key[1]), key[2]))
        blocks: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        for data, name, seed in keys:
            scores, truth = self.scores[data, name, seed], self.truths[data]
            n = len(scores)
            columns: list[Iterable[Any]] = [[data] * n, [name] * n, [seed] * n, range(n)]
            columns += [truth.patient, truth.label, scores]
            for column, block in zip(COLUMNS, columns, strict=True):
                blocks[column].extend(block)  # += would add arrays
        table = pa.table({name: pa.array(blocks[name], kind) for name, kind in COLUMNS.items()})
        content = io.BytesIO()
        pq.write_table(table, content, compression="zstd")
        write_bytes(self.parquet, content.getvalue())
        write_results(self.json, self.results)

    def _read(self) -> None:
        columns = pq.read_table(self.parquet).to_pydict()
        start, keys = 0, list(zip(*(columns[name] for name in ("set", "method", "seed")), strict=True))
        arrays = {name: np.array(columns[name]) for name in ("patient", "label", "score")}
        while start < len(keys):
            end = next((row for row in range(start, len(keys)) if keys[row] != keys[start]), len(keys))
            rows = slice(start, end)
            self.scores[keys[start]] = arrays["score"][rows]
            truth = Truth(arrays["label"][rows].astype(np.int64), arrays["patient"][rows].astype(np.int64))
            known = self.truths.setdefault(keys[start][0], truth)
            if not np.array_equal(known.label, truth.label):
                raise SystemExit(f"{self.parquet} holds scores of different images: delete it, and measure again")
            start = end


def truth_of(test: Sequence[Record]) -> Truth:
    """Return labels, and patients by number, of test images."""
    _, patient = np.unique([record.patient for record in test], return_inverse=True)
    return Truth(np.array(labels_of(test)), patient.astype(np.int64))


def summarise(scores: dict[Key, NDArray[np.float64]], truths: dict[str, Truth]) -> dict[str, Any]:
    """Return intervals of each method, and the differences of REFERENCES to controls and peers: a set, and their mean.

    ``summary/<set>/<method>`` with value, low, high (DeLong, mean over seeds) and patients; ``differences/<set>`` with
    ``best control`` and ``of/<reference>/<method>``; ``means/<method>`` with the mean over the sets, where all were
    measured, and the default's difference to it.
    """
    won: dict[str, dict[str, NDArray[np.float64]]] = {data: {} for data in truths}
    for data, of_set in won.items():
        for name in dict.fromkeys(key[1] for key in sorted(scores, key=lambda key: ORDER.index(key[1]))):
            seeds = [one for key, one in scores.items() if key[:2] == (data, name)]
            if seeds:
                of_set[name] = statistics.wins(seeds, truths[data])
    summary = {
        data: {name: statistics.mean_auroc(one, truths[data]) for name, one in of_set.items()}
        for data, of_set in won.items()
    }
    differences: dict[str, Any] = {}
    for data, of_set in won.items():
        others = [name for name in of_set if GROUPS[name] in ("control", "trivial", "peer")]
        controls = [name for name in others if GROUPS[name] != "peer"]
        if controls:
            differences[data] = {
                "best control": max(controls, key=lambda name: of_set[name].mean()),
                "of": {
                    one: {name: statistics.difference(of_set[one], of_set[name], truths[data]) for name in others}
                    for one in REFERENCES
                    if one in of_set
                },
            }
    means = {}
    for name in dict.fromkeys(name for of_set in won.values() for name in of_set):
        if all({name, "default"} <= won.get(data, {}).keys() for data in SETS):
            pairs = [(of_set["default"], of_set[name]) for of_set in won.values()]
            value = float(np.mean([one.mean() for _, one in pairs]))
            means[name] = {"value": value, "sets": len(pairs), "difference": statistics.mean_difference(pairs)}
    return {"summary": summary, "differences": differences, "means": means}
