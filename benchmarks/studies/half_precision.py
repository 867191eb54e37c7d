"""Cost of features in float16 and training in bfloat16: AUROC of each way, same seed, preset aeflow-1.

    python -m benchmarks.studies.half_precision --data FOLDER [--sets chest_xray_224 lgg_mri_central] [--seed 0]

FOLDER holds `chest_xray_224` and `lgg_mri_central` in aeflow's layout. Each set is trained three ways on its train
normals, and measured on float32 features, as `aeflow score` does. Decided on: held-out train normals against every
tenth train-side abnormal image of patients who are not in the test split; nothing learns from them. The AUROC on the
test split is reported beside it and decides nothing. Writes half_features.json to --out; sets that are not asked for
stay in it as they are.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from aeflow.calibration.calibration import fit_calibration
from aeflow.config import Settings, make_settings
from aeflow.data.records import of_label, read_records
from aeflow.data.splits import hold_out, leave_out_patients, shared_patients
from aeflow.features import cache as features
from aeflow.features.cache import FeatureCache
from aeflow.features.cached_features import Features, Row
from aeflow.features.device_batches import Feed
from aeflow.metrics.image import auroc
from aeflow.model.aeflow import AEFlow
from aeflow.model.encoder_weights import pretrained
from aeflow.runtime.device import Plan
from aeflow.runtime.process import prepare
from aeflow.training.loop import Material, fit_network, measure_all
from benchmarks.common import machine_line, write_results
from benchmarks.inputs import features_of, labels_of
from benchmarks.options import Parser

CPU = torch.device("cpu")
BATCH = 32
ALLOWED = 0.002  # change of an AUROC
WAYS: dict[str, tuple[type[np.floating[Any]], bool]] = {
    "float32 features, float32 training": (np.float32, False),
    "float16 features, float32 training": (np.float16, False),
    "float16 features, bfloat16 training": (np.float16, True),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the sets asked for, and write the results after each."""
    parser = Parser("studies.half_precision", __doc__)
    parser.share("--data", required=True)
    parser.share("--sets", "--seed", "--out")
    options = parser.parse_args(arguments)
    prepare()
    file = options.out / "half_features.json"
    kept = json.loads(file.read_text())["sets"] if file.exists() else {}
    results: dict[str, Any] = {"allowed": ALLOWED, "sets": kept}
    for name in options.sets:
        facts = {"machine": machine_line(), "seed": options.seed}
        results["sets"][name] = {**facts, **measure(options.data / name, options.seed)}
        print(name, json.dumps(results["sets"][name], indent=1), flush=True)
        write_results(file, results)


def measure(data: Path, seed: int) -> dict[str, Any]:
    """Train and measure a set in each way; ``change`` is against the first."""
    settings = make_settings("aeflow-1", seed=seed, log_det_weight=0.5)  # the same reading of all three
    train, test = read_records(data, "train"), read_records(data, "test")
    kept, held = hold_out(of_label(train, 0), settings.held_out, seed)
    abnormal = of_label(train, 1)
    abnormal = leave_out_patients(abnormal, shared_patients(abnormal, test))[::10]
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        with patch.object(features, "STORED", np.float32):
            cache = FeatureCache.of(pretrained(settings.encoder, settings.stages), settings, root)

        views = [features_of(cache, kept, view) for view in range(1 + settings.augmented_views)]
        held_f, proxy, tested = (features_of(cache, records) for records in (held, abnormal, test))
        nobody = replace(held_f, records=[], contents=[], rows=[])  # nothing is watched epoch by epoch
        ways = {}
        for number, (way, (stored, bfloat16)) in enumerate(WAYS.items()):
            material = Material([kept_as(view, stored) for view in views], kept_as(held_f, stored), nobody)
            (root / f"{number}").mkdir()
            net, seconds = trained(settings, material, root / f"{number}", Plan(train_bfloat16=bfloat16))
            _, of_held = measure_all(net, Feed(held_f, CPU), BATCH)
            calibration = fit_calibration(settings, of_held, maps={})
            measured = [of_held, *(measure_all(net, Feed(one, CPU), BATCH)[1] for one in (proxy, tested))]
            normal, ill, scores = (calibration.value(calibration.terms(of_group)) for of_group in measured)
            ways[way] = {
                "proxy_auroc": auroc([*normal, *ill], [0] * len(normal) + [1] * len(ill)),
                "test_auroc": auroc(scores, labels_of(test)),
                "epochs": len(seconds),
                "median_epoch_seconds": float(np.median(seconds)),
            }
            print(data.name, way, ways[way], flush=True)
        largest = max(float(np.abs(shard.features[row]).max()) for shard, row in [*views[0].rows, *tested.rows])
    first = next(iter(ways.values()))
    for values in ways.values():
        values["change"] = values["proxy_auroc"] - first["proxy_auroc"]
        values["kept"] = abs(values["change"]) <= ALLOWED
    return {
        "largest_feature": largest,
        "proxy_images": [len(held), len(abnormal)],
        "test_images": len(test),
        "ways": ways,
    }


def trained(settings: Settings, material: Material, run: Path, plan: Plan) -> tuple[AEFlow, list[float]]:
    """Train a model one way; return it and the seconds of its epochs."""
    torch.manual_seed(settings.seed)
    net = AEFlow(settings, pretrained(settings.encoder, settings.encoder_stages))
    progress = fit_network(net, settings, run, material, False, plan)
    return net, [row["seconds"] for row in progress.history]


def kept_as(found: Features, dtype: type[np.floating[Any]]) -> Features:
    """Return features as a cache of this type gives them."""
    shards = {id(shard): replace(shard, features=shard.features.astype(dtype)) for shard, _ in found.rows}
    return replace(found, rows=[Row(shards[id(shard)], row) for shard, row in found.rows])


if __name__ == "__main__":
    main()
