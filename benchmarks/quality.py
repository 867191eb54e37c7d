"""How well the default preset finds what it has never seen, beside controls: AUROC, pixel AUROC, time, memory.

    python benchmarks/quality.py --data FOLDER

FOLDER holds `chest_xray_224` and `lgg_mri_central` in aeflow's layout. Each set is trained on its train normals with
seeds 0, 1, 2 and measured on its test split, which nothing was chosen on. Features are computed from nothing for the
first seed, so its time is a whole training's. Writes benchmarks/results/quality.json and .md, and the README's table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import aeflow
from aeflow.config import Settings, make_settings
from aeflow.data.preprocess import preprocess_mask
from aeflow.data.records import Record, of_label, read_records
from aeflow.data.split import hold_out
from aeflow.data.stream import stream
from aeflow.evaluation.metrics import auroc, confusion, oracle_threshold
from aeflow.evaluation.pixel import PixelMetrics
from aeflow.features import FeatureCache
from aeflow.model.encoder import pretrained
from aeflow.runtime import prepare

SETS = ("chest_xray_224", "lgg_mri_central")
SHRINKAGE = 0.1  # of the Gaussian's covariance towards a multiple of the identity; not tuned


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="measure on the sets in this folder; without it, only write again")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--readme", type=Path, default=Path("README.md"), help="whose table is written")
    options = parser.parse_args()
    path = options.out / "quality.json"
    if options.data:
        options.out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(measure(options.data, options.seeds), indent=1) + "\n")
    results = json.loads(path.read_text())
    (options.out / "quality.md").write_text(table(results))
    options.readme.write_text(with_table(options.readme.read_text(), results))
    print(table(results))


def measure(folder: Path, seeds: list[int]) -> dict[str, Any]:
    """Everything that is measured, as it is kept in quality.json."""
    prepare()
    results: dict[str, Any] = {"machine": machine(), "sets": {}}
    for name in SETS:
        data = folder / name
        with tempfile.TemporaryDirectory() as scratch:
            os.environ["AEFLOW_CACHE"] = scratch
            runs = [run(data, seed, Path(scratch)) for seed in seeds]
            results["sets"][name] = {"default": runs, "controls": controls(data)}
    results["peak_memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return results


def run(data: Path, seed: int, scratch: Path) -> dict[str, Any]:
    """Train and evaluate once."""
    started = time.perf_counter()
    model = aeflow.train(data, scratch / f"run{seed}", seed=seed)
    trained = time.perf_counter() - started
    metrics = model.evaluate(data)
    chosen = ("auroc", "average_precision", "f1", "accuracy", "sensitivity", "specificity", "oracle", "pixel")
    return {
        "seed": seed,
        "train_seconds": trained,
        "evaluate_seconds": time.perf_counter() - started - trained,
        "features_cached": seed != 0,
        **{name: metrics[name] for name in chosen},
    }


def controls(data: Path) -> dict[str, Any]:
    """What needs no flow: a Gaussian per position, the file's size, the pixels' brightness, calling all abnormal."""
    test = read_records(data, "test")
    labels = [int(record.label or 0) for record in test]
    found: dict[str, Any] = {
        "file size": {"auroc": max(a := auroc([-record.path.stat().st_size for record in test], labels), 1 - a)},
        "all abnormal": {"f1": 2 * sum(labels) / (sum(labels) + len(labels)), "accuracy": sum(labels) / len(labels)},
    }
    for stage, stride in ((3, 16), (4, 32)):
        scores = gaussian_per_position(make_settings(stages=(stage,)), read_records(data, "train"), test)
        counts = confusion(scores, labels, oracle_threshold(scores, labels))
        hits, errors = counts["true_positive"], counts["false_positive"] + counts["false_negative"]
        found[f"Gaussian per position, stride {stride}"] = {
            "auroc": auroc(scores, labels),
            "oracle_f1": 2 * hits / (2 * hits + errors),
        }
    if any(record.mask for record in test):
        found["raw intensity"] = {"pixel_auroc": intensity(test)}
    return found


def gaussian_per_position(settings: Settings, train: list[Record], test: list[Record]) -> NDArray[np.float64]:
    """Mean squared Mahalanobis distance over positions (PaDiM's model), fitted on the same normals as the flow."""
    kept, _ = hold_out(of_label(train, 0), settings.held_out, settings.seed)
    cache = FeatureCache(pretrained(settings.encoder, settings.stages), settings.image_size)
    (fitted, _), (scored, refused) = cache.features(kept), cache.features(test)
    if refused:
        raise refused[0][1]
    z = torch.cat([features[0] for features, _ in fitted.batches(64)]).flatten(2).permute(2, 0, 1).double()  # (P, N, C)
    mean = z.mean(dim=1, keepdim=True)
    covariance = (z - mean).transpose(1, 2) @ (z - mean) / z.shape[1]
    size = covariance.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None]
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * size * torch.eye(z.shape[2], dtype=torch.float64)
    factor = torch.linalg.cholesky(covariance)
    distances = []
    for features, _ in scored.batches(64):
        away = features[0].flatten(2).permute(2, 1, 0).double() - mean.transpose(1, 2)  # (P, C, B)
        distances.append(torch.linalg.solve_triangular(factor, away, upper=False).square().mean(dim=(0, 1)))
    result: NDArray[np.float64] = torch.cat(distances).numpy()
    return result


