"""One method, one data set, one seed, in a process of its own: ``benchmarks.quality`` starts it and reads its files.

    python -m benchmarks.quality.one_run --method NAME --data SET --seed N --work FOLDER --out FOLDER

Leaves ``rows.json``, figures by row, and ``scores.npz``, scores by row, in the order of ``read_records(SET, "test")``.
With ``--features`` it only computes the frozen features that the method shares with others, and says how long that
took.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from aeflow.data.records import Record, of_label, read_records
from aeflow.data.splits import evenly
from aeflow.runtime.process import prepare
from aeflow.training.training_images import MAX_WATCHED
from benchmarks.inputs import features_of, labels_of
from benchmarks.options import Parser
from benchmarks.quality import controls
from benchmarks.quality.methods import BY_NAME, Method
from benchmarks.quality.outcome import Outcome, write_outcomes
from benchmarks.quality.run_aeflow import aeflow_outcome
from benchmarks.quality.run_control import cache_of, control_outcomes

FEATURES = "features.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the method that the command line names."""
    parser = Parser("quality.one_run", __doc__)
    parser.add_argument("--method", required=True, choices=list(BY_NAME), metavar="METHOD")
    parser.share("--data", help="one data set", required=True)
    parser.share("--seed")
    parser.share("--work", "--out", required=True)
    parser.add_argument("--encoder-weights", type=Path)
    parser.add_argument("--features", action="store_true", help="only compute the features that it shares")
    options = parser.parse_args(arguments)
    prepare()
    options.work.mkdir(parents=True, exist_ok=True)
    method, test = BY_NAME[options.method], read_records(options.data, "test")
    if options.features:
        found = {**features_of_set(options.work), method.features: compute_features(method, options, test)}
        (options.work / FEATURES).write_text(json.dumps(found))
        return
    write_outcomes(options.out, method, test, outcomes_of(method, options, test))


def outcomes_of(method: Method, options: argparse.Namespace, test: list[Record]) -> dict[str, Outcome]:
    """Run a method; return the outcome of each of its rows."""
    if method.group in ("aeflow", "labels"):
        weights = options.encoder_weights
        return {"": aeflow_outcome(method, options.data, options.seed, test, options.work, weights)}
    if method.group == "control" or method.name == "raw intensity":
        encoding = features_of_set(options.work)[method.features]["test_seconds"]
        return control_outcomes(method, options.data, options.seed, test, encoding)
    if method.name == "file size":
        return {"": Outcome(controls.file_sizes(test))}
    return {"": Outcome(None, more=controls.all_abnormal(labels_of(test)))}


def features_of_set(work: Path) -> dict[str, dict[str, float]]:
    """Return how long each kind of features took that are kept in a folder."""
    found: dict[str, dict[str, float]] = {}
    if (work / FEATURES).exists():
        found = json.loads((work / FEATURES).read_text())
    return found


def compute_features(method: Method, options: argparse.Namespace, test: list[Record]) -> dict[str, float]:
    """Compute the features of the train normals in all views, and of the test images if controls read them."""
    settings, train = method.settings_of(0), read_records(options.data, "train")
    normals, watched = of_label(train, 0), evenly(of_label(train, 1), MAX_WATCHED)
    cache, controls_only = (
        cache_of(method, options.data, settings, options.encoder_weights),
        method.features == "controls",
    )
    tic = time.perf_counter()
    for view in (0,) if controls_only else range(1 + settings.augmented_views):
        features_of(cache, normals, view)
    seconds = {"train_seconds": time.perf_counter() - tic}
    if not controls_only:
        features_of(cache, watched)
    if not settings.describes:
        tic = time.perf_counter()
        features_of(cache, test)
        seconds["test_seconds"] = time.perf_counter() - tic
    return seconds


if __name__ == "__main__":
    main()
