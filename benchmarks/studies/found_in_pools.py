"""What becomes of classes that a pool alone taught, by whether the normals-only score sees what they found.

    python -m benchmarks.studies.found_in_pools --data FOLDER --runs RUNS [--plans PLAN ...] [--draws N]

RUNS holds a folder a plan, with the normals-only models of `benchmarks.studies.label_curve --plan PLAN --runs
RUNS/PLAN`; missing ones are trained into it. All images are of the train folders: three quarters of a draw's other
normals are in the pool, with a share of the abnormal images; AUROC is of the other quarter against abnormal images
that are in no pool. So a bar for ``training.confirm_pool`` can be chosen without a test image. Writes
found_in_pools.json, in which plans that are not named stay as they were.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aeflow.metrics.image import auroc
from aeflow.runtime.process import prepare
from aeflow.training.confirm_pool import SEEN_AT, separation
from benchmarks.common import BRAIN, CHEST, machine_line, write_results
from benchmarks.options import Parser
from benchmarks.studies.label_curve.draws import NONE, drawn
from benchmarks.studies.label_curve.world import PLANS, World, read_world, scores_after, teach, train_base

SETS = {"aeflow-1": CHEST, "lungs": CHEST, "focal": BRAIN}  # of each plan
SHARES = (0.0, 0.02, 0.05, 0.1, 0.25)  # of abnormal images in the pool
REPEATS = 2  # pools of a draw and share
POOLED = 0.75  # of the normals that are not known
ASKED = 250  # abnormal images that AUROC is of


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the results after each draw."""
    parser = Parser("studies.found_in_pools", __doc__)
    parser.share("--data", "--runs", required=True)
    parser.share("--out")
    parser.add_argument("--plans", nargs="+", choices=PLANS, default=list(PLANS), metavar="PLAN")
    parser.add_argument("--draws", type=int, default=5)
    options = parser.parse_args(arguments)
    prepare()
    path = options.out / "found_in_pools.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"plans": {}}
    results |= {"machine": machine_line(), "bar": SEEN_AT}
    for plan in options.plans:
        data, rows = options.data / SETS[plan], list[dict[str, Any]]()
        world = read_world(data, PLANS[plan])
        for number in range(options.draws):
            rows += measured(world, data, options.runs / plan, number)
            results["plans"][plan] = {"draws": number + 1, "pools": rows, **summary(rows)}
            write_results(path, results)


def measured(world: World, data: Path, runs: Path, number: int) -> Iterator[dict[str, Any]]:
    """Yield what was found in each pool of a draw, and the AUROC without and with it."""
    known, others, _ = drawn(world, number)
    base = train_base(world, known, data, runs / f"draw {number}")
    for repeat, share in itertools.product(range(REPEATS), SHARES):
        rng = np.random.default_rng([number, repeat])
        normals, abnormal = rng.permutation(others), rng.permutation(world.abnormal)
        pooled = round(POOLED * len(normals))
        ill = abnormal[: round(share / (1 - share) * pooled)]
        lesson = teach(world, base, NONE, np.concatenate([normals[:pooled], ill]))
        asked = np.concatenate([normals[pooled:], abnormal[-ASKED:]])
        truth = [0] * (len(normals) - pooled) + [1] * len(abnormal[-ASKED:])
        row: dict[str, Any] = {"draw": number, "repeat": repeat, "share": share}
        row["without"] = row["with"] = auroc(base.score(asked).tolist(), truth)
        row["used"] = lesson.learnt is not None
        if lesson.learnt is not None:
            row["separation"] = separation(*base.beside_held_out(lesson.chosen), lesson.abnormal)
            row["ill_of_found"] = float(np.isin(lesson.chosen, ill).mean()) if len(lesson.chosen) else 0.0
            row["with"] = auroc(scores_after(world, base, lesson, asked)[0].tolist(), truth)
        print(row, flush=True)
        yield row


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what pools below and above the bar changed, of those that were not refused before."""
    found: dict[str, Any] = {}
    taught = [row for row in rows if row["used"]]
    for name in ("below", "above"):
        side = [row for row in taught if (row["separation"] >= SEEN_AT) == (name == "above")]
        change = [row["with"] - row["without"] for row in side]
        found[name] = {"pools": len(change)}
        if change:
            found[name] |= {"mean": float(np.mean(change)), "worst": min(change), "best": max(change)}
    return found


if __name__ == "__main__":
    main()
