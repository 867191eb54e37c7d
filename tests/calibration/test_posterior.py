"""What the classes say as a term, a probability and a part of the score: coherent, and humble before evidence."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from aeflow.calibration.calibration import Calibration, with_posterior
from aeflow.calibration.calibration import fit_calibration as calibrate
from aeflow.calibration.map_scale import MapScale
from aeflow.calibration.posterior import EXPECTED_SEPARATION, MAX_WEIGHT, Posterior, evidence_of, fit_posterior
from aeflow.config import make_settings
from aeflow.errors import DataError

KINDS = ["oedema", "tumour"]
NONE = (np.zeros(0), np.zeros(0), np.zeros(0))
Floats = np.ndarray


def normals(n: int = 300, correlation: float = 0.0, seed: int = 0) -> tuple[Floats, Floats]:
    """Normals-only scores and log-ratios, in units of their own, of held-out normals."""
    a, b = np.random.default_rng(seed).standard_normal((2, n))
    evidence = correlation * a + np.sqrt(1 - correlation**2) * b
    return 4 + 0.5 * a, (20 * evidence - 300)[:, None] + np.array([0.0, -1.0])


def abnormal(n: int, score: float, judged: float, seed: int = 1) -> tuple[Floats, Floats, Floats]:
    """``n`` images whose two terms lie ``score`` and ``judged`` standard deviations from the normals."""
    a, b = np.random.default_rng(seed).standard_normal((2, n))
    return 4 + 0.5 * (score + a), judged + b, np.ones(n)


def fitted(share: float = 0.3) -> Posterior:
    return fit_posterior(KINDS, normals(), abnormal(100, 1.0, 3.0), share)


@pytest.mark.parametrize("correlation", [-0.8, 0.0, 0.6])
def test_before_any_abnormal_image_the_expectation_stands(correlation: float) -> None:
    posterior = fit_posterior(KINDS, normals(correlation=correlation), NONE, 0.5)
    assert posterior.weight == pytest.approx(0.5)
    assert (posterior.separation, posterior.variance) == (EXPECTED_SEPARATION, 1.0)
    assert posterior.kinds == KINDS


def test_term_and_score_are_in_deviations_of_the_normals() -> None:
    scores, ratios = normals()
    posterior = fitted()
    term = posterior.term(ratios)
    assert term.mean() == pytest.approx(0)
    assert term.std(ddof=1) == pytest.approx(1)
    np.testing.assert_allclose(evidence_of(ratios), logsumexp(ratios, axis=1))
    base = (scores - scores.mean()) / scores.std(ddof=1)
    w = posterior.weight
    np.testing.assert_allclose(posterior.value(scores, term), (1 - w) * base + w * term)


def test_units_of_the_scores_do_not_matter() -> None:
    (scores, ratios), (seen, judged, count) = normals(), abnormal(30, 2.0, 3.0)
    a = fit_posterior(KINDS, (scores, ratios), (seen, judged, count), 0.3)
    b = fit_posterior(KINDS, (7 * scores - 2, ratios + 50), (7 * seen - 2, judged, count), 0.3)
    assert b.weight == pytest.approx(a.weight)
    np.testing.assert_allclose(b.value(7 * scores - 2, b.term(ratios + 50)), a.value(scores, a.term(ratios)))


@given(st.floats(-3, 8), st.floats(-3, 8), st.floats(-0.95, 0.95), st.integers(0, 40))
def test_weight_stays_within_its_bounds(score: float, judged: float, correlation: float, n: int) -> None:
    posterior = fit_posterior(KINDS, normals(50, correlation), abnormal(n, score, judged), 0.5)
    assert 0 <= posterior.weight <= MAX_WEIGHT
    assert posterior.separation >= 0
    assert posterior.variance >= 0.5


def test_weight_goes_to_the_term_that_finds_them() -> None:
    by_count = [fit_posterior(KINDS, normals(), abnormal(n, 0.0, 4.0), 0.5).weight for n in (0, 2, 10, 500)]
    assert by_count == sorted(by_count)
    assert by_count[1] < MAX_WEIGHT  # two images cannot decide alone
    assert by_count[-1] == MAX_WEIGHT
    assert fit_posterior(KINDS, normals(), abnormal(500, 4.0, 0.0), 0.5).weight < 0.05
    assert fit_posterior(KINDS, normals(), abnormal(500, 3.0, 3.0), 0.5).weight == pytest.approx(0.5, abs=0.03)
    scores, judged, _ = abnormal(500, 0.0, 4.0)
    assert fit_posterior(KINDS, normals(), (scores, judged, np.zeros(500)), 0.5).weight == pytest.approx(0.5)


def test_weight_is_fishers_direction() -> None:
    """With many images no other weight separates the classes better."""
    scores, ratios = normals(4000, 0.4)
    seen, judged, counts = abnormal(4000, 2.0, 3.0)
    posterior = fit_posterior(KINDS, (scores, ratios), (seen, judged, counts), 0.5)

    def separation(w: float) -> float:
        line = replace(posterior, weight=w)
        normal = line.value(scores, line.term(ratios))
        return float((line.value(seen, judged).mean() - normal.mean()) / normal.std())

    best = max(np.linspace(0, MAX_WEIGHT, 91), key=separation)
    assert posterior.weight == pytest.approx(best, abs=0.03)


def test_separation_is_that_of_the_judgements() -> None:
    posterior = fit_posterior(KINDS, normals(), abnormal(3000, 0.0, 3.5), 0.5)
    assert posterior.separation == pytest.approx(3.5, abs=0.1)
    assert posterior.variance == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.8])
def test_probability_rises_with_the_term_and_meets_the_share_half_way(share: float) -> None:
    posterior = fitted(share)
    middle = posterior.separation / 2
    assert posterior.probability(np.array([middle]))[0] == pytest.approx(share)
    terms = np.linspace(middle - 5, middle + 5, 101)
    p = posterior.probability(terms)
    assert (np.diff(p) > 0).all()
    assert 0 < p[0] < share < p[-1] < 1
    assert (replace(posterior, abnormal_share=share + 0.1).probability(terms) > p).all()
    np.testing.assert_allclose(replace(posterior, separation=0.0).probability(terms), share)


def test_probability_is_calibrated_on_what_it_assumes() -> None:
    """Two Gaussians on a line: of images given 70 to 90 %, about 80 % are abnormal."""
    posterior, rng, n = fitted(0.3), np.random.default_rng(3), 200_000
    truth = rng.random(n) < 0.3
    terms = truth * posterior.separation + np.sqrt(posterior.variance) * rng.standard_normal(n)
    p = posterior.probability(terms)
    for low in (0.1, 0.4, 0.7):
        among = (p > low) & (p < low + 0.2)
        assert truth[among].mean() == pytest.approx(p[among].mean(), abs=0.02)


def test_probabilities_of_the_classes_sum_to_one() -> None:
    posterior = fitted()
    ratios = 40 * np.random.default_rng(4).standard_normal((50, 2)) - 300
    classes = posterior.probabilities(np.vstack([ratios, [[1e4, -1e4]], [[-1e5, -1e5]]]))
    for row, ratio in zip(classes, ratios, strict=False):
        assert row["normal"] == pytest.approx(1 - posterior.probability(posterior.term(ratio[None]))[0])
        assert (row["tumour"] > row["oedema"]) == (ratio[1] > ratio[0])
    for row in classes:
        assert list(row) == ["normal", *KINDS]
        assert sum(row.values()) == pytest.approx(1)
        assert all(0 <= p <= 1 for p in row.values())
    assert classes[-2]["oedema"] == pytest.approx(1)
    assert classes[-1]["normal"] == pytest.approx(1)


def calibrated() -> tuple[Calibration, tuple[dict[str, Floats], Floats]]:
    rng = np.random.default_rng(5)
    measures = {"flow": rng.standard_normal((60, 1)), "reconstruction": 0.3 + 0.1 * rng.standard_normal(60)}
    ratios = normals(60)[1]
    plain = calibrate(make_settings("aeflow-1"), measures, {"flow": MapScale(1.0, 2.0, 1.8)})
    scores = plain.normals_only(plain.terms(measures))
    posterior = fit_posterior(KINDS, (scores, ratios), abnormal(10, 1.0, 3.0), 0.25)
    raw = measures, ratios
    return with_posterior(plain, make_settings("aeflow-1"), posterior, *raw), raw


def test_calibration_with_a_posterior_keeps_its_promises() -> None:
    calibration, raw = calibrated()
    terms = calibration.terms(*raw)
    assert list(terms) == ["flow", "reconstruction", "posterior"]
    values = calibration.value(terms)
    np.testing.assert_array_equal(calibration.scores, np.sort(values))
    assert sum(calibration.verdict(v) == "abnormal" for v in values) == 2  # rank 58 of 60
    for value in values:
        assert (calibration.verdict(value) == "abnormal") == (calibration.p_value(value) <= 0.05)


def test_survives_json_bit_for_bit() -> None:
    calibration, _ = calibrated()
    assert Calibration.from_json(json.loads(json.dumps(calibration.to_json()))) == calibration
    assert Calibration.from_json(calibration.to_json()) == calibration


def test_classes_that_say_nothing_are_refused() -> None:
    scores, ratios = normals()
    with pytest.raises(DataError, match="the classes say the same of all held-out normals; give images that differ"):
        fit_posterior(KINDS, (scores, np.zeros_like(ratios)), NONE, 0.5)