def intensity(test: list[Record]) -> float:
    """Pixel AUROC of the image itself as the map: tumours are bright in FLAIR."""
    size = make_settings().image_size
    metrics = PixelMetrics((0.0, 1.0), 0.5)
    masked = [record for record in test if record.mask]
    for record, pixels in stream(masked, size):
        if isinstance(pixels, Exception):
            raise pixels
        metrics.update(pixels[0], preprocess_mask(record.mask or "", size), record.patient)
    result = metrics.result()
    return float(result["auroc"]["value"]) if result else float("nan")


def table(results: dict[str, Any]) -> str:
    """The results as Markdown: mean and spread over seeds."""
    lines = [f"Machine: {results['machine']}. Mean ± standard deviation over seeds; test splits.", ""]
    for name, found in results["sets"].items():
        runs = found["default"]
        lines += [
            f"## {name}",
            "",
            "| method | AUROC | oracle F1 | pixel AUROC (flow / residual map) |",
            "|---|---|---|---|",
        ]
        pixel = "-"
        if runs[0]["pixel"]:
            pixel = " / ".join(
                spread([r["pixel"][kind]["auroc"]["value"] for r in runs]) for kind in ("flow", "residual")
            )
        oracle = spread([r["oracle"]["f1"]["value"] for r in runs])
        lines.append(f"| **aeflow default** | {spread([r['auroc']['value'] for r in runs])} | {oracle} | {pixel} |")
        for control, values in found["controls"].items():
            cells = [values.get("auroc"), values.get("oracle_f1", values.get("f1")), values.get("pixel_auroc")]
            lines.append(f"| {control} | " + " | ".join("-" if v is None else f"{v:.3f}" for v in cells) + " |")
        at = {key: spread([r[key]["value"] for r in runs]) for key in ("f1", "accuracy", "sensitivity", "specificity")}
        lines += [
            "",
            "At the threshold from held-out train normals: " + ", ".join(f"{k} {v}" for k, v in at.items()) + ".",
        ]
        cold = [f"{r['train_seconds']:.0f} s" for r in runs if not r["features_cached"]]
        warm = [f"{r['train_seconds']:.0f} s" for r in runs if r["features_cached"]]
        lines += ["", f"Training: {', '.join(cold)} with features; {', '.join(warm)} with cached features.", ""]
    return "\n".join(lines)


def with_table(readme: str, results: dict[str, Any]) -> str:
    """A README with its table made from the results."""
    head, rest = readme.split("<!-- quality: written by benchmarks/quality.py -->\n")
    _, tail = rest.split("<!-- /quality -->")
    return f"{head}<!-- quality: written by benchmarks/quality.py -->\n{short_table(results)}<!-- /quality -->{tail}"


def short_table(results: dict[str, Any]) -> str:
    """The table of the README: AUROC on each test split, beside its controls."""
    chest, brain = (results["sets"][name] for name in SETS)
    of = {name: {"chest": v} for name, v in chest["controls"].items() if "auroc" in v}
    for name, values in brain["controls"].items():
        of.setdefault(name, {})["brain"] = values

    def cell(values: dict[str, float] | None, key: str) -> str:
        return f"{values[key]:.3f}" if values and key in values else "-"

    runs = {"chest": chest["default"], "brain": brain["default"]}
    images = [spread([r["auroc"]["value"] for r in runs[name]]) for name in ("chest", "brain")]
    pixel = spread([r["pixel"]["flow"]["auroc"]["value"] for r in runs["brain"]])
    lines = [
        "| AUROC on the test split, normals only | chest X-ray, image | brain MRI, image | brain MRI, pixel |",
        "|---|---|---|---|",
        f"| **aeflow, preset default** | **{images[0]}** | **{images[1]}** | **{pixel}** |",
    ]
    for name, values in of.items():
        row = [cell(values.get("chest"), "auroc"), cell(values.get("brain"), "auroc")]
        if set(row) != {"-"} or "pixel_auroc" in values.get("brain", {}):
            lines.append(f"| {name} | {' | '.join(row)} | {cell(values.get('brain'), 'pixel_auroc')} |")
    keys = ("f1", "accuracy", "sensitivity", "specificity")
    at = ", ".join(f"{key} {spread([r[key]['value'] for r in runs['chest']])}" for key in keys).replace("f1", "F1")
    everything = chest["controls"]["all abnormal"]["f1"]
    best = spread([r["oracle"]["f1"]["value"] for r in runs["chest"]])
    seeds = ", ".join(str(r["seed"]) for r in runs["chest"])
    lines += [
        "",
        "Chest: `chest_xray_224` (234 normal, 390 abnormal); brain: `lgg_mri_central` (184, 358). Mean ± standard",
        f"deviation over seeds {seeds}. {results['machine']}.",
        f"Chest at the threshold from held-out train normals: {at};",
        f"F1 {everything:.3f} for calling everything abnormal, oracle F1 {best}.",
        "",
    ]
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.3f}"


def machine() -> str:
    """What the timings were taken on."""
    return f"{os.cpu_count()} cores {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"


if __name__ == "__main__":
    main()
