"""What each choice of the default preset is worth, on train folders first, on the test split afterwards.

    python benchmarks/ablation.py --data FOLDER [--out benchmarks/results]

Proxy: held-out train normals, as they are ("clean"), and together with copies of themselves as another scanner would
have written them ("shifted"), against abnormal images of the train folder whose patients are not in the test split.
The default was chosen on the sum of the shifted proxy of chest X-rays and the clean one of brain MRI, where shifted
normals score above tumours in every variant. The test column is there to see how well the proxy ranks; it decides
nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageFilter

import aeflow
from aeflow.artifact import Artifact
from aeflow.config import make_settings
from aeflow.data.read import read_image
from aeflow.data.records import Record, of_label, read_records
from aeflow.data.split import evenly, hold_out, leave_out_patients
from aeflow.errors import ImageError
from aeflow.evaluation.metrics import auroc
from aeflow.model.aeflow import AEFlow
from aeflow.score import score
from aeflow.training import calibrate_on
from quality import SETS, machine

ABNORMAL = 200  # train-side abnormal images, evenly chosen

TRAINED: dict[str, dict[str, Any]] = {  # variants that need a training of their own, the weightiest first
    "default": {},
    "features as they are": {"unit_features": False},
    "no augmented view": {"augmented_views": 0},
    "positions unknown to the flow": {"positions": False},
    "additive couplings": {"coupling": "additive"},
    "stride 32": {"stages": (4,), "decoder": (128, 64, 32, 16)},
}
SCORED: dict[str, dict[str, Any]] = {  # variants that read the default's weights another way
    "no log-determinant, all positions": {"log_det_weight": 0.0, "top_share": 1.0},
    "whole log-determinant, highest 2 %": {"log_det_weight": 1.0, "top_share": 0.02},
    "no log-determinant, highest 20 %": {"log_det_weight": 0.0, "top_share": 0.2},
    "three quarters of it, highest 2 %": {"log_det_weight": 0.75, "top_share": 0.02},
    "reconstruction counted one way": {"two_sided": False},
    "reconstruction left out": {"beta": 1.0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"machine": machine(), "seed": options.seed, "sets": {name: {} for name in SETS}}
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["AEFLOW_CACHE"] = scratch
        groups = {name: images(options.data / name, options.seed, Path(scratch)) for name in SETS}
        for variant, changes in TRAINED.items():
            for name in SETS:
                run = Path(scratch) / "run"
                model = aeflow.train(options.data / name, run, seed=options.seed, overwrite=True, **changes)
                found = {variant: figures(model.artifact, groups[name])}
                for other, settings in SCORED.items() if variant == "default" else ():
                    artifact = read_another_way(model.artifact, groups[name]["held"], settings)
                    found[other] = figures(artifact, groups[name])
                results["sets"][name] |= found
                print(name, found, flush=True)
            (options.out / "ablation.json").write_text(json.dumps(results, indent=1) + "\n")
            (options.out / "ablation.md").write_text(table(results))


def images(data: Path, seed: int, scratch: Path) -> dict[str, list[Record]]:
    """The images that each variant is measured on."""
    train, test = read_records(data, "train"), read_records(data, "test")
    _, held = hold_out(of_label(train, 0), make_settings().held_out, seed)
    on_test = {record.patient for record in test}
    abnormal = leave_out_patients(of_label(train, 1), on_test)
    shifts = [shifted(record, scratch) for record in held]
    return {"held": held, "shifted": shifts, "abnormal": evenly(abnormal, ABNORMAL), "test": test}


def read_another_way(artifact: Artifact, held: list[Record], changes: dict[str, Any]) -> Artifact:
    """The same weights under other settings of the score, calibrated again."""
    settings = make_settings(**{**artifact.settings.model_dump(), **changes})
    net = AEFlow(settings, artifact.net.encoder)
    net.load_state_dict(artifact.net.state_dict())
    return replace(artifact, net=net.eval(), settings=settings, calibration=calibrate_on(net, held), facts={})


def figures(artifact: Artifact, groups: dict[str, list[Record]]) -> dict[str, float]:
    values = {name: scores(artifact, records) for name, records in groups.items()}
    labels = [int(record.label or 0) for record in groups["test"]]

    def against(*normals: str) -> float:
        low = np.concatenate([values[name] for name in normals])
        return auroc(np.concatenate([low, values["abnormal"]]), [0] * len(low) + [1] * len(values["abnormal"]))

    return {"clean": against("held"), "shifted": against("held", "shifted"), "test": auroc(values["test"], labels)}


def scores(artifact: Artifact, records: list[Record]) -> np.ndarray:
    found = []
    for _, result in score(artifact.scorer, records):
        if isinstance(result, ImageError):
            raise result
        found.append(result.value)
    return np.array(found)


def shifted(record: Record, folder: Path) -> Record:
    """The image as another scanner might have written it: crop, gamma, contrast, sharpness, JPEG."""
    rng = np.random.default_rng(list(record.name.encode()))
    pixels = read_image(record.path).pixels
    grey = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
    height, width = grey.shape
    top, bottom, left, right = (rng.uniform(0.0, 0.05, 4) * (height, height, width, width)).astype(int)
    inside = grey[top : height - bottom, left : width - right]
    toned = inside ** np.exp(rng.uniform(-0.3, 0.3))
    toned = np.where(toned > 0.02, (toned - 0.5) * rng.uniform(0.8, 1.2) + 0.5 + rng.uniform(-0.06, 0.06), toned)
    image = PIL.Image.fromarray((255 * toned.clip(0, 1)).round().astype(np.uint8)).resize((width, height))
    filters = (PIL.ImageFilter.GaussianBlur(rng.uniform(0.4, 1.0)), PIL.ImageFilter.UnsharpMask(1, 60, 0), None)
    chosen = filters[rng.integers(3)]
    image = image.filter(chosen) if chosen else image
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(rng.integers(55, 95)))
    path = folder / f"{hashlib.sha256(record.name.encode()).hexdigest()}.jpeg"
    path.write_bytes(buffer.getvalue())
    return Record(path, record.name, record.split, 0, record.patient, None, None)


def table(results: dict[str, Any]) -> str:
    """The figures as Markdown."""
    chest, brain = (results["sets"][name] for name in SETS)
    lines = [
        f"Seed {results['seed']}; {results['machine']}.",
        "AUROC: proxies from train folders, test split afterwards.",
        "",
        "| variant | chest, clean | chest, shifted | brain, clean | shifted + clean | chest test | brain test |",
        "|---|---|---|---|---|---|---|",
    ]
    for variant, of_chest in chest.items():
        of_brain = brain[variant]
        decide = of_chest["shifted"] + of_brain["clean"]
        cells = (of_chest["clean"], of_chest["shifted"], of_brain["clean"], decide, of_chest["test"], of_brain["test"])
        lines.append(f"| {variant} | " + " | ".join(f"{value:.3f}" for value in cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
