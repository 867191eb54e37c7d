"""What labels and unlabelled images are worth: test AUROC on chest X-rays, five draws each, beside controls.

    python benchmarks/label_curve.py --data FOLDER/chest_xray_224

Persons of the test set give no label. The K labels and the pool's images are drawn anew each time; the flow is trained
once on all train normals, and once for each draw of a pool on the normals that are known then. Nothing is chosen on the
test split. Writes label_curve.json, .md and .png, and the tables of docs/labels.md; without --data all but the first,
from it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from aeflow.artifacts.run import Artifact, load_run
from aeflow.backends.torch import TorchBackend
from aeflow.calibration import posterior
from aeflow.config import Settings, make_settings
from aeflow.data.augment import Change, recapture
from aeflow.data.records import Record, of_label, read_records
from aeflow.data.splits import evenly, hold_out, leave_out_patients, shared_patients
from aeflow.features.cache import FeatureCache
from aeflow.metrics.image import auroc
from aeflow.model.encoder_weights import pretrained
from aeflow.model.pooling import Pooled
from aeflow.runtime.process import prepare
from aeflow.scoring.scorer import measure
from aeflow.training import class_mixture_em as classes
from aeflow.training import train as training
from aeflow.training.calibrate import MAX_WEIGHED
from quality import machine, spread

KS = (0, 1, 5, 10, 25, 50, 100, 300, None)  # labelled abnormal images; None: all
SHARES = (0.0, 0.02, 0.05, 0.1, 0.25, 0.5)  # of abnormal images in the pool
POOL_NORMALS = 641
DRAWS = 5
SETTINGS = make_settings(prior="gmm")
Rows = NDArray[np.int64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument(
        "--runs", type=Path, help="keeps the normals-only models there, and takes from there what is in it"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--picture", type=Path, default=Path("docs/images/label_curve.png"))
    parser.add_argument("--page", type=Path, default=Path("docs/labels.md"), help="whose table is written")
    options = parser.parse_args()
    path = options.out / "label_curve.json"
    if options.data:
        prepare()
        results: dict[str, Any] = {"machine": machine(), "draws": DRAWS, "labels": [], "pools": [], "kinds": []}
        for part in measure_all(options.data, options.runs):
            for name, rows in part.items():
                results[name] += rows
            path.write_text(json.dumps(results, indent=1) + "\n")
    results = json.loads(path.read_text())
    picture = os.path.relpath(options.picture, options.out)
    (options.out / "label_curve.md").write_text(
        f"{table(results)}\n![Test AUROC over labels, and over a pool]({picture})\n"
    )
    options.page.write_text(with_table(options.page.read_text(), results))
    draw(results, options.picture)
    print(table(results))


@dataclass
class World:
    """All images, their pooled vectors, and which may teach."""

    records: list[Record]
    encoder: Pooled
    s: NDArray[np.float64]
    recaptured: NDArray[np.float64]  # of train images
    normals: Rows
    abnormal: Rows  # of persons who are not in the test split
    test: Rows

    @property
    def truth(self) -> list[int]:
        return [int(self.records[row].label or 0) for row in self.test]

    def vectors(self, records: list[Record], view: int = 0, change: Change = recapture) -> NDArray[np.float64]:
        features, refused = FeatureCache(self.encoder, SETTINGS.image_size, change=change).features(records, view=view)
        if refused:
            raise refused[0][1]
        return features.vectors()

    def row_of(self, records: list[Record]) -> Rows:
        index = {record: row for row, record in enumerate(self.records)}
        return np.array([index[record] for record in records])


@dataclass
class Base:
    """A normals-only model: which normals it knows, which it held out, and its score of any row."""

    kept: Rows
    held: Rows
    score: Callable[[Rows], NDArray[np.float64]]


def other_scanner(pixels: NDArray[np.float32], key: str) -> NDArray[np.float32]:
    """Another contrast, crop and compression, the same for all images."""
    size = pixels.shape[1]
    edge = round(0.05 * size)
    image = PIL.Image.fromarray((pixels[0] ** 0.8 * 255).astype(np.uint8)).crop((edge, edge, size - edge, size - edge))
    file = io.BytesIO()
    image.resize((size, size), PIL.Image.Resampling.BILINEAR).save(file, "JPEG", quality=45)
    return np.stack([np.asarray(PIL.Image.open(file), dtype=np.float32) / 255] * 3)


def read_world(data: Path) -> World:
    records = read_records(data)
    train, test = ([r for r in records if r.split == split] for split in ("train", "test"))
    world = World([*train, *test], Pooled(pretrained(SETTINGS.encoder, SETTINGS.class_stages)), *(np.zeros(0),) * 5)
    world.s = world.vectors(world.records)
    world.recaptured = np.concatenate([world.vectors(train, 1), world.s[len(train) :]])
    sick = of_label(train, 1)
    world.normals = world.row_of(of_label(train, 0))
    world.abnormal = world.row_of(leave_out_patients(sick, shared_patients(sick, test)))
    world.test = world.row_of(test)
    return world


def train_base(world: World, known: Rows, data: Path, kept_at: Path | None) -> Base:
    """Train the normals-only model on some of the normals, by the same code that `aeflow train` runs."""
    if kept_at is not None and (kept_at / "run" / "model.json").exists():
        return base_of(world, known, load_run(kept_at / "run"))
    with tempfile.TemporaryDirectory() as scratch:
        folder = kept_at or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "images").symlink_to(data.resolve())
        rows = [f"images/{world.records[row].name},train,0,{world.records[row].patient}" for row in known]
        (folder / "manifest.csv").write_text("\n".join(["path,split,label,patient", *rows]) + "\n")
        model = training.train(folder, folder / "run", make_settings()).artifact
    return base_of(world, known, model)


def base_of(world: World, known: Rows, model: Artifact) -> Base:
    """A model that was trained on the known normals, as a base."""
    kept, held = hold_out([world.records[row] for row in known], SETTINGS.held_out, SETTINGS.seed)
    found: dict[int, float] = {}

    def score(rows: Rows) -> NDArray[np.float64]:
        missing = [int(row) for row in rows if int(row) not in found]
        records = [world.records[i] for i in missing]
        for row, (_, m) in zip(missing, measure(TorchBackend(model.net), records), strict=True):
            if isinstance(m, Exception):
                raise m
            terms = model.calibration.terms(m.flow[None], np.array([m.reconstruction]))
            found[row] = float(model.calibration.normals_only(terms)[0])
        return np.array([found[int(row)] for row in rows])

    return Base(world.row_of(kept), world.row_of(held), score)


def teach(
    world: World, base: Base, labelled: Rows, pool: Rows, settings: Settings = SETTINGS, s: Any = None
) -> tuple[NDArray[np.float64], classes.Pool | None, float]:
    """Scores of the test split, what was found in the pool, and the posterior's weight: as `training.train` does it."""
    s = world.s if s is None else s
    recaptured = s + world.recaptured - world.s  # what another capture changes, from wherever the image was taken
    names = [world.records[row].kind or "abnormal" for row in labelled]
    kinds = sorted(set(names)) or ["abnormal"]
    rows = np.concatenate([base.kept, labelled, pool]).astype(int)
    label = np.array([0] * len(base.kept) + [1 + kinds.index(name) for name in names] + [-1] * len(pool))
    examples = classes.Examples(s[rows], recaptured[rows], label, [world.records[row].patient for row in rows])
    learnt, found = classes.fit_class_mixture(examples, kinds, settings) if label.any() else (None, None)
    scores = base.score(world.test)
    if learnt is None:
        return scores, found, 0.0

    def ratios(of: Rows) -> NDArray[np.float64]:
        with torch.no_grad():
            u = learnt.mixture.latent_of(torch.from_numpy(world.s[of]).float())
            return learnt.mixture.log_ratios(u).double().numpy()

    chosen = np.array(evenly(np.flatnonzero(learnt.abnormal > 0.5).tolist(), MAX_WEIGHED), dtype=int)
    share = found.share if found is not None and found.used else 0.5
    abnormal = base.score(rows[chosen]), learnt.judged[chosen], learnt.abnormal[chosen]
    fitted = posterior.fit_posterior(learnt.kinds, (base.score(base.held), ratios(base.held)), abnormal, share)
    return fitted.value(scores, fitted.term(ratios(world.test))), found, fitted.weight


