"""Calibration: uniform p-values, an honest threshold, terms on one scale."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from scipy.stats import kstest

from aeflow.calibration.calibration import Calibration, fit_calibration, too_few_patients
from aeflow.calibration.map_scale import MapScale
from aeflow.config import make_settings
from aeflow.errors import DataError, SettingsError
from aeflow.training.promise import promise

MAPS = {"residual": MapScale(0.1, 0.5, 0.4), "anomaly": MapScale(1.0, 2.0, 1.8)}


def measures(n: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    flow = np.array([3.0, -1.0]) + np.array([0.2, 7.0]) * rng.standard_normal((n, 2))
    return {"flow": flow, "reconstruction": 0.4 + 0.05 * rng.standard_normal(n)}


def calibration(n: int = 99, seed: int = 0, **changes: object) -> Calibration:
    return fit_calibration(make_settings("aeflow-1", **changes), measures(n, seed), MAPS)


def test_p_values_are_uniform_on_fresh_normals() -> None:
    """Over many calibrations, as the law has it: P(p <= k / (n + 1)) = k / (n + 1)."""
    p = []
    for seed in range(400):
        fitted = calibration(19, seed)
        terms = fitted.terms(measures(3, 10_000 + seed))
        p += [fitted.p_value(value) for value in fitted.value(terms)]
    spread = np.random.default_rng(0).uniform(0, 1 / 20, len(p))  # the p-values are multiples of 1/20
    assert kstest(np.array(p) - spread, "uniform").pvalue > 0.01


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_threshold_flags_the_promised_share(rate: float) -> None:
    flagged = []
    for seed in range(300):
        fitted = calibration(40, seed, false_positive_rate=rate)
        values = fitted.value(fitted.terms(measures(20, 10_000 + seed)))
        flagged += [fitted.verdict(value) == "abnormal" for value in values]
    assert np.mean(flagged) <= rate + 0.01
    assert np.mean(flagged) > rate - 1 / 41 - 0.01


def test_verdict_and_p_value_agree() -> None:
    fitted = calibration(99)
    for value in np.linspace(-4, 6, 300):
        assert (fitted.verdict(value) == "abnormal") == (fitted.p_value(value) <= 0.05)


def test_p_value_bounds_and_order() -> None:
    fitted = calibration(99)
    assert fitted.p_value(1e9) == 1 / 100
    assert fitted.p_value(-1e9) == 1
    values = np.linspace(-3, 3, 50)
    p = [fitted.p_value(value) for value in values]
    assert p == sorted(p, reverse=True)


def test_terms_are_standardised() -> None:
    fitted = calibration(200, two_sided=False)
    terms = fitted.terms(measures(200, 0))
    for term in terms.values():
        assert term.mean() == pytest.approx(0, abs=1e-9)
        assert term.std(ddof=1) == pytest.approx(1)
    expected = 0.9 * terms["flow"] + 0.1 * terms["reconstruction"]
    np.testing.assert_allclose(fitted.value(terms), expected)


def test_two_sided_reconstruction_counts_distance_either_way() -> None:
    one, two = calibration(50, two_sided=False), calibration(50, two_sided=True)
    raw = measures(50, 1)
    np.testing.assert_allclose(two.terms(raw)["reconstruction"], np.abs(one.terms(raw)["reconstruction"]))
    np.testing.assert_allclose(two.terms(raw)["flow"], one.terms(raw)["flow"])


def test_units_of_a_stage_do_not_matter() -> None:
    raw = measures(60, 0)
    other = {"flow": raw["flow"] * [10, 0.1] + [5, 6], "reconstruction": 3 * raw["reconstruction"] - 1}
    a, b = (fit_calibration(make_settings("aeflow-1"), one, MAPS) for one in (raw, other))
    np.testing.assert_allclose(a.scores, b.scores)


def test_paper_leaves_the_terms_raw() -> None:
    raw = measures(60, 0)
    fitted = fit_calibration(make_settings("paper"), raw, MAPS)
    expected = 0.9 * raw["flow"].mean(axis=1) + 0.1 * raw["reconstruction"]
    np.testing.assert_allclose(np.sort(expected), fitted.scores)


def test_survives_json_bit_for_bit() -> None:
    fitted = calibration(30)
    assert Calibration.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted


def test_too_few_or_all_the_same() -> None:
    with pytest.raises(DataError, match="only 4 held-out images to calibrate on"):
        calibration(4)
    raw = measures(30, 0)
    with pytest.raises(DataError, match="the reconstruction term is the same for all"):
        fit_calibration(make_settings("aeflow-1"), {**raw, "reconstruction": np.full(30, 0.25)}, MAPS)
    with pytest.raises(DataError, match="the flow term is the same for all"):
        fit_calibration(make_settings("aeflow-1"), {**raw, "flow": np.ones((30, 2))}, MAPS)


def test_a_promise_by_few_patients_is_wide_and_a_sentence_says_so() -> None:
    def flagged(patients: int) -> tuple[int, int]:
        low, high = re.findall(r"\((\d+) to (\d+)\)", promise(100, 96, patients))[0]
        return int(low), int(high)

    assert flagged(100)[1] < flagged(30)[1] < flagged(10)[1]
    assert all(low <= 5 <= high for low, high in map(flagged, (100, 30, 10)))
    assert too_few_patients(100, 100, 0.05) is None
    assert too_few_patients(100, 19, 0.05) is None
    assert "of 18 patients" in str(too_few_patients(100, 18, 0.05))
    assert too_few_patients(5, 5, 0.05) is None  # what so few images can say, ``too_few`` says


def test_another_rate_is_the_threshold_that_a_calibration_at_this_rate_has() -> None:
    for rate in (0.01, 0.02, 0.2):
        other = calibration(99).at_rate(rate)
        assert other == calibration(99, false_positive_rate=rate)
        assert other.above(other.threshold) == pytest.approx(100 * rate - 1)
    assert calibration(99).at_rate(0.05) == calibration(99)


def test_a_rate_that_so_few_normals_cannot_promise_is_refused_with_the_smallest_one() -> None:
    said = (
        "30 held-out normals cannot set a rate of 1%: 99 held-out normals are needed; the smallest possible is 0.0323"
    )
    with pytest.raises(SettingsError, match=said):
        calibration(30).at_rate(0.01)
    least = calibration(30).at_rate(0.0323)
    assert least.threshold == max(least.scores)
    for rate in (0.0, 1.0, -1, np.nan):
        with pytest.raises(SettingsError, match="is no share"):
            calibration(30).at_rate(rate)


def test_a_named_threshold_is_in_force_and_the_rule_says_how_many_normals_exceed_it() -> None:
    fitted = calibration(99)
    named = fitted.at_threshold(fitted.scores[89])
    assert (named.verdict(fitted.scores[89]), named.verdict(fitted.scores[90])) == ("normal", "abnormal")
    assert named.rule == "named by the user: 9 of 99 held-out normals score higher"
    assert named.p_value(1.0) == fitted.p_value(1.0)
    for threshold in (np.nan, np.inf):
        with pytest.raises(SettingsError, match="is no score"):
            fitted.at_threshold(threshold)
