"""Worth of the images that the review page proposes to label next, against images drawn at random.

    python -m benchmarks.studies.active_labels --data DIR --work FOLDER [--only MODEL ...] [--page docs/review.md]

On the train side of each data set alone. A third of the patients gives normals to a model, as a site has them before it
reads anything. The others are divided at random in each draw: one half is the unread archive, with one abnormal image
in five, the other half is asked. A simulated reader labels ten images a round, three rounds, as the page proposes them
or at random; the truth is what the folder says. After each round classes are learnt from all that was labelled, normal
or abnormal, as ``aeflow train --labels-from`` does; what the model knew before stays as it is. Measured is the AUROC on
the images that are asked. How images are proposed was chosen on other draws (``--first 100``). Writes
active_labels.json, and the table of the page.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from aeflow._types import Floats, Floats32
from aeflow.config import make_settings
from aeflow.data.records import Record
from aeflow.deploy.open_model import open_model
from aeflow.imageio.errors import ImageError
from aeflow.metrics.image import auroc
from aeflow.runtime.machine import machine
from aeflow.scoring.scorer import Scorer, calibrated, measure
from aeflow.serve.pictures import features
from aeflow.serve.suggestions import most_valuable
from aeflow.training.plan import COMPARED, DIFFUSE, FOCAL, UNKNOWN
from benchmarks.common import BRAIN, CHEST, machine_line, with_table, write_results
from benchmarks.inputs import labels_of
from benchmarks.options import Parser
from benchmarks.studies.label_curve.world import PLANS, Base, Plan, Rows, World, learn, read_world, train_base

ROUNDS, LABELS = 3, 10
ABNORMAL = 0.2  # share of the unread archive
NONE = np.zeros(0, np.int64)
UNTOLD = tuple(name for name in UNKNOWN if name not in COMPARED)  # as planned where all of the image counts
# Data set of each model, and how it is trained: by who says what is sought, without a flow, which none of these terms
# reads; and by who says nothing.
MODELS = {
    "lungs, diffuse": (CHEST, Plan(make_settings("default", region="lungs", terms=DIFFUSE), PLANS["lungs"].learnt)),
    "default": (
        CHEST,
        Plan(make_settings("default", terms=UNTOLD), make_settings("default", terms=UNTOLD, classifier="mixture")),
    ),
    "focal": (BRAIN, Plan(make_settings("default", terms=FOCAL), PLANS["focal"].learnt)),
}
Choice = Callable[[Rows, Rows], Rows]  # the rows that are free and those labelled: which to label next


@dataclass(frozen=True, slots=True)
class Unread:
    """All images that the model has not seen, as the page keeps them."""

    world: World
    base: Base
    rows: Rows
    p: Floats  # p-values (n,)
    vectors: Floats32  # (n, D), see ``serve.pictures.features``
    rate: float  # of false alarms that the threshold allows

    def proposed(self, free: Rows, labelled: Rows) -> Rows:
        """Return the rows that the page proposes next."""
        at, known = np.searchsorted(self.rows, free), np.searchsorted(self.rows, labelled)
        return free[most_valuable(self.p[at], self.vectors[at], self.vectors[known], self.rate, LABELS)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all draws of all models, and write what they gave."""
    parser = Parser("studies.active_labels", __doc__)
    parser.share("--data", "--work", required=True)
    parser.share("--page", "--out")
    parser.add_argument("--only", nargs="+", choices=MODELS, default=list(MODELS), metavar="MODEL")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="number of the first draw")
    options = parser.parse_args(arguments)
    numbers = range(options.first, options.first + options.draws)
    path = options.out / "active_labels.json"
    found: dict[str, list[dict[str, Any]]] = json.loads(path.read_text())["models"] if path.exists() else {}
    for name in options.only:
        data, plan = MODELS[name]
        unread = read(plan, options.data / data, options.work / name)
        found[name] = [one_draw(unread, number) for number in numbers]
        print(name, *interval(gains(found[name])), flush=True)
    results = {"labels": ROUNDS * LABELS, "abnormal": ABNORMAL, "models": found, "machine": machine()}
    results["gained"] = {name: named(interval(gains(draws))) for name, draws in found.items()}
    write_results(path, results)
    if options.page is not None:
        page = options.page.read_text(encoding="utf-8")
        options.page.write_text(with_table(page, "active labels", table(found)), encoding="utf-8")


def read(plan: Plan, data: Path, work: Path) -> Unread:
    """Train a model on a third of a set's patients, and measure the others as the page does; kept in ``work``.

    Of abnormal images there are as many as normal ones, at most.
    """
    world = read_world(data, plan)
    label = np.array([-1 if record.label is None else record.label for record in world.records])
    train = np.flatnonzero(np.array([record.split == "train" for record in world.records]) & (label >= 0))
    known, others = divided(world, train, 1 / 3, 0)
    known = known[label[known] == 0]
    normals, abnormal = others[label[others] == 0], np.random.default_rng(0).permutation(others[label[others] == 1])
    others = np.sort(np.r_[normals, abnormal[: len(normals)]])
    base = train_base(world, known, data, work)
    scorer = open_model(work / "run", "auto", "auto", len(others))
    rows, kept = np.sort(np.r_[known, others]), work / "measured.npz"
    if not kept.exists():
        np.savez(kept, allow_pickle=False, **measured(scorer, [world.records[row] for row in rows]))
    arrays = dict(np.load(kept))
    p, vectors = (arrays.pop(key)[np.searchsorted(rows, others)] for key in ("p", "vectors"))

    def measures(asked: Rows) -> dict[str, Floats]:
        at = np.searchsorted(rows, asked)
        return {name: values[at] for name, values in arrays.items()}

    rate = scorer.settings.false_positive_rate
    return Unread(world, replace(base, measures=measures), others, p, vectors, rate)


