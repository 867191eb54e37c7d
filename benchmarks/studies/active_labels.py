"""Worth of the images that the review page proposes to label next, against images drawn at random.

    python -m benchmarks.studies.active_labels DATA [--draws 5] [--out benchmarks/results]

On the train side of a data folder alone: by patient, a third of its images is asked, a third is the unread archive of
normal and abnormal images, and a third of its normals trains the model. A simulated reader labels ten images a round,
three rounds; the truth is what the folder says. After each round classes are learnt from the abnormal images that were
labelled so far, as ``aeflow train --labels-from`` does, and the AUROC on the images that are asked is noted. Floor:
0.005 more than random choice after thirty labels. Writes active_labels.json.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from aeflow._types import Floats
from aeflow.data.records import Record
from aeflow.imageio.errors import ImageError
from aeflow.metrics.image import auroc
from aeflow.runtime.machine import machine
from aeflow.scoring.scorer import Scorer, score
from aeflow.serve.pictures import features
from aeflow.serve.suggestions import most_valuable
from benchmarks.common import spread, write_results
from benchmarks.options import Parser
from benchmarks.studies.label_curve.world import PLANS, Base, Rows, World, learn, read_world, train_base

ROUNDS, LABELS = 3, 10
NONE = np.zeros(0, np.int64)
Choice = Callable[[Rows, list[int]], Sequence[int]]  # the rows that are free and those labelled: which to label next


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all draws, and write what they gave."""
    parser = Parser("studies.active_labels", __doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--draws", type=int, default=5)
    parser.share("--out")
    options = parser.parse_args(arguments)
    world = read_world(options.data, PLANS["lungs"])
    draws = [one_draw(world, options.data, number) for number in range(options.draws)]
    gained = [draw["proposed"][-1] - draw["random"][-1] for draw in draws]
    print(f"AUROC after {ROUNDS * LABELS} labels, proposed less random: {spread(gained)}")
    write_results(options.out / "active_labels.json", {"draws": draws, "gained": gained, "machine": machine()})


def one_draw(world: World, data: Path, number: int) -> dict[str, Any]:
    """Return the AUROC after each round, of both choices."""
    known, archive, asked = thirds(world, number)
    world = replace(world, test=asked)
    with tempfile.TemporaryDirectory() as folder:
        base = train_base(world, known, data, Path(folder))
        scorer = _scorer(Path(folder) / "run")
        p, vectors = as_the_page_sees(scorer, [world.records[row] for row in archive])
    place = {int(row): i for i, row in enumerate(archive)}
    rate = scorer.settings.false_positive_rate

    def proposed(free: Rows, labelled: list[int]) -> Sequence[int]:
        at = np.array([place[int(row)] for row in free])
        seen = vectors[[place[row] for row in labelled]] if labelled else vectors[:0]
        return [int(free[i]) for i in most_valuable(p[at], vectors[at], seen, rate, LABELS)]

    rng = np.random.default_rng(number)

    def at_random(free: Rows, _: list[int]) -> Sequence[int]:
        return [int(row) for row in rng.permutation(free)[:LABELS]]

    return {
        "draw": number,
        "images": {"known": len(known), "archive": len(archive), "asked": len(asked)},
        "proposed": rounds(world, base, archive, proposed),
        "random": rounds(world, base, archive, at_random),
    }


def rounds(world: World, base: Base, archive: Rows, choose: Choice) -> list[float]:
    """Return the AUROC before the first round and after each."""
    labelled: list[int] = []
    found = [_auroc(world, base, labelled)]
    for _ in range(ROUNDS):
        labelled += choose(np.setdiff1d(archive, labelled), labelled)
        found.append(_auroc(world, base, labelled))
    return found


def thirds(world: World, number: int) -> tuple[Rows, Rows, Rows]:
    """Return normals to train on, an unread archive, and the images that are asked, of different patients each."""
    train = [row for row, record in enumerate(world.records) if record.split == "train" and record.label is not None]
    patients = np.random.default_rng(number).permutation(sorted({world.records[row].patient for row in train}))
    third = {patient: 3 * i // len(patients) for i, patient in enumerate(patients.tolist())}
    parts = [np.array([row for row in train if third[world.records[row].patient] == part]) for part in range(3)]
    known = np.array([row for row in parts[0] if world.records[row].label == 0])
    return known, parts[1], parts[2]


def as_the_page_sees(scorer: Scorer, records: Sequence[Record]) -> tuple[Floats, np.ndarray[Any, np.dtype[np.float32]]]:
    """Return the p-values (n,) of images, and what stands for them in the worklist, (n, D)."""
    found = []
    for _, result in score(scorer, records, maps=True):
        if isinstance(result, ImageError):
            raise result
        found.append((result.p_value, np.frombuffer(features(result), "<f2").astype(np.float32)))
    return np.array([p for p, _ in found]), np.stack([vector for _, vector in found])


def _auroc(world: World, base: Base, labelled: list[int]) -> float:
    """Return the AUROC on the images that are asked, after learning from the abnormal ones among the labelled."""
    abnormal = np.array([row for row in labelled if world.records[row].label == 1], dtype=np.int64)
    scores = learn(world, base, abnormal, NONE)[0] if len(abnormal) else base.score(world.test)
    return float(auroc(scores.tolist(), world.truth))


def _scorer(run: Path) -> Scorer:
    from aeflow.artifacts.run import load_run

    return load_run(run).scorer


if __name__ == "__main__":
    main()
