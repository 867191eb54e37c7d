"""Laws: parity with scikit-learn and scipy, intervals that cover, metrics that never invent a number."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm
from sklearn import metrics as oracle

from aeflow.errors import DataError
from aeflow.metrics import image as metrics
from aeflow.metrics.intervals import delong, delong_paired, grouped_bootstrap, grouped_wilson, wilson


@dataclass(frozen=True)
class Threshold:
    value: float
    rule: str = "95th percentile"
    source: str = "held-out train normals"


def binormal(n_normal: int, n_abnormal: int, distance: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [n_normal, n_abnormal])
    return generator.normal(size=len(labels)) + distance * labels, labels


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores, often tied, with both classes."""
    n = draw(st.integers(2, 40))
    values = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e12, 1e12))
    scores = draw(st.lists(values, min_size=n, max_size=n))
    labels = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    assume(0 < sum(labels) < n)
    return np.array(scores), np.array(labels)


# Parity with scikit-learn


@given(scored())
def test_areas_equal_scikit_learn(data: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = data
    assert metrics.auroc(scores, labels) == pytest.approx(oracle.roc_auc_score(labels, scores), abs=1e-12)
    expected = oracle.average_precision_score(labels, scores)
    assert metrics.average_precision(scores, labels) == pytest.approx(expected, abs=1e-12)


@given(scored())
def test_curves_equal_scikit_learn(data: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = data
    expected = oracle.roc_curve(labels, scores, drop_intermediate=False)
    for ours, theirs in zip(metrics.roc_curve(scores, labels), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    precision, recall, thresholds = oracle.precision_recall_curve(labels, scores)
    ours = metrics.precision_recall_curve(scores, labels)
    for mine, theirs in zip(ours, (precision[:-1], recall[:-1], thresholds), strict=True):
        np.testing.assert_allclose(mine, theirs[::-1], atol=1e-12)


@given(scored(), st.floats(-4, 4))
def test_rates_at_a_threshold_equal_scikit_learn(data: tuple[np.ndarray, np.ndarray], threshold: float) -> None:
    scores, labels = data
    called = scores > threshold
    counts = metrics.confusion(scores, labels, threshold)
    expected = oracle.confusion_matrix(labels, called, labels=[0, 1]).ravel().tolist()
    assert [counts[f"{k}"] for k in ("true_negative", "false_positive", "false_negative", "true_positive")] == expected
    found = metrics.image_metrics(scores, labels, [str(i) for i in range(len(scores))], Threshold(threshold))
    assert found["f1"]["value"] == pytest.approx(oracle.f1_score(labels, called, zero_division=0.0))
    assert found["accuracy"]["value"] == pytest.approx(oracle.accuracy_score(labels, called))
    assert found["sensitivity"]["value"] == pytest.approx(oracle.recall_score(labels, called))
    assert found["specificity"]["value"] == pytest.approx(oracle.recall_score(labels, called, pos_label=0))


@given(scored())
def test_no_threshold_beats_the_oracle(data: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = data
    called = scores > np.unique([*scores, np.nextafter(scores.min(), -np.inf)])[:, None]
    best = max(2 * (called @ labels) / (called.sum(1) + labels.sum()))  # F1 = 2 true positives / (called + abnormal)
    found = oracle.f1_score(labels, scores > metrics.oracle_threshold(scores, labels))
    assert found == pytest.approx(best)


def test_a_score_at_the_threshold_is_normal() -> None:
    assert metrics.confusion([1.0, 1.0], [0, 1], 1.0)["true_negative"] == 1
    assert metrics.confusion([1.0, 1.0], [0, 1], 1.0)["false_negative"] == 1


# Intervals


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_equals_scipy(counts: tuple[int, int]) -> None:
    expected = binomtest(*counts).proportion_ci(method="wilson")
    assert wilson(*counts) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(st.lists(st.booleans(), min_size=1, max_size=50))
def test_one_image_a_patient_gives_plain_wilson(right: list[bool]) -> None:
    assert grouped_wilson(right, [str(i) for i in range(len(right))]) == wilson(sum(right), len(right))


def test_images_copied_within_patients_add_no_certainty() -> None:
    right = np.random.default_rng(0).random(80) < 0.7
    patients = [str(i) for i in range(80)]
    alone = wilson(right.sum(), 80)
    copied = grouped_wilson(np.repeat(right, 5), np.repeat(patients, 5).tolist())
    assert copied == pytest.approx(alone, abs=0.01)
    assert grouped_wilson(np.ones(400), np.repeat(patients, 5).tolist()) == wilson(80, 80)


def test_delong_equals_its_definition() -> None:
    scores, labels = binormal(23, 31, 1.0)
    scores = np.round(scores, 1)  # ties
    abnormal, normal = scores[labels == 1], scores[labels == 0]
    wins = (abnormal[:, None] > normal) + 0.5 * (abnormal[:, None] == normal)
    area = wins.mean()
    error = np.sqrt(wins.mean(1).var(ddof=1) / len(abnormal) + wins.mean(0).var(ddof=1) / len(normal))
    logit = np.log(area / (1 - area)) + norm.ppf([0.025, 0.975]) * error / (area * (1 - area))
    assert delong(scores, labels) == pytest.approx((area, *(1 / (1 + np.exp(-logit)))))


@given(scored())
def test_delong_stays_in_range_and_around_its_value(data: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = data
    assume(min(labels.sum(), (1 - labels).sum()) >= 2)
    value, low, high = delong(scores, labels)
    assert 0 <= low <= value <= high <= 1
    assert value == pytest.approx(metrics.auroc(scores, labels))
    assert low < high, "no finite number of images gives certainty"


@pytest.mark.parametrize("distance", [0.5, 2.0])
def test_delong_covers_the_truth_19_times_in_20(distance: float) -> None:
    truth, hits = norm.cdf(distance / np.sqrt(2)), 0
    for seed in range(400):
        _, low, high = delong(*binormal(30, 50, distance, seed))
        hits += low <= truth <= high
    assert 0.92 <= hits / 400 <= 0.98


def test_the_bootstrap_over_single_patients_agrees_with_delong() -> None:
    scores, labels = binormal(234, 390, 1.6)
    low, high = grouped_bootstrap(metrics._areas, scores, labels, [str(i) for i in range(624)])
    _, expected_low, expected_high = delong(scores, labels)
    assert low[0] == pytest.approx(expected_low, abs=0.006)
    assert high[0] == pytest.approx(expected_high, abs=0.006)


def test_copied_images_widen_nothing_and_narrow_nothing() -> None:
    scores, labels = binormal(60, 60, 1.0)
    patients = [f"{i:03}" for i in range(120)]
    alone = grouped_bootstrap(metrics._areas, scores, labels, patients)
    copied = grouped_bootstrap(
        metrics._areas, np.repeat(scores, 4), np.repeat(labels, 4), np.repeat(patients, 4).tolist()
    )
    np.testing.assert_allclose(copied, alone, atol=1e-12)


def test_paired_delong() -> None:
    scores, labels = binormal(200, 200, 1.0)
    noise = np.random.default_rng(1).normal(size=400)
    difference, low, high, p_value = delong_paired(scores, scores + 2 * noise, labels)
    assert difference == pytest.approx(metrics.auroc(scores, labels) - metrics.auroc(scores + 2 * noise, labels))
    assert 0 < low < difference < high
    assert p_value < 0.001
    assert delong_paired(scores, 3 * scores - 1, labels) == (0.0, 0.0, 0.0, 1.0)  # the same ranks
    back = delong_paired(scores + 2 * noise, scores, labels)
    assert back == pytest.approx((-difference, -high, -low, p_value))


def test_paired_p_values_of_equal_models_are_uniform() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], 60)
    p_values = []
    for _ in range(400):
        shared = generator.normal(size=120) + labels
        p_values.append(delong_paired(*(shared + generator.normal(size=120) for _ in range(2)), labels)[3])
    assert 0.02 <= np.mean(np.array(p_values) < 0.05) <= 0.085
    assert np.mean(np.array(p_values) < 0.5) == pytest.approx(0.5, abs=0.08)


# metrics.json


def test_the_contract_of_metrics_json() -> None:
    scores, labels = binormal(100, 150, 1.5)
    found = metrics.image_metrics(scores, labels, [str(i) for i in range(250)], Threshold(1.0))
    json.dumps(found, allow_nan=False)
    assert (found["n_normal"], found["n_abnormal"], found["n_patients"]) == (100, 150, 250)
    assert found["threshold"] == {"value": 1.0, "rule": "95th percentile", "from": "held-out train normals"}
    rates = ["f1", "accuracy", "sensitivity", "specificity"]
    every = [found[name] for name in ("auroc", "average_precision", *rates)]
    every += [found["oracle"][name] for name in rates] + list(found["all_abnormal"].values())
    assert all(0 <= metric["low"] <= metric["value"] <= metric["high"] <= 1 for metric in every)
    assert all(metric["low"] < metric["high"] for metric in every)
    assert found["oracle"]["f1"]["value"] >= found["f1"]["value"]
    assert found["all_abnormal"]["accuracy"]["value"] == 150 / 250
    assert found["all_abnormal"]["f1"]["value"] == pytest.approx(2 * 150 / (2 * 150 + 100))
    assert sum(found["confusion"].values()) == 250
    assert found["notes"] == []


def test_the_interval_used_is_named() -> None:
    scores, labels = binormal(50, 50, 1.0)
    alone = metrics.image_metrics(scores, labels, [str(i) for i in range(100)], Threshold(0.5))
    pairs = metrics.image_metrics(scores, labels, [str(i // 2) for i in range(100)], Threshold(0.5))
    assert alone["auroc"]["interval"] == "delong"
    assert pairs["auroc"]["interval"] == alone["f1"]["interval"] == "patient bootstrap"
    assert alone["sensitivity"]["interval"] == "wilson"


@pytest.mark.parametrize(
    ("labels", "missing"),
    [([], "normal and no abnormal"), ([0, 0, 0], "abnormal"), ([1, 1, 1], "normal"), ([1], "normal")],
)
def test_a_missing_class_gives_null_and_the_reason(labels: list[int], missing: str) -> None:
    n = len(labels)
    found = metrics.image_metrics(np.arange(n), labels, [str(i) for i in range(n)], Threshold(0.5))
    json.dumps(found, allow_nan=False)
    nulls = ["auroc", "average_precision", "f1", "oracle"]
    assert all(found[name] is None for name in nulls)
    assert (found["sensitivity"] is None) == (sum(labels) == 0)
    assert (found["specificity"] is None) == (sum(labels) == n)
    assert f"No {missing} images" in found["notes"][0]


def test_a_single_patient_in_a_class_gives_values_without_areas_intervals() -> None:
    scores, labels = binormal(30, 1, 1.0)
    found = metrics.image_metrics(scores, labels, [str(i) for i in range(31)], Threshold(0.5))
    json.dumps(found, allow_nan=False)
    assert found["auroc"]["value"] == pytest.approx(oracle.roc_auc_score(labels, scores))
    assert found["auroc"]["low"] is found["auroc"]["high"] is found["f1"]["interval"] is None
    assert "single patient" in found["notes"][0]


def test_constant_scores_rank_like_a_coin() -> None:
    found = metrics.image_metrics(np.zeros(20), np.tile([0, 1], 10), [str(i) for i in range(20)], Threshold(0.0))
    assert found["auroc"]["value"] == 0.5
    assert found["auroc"]["low"] < 0.5 < found["auroc"]["high"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_an_error_that_names_it(bad: float) -> None:
    with pytest.raises(DataError, match=f"score 1 is {bad}"):
        metrics.image_metrics([0.0, bad, 1.0], [0, 1, 1], ["a", "b", "c"], Threshold(0.5))
    with pytest.raises(DataError, match="not finite"):
        delong([0.0, bad, 1.0, 2.0], [0, 1, 1, 0])


def test_wrong_use_is_named() -> None:
    with pytest.raises(DataError, match="one label"):
        metrics.auroc([1.0, 2.0], [1])
    with pytest.raises(DataError, match="other than 0 and 1"):
        metrics.auroc([1.0, 2.0], [0, 2])
    with pytest.raises(DataError, match="1 patients"):
        metrics.image_metrics([1.0, 2.0], [0, 1], ["a"], Threshold(0.5))
    with pytest.raises(DataError, match="both classes"):
        metrics.auroc([1.0, 2.0], [1, 1])
    with pytest.raises(DataError, match="two of each"):
        delong([1.0, 2.0, 3.0], [0, 1, 1])
    with pytest.raises(DataError, match="3 successes of 2"):
        wilson(3, 2)


# Bands


def test_bands_hold_the_curves_and_narrow_with_more_patients() -> None:
    at = np.linspace(0, 1, 21)
    widths = []
    for n in (50, 800):
        scores, labels = binormal(n, n, 1.2)
        patients = [str(i) for i in range(2 * n)]
        fpr, tpr, _ = metrics.roc_curve(scores, labels)
        low, high = metrics.roc_band(scores, labels, patients, at)
        curve = np.interp(at, fpr, tpr)
        assert (low <= curve).all()
        assert (curve <= high).all()
        precision_low, precision_high = metrics.precision_recall_band(scores, labels, patients, at[1:])
        precision, recall, _ = metrics.precision_recall_curve(scores, labels)
        reached = precision[np.searchsorted(recall, at[1:] - 1e-9)]
        assert (precision_low <= reached).all()
        assert (reached <= precision_high).all()
        widths.append([np.mean(high - low), np.mean(precision_high - precision_low)])
    assert (np.array(widths[1]) < np.array(widths[0]) / 2).all()