def measured(scorer: Scorer, records: Sequence[Record]) -> dict[str, NDArray[Any]]:
    """Return the p-values (n,) of images, what the page compares them by (n, D), and the measures of each term."""
    p, vectors, measures = [], [], []
    for _, found in measure(scorer.backend, records, maps=True):
        if isinstance(found, ImageError):
            raise found
        score = calibrated(scorer, found)
        p.append(score.p_value)
        vectors.append(np.frombuffer(features(score), "<f2").astype(np.float32))
        measures.append(found.measures)
    by_term = {name: np.stack([one[name] for one in measures]) for name in measures[0]}
    return {"p": np.array(p), "vectors": np.stack(vectors), **by_term}


def divided(world: World, rows: Rows, share: float, seed: int) -> tuple[Rows, Rows]:
    """Return some rows in two parts of different patients, the first with ``share`` of these."""
    patients = sorted({world.records[row].patient for row in rows})
    first = set(np.random.default_rng(seed).permutation(patients)[: round(share * len(patients))].tolist())
    chosen = np.array([world.records[row].patient in first for row in rows])
    return np.sort(rows[chosen]), np.sort(rows[~chosen])


def one_draw(unread: Unread, number: int) -> dict[str, Any]:
    """Return the AUROC before the first round and after each, of both choices, and with all of the archive labelled."""
    world = unread.world
    archive, asked = divided(world, unread.rows, 0.5, number)
    rng = np.random.default_rng(number)
    label = np.array(labels_of(world.records))
    normals, abnormal = archive[label[archive] == 0], rng.permutation(archive[label[archive] == 1])
    archive = np.sort(np.r_[normals, abnormal[: round(ABNORMAL / (1 - ABNORMAL) * len(normals))]])
    world = replace(world, test=asked)

    def at_random(free: Rows, _: Rows) -> Rows:
        return rng.permutation(free)[:LABELS]

    found: dict[str, Any] = {"draw": number, "archive": len(archive), "asked": len(asked)}
    for name, choose in (("proposed", unread.proposed), ("random", at_random)):
        labelled, reached = NONE, [auroc_of(world, unread.base, NONE)]
        for _ in range(ROUNDS):
            labelled = np.r_[labelled, choose(np.setdiff1d(archive, labelled), labelled)]
            reached.append(auroc_of(world, unread.base, labelled))
        found[name] = {"auroc": reached, "abnormal": int(label[labelled].sum())}
    return found | {"all": auroc_of(world, unread.base, archive)}


def auroc_of(world: World, base: Base, labelled: Rows) -> float:
    """Return the AUROC on the images that are asked, with classes learnt from what is labelled."""
    label = np.array(labels_of([world.records[row] for row in labelled]))
    abnormal, normals = labelled[label == 1], labelled[label == 0]
    read = replace(base, kept=np.r_[base.kept, normals])
    scores = learn(world, read, abnormal, NONE)[0] if len(abnormal) else base.score(world.test)
    return auroc(scores.tolist(), world.truth)


def gains(draws: Sequence[dict[str, Any]]) -> list[float]:
    """Return how much more AUROC the proposed images gave than random ones, in each draw."""
    return [draw["proposed"]["auroc"][-1] - draw["random"]["auroc"][-1] for draw in draws]


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of draws with its 95 % interval (Student's t)."""
    mean, half = np.mean(values), t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(mean), float(mean - half), float(mean + half)


def named(found: tuple[float, float, float]) -> dict[str, float]:
    """Return a mean with its interval by name."""
    return dict(zip(("mean", "low", "high"), found, strict=True))


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Return the results as Markdown."""
    number = ROUNDS * LABELS
    columns = [
        "before",
        f"{number} at random",
        f"{number} as proposed",
        "all",
        "proposed less random (95 %)",
        "abnormal, random and proposed",
    ]
    head = f"| AUROC | {' | '.join(columns)} |"
    lines = [f"{machine_line()}.", "", head, "|---" * (1 + len(columns)) + "|"]
    for name in filter(found.__contains__, MODELS):
        draws = found[name]
        before, random, proposed = (
            np.mean([draw[choice]["auroc"][at] for draw in draws])
            for choice, at in (("random", 0), ("random", -1), ("proposed", -1))
        )
        mean, low, high = interval(gains(draws))
        abnormal = [np.mean([draw[choice]["abnormal"] for draw in draws]) for choice in ("random", "proposed")]
        every = np.mean([draw["all"] for draw in draws])
        cells = [f"{value:.3f}" for value in (before, random, proposed, every)] + [
            f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"
        ]
        told = f"| {MODELS[name][0]}, `{name}` | {' | '.join(cells)} |"
        lines.append(f"{told} {abnormal[0]:.0f} and {abnormal[1]:.0f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
