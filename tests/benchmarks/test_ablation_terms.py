"""Ablation of the terms: they are standardised as calibration does, and the table says what was measured."""

from __future__ import annotations

import itertools
import json

import numpy as np

from aeflow.calibration.calibration import fit_calibration
from aeflow.config import make_settings
from benchmarks.ablation.terms import COLUMNS, PLANS, figures, rows_of, settings_of, standardised, table
from benchmarks.common import BRAIN, RESULTS

NAMES = ("pooled_energy", "lesion_residual")


def raw(n: int, up: float, seed: int) -> dict[str, np.ndarray]:
    """Raw measures of n images, one of several columns and one of a single one, higher by ``up``."""
    rng = np.random.default_rng(seed)
    return {"pooled_energy": up + rng.normal(3, [1, 2, 5], (n, 3)), "lesion_residual": up + rng.normal(-1, 0.3, n)}


def test_a_sum_of_terms_is_the_score_that_a_model_of_these_has() -> None:
    clean, others = raw(60, 0, 0), raw(20, 1, 1)
    settings = make_settings("default", terms=NAMES)
    calibration = fit_calibration(settings, clean, {})
    expected = calibration.normals_only(calibration.terms(others))
    terms = standardised(others, clean)
    found = sum(terms[name] for name in NAMES)
    np.testing.assert_allclose(np.corrcoef(found, expected)[0, 1], 1)
    np.testing.assert_allclose(np.diff(found), np.diff(expected))


def test_figures_see_what_they_are_of() -> None:
    groups = {"clean": (40, 0, 0), "recaptured": (40, 0, 1), "abnormal": (30, 9, 2), "synthetic": (30, 0, 3)}
    measures = {name: raw(*of) for name, of in groups.items()}
    measures["test"] = {name: np.concatenate([raw(10, 0, 4)[name], raw(10, 9, 5)[name]]) for name in NAMES}
    terms = {name: standardised(of, measures["clean"]) for name, of in measures.items()}
    found = figures(terms, NAMES, [0] * 10 + [1] * 10)
    assert tuple(found) == COLUMNS
    assert found["real"] == found["real, recaptured"] == found["test"] == 1
    assert 0.3 < found["synthetic"] < 0.7
    assert found["recaptured above"] < 0.2


def test_the_body_has_nothing_beside_it_to_compare_with() -> None:
    assert "pooled_filter" in settings_of("lungs", 0).chosen_terms
    assert "pooled_filter" not in settings_of("body", 0).chosen_terms


def test_each_plan_is_shown_without_each_of_its_terms_and_with_each_other() -> None:
    rows = rows_of(PLANS["diffuse"], ["flow", "pooled_filter", "pooled_energy"])
    assert rows == {
        "the plan": ["pooled_filter", "pooled_energy"],
        "without pooled_filter": ["pooled_energy"],
        "without pooled_energy": ["pooled_filter"],
        "with flow": ["pooled_filter", "pooled_energy", "flow"],
    }


def test_the_table_says_how_synthetic_anomalies_rank() -> None:
    names = settings_of("body", 0).chosen_terms
    sums = [some for k in range(1, 1 + len(names)) for some in itertools.combinations(names, k)]
    of = {" + ".join(some): dict.fromkeys(COLUMNS, i / len(sums)) for i, some in enumerate(sums)}
    text = table({"machine": "none", "sets": {BRAIN: {"body": {"0": of}}}})
    assert "correlation (Spearman) of +1.00." in text
    assert f"Over all {len(sums)} sums" in text


def test_the_kept_table_is_of_the_kept_figures() -> None:
    results = json.loads((RESULTS / "terms.json").read_text())
    assert (RESULTS / "terms.md").read_text() == table(results)
