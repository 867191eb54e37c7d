"""Share of images outside a model's intended input: its own kind, another kind, damaged images, and photos.

    python -m benchmarks.studies.input_guard --data FOLDER [--runs RUNS]

FOLDER holds `chest_xray_224` and `lgg_mri_central` in aeflow's layout. A model of each, trained on its train normals,
is asked about its own images, the other's, changed copies of its own test normals, and the sample photos of
scikit-learn and scikit-image. RUNS holds trained models, one folder a set; what is missing there is trained into it.
Nothing was chosen on a test split. Writes benchmarks/results/intended.json and .md.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import skimage.data
import sklearn.datasets
import torch
from scipy.ndimage import gaussian_filter

import aeflow
from aeflow._types import Floats, Floats32
from aeflow.artifacts.run import Artifact
from aeflow.data.augment import recapture
from aeflow.data.records import Record, of_label, read_records
from aeflow.data.splits import evenly, hold_out
from aeflow.model.input_statistics import measure_input_statistics
from aeflow.model.pooling import pool
from aeflow.runtime.process import prepare
from benchmarks.common import SETS, machine_line, write_results
from benchmarks.inputs import pixels_of
from benchmarks.options import Parser

MAX_IMAGES = 620  # of each part of a set, evenly chosen
COPIES = 60  # test normals that are changed
BATCH = 16
PHOTOS = ("astronaut", "camera", "chelsea", "clock", "coffee", "coins", "horse", "page", "rocket", "text")
KEYS = ("test normal", "test abnormal")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the results."""
    parser = Parser("studies.input_guard", __doc__)
    parser.share("--data", required=True)
    parser.share("--runs", help="trained models, one folder a set; a temporary folder by default")
    parser.share("--out", "--seed")
    options = parser.parse_args(arguments)
    prepare()
    with tempfile.TemporaryDirectory() as scratch:
        results = measure(options.data, options.runs or Path(scratch), options.seed)
    write_results(options.out / "intended.json", results)
    (options.out / "intended.md").write_text(table(results))
    print(table(results))


def measure(folder: Path, runs: Path, seed: int) -> dict[str, Any]:
    """Return everything that is kept in intended.json."""
    results: dict[str, Any] = {"machine": machine_line(), "seed": seed, "models": {}}
    models = {name: model(folder / name, runs / name, seed) for name in SETS}
    first = models[SETS[0]]
    if len({artifact.net.encoder.fingerprint() for artifact in models.values()}) != 1:
        raise SystemExit("the two models have not the same encoder")
    size, statistics = first.settings.image_size, {}  # the same for both models
    for name in SETS:
        for part, records in parts(folder / name, first).items():
            statistics[name, part] = statistics_of(first, pixels_of(records, size))
        for change, images in copies(folder / name, size).items():
            statistics[name, f"test normal, {change}"] = statistics_of(first, images)
    photographs, static = statistics_of(first, photos(size)), statistics_of(first, noise(size))
    for own, artifact in models.items():
        asked = {f"its own, {part}": rows for (name, part), rows in statistics.items() if name == own}
        asked |= {
            f"the other set, {part}": rows
            for (name, part), rows in statistics.items()
            if name != own and part in ("train normal", "train abnormal", *KEYS)
        }
        asked |= {"photos, in colour and in grey": photographs, "noise": static}
        del asked["its own, train normal"]  # the model was trained on most of them
        found = {group: count(artifact, rows) for group, rows in asked.items()}
        results["models"][own] = {"groups": found, "cost": cost(artifact, folder / own)}
    return results


def model(data: Path, run: Path, seed: int) -> Artifact:
    """Return the model of a run folder, which is trained if it is not there."""
    trained = aeflow.load(run) if run.exists() else aeflow.train(data, run, seed=seed)
    if not aeflow.config.make_settings(seed=seed).completed_as(trained.artifact.settings):
        raise SystemExit(f"{run}: not the default preset with seed {seed}")
    return trained.artifact


def parts(data: Path, artifact: Artifact) -> dict[str, list[Record]]:
    """Return the images of a set by part; train normals that its model was not trained on are a part of their own."""
    train, test = read_records(data, "train"), read_records(data, "test")
    normals = of_label(train, 0)
    _, held = hold_out(normals, artifact.settings.held_out, artifact.settings.seed)
    found = {"train normal": normals, "held-out train normal": held, "train abnormal": of_label(train, 1)}
    found |= {"test normal": of_label(test, 0), "test abnormal": of_label(test, 1)}
    return {name: evenly(records, MAX_IMAGES) for name, records in found.items()}


def copies(data: Path, size: int) -> dict[str, Iterator[Floats32]]:
    """Return changed copies of test normals, each group read again so that none is held in memory."""
    records = evenly(of_label(read_records(data, "test"), 0), COPIES)

    def changed(change: Callable[[Floats32, np.random.Generator], Floats32]) -> Iterator[Floats32]:
        for number, x in enumerate(pixels_of(records, size)):
            yield np.ascontiguousarray(change(x, np.random.default_rng(number)), dtype=np.float32)

    return {name: changed(change) for name, change in CHANGES.items()}


def crop(x: Floats32, share: float, rng: np.random.Generator) -> Floats32:
    """Return a random square of ``share`` of the side, enlarged."""
    side = share * x.shape[1]
    left, top = rng.uniform(0, x.shape[1] - side, 2)
    box = (left, top, left + side, top + side)
    return np.stack([np.asarray(PIL.Image.fromarray(channel).resize(channel.shape, box=box)) for channel in x])