def controls(world: World, known: Rows, labelled: Rows) -> dict[str, float]:
    """Logistic regression and shared-covariance Gaussians on the same vectors and labels."""
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
    """Logistic regression of known normals against the pool, then against the most extreme tenth of the pool."""
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


def measure_all(data: Path, runs: Path | None) -> Any:
    """Yields finished parts of the results."""
    world = read_world(data)
    base = train_base(world, world.normals, data, runs and runs / "all")
    nobody = np.zeros(0, int)
    for k in KS:
        rows = []
        for draw_ in range(1 if k in (0, None) else DRAWS):
            labelled = np.random.default_rng(draw_).permutation(world.abnormal)[:k]
            scores, _, weight = teach(world, base, labelled, nobody)
            row = {"k": k, "draw": draw_, "auroc": auroc(scores.tolist(), world.truth), "weight": weight}
            rows.append(row | (controls(world, world.normals, labelled) if k != 0 else {}))
        print(k, spread([row["auroc"] for row in rows]), flush=True)
        yield {"labels": rows}
    yield {"kinds": unseen(world, base)}
    for draw_ in range(DRAWS):
        yield {"pools": list(pools(world, data, draw_, runs))}


def unseen(world: World, base: Base) -> list[dict[str, Any]]:
    """Ten labels of one kind, tested on either kind against the same normals."""
    kind = np.array([record.kind for record in world.records])
    truth, rows = np.array(world.truth), []
    for taught in ("bacteria", "virus", None):
        for draw_ in range(DRAWS if taught else 1):
            of_kind = world.abnormal[kind[world.abnormal] == taught]
            scores, _, _ = teach(world, base, np.random.default_rng(draw_).permutation(of_kind)[:10], np.zeros(0, int))
            for asked in ("bacteria", "virus"):
                keep = (truth == 0) | (kind[world.test] == asked)
                value = auroc(scores[keep].tolist(), truth[keep].tolist())
                rows.append({"taught": taught, "asked": asked, "draw": draw_, "auroc": value})
    return rows


