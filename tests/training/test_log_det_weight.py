"""The choice of the log-determinant's weight: the best on synthetic anomalies, and nothing else is looked at."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from aeflow.config import make_settings
from aeflow.data.records import read_records
from aeflow.data.splits import hold_out
from aeflow.features.cache import FeatureCache
from aeflow.model.encoder_weights import pretrained
from aeflow.training import log_det_weight as reading
from aeflow.training import train as training
from aeflow.training.train import Trained
from helpers.data import small_settings


def scores(*areas: float) -> list[dict[str, np.ndarray]]:
    """Scores of ten normals and ten anomalies, of which a share lies above all normals and the rest below."""
    clean = np.linspace(0, 1, 10)
    return [{"clean": clean, "synthetic": np.where(np.arange(10) < round(10 * one), 2.0, -1.0)} for one in areas]


def test_a_weight_that_is_named_stays() -> None:
    settings = make_settings(log_det_weight=0.3)
    assert reading.candidates(settings) == [settings]
    assert reading.choose([settings], [{}]) == 0


def test_the_weight_that_ranks_synthetic_anomalies_best_is_chosen() -> None:
    tried = reading.candidates(make_settings())
    assert [one.log_det_weight for one in tried] == list(reading.WEIGHTS)
    assert reading.choose(tried, scores(0.1, 0.2, 0.9, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)) == 2


def test_of_equal_weights_the_one_nearest_to_a_half_is_chosen() -> None:
    tried = reading.candidates(make_settings())
    assert tried[reading.choose(tried, scores(*[0.5] * 9))].log_det_weight == 0.5
    assert tried[reading.choose(tried, scores(0.7, 0.7, *[0.5] * 7))].log_det_weight == 0.125


def test_each_anomaly_is_another_and_there_are_enough_of_them(data: Path) -> None:
    settings = small_settings()
    encoder = pretrained(settings.encoder, settings.stages)
    _, held = hold_out([r for r in read_records(data, "train") if r.label == 0], settings.held_out, settings.seed)
    cache = FeatureCache(encoder, settings.image_size)
    normals, refused = cache.features(held)
    assert not refused
    anomalous = reading.anomalies(cache, normals)
    assert len(anomalous) == 5 * len(normals)  # eight normals: as many as there may be of each
    assert len({torch.flatten(anomalous.batch([i])[1]).numpy().tobytes() for i in range(len(anomalous))}) == len(
        anomalous
    )
    assert [reading.views_of(n) for n in (1, 20, 21, 50, 99, 100, 300)] == [5, 5, 5, 2, 2, 1, 1]


def test_training_keeps_the_best_weight_and_says_how_good_each_was(trained: Trained) -> None:
    artifact = trained.artifact
    areas = artifact.metadata["log_det_weights"]
    assert [float(weight) for weight in areas] == list(reading.WEIGHTS)
    assert len({round(area, 6) for area in areas.values()}) > 1
    assert areas[f"{artifact.settings.log_det_weight:g}"] == max(areas.values())
    assert artifact.net.settings == artifact.settings
    assert small_settings().completed_as(artifact.settings)
    assert not small_settings(seed=1).completed_as(artifact.settings)
    assert not artifact.settings.completed_as(small_settings())


def test_no_abnormal_image_and_no_test_split_has_a_say(data: Path, trained: Trained, tmp_path: Path) -> None:
    folder = tmp_path / "normals"
    shutil.copytree(data, folder)
    rows = (folder / "manifest.csv").read_text().splitlines()
    kept = [row for row in rows if "train/abnormal" not in row and "test/" not in row]
    (folder / "manifest.csv").write_text("\n".join(kept))
    for path in (*(folder / "train").glob("abnormal/*"), *(folder / "test").rglob("*.png")):
        path.unlink()
    alone = training.train(folder, tmp_path / "run", small_settings(), device="cpu").artifact
    assert alone.settings == trained.artifact.settings
    assert alone.metadata["log_det_weights"] == pytest.approx(trained.artifact.metadata["log_det_weights"])


def test_a_named_weight_is_not_chosen_again(data: Path, tmp_path: Path) -> None:
    settings = small_settings(epochs=1, log_det_weight=0.3)
    artifact = training.train(data, tmp_path / "run", settings, device="cpu").artifact
    assert artifact.settings.log_det_weight == 0.3
    assert settings.completed_as(artifact.settings)
    assert artifact.metadata["log_det_weights"] == {}
    assert json.loads((tmp_path / "run" / "model.json").read_text())["settings"]["log_det_weight"] == 0.3
