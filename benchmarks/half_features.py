"""What is lost by keeping features in float16 and training in bfloat16: AUROC of each way, same seed, default preset.

    python benchmarks/half_features.py --data FOLDER [--sets chest_xray_224 lgg_mri_central] [--seed 0]

FOLDER holds `chest_xray_224` and `lgg_mri_central` in aeflow's layout. Each set is trained three ways on its train
normals. Decided on: held-out train normals against every tenth train-side abnormal image of patients who are not in the
test split; they teach nothing. The AUROC on the test split is reported beside it and decides nothing. Writes
benchmarks/results/half_features.json.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

import aeflow
from aeflow import features
from aeflow.config import make_settings
from aeflow.data.records import Record, of_label, read_records
from aeflow.data.split import hold_out, leave_out_patients, shared_patients
from aeflow.device import Plan
from aeflow.errors import ImageError
from aeflow.evaluation.metrics import auroc
from aeflow.score import score
from quality import machine

SETS = ("chest_xray_224", "lgg_mri_central")
ALLOWED = 0.002  # change of an AUROC
WAYS = {
    "float32 features, float32 training": (np.float32, False),
    "float16 features, float32 training": (np.float16, False),
    "float16 features, bfloat16 training": (np.float16, True),
}
TIMES = ("features", "training", "calibration")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": machine(), "seed": options.seed, "allowed": ALLOWED, "sets": {}}
    for name in options.sets:
        results["sets"][name] = measure(options.data / name, options.seed)
        print(name, json.dumps(results["sets"][name], indent=1), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "half_features.json").write_text(json.dumps(results, indent=1) + "\n")


def measure(data: Path, seed: int) -> dict[str, Any]:
    """Train and measure a set in each way; ``change`` is against the first."""
    train, test = read_records(data, "train"), read_records(data, "test")
    _, held = hold_out(of_label(train, 0), make_settings().held_out, seed)
    abnormal = of_label(train, 1)
    abnormal = leave_out_patients(abnormal, shared_patients(abnormal, test))[::10]
    found: dict[str, Any] = {"proxy_images": [len(held), len(abnormal)], "test_images": len(test), "ways": {}}
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["AEFLOW_CACHE"] = scratch
        for number, (way, (stored, bfloat16)) in enumerate(WAYS.items()):
            plan = Plan(train_bfloat16=bfloat16)
            with patch.object(features, "STORED", stored), patch.object(Plan, "of", lambda device, plan=plan: plan):
                model = aeflow.train(data, Path(scratch) / f"run{number}", seed=seed, device="cpu")
            facts = model.artifact.facts["training"]
            found["ways"][way] = {
                "proxy_auroc": area(model, held, abnormal),
                "test_auroc": area(model, of_label(test, 0), of_label(test, 1)),
                "epochs": facts["epochs"],
                "seconds": {phase: facts[f"{phase}_seconds"] for phase in TIMES},
            }
    first = next(iter(found["ways"].values()))
    for values in found["ways"].values():
        values["change"] = values["proxy_auroc"] - first["proxy_auroc"]
        values["kept"] = abs(values["change"]) <= ALLOWED
    return found


def area(model: aeflow.Model, normal: Sequence[Record], abnormal: Sequence[Record]) -> float:
    """AUROC of abnormal against normal images."""
    values = []
    for _, result in score(model.artifact, [*normal, *abnormal], batch_size=32):
        if isinstance(result, ImageError):
            raise result
        values.append(result.value)
    return auroc(values, [0] * len(normal) + [1] * len(abnormal))


if __name__ == "__main__":
    main()