def pools(world: World, data: Path, draw_: int, runs: Path | None) -> Any:
    """Known normals, and a pool of the other normals with a share of abnormal images."""
    rng = np.random.default_rng(draw_)
    normals, abnormal = rng.permutation(world.normals), rng.permutation(world.abnormal)
    others, known = normals[:POOL_NORMALS], normals[POOL_NORMALS:]
    base = train_base(world, known, data, runs and runs / f"draw {draw_}")
    value = {k: auroc(teach(world, base, abnormal[:k], np.zeros(0, int))[0].tolist(), world.truth) for k in (0, 10)}
    plans = [(share, "same", k) for share in SHARES for k in (0, 10)]
    plans += [(share, scanner, 0) for share in (0.0, 0.1) for scanner in ("other", "mixed")]
    for share, scanner, k in plans:
        sick = abnormal[10 : 10 + round(share / (1 - share) * POOL_NORMALS)]
        pool = np.concatenate([others, sick])
        s = world.s.copy()
        moved = pool if scanner == "other" else pool[::3] if scanner == "mixed" else pool[:0]
        if len(moved):
            s[moved] = world.vectors([world.records[row] for row in moved], 2, other_scanner)
        scores, found, weight = teach(world, base, abnormal[:k], pool, s=s)
        row = {"share": share, "scanner": scanner, "k": k, "draw": draw_, "weight": weight, "without_pool": value[k]}
        row |= {"auroc": auroc(scores.tolist(), world.truth)}
        row |= {"estimated": found.share, "gain": found.gain, "used": found.used} if found else {}
        if k == 0 and scanner == "same":
            row |= pool_controls(world, known, pool)
        print(row, flush=True)
        yield row


def of(rows: list[dict[str, Any]], key: str, **where: Any) -> list[float]:
    """One column of the rows that fit."""
    return [row[key] for row in rows if key in row and all(row[name] == value for name, value in where.items())]


