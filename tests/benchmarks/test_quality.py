"""The quality benchmark: its statistics are DeLong's, its controls find what is far, its tables what was measured."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from aeflow.config import AEFLOW_1, PRESETS, make_settings
from aeflow.data.records import Record
from aeflow.features.cached_features import Features, Row, Shard
from aeflow.imageio.image import Acquisition
from aeflow.metrics.image import auroc, average_precision, confusion, oracle_threshold
from aeflow.metrics.intervals import delong, delong_paired
from aeflow.runtime.machine import resident_mb
from benchmarks.common import RESULTS, SETS
from benchmarks.processes import Process
from benchmarks.quality import __main__ as program
from benchmarks.quality import controls, methods, one_run, runs, statistics, table, trained_controls
from benchmarks.quality.store import Store, summarise
from helpers.data import texture


def scores(seed: int, n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Scores with ties, and labels."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 2
    return np.round(rng.normal(size=n) + label, 1), label


def truth(label: np.ndarray, patients: int | None = None) -> Any:
    n = len(label)
    return statistics.Truth(label.astype(np.int64), np.arange(n) % (patients or n))


# Statistics


@pytest.mark.parametrize("seed", range(5))
def test_of_one_seed_the_interval_is_delongs(seed):
    x, label = scores(seed)
    of = truth(label)
    found = statistics.mean_auroc(statistics.wins([x], of), of)
    assert [found[name] for name in ("value", "low", "high")] == pytest.approx(delong(x, label), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_of_one_seed_the_difference_is_the_paired_one(seed):
    (a, label), (b, _) = scores(seed), scores(seed + 100)
    of, wins = truth(label), statistics.wins
    found = statistics.difference(wins([a], of), wins([b], of), of)
    assert [found[name] for name in ("value", "low", "high", "p")] == pytest.approx(
        delong_paired(a, b, label), abs=1e-12
    )


def test_over_seeds_it_is_of_the_mean_auroc():
    several = [scores(seed)[0] for seed in range(3)]
    of = truth(scores(0)[1])
    found = statistics.mean_auroc(statistics.wins(several, of), of)
    assert found["value"] == pytest.approx(np.mean([auroc(x, of.label) for x in several]))
    alone = [statistics.mean_auroc(statistics.wins([x], of), of) for x in several]
    assert found["high"] - found["low"] < np.mean([one["high"] - one["low"] for one in alone])  # they differ
    same = statistics.mean_auroc(statistics.wins([several[0]] * 3, of), of)
    assert [same["low"], same["high"]] == pytest.approx([alone[0]["low"], alone[0]["high"]])  # nothing gained


def test_two_equal_sets_halve_the_variance_of_the_mean_difference():
    (a, label), (b, _) = scores(0), scores(1)
    of = truth(label)
    pair = statistics.wins([a], of), statistics.wins([b], of)
    one, two = statistics.difference(*pair, of), statistics.mean_difference([pair, pair])
    assert two["value"] == pytest.approx(one["value"])
    assert two["high"] - two["low"] == pytest.approx((one["high"] - one["low"]) / np.sqrt(2))


def test_a_patients_copies_say_nothing_new():
    x, label = scores(0)
    copies = statistics.Truth(np.repeat(label, 10), np.repeat(np.arange(len(label)), 10))
    found = statistics.mean_auroc(statistics.wins([np.repeat(x, 10)], copies), copies)
    low, high = found["patients"]
    _, plain_low, plain_high = delong(x, label)
    _, narrow_low, narrow_high = delong(np.repeat(x, 10), np.repeat(label, 10))
    assert high - low == pytest.approx(plain_high - plain_low, rel=0.15)
    assert high - low > 2 * (narrow_high - narrow_low)


# Controls


def features(seed: int, n: int, far: float = 0.0, shapes: tuple[tuple[int, int, int], ...] = ((6, 4, 4),)) -> Features:
    """Cached features of noise, moved by ``far``, and grey pixels (3, 64, 64)."""
    rng = np.random.default_rng(seed)
    flat = (rng.normal(size=(n, sum(int(np.prod(s)) for s in shapes))) + far).astype(np.float16)
    pixels = rng.integers(0, 255, (n, 3, 64, 64), dtype=np.uint8)
    names = [f"{seed} {i}" for i in range(n)]
    records = [Record(Path(name), name, "train", 0, name, None, None) for name in names]
    shard = Shard(flat, pixels, [Acquisition("PNG", 1, (64, 64))] * n)
    rows = [Row(shard, i) for i in range(n)]
    return Features(records, names, rows, list(shapes))


def fitted(control: Any, normals: Features, held: Features, **settings: Any) -> Any:
    of = make_settings(updates=settings.pop("updates", 1))
    return control(controls.Normals([normals], held, of), **settings)


def test_the_gaussian_is_mahalanobis_at_each_position():
    normals, image = features(0, 60), features(1, 1)
    judge = fitted(controls.gaussian, normals, normals, at=[0], shrinkage=0.1)
    found = judge(*image.batch([0]))[""]
    z, x = (one.batch(range(len(one)))[0][0].double().numpy()[:, :, 2, 1] for one in (normals, image))
    covariance = np.cov(z.T, bias=True)
    covariance = 0.9 * covariance + 0.1 * np.trace(covariance) / 6 * np.eye(6)
    away = x[0] - z.mean(0)
    assert float(found.maps[0, 2, 1]) == pytest.approx(away @ np.linalg.solve(covariance, away) / 6)
    assert float(found.scores[0]) == pytest.approx(float(found.maps.mean()))


@pytest.mark.parametrize(
    ("control", "settings"),
    [
        ("gaussian", {"at": [0], "shrinkage": 0.1}),
        ("nearest_vectors", {"at": [0], "neighbours": 5}),
        ("nearest_patches", {"at": [0], "bank": 200, "average": 3}),
        ("fastflow", {"at": [0], "steps": 2, "clamp": 2.0, "learning_rate": 1e-3, "weight_decay": 1e-5, "updates": 4}),
    ],
)
def test_a_control_scores_what_is_far_higher(control, settings):
    module = trained_controls if control == "fastflow" else controls
    judge = fitted(getattr(module, control), features(0, 40), features(1, 8), **settings)
    near, far = (judge(*one.batch(range(8)))[""].scores for one in (features(2, 8), features(3, 8, far=3.0)))
    assert float(near.max()) < float(far.min())


def test_unit_length_takes_the_strength_of_features_out():
    judge = fitted(controls.gaussian, features(0, 40), features(1, 8), at=[0], shrinkage=0.1, unit=True)
    [z], x = features(2, 8).batch(range(8))
    assert torch.allclose(judge([z], x)[""].scores, judge([3 * z], x)[""].scores)


def test_a_known_patch_is_at_no_distance():
    normals = features(0, 5)
    judge = fitted(controls.nearest_patches, normals, normals, at=[0], bank=5 * 16, average=3)
    assert float(judge(*normals.batch(range(5)))[""].scores.max()) < 1e-2
    assert float(judge(*features(1, 5).batch(range(5)))[""].scores.min()) > 0.1


def test_the_fastflow_is_that_of_the_paper():
    torch.manual_seed(0)
    subnets = [trained_controls.Subnet(3, 8, kernel).requires_grad_(False) for kernel in (3, 1)]
    assert [[subnet[i].kernel_size for i in (0, 2)] for subnet in subnets] == [[(3, 3)] * 2, [(1, 1)] * 2]
    assert all(float(subnet(torch.randn(2, 3, 4, 4)).abs().max()) == 0 for subnet in subnets)  # starts as identity


@pytest.mark.parametrize("rate", [0.01, 3.0])
def test_training_keeps_the_best_epoch(rate):
    normals = controls.Normals([features(0, 64)], features(1, 16), make_settings(updates=20))
    net, held = torch.nn.Linear(6, 1), []

    def loss(z: list[torch.Tensor], _: torch.Tensor) -> torch.Tensor:
        found = (net(z[0].mean(dim=(2, 3)))[:, 0] - 1).square()
        if not torch.is_grad_enabled():
            held.append(float(found.mean()))
        return found

    trained_controls.train(net, loss, normals, torch.optim.SGD(net.parameters(), rate), one_cycle=False)
    of_epochs = list(held)
    with torch.no_grad():
        kept = float(loss(*normals.held.batch(range(16))).mean())
    assert kept == min(of_epochs)
    assert (of_epochs[-1] == kept) == (rate < 1)  # a wild rate is worse at its end


# Runs


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A small data set, whose abnormal images are inverted."""
    for split, label, count in (("train", "normal", 24), ("test", "normal", 6), ("test", "abnormal", 6)):
        folder = tmp_path / "data" / "chest_xray_224" / split / label
        folder.mkdir(parents=True)
        for number in range(count):
            pixels = texture(1000 * len(split + label) + number)
            Image.fromarray(255 - pixels if label == "abnormal" else pixels).save(folder / f"{number}.png")
    return tmp_path / "data"


