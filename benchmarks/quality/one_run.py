"""One method, one data set, one seed, in a process of its own: ``benchmarks.quality`` starts it and reads its files.

    python -m benchmarks.quality.one_run --method NAME --data SET --seed N --work FOLDER --out FOLDER

Leaves ``rows.json``, figures by row, and ``scores.npz``, scores by row, in the order of ``read_records(SET, "test")``.
With ``--method features`` it computes the features that all methods share, and says how long that took.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from aeflow.config import make_settings
from aeflow.data.records import Record, of_label, read_records
from aeflow.data.splits import evenly
from aeflow.features.cache import FeatureCache
from aeflow.model.encoder_weights import pretrained
from aeflow.runtime.process import prepare
from aeflow.training import train as training
from benchmarks.inputs import features_of, labels_of
from benchmarks.options import Parser
from benchmarks.quality import controls
from benchmarks.quality.methods import BY_NAME, Method
from benchmarks.quality.outcome import Outcome, write_outcomes
from benchmarks.quality.run_aeflow import aeflow_outcome
from benchmarks.quality.run_control import CONTROL_STAGES, control_outcomes

FEATURES = "features.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the method that the command line names."""
    parser = Parser("quality.one_run", __doc__)
    parser.add_argument("--method", required=True, choices=["features", *BY_NAME], metavar="METHOD")
    parser.share("--data", help="one data set", required=True)
    parser.share("--seed")
    parser.share("--work", "--out", required=True)
    parser.add_argument("--encoder-weights", type=Path)
    options = parser.parse_args(arguments)
    prepare()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.method == "features":
        (options.work / FEATURES).write_text(json.dumps(compute_features(options.data)))
        return
    method, test = BY_NAME[options.method], read_records(options.data, "test")
    write_outcomes(options.out, method, test, outcomes_of(method, options, test))


def outcomes_of(method: Method, options: argparse.Namespace, test: list[Record]) -> dict[str, Outcome]:
    """Run a method; return the outcome of each of its rows."""
    if method.group in ("aeflow", "labels"):
        weights = options.encoder_weights
        return {"": aeflow_outcome(method, options.data, options.seed, test, options.work, weights)}
    if method.group == "control" or method.name == "raw intensity":
        shared = json.loads((options.work / FEATURES).read_text())
        return control_outcomes(method, options.data, options.seed, test, shared)
    if method.name == "file size":
        return {"": Outcome(controls.file_sizes(test))}
    return {"": Outcome(None, more=controls.all_abnormal(labels_of(test)))}


def compute_features(data: Path) -> dict[str, dict[str, float]]:
    """Compute the features of the train normals, all their views, and of the test images; return the seconds."""
    settings, train = make_settings(), read_records(data, "train")
    normals, watched = of_label(train, 0), evenly(of_label(train, 1), training.MAX_WATCHED)
    found: dict[str, dict[str, float]] = {}
    for name, stages in (("flow", settings.stages), ("controls", CONTROL_STAGES)):
        cache, tic = FeatureCache.of(pretrained(settings.encoder, stages), settings), time.perf_counter()
        for view in range(1 + settings.augmented_views) if name == "flow" else (0,):
            features_of(cache, normals, view)
        train_seconds = time.perf_counter() - tic
        if name == "flow":
            features_of(cache, watched)
        tic = time.perf_counter()
        features_of(cache, read_records(data, "test"))
        found[name] = {"train_seconds": train_seconds, "test_seconds": time.perf_counter() - tic}
    return found


if __name__ == "__main__":
    main()
