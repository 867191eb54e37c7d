"""Contract of all metrics, of images and of pixels: an interval around each value, and no number without a basis."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from aeflow.metrics.image import AT_THRESHOLD, image_metrics
from aeflow.metrics.pixel import PixelMetrics

N = 40  # images of each class
LABELS = np.repeat([0, 1], N)
PATIENTS = np.array([f"p{i}" for i in range(2 * N)])
IMAGE = ("auroc", "average_precision", *AT_THRESHOLD)
PIXEL = ("auroc", "aupro", "dice")
NEEDS = {"accuracy": (), "sensitivity": (1,), "specificity": (0,)}  # the classes without which it is null; else both

Measure = Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, Any] | None]


def of_images(scores: np.ndarray, labels: np.ndarray, patients: np.ndarray) -> dict[str, Any]:
    """Return the metrics of images that are called abnormal above 0.5."""
    return image_metrics(scores, labels, patients.tolist(), SimpleNamespace(value=0.5, rule="", source=""))


def of_pixels(scores: np.ndarray, labels: np.ndarray, patients: np.ndarray) -> dict[str, Any] | None:
    """Return the metrics of maps, one an image, in which a square has the image's score and mask, all else the other.

    What is no lesion scores 0 in a map of a good ranking, so that a lesion of a score above 0.5 is found.
    """
    metrics = PixelMetrics((0.0, 1.0), threshold=0.5)
    for value, label, patient in zip(scores, labels, patients, strict=True):
        score_map, mask = np.full((12, 12), 1.0 - value if label else value), np.zeros((12, 12), bool)
        if label:
            score_map[4:8, 4:8], mask[4:8, 4:8] = value, True
        metrics.update(score_map, mask, patient)
    return metrics.result()


METRICS: dict[str, tuple[Measure, str]] = {
    **{f"image {name}": (of_images, name) for name in IMAGE},
    **{f"pixel {name}": (of_pixels, name) for name in PIXEL},
}
every_metric = pytest.mark.parametrize(("measure", "name"), METRICS.values(), ids=METRICS)


def noisy(seed: int = 0) -> np.ndarray:
    """Return scores of which most, not all, lie on their class's side of 0.5."""
    return 0.5 + 0.3 * (LABELS - 0.5) + 0.2 * np.random.default_rng(seed).standard_normal(2 * N)


def test_every_metric_is_here() -> None:
    assert {name for name, value in of_images(noisy(), LABELS, PATIENTS).items() if is_metric(value)} == set(IMAGE)
    assert {name for name, value in of_pixels(noisy(), LABELS, PATIENTS).items() if is_metric(value)} == set(PIXEL)


def is_metric(value: object) -> bool:
    return isinstance(value, dict) and "interval" in value


@every_metric
@pytest.mark.parametrize("images", [1, 2, 5])
def test_the_interval_lies_around_the_value(measure: Measure, name: str, images: int) -> None:
    """However many images a patient has."""
    patients = np.array([f"p{i // images}" for i in range(2 * N)])
    found = measure(noisy(), LABELS, patients)[name]
    assert 0 <= found["low"] < found["value"] < found["high"] <= 1
    assert found["interval"] in ("delong", "patient bootstrap", "wilson")
    json.dumps(found, allow_nan=False)


@every_metric
def test_more_images_give_a_narrower_interval(measure: Measure, name: str) -> None:
    scores, labels = np.tile(noisy(), 4), np.tile(LABELS, 4)
    patients = np.array([f"p{i}" for i in range(len(scores))])
    few, many = measure(noisy(), LABELS, PATIENTS)[name], measure(scores, labels, patients)[name]
    assert many["value"] == pytest.approx(few["value"], abs=1e-3)
    assert 0.35 < (many["high"] - many["low"]) / (few["high"] - few["low"]) < 0.65  # about a half


@every_metric
def test_the_order_of_images_does_not_matter(measure: Measure, name: str) -> None:
    order = np.random.default_rng(1).permutation(2 * N)
    patients = np.array([f"p{i // 2}" for i in range(2 * N)])
    first = measure(noisy(), LABELS, patients)[name]
    second = measure(noisy()[order], LABELS[order], patients[order])[name]
    assert first == pytest.approx(second)


@every_metric
def test_a_perfect_ranking_is_one_and_no_certainty(measure: Measure, name: str) -> None:
    for patients in (PATIENTS, np.array([f"p{i // 2}" for i in range(2 * N)])):
        found = measure(np.where(LABELS, 0.9, 0.1), LABELS, patients)[name]
        assert found["value"] == pytest.approx(1)
        assert found["high"] == pytest.approx(1)
        assert found["low"] < 0.97


@every_metric
def test_a_reversed_ranking_is_the_worst(measure: Measure, name: str) -> None:
    scores = np.where(LABELS, 0.1, 0.9)
    found = measure(scores, LABELS, PATIENTS)[name]
    worst = average_precision_score(LABELS, scores) if name == "average_precision" else 0
    assert found["value"] == pytest.approx(worst)
    assert found["low"] <= found["value"] <= found["high"]


@every_metric
@pytest.mark.parametrize("only", [0, 1])
def test_without_a_class_it_is_null_unless_it_needs_none_of_it(measure: Measure, name: str, only: int) -> None:
    chosen = only == LABELS
    whole = measure(noisy()[chosen], LABELS[chosen], PATIENTS[chosen])
    if measure is of_pixels:
        assert (whole is None) == (only == 0)  # an abnormal image has normal pixels, too
        return
    assert (whole[name] is None) == (1 - only in NEEDS.get(name, (0, 1)))
    assert f"No {('abnormal', 'normal')[only]} images" in " ".join(whole["notes"])


@every_metric
def test_a_single_patient_gives_no_interval_of_what_is_ranked(measure: Measure, name: str) -> None:
    found = measure(noisy(), LABELS, np.array(["p"] * (2 * N)))[name]
    assert 0 < found["value"] < 1
    if name not in ("accuracy", "sensitivity", "specificity"):
        assert (found["low"], found["high"], found["interval"]) == (None, None, None)