def test_a_control_runs_from_images_to_figures(data, tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "aeflow-1", {**AEFLOW_1, "updates": 1, "image_size": 64})
    where = ["--data", str(data / "chest_xray_224"), "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    for method in ("nearest patches", "plain autoencoder"):
        one_run.main(["--method", method, *where, "--features"])
        assert methods.BY_NAME[method].features in one_run.features_of_set(tmp_path / "work")
        one_run.main(["--method", method, *where])
        rows = json.loads((tmp_path / "out" / "rows.json").read_text())
        assert list(rows) == methods.BY_NAME[method].names
        saved = np.load(tmp_path / "out" / "scores.npz")
        for name, row in rows.items():
            assert row["auroc"]["value"] == pytest.approx(auroc(saved[name], [0] * 6 + [1] * 6))
            assert row["train_seconds"] > 0
            assert set(row) > {"f1", "sensitivity", "oracle", "average_precision", "score_seconds"}


def test_what_is_there_is_not_measured_again_and_a_failure_costs_one_row(data, tmp_path, monkeypatch, capsys):
    argv = ["--data", str(data), "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    argv += ["--sets", "chest_xray_224", "--only", "file size", "nearest vectors", "--seeds", "0"]
    asked = []

    def run_here(command: list[object], **variables: str) -> Process:
        """Run the command in this process: without the seconds that a start takes."""
        asked.append(command)
        python, *module = command[:3]
        assert (python, module) == (sys.executable, ["-m", one_run.__name__])
        try:
            one_run.main([str(part) for part in command[3:]])
        except KeyError as error:
            raise SystemExit(str(error)) from error
        return Process(0.0, resident_mb(os.getpid()), "")

    monkeypatch.setattr(runs, "run_process", run_here)
    monkeypatch.setattr(runs, "share_features", lambda *_: None)  # the features that nearest vectors needs
    with pytest.raises(SystemExit) as failed:
        program.main(argv)
    assert "nearest vectors, seed 0" in str(failed.value)
    assert "file size" not in str(failed.value)
    results = json.loads((tmp_path / "out" / "quality.json").read_text())["sets"]["chest_xray_224"]
    assert list(results) == ["file size"]
    assert results["file size"][0]["peak_mb"] > 50
    assert len(asked) == 2
    program.main([*argv[: argv.index("--only")], "--only", "file size"])
    assert len(asked) == 2
    assert "| file size |" in capsys.readouterr().out


def test_rows_of_other_settings_are_thrown_away(tmp_path):
    of = truth(np.array([0, 1, 0, 1]))
    kept = Store(tmp_path)
    for seed, digest in ((0, "old"), (1, "old"), (0, "new")):
        row = {"seed": seed, "digest": digest, "auroc": {"value": 1.0}}
        kept.add("chest_xray_224", "nearest patches", row, np.array([0.0, 1.0, seed, 2.0]), of)
        kept.save()
    again = Store(tmp_path)
    assert [row["digest"] for row in again.results["sets"]["chest_xray_224"]["nearest patches"]] == ["new"]
    assert list(again.scores) == [("chest_xray_224", "nearest patches", 0)]
    assert again.has("chest_xray_224", ["nearest patches"], 0, "new")
    assert not again.has("chest_xray_224", ["nearest patches"], 0, "old")
    assert not again.has("chest_xray_224", ["nearest patches"], 1, "new")


def test_settings_and_images_make_the_digest():
    records = [Record(Path(name), name, "test", 0, name, None, None) for name in ("a", "b")]
    digests = [method.digest(records) for method in methods.METHODS]
    trivial = sum(method.group == "trivial" for method in methods.METHODS)
    assert len(set(digests)) >= len(digests) - trivial - 1  # no two share it but those that have no settings
    assert methods.METHODS[0].digest(records[:1]) != digests[0]


# What was measured


@pytest.fixture(scope="module")
def measured() -> Store:
    """The results of the repository."""
    return Store(RESULTS)


def test_the_tables_are_those_of_the_results(measured):
    assert (RESULTS / "quality.md").read_text() == table.table(measured.results)


def test_the_figures_can_be_computed_again_from_the_scores(measured):
    results, kept = measured.results, measured
    checked = 0
    for (data, name, seed), x in kept.scores.items():
        [row] = [one for one in results["sets"][data][name] if one["seed"] == seed]
        label = kept.truths[data].label
        assert row["auroc"]["value"] == pytest.approx(auroc(x, label), abs=1e-9)
        assert row["average_precision"]["value"] == pytest.approx(average_precision(x, label), abs=1e-9)
        counts = confusion(x, label, oracle_threshold(x, label))
        right = counts["true_positive"] + counts["true_negative"]
        assert row["oracle"]["accuracy"]["value"] == pytest.approx(right / len(x), abs=1e-9)
        checked += 1
    assert checked >= 7
    with_digest = [
        (data, name, row["seed"])
        for data, found in results["sets"].items()
        for name, rows in found.items()
        for row in rows
        if "digest" in row and "auroc" in row
    ]
    assert set(with_digest) <= kept.scores.keys()


def flat(value, place=""):
    """Every number and word of nested results, by its place."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return {key: one for name, part in pairs for key, one in flat(part, f"{place}/{name}").items()}
    return {place: value}


def test_the_tests_can_be_computed_again_from_the_scores(measured):
    results, kept = measured.results, measured
    again = summarise(kept.scores, kept.truths)
    found, written = flat(json.loads(json.dumps(again))), flat({key: results[key] for key in again})
    assert found.keys() == written.keys()
    for place, value in found.items():  # another number of threads adds in another order
        assert value == (pytest.approx(written[place], abs=1e-9) if isinstance(value, float) else written[place]), place
    for data, found in results["differences"].items():
        name, of = found["best control"], kept.truths[data]
        seeds = [seed for (where, method, seed) in kept.scores if (where, method) == (data, name)]
        assert "aeflow-1" in found["of"]
        for ours in found["of"]:
            each = [
                delong_paired(kept.scores[data, ours, a], kept.scores[data, name, b], of.label)[0]
                for a in [seed for (where, method, seed) in kept.scores if (where, method) == (data, ours)]
                for b in seeds
            ]
            assert found["of"][ours][name]["value"] == pytest.approx(np.mean(each), abs=1e-9)


def test_no_name_is_kept():
    table = pq.read_table(RESULTS / "quality_scores.parquet")
    assert table.column_names == ["set", "method", "seed", "image", "patient", "label", "score"]
    assert set(table["set"].unique().to_pylist()) <= set(SETS)
    assert set(table["method"].unique().to_pylist()) <= methods.GROUPS.keys()
    assert not any("string" in str(kind) for kind in table.schema.types[2:])


def test_seconds_of_a_gpu_are_left_out_and_said() -> None:
    row = {
        "seed": 0,
        "auroc": {"value": 0.9},
        "pixel": None,
        "train_seconds": 900.0,
        "score_seconds": 8.0,
        "peak_mb": 70,
    }
    rows = [row, {**row, "seed": 1, "train_seconds": 20.0, "gpu": "NVIDIA H200"}]
    results = {"machine": "here", "features": {}, "sets": {"chest_xray_224": {"paper, embedded encoder": rows}}}
    page = table.table(results)
    assert "| 900 | 8 | 70 | 2 |" in page
    assert "left out: paper, embedded encoder (NVIDIA H200)." in page
    assert "on a GPU" not in table.table({**results, "sets": {"chest_xray_224": {"default": [row]}}})
