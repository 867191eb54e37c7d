"""Draws of labels and pools, with the AUROC of aeflow and of controls on each."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from aeflow.metrics.image import auroc
from benchmarks.common import spread
from benchmarks.studies.label_curve.end_to_end import NAME, learn_end_to_end
from benchmarks.studies.label_curve.world import (
    Base,
    Plan,
    Rows,
    World,
    learn,
    other_scanner,
    read_world,
    train_base,
    vectors,
)

KS = (0, 1, 5, 10, 25, 50, 100, 300, None)  # labelled abnormal images; None: all
SHARES = (0.0, 0.02, 0.05, 0.1, 0.25, 0.5)  # of abnormal images in the pool
# Each of these draws trains the flow on, if there is one; the others only solve for the classes.
END_TO_END = (0, 5, 10, 100)
END_TO_END_SHARES = (0.1,)
POOLED = 641 / 1341  # share of the train normals that goes into a pool: 641 of the chest set's
DRAWS = 5
PARTS = ("labels", "kinds", "pools")
KINDS = ("bacteria", "virus")  # that are taught one at a time, where a set has both
NONE = np.zeros(0, np.int64)  # no images


def controls(world: World, known: Rows, labelled: Rows) -> dict[str, float]:
    """Return the AUROC of logistic regression and shared-covariance Gaussians on the same vectors and labels."""
    x, y = world.s[np.r_[known, labelled]], np.r_[np.zeros(len(known)), np.ones(len(labelled))]
    models = {
        "logistic regression": LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000),
        "shared-covariance Gaussians": LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
    }
    found = {}
    for name, model in models.items():
        fitted = make_pipeline(StandardScaler(), model).fit(x, y)
        found[name] = auroc(fitted.decision_function(world.s[world.test]).tolist(), world.truth)
    return found


def pool_controls(world: World, known: Rows, pool: Rows) -> dict[str, float]:
    """Return the AUROC of logistic regression of known normals against the pool, then its most extreme tenth."""
    found, chosen = {}, pool
    for step in ("one step", "two steps"):
        x, y = world.s[np.r_[known, chosen]], np.r_[np.zeros(len(known)), np.ones(len(chosen))]
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000))
        model.fit(x, y)
        found[f"normal against pool, {step}"] = auroc(
            model.decision_function(world.s[world.test]).tolist(), world.truth
        )
        chosen = pool[np.argsort(-model.decision_function(world.s[pool]))[: max(10, len(pool) // 10)]]
    return found


def measure_all(
    data: Path, plan: Plan, runs: Path | None, parts: Collection[str]
) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """Yield finished rows of some parts of the results, of ``PARTS``."""
    world = read_world(data, plan)
    if {"labels", "kinds"} & set(parts):
        base = train_base(world, world.normals, data, runs and runs / "all")
    for k in (k for k in KS if k is None or k < len(world.abnormal)) if "labels" in parts else ():
        rows = []
        for number in range(1 if k in (0, None) else DRAWS):
            labelled = np.random.default_rng(number).permutation(world.abnormal)[:k]
            scores, _, weight = learn(world, base, labelled, NONE)
            row: dict[str, Any] = {
                "k": k,
                "draw": number,
                "auroc": auroc(scores.tolist(), world.truth),
                "weight": weight,
            }
            if plan.end_to_end and k in END_TO_END:
                row[NAME] = auroc(learn_end_to_end(world, base, labelled, NONE).tolist(), world.truth)
            rows.append(row | (controls(world, world.normals, labelled) if k != 0 else {}))
        print(k, spread([row["auroc"] for row in rows]), flush=True)
        yield {"labels": rows}
    if "kinds" in parts and set(KINDS) <= {record.kind for record in world.records}:
        yield {"kinds": unseen(world, base)}
    for number in range(DRAWS) if "pools" in parts else ():
        yield {"pools": list(pools(world, data, number, runs))}


def unseen(world: World, base: Base) -> list[dict[str, Any]]:
    """Learn ten labels of one kind, tested on either kind against the same normals."""
    kind = np.array([record.kind for record in world.records])
    truth, rows = np.array(world.truth), []
    for taught in (*KINDS, None):
        for number in range(DRAWS if taught else 1):
            of_kind = world.abnormal[kind[world.abnormal] == taught]
            scores, _, _ = learn(world, base, np.random.default_rng(number).permutation(of_kind)[:10], NONE)
            for asked in KINDS:
                keep = (truth == 0) | (kind[world.test] == asked)
                value = auroc(scores[keep].tolist(), truth[keep].tolist())
                rows.append({"taught": taught, "asked": asked, "draw": number, "auroc": value})
    return rows


def drawn(world: World, number: int) -> tuple[Rows, Rows, Rows]:
    """Return the known normals of a draw, the other normals, and the abnormal images in its order."""
    rng = np.random.default_rng(number)
    normals, abnormal = rng.permutation(world.normals), rng.permutation(world.abnormal)
    pooled = round(POOLED * len(normals))
    return normals[pooled:], normals[:pooled], abnormal


def pools(world: World, data: Path, number: int, runs: Path | None) -> Iterator[dict[str, Any]]:
    """Yield the results of known normals, and a pool of the other normals with a share of abnormal images."""
    known, others, abnormal = drawn(world, number)
    pooled = len(others)
    base = train_base(world, known, data, runs and runs / f"draw {number}")
    value = {k: auroc(learn(world, base, abnormal[:k], NONE)[0].tolist(), world.truth) for k in (0, 10)}
    plans = [(share, "same", k) for share in SHARES for k in (0, 10)]
    plans += [(share, scanner, 0) for share in (0.0, 0.1) for scanner in ("other", "mixed")]
    for share, scanner, k in plans:
        abnormal_part = abnormal[10 : 10 + round(share / (1 - share) * pooled)]
        pool = np.concatenate([others, abnormal_part])
        s = world.s.copy()
        moved = pool if scanner == "other" else pool[::3] if scanner == "mixed" else pool[:0]
        if len(moved):
            s[moved] = vectors(world.encoder, [world.records[row] for row in moved], 2, other_scanner)
        scores, found, weight = learn(world, base, abnormal[:k], pool, s=s)
        row = {"share": share, "scanner": scanner, "k": k, "draw": number, "weight": weight, "without_pool": value[k]}
        row["normals"] = pooled
        row |= {"auroc": auroc(scores.tolist(), world.truth)}
        row |= {"estimated": found.share, "gain": found.gain, "used": found.used} if found else {}
        if k == 0 and scanner == "same":
            row |= pool_controls(world, known, pool)
            if world.plan.end_to_end and share in END_TO_END_SHARES:
                row[NAME] = auroc(learn_end_to_end(world, base, abnormal[:k], pool).tolist(), world.truth)
        print(row, flush=True)
        yield row