def holes(x: Floats32, rng: np.random.Generator) -> Floats32:
    """Black out four in ten of 14 x 14 blocks."""
    lost = rng.random((14, 14)) < 0.4
    block = -(-x.shape[1] // 14)
    return np.where(np.kron(lost, np.ones((block, block)))[: x.shape[1], : x.shape[2]] > 0, 0, x)


CHANGES: dict[str, Callable[[Floats32, np.random.Generator], Floats32]] = {
    "recaptured": lambda x, rng: recapture(x, str(rng.integers(2**32))),
    "mirrored": lambda x, rng: x[:, :, ::-1],
    "inverted": lambda x, rng: 1 - x,
    "upside down": lambda x, rng: x[:, ::-1],
    "turned by 90 degrees": lambda x, rng: np.rot90(x, 1, (1, 2)),
    "cropped to 70 % of the side": lambda x, rng: crop(x, 0.7, rng),
    "cropped to 50 %": lambda x, rng: crop(x, 0.5, rng),
    "cropped to 35 %": lambda x, rng: crop(x, 0.35, rng),
    "lower half lost": lambda x, rng: np.where(np.arange(x.shape[1])[:, None] < x.shape[1] // 2, x, 0.5),
    "four in ten blocks lost": holes,
    "noise added": lambda x, rng: np.clip(x + rng.normal(0, 0.3, x.shape[1:]), 0, 1),
    "blurred": lambda x, rng: gaussian_filter(x, (0, 8, 8)),
    "nearly black": lambda x, rng: 0.05 * x,
    "overexposed": lambda x, rng: np.clip(2.5 * x, 0, 1),
    "contrast of a tenth": lambda x, rng: 0.5 + 0.1 * (x - 0.5),
    "tinted": lambda x, rng: x * np.array([1, 0.7, 0.5])[:, None, None],
}


def photos(size: int) -> Iterator[Floats32]:
    """Yield sample photos, in colour and in grey."""
    arrays = [sklearn.datasets.load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    for array in chain(arrays, (getattr(skimage.data, name)() for name in PHOTOS)):
        image = PIL.Image.fromarray(np.uint8(255 * array) if array.dtype == bool else array).resize((size, size))
        for mode in ("RGB", "L"):
            yield np.asarray(image.convert(mode).convert("RGB"), np.float32).transpose(2, 0, 1) / np.float32(255)


def noise(size: int) -> list[Floats32]:
    """Return images of uniform and of Gaussian noise."""
    rng = np.random.default_rng(0)
    uniform = [rng.random((1, size, size)) for _ in range(8)]
    gaussian = [rng.normal(0.5, 0.1, (1, size, size)).clip(0, 1) for _ in range(8)]
    return [np.repeat(x, 3, axis=0).astype(np.float32) for x in uniform + gaussian]


@torch.no_grad()
def statistics_of(artifact: Artifact, images: Iterable[Floats32]) -> Floats:
    """Return the input statistics of images, (n, T)."""
    images, rows = iter(images), []
    while batch := list(islice(images, BATCH)):
        x = torch.from_numpy(np.stack(batch))
        seen = artifact.net.seen(x)
        pooled = pool(artifact.net.flow_features(seen))
        rows.append(measure_input_statistics(seen.x, pooled).double().numpy())
    return np.concatenate(rows)


def count(artifact: Artifact, statistics: Floats) -> dict[str, Any]:
    """Count the images, those outside, and the reasons."""
    found = [artifact.input_guard.outside(row) for row in statistics]
    reasons = Counter(reason for one in found for reason in one)
    return {"n": len(found), "outside": sum(map(bool, found)), "reasons": dict(reasons.most_common())}


@torch.no_grad()
def cost(artifact: Artifact, data: Path) -> dict[str, float]:
    """Return milliseconds an image of the encoder, of the whole network, and of the input guard."""
    records = read_records(data, "train")[:BATCH]
    net, x = artifact.net, torch.from_numpy(np.stack(list(pixels_of(records, artifact.settings.image_size))))
    features = net.flow_features(net.seen(x))

    def added() -> None:
        for row in measure_input_statistics(x, pool(features)).double().numpy():
            artifact.input_guard.outside(row)

    steps = {"encoder": lambda: net.encoder(x), "network": lambda: net(x), "added": added}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(15):  # in turn, so that a busy machine slows all alike
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            times[name].append(1000 * (time.perf_counter() - started) / BATCH)
    return {name: float(np.median(values)) for name, values in times.items()}


def table(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = [f"Machine: {results['machine']}. Seed {results['seed']}.", ""]
    for name, found in results["models"].items():
        lines += [f"## A model of {name}", "", "| images | n | outside | why |", "|---|---|---|---|"]
        for group, values in found["groups"].items():
            share = f"{100 * values['outside'] / values['n']:.1f} %"
            why = ", ".join(f"{reason} {number}" for reason, number in values["reasons"].items())
            lines.append(f"| {group} | {values['n']} | {share} | {why} |")
        own = [found["groups"][f"its own, {key}"] for key in KEYS]
        other = [values for group, values in found["groups"].items() if group.startswith("the other set")]
        added, encoder, network = (found["cost"][key] for key in ("added", "encoder", "network"))
        lines += [
            "",
            f"Own test images outside: {rate(own)}. Images of the other set outside: {rate(other)}.",
            f"Cost: {added:.2f} ms an image; {added / encoder:.1%} of the encoder, {added / network:.1%} of all.",
            "",
        ]
    return "\n".join(lines)


def rate(groups: list[dict[str, Any]]) -> str:
    """Return the share outside of several groups together."""
    outside, n = (sum(group[key] for group in groups) for key in ("outside", "n"))
    return f"{outside} of {n} ({outside / n:.1%})"


if __name__ == "__main__":
    main()
