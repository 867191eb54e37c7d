"""Candidates for the anomaly map: pixel AUROC on train-side images, beside the test split's.

    python -m benchmarks.studies.anomaly_map --data FOLDER --runs RUNS [--seeds 0 1 2] [--out benchmarks/results]

FOLDER holds `chest_xray_224` and `lgg_mri_central` in aeflow's layout, RUNS runs of the preset aeflow-1 for each, as
`SET/aeflow-1 SEED`. A candidate is `(1 - share) * flow map + share * other map`, each in standard deviations of
held-out normals, with some of the log-determinant in the flow map. The other map is the residual map, or `brightness`:
the distance of a cell's mean grey value from that of the mean normal image. Decided on: held-out train normals with a
synthetic anomaly each (both sets), and train-side tumours of patients who are not in the test split. Those of the test
split are reported beside them and decide nothing. Every fourth pixel in either direction counts. Writes maps.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

import aeflow
from aeflow._types import Floats32
from aeflow.data.loader import mask_of
from aeflow.data.records import Record, of_label, read_records
from aeflow.data.splits import evenly, hold_out, leave_out_patients
from aeflow.data.synthetic_anomalies import with_mask
from aeflow.model.aeflow import AEFlow
from aeflow.model.maps import residual_map
from aeflow.runtime.process import prepare
from benchmarks.common import SETS, machine_line, write_results
from benchmarks.inputs import pixels_of
from benchmarks.options import Parser

LOG_DET_WEIGHTS = (0.0, 0.5, 1.0)
OTHERS = ("residual", "brightness")
SHARES = (0.05, 0.1, 0.2, 0.3)  # of the other map
IMAGES, BATCH, EVERY = 200, 16, 4
Maps = dict[float | str, Floats32]
Stages = dict[float | str, list[torch.Tensor]]  # maps (B, h, w) of each stage, by candidate
Drawn = tuple[Floats32, NDArray[np.bool_]]  # an image (3, H, W), and its abnormal pixels (H, W)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every candidate, and write the results."""
    parser = Parser("studies.anomaly_map", __doc__)
    parser.share("--data", required=True)
    parser.share("--runs", required=True, help="folder of trained models")
    parser.share("--seeds", default=[0, 1, 2])
    parser.share("--out")
    options = parser.parse_args(arguments)
    prepare()
    results: dict[str, Any] = {"machine": machine_line(), "seeds": options.seeds, "sets": {}}
    for name in SETS:
        runs = [options.runs / name / f"aeflow-1 {seed}" for seed in options.seeds]
        of_seeds = [of_set(options.data / name, run) for run in runs]
        results["sets"][name] = {
            group: {row: float(np.mean([one[group][row] for one in of_seeds])) for row in candidates()}
            for group in of_seeds[0]
        }
        print(name, json.dumps(results["sets"][name], indent=1), flush=True)
    results["decided_on"] = {row: decided(results["sets"], row) for row in results["sets"][SETS[0]]["synthetic"]}
    results["best"] = max(results["decided_on"], key=results["decided_on"].get)
    print("best on train-side images:", results["best"])
    write_results(options.out / "maps.json", results)


def decided(sets: dict[str, Any], row: str) -> float:
    """Return a candidate's mean over the groups that decide."""
    return float(np.mean([of_set[name][row] for of_set in sets.values() for name in of_set if name != "test"]))


def of_set(data: Path, run: Path) -> dict[str, dict[str, float]]:
    """Return the pixel AUROC of each candidate, by group."""
    model = aeflow.load(run, backend="torch")
    net, settings = model.artifact.net, model.artifact.settings
    train, test = read_records(data, "train"), read_records(data, "test")
    _, held = hold_out(of_label(train, 0), settings.held_out, settings.seed)
    held = evenly(held, IMAGES)
    patients = {record.patient for record in test}
    groups: dict[str, Iterator[Drawn]] = {"synthetic": changed(held, settings.image_size)}
    for name, records in (("train abnormal", leave_out_patients(of_label(train, 1), patients)), ("test", test)):
        if marked := [record for record in records if record.mask]:
            groups[name] = masked(marked if name == "test" else evenly(marked, IMAGES), settings.image_size)
    plain = parts(net, ((x, np.zeros(x.shape[1:], bool)) for x in pixels_of(held, settings.image_size)))[0]
    found = {}
    for name, drawn in groups.items():
        maps, masks = parts(net, drawn)
        found[name] = {row: pixel_auroc(maps, masks, plain, row) for row in candidates()}
    return found


def changed(held: Sequence[Record], size: int) -> Iterator[Drawn]:
    """Yield normals with a synthetic anomaly each, and none for those of air alone."""
    for number, x in enumerate(pixels_of(held, size)):
        image, mask = with_mask(x, str(number))
        if mask.any():
            yield image, mask


def masked(records: Sequence[Record], size: int) -> Iterator[Drawn]:
    """Yield images with the pixels that a reader marked."""
    for record, x in zip(records, pixels_of(records, size), strict=True):
        mask = mask_of(record, size)
        if mask is not None and mask.any():
            yield x, mask


def candidates() -> dict[str, tuple[float, str, float]]:
    """Return the weight of the log-determinant, the other map and its share, by the name of the row."""
    alone = {f"log-det {w:g}": (w, "residual", 0.0) for w in LOG_DET_WEIGHTS}
    mixed = {
        f"log-det {w:g}, {other} {share:g}": (w, other, share)
        for w in LOG_DET_WEIGHTS
        for other in OTHERS
        for share in SHARES
    }
    return {**alone, **mixed, **{other: (1.0, other, 1.0) for other in OTHERS}}


@torch.no_grad()
def parts(net: AEFlow, drawn: Iterator[Drawn]) -> tuple[Maps, NDArray[np.bool_]]:
    """Return flow maps by weight of the log-determinant, the other maps (n, h, w), and masks, at some of the pixels."""
    images, masks = zip(*drawn, strict=True)
    found: dict[float | str, list[Floats32]] = {}
    for start in range(0, len(images), BATCH):
        x = torch.from_numpy(np.stack(images[start : start + BATCH]))
        encoded = net.seen(x)
        latent = net.encode(encoded)
        assert latent is not None, "the preset has a flow"
        measures = net.measure(encoded, latent, net.decode(net.code(encoded, latent)))
        flows: Stages = {weight: latent.negative_log_likelihood(net.prior, weight) for weight in LOG_DET_WEIGHTS}
        others: Stages = {"residual": [residual_map(net, measures)], "brightness": [measures.maps["reconstruction"]]}
        for name, stages in (flows | others).items():
            of_size = [F.interpolate(m[:, None], x.shape[-2:], mode="bilinear")[:, 0] for m in stages]
            found.setdefault(name, []).append(thinned(torch.stack(of_size).mean(dim=0)))
    return {name: np.concatenate(of_name) for name, of_name in found.items()}, np.stack(masks)[:, ::EVERY, ::EVERY]


def thinned(maps: torch.Tensor) -> Floats32:
    """Return every fourth pixel, in either direction, of maps (B, H, W)."""
    return maps[:, ::EVERY, ::EVERY].numpy()


def pixel_auroc(maps: Maps, masks: NDArray[np.bool_], plain: Maps, row: str) -> float:
    """Return the pixel AUROC of a candidate over all images that have something abnormal."""
    weight, other, share = candidates()[row]
    flow, more = ((maps[name] - plain[name].mean()) / plain[name].std() for name in (weight, other))
    return float(roc_auc_score(masks.ravel(), ((1 - share) * flow + share * more).ravel()))


if __name__ == "__main__":
    main()