def cell(rows: list[dict[str, Any]], key: str, **where: Any) -> str:
    values = of(rows, key, **where)
    return spread(values) if len(values) > 1 else f"{values[0]:.3f}" if values else "-"


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    labels, pool, kinds = results["labels"], results["pools"], results["kinds"]
    names = ("auroc", "logistic regression", "shared-covariance Gaussians")
    lines = [
        f"Test AUROC on chest_xray_224, mean ± standard deviation over {results['draws']} draws. {results['machine']}.",
        "",
        "| labels | **aeflow** | logistic regression | shared-covariance Gaussians |",
        "|---|---|---|---|",
    ]
    for k in dict.fromkeys(row["k"] for row in labels):
        lines.append(f"| {'all' if k is None else k} | " + " | ".join(cell(labels, n, k=k) for n in names) + " |")
    if pool:
        lines += pool_table(pool)
    if kinds:
        lines += [
            "",
            "Ten labels of one kind:",
            "",
            "| taught | tested on bacteria | tested on virus |",
            "|---|---|---|",
        ]
        for taught in ("bacteria", "virus", None):
            cells = [cell(kinds, "auroc", taught=taught, asked=asked) for asked in ("bacteria", "virus")]
            lines.append(f"| {taught or 'nothing'} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def pool_table(pool: list[dict[str, Any]]) -> list[str]:
    """The pools, from the known normals' own scanner and from another."""
    steps = [f"normal against pool, {step}" for step in ("one step", "two steps")]
    draws = len({row["draw"] for row in pool})
    lines = [
        "",
        "An unlabelled pool: 641 train normals taken out of the known ones, and a share of abnormal images; "
        f"{draws} draw{'s' * (draws > 1)}.",
        "",
        "| share | estimated | pool used | **aeflow, no label** | **10 labels** | one step | two steps |",
        "|---|---|---|---|---|---|---|",
    ]
    for share in dict.fromkeys(row["share"] for row in pool):
        where = {"share": share, "scanner": "same", "k": 0}
        cells = [
            cell(pool, "estimated", **where),
            f"{sum(of(pool, 'used', **where))} of {len(of(pool, 'used', **where))}",
        ]
        cells += [cell(pool, "auroc", **where), cell(pool, "auroc", **{**where, "k": 10})]
        lines.append(f"| {share:.0%} | " + " | ".join(cells + [cell(pool, step, **where) for step in steps]) + " |")
    none = [cell(pool, "without_pool", share=0.0, scanner="same", k=k) for k in (0, 10)]
    lines += [
        f"| no pool | - | - | {none[0]} | {none[1]} | - | - |",
        "",
        "The pool, or a third of it, from another scanner (contrast, crop and compression changed), no label:",
        "",
        "| share | from the other scanner | estimated | pool used | aeflow |",
        "|---|---|---|---|---|",
    ]
    for share in (0.0, 0.1):
        for scanner, part in (("other", "all"), ("mixed", "a third")):
            where = {"share": share, "scanner": scanner}
            used = f"{sum(of(pool, 'used', **where))} of {len(of(pool, 'used', **where))}"
            estimated, value = (cell(pool, name, **where) for name in ("estimated", "auroc"))
            lines.append(f"| {share:.0%} | {part} | {estimated} | {used} | {value} |")
    return lines


def with_table(page: str, results: dict[str, Any]) -> str:
    """A page with its tables made from the results."""
    start, end = "<!-- label curve: written by benchmarks/label_curve.py -->\n", "<!-- /label curve -->"
    head, rest = page.split(start)
    return head + start + table(results) + end + rest.split(end)[1]


def draw(results: dict[str, Any], path: Path) -> None:
    """AUROC over labels and over the pool's share, with bands of one standard deviation."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    labels = [row for row in results["labels"] if row["k"]]
    for name, title in (("auroc", "aeflow"), *((n, n) for n in ("logistic regression", "shared-covariance Gaussians"))):
        band(left, labels, name, "k", title, bool(name == "auroc"))
    left.axhline(of(results["labels"], "auroc", k=0)[0], color="grey", ls=":", label="aeflow, normals only")
    left.set(xscale="log", xlabel="labelled abnormal images", ylabel="test AUROC")
    pool = [row for row in results["pools"] if row["scanner"] == "same"]
    right.set_visible(bool(pool))
    for k, title in ((0, "aeflow, no label"), (10, "aeflow, 10 labels")):
        band(right, [row for row in pool if row["k"] == k], "auroc", "share", title, k == 0)
    for step in ("one step", "two steps"):
        name = f"normal against pool, {step}"
        band(right, [row for row in pool if row["k"] == 0 and row["share"] > 0], name, "share", name, False)
    right.set(xlabel="abnormal share of the unlabelled pool")
    for axes in (left, right):
        axes.set_ylim(0.8, 1)
        axes.legend(frameon=False, fontsize=8, loc="lower right")
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def band(axes: Any, rows: list[dict[str, Any]], name: str, x: str, label: str, ours: bool) -> None:
    at = sorted({row[x] for row in rows if name in row})
    values = [of(rows, name, **{x: value}) for value in at]
    mean, std = np.array([np.mean(v) for v in values]), np.array([np.std(v) for v in values])
    (line,) = axes.plot(at, mean, lw=2.5 if ours else 1.2, label=label, marker="o", ms=3)
    axes.fill_between(at, mean - std, mean + std, color=line.get_color(), alpha=0.15, lw=0)


if __name__ == "__main__":
    main()
