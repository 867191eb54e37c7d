"""Studies: a p-value that holds for normal studies, and the slices that speak loudest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aeflow.calibration.calibration import Calibration, conformal_threshold
from aeflow.data.records import Record
from aeflow.imageio.errors import EmptyImageError, ImageError
from aeflow.imageio.image import Slice
from aeflow.privacy import identify, pseudonym
from aeflow.results.study_table import study_row
from aeflow.scoring.scorer import Score
from aeflow.scoring.studies import Studies, hardly_ever, simes

RECORD = Record(Path("v"), "v", None, None, "Jane", None, None, study="S1")


def scored(value: float, p: float) -> Score:
    return Score(value, p, "normal", 0.0, {}, {}, {}, ())


@pytest.mark.parametrize("dependence", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("n", [2, 30])
def test_simes_keeps_its_level_on_normal_studies(dependence: float, n: int) -> None:
    """At most 5 % of studies of normal slices are called abnormal, however alike their slices are."""
    from scipy.stats import norm

    rng = np.random.default_rng(0)
    common, own = rng.standard_normal((4000, 1)), rng.standard_normal((4000, n))
    p = norm.sf(np.sqrt(dependence) * common + np.sqrt(1 - dependence) * own)
    rate = np.mean([simes(study) <= 0.05 for study in p])
    assert rate <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 4000)
    assert rate > 0.01


def test_simes_by_hand() -> None:
    assert simes([0.2]) == 0.2
    assert simes([0.01, 0.5]) == pytest.approx(0.02)
    assert simes([0.03, 0.03, 0.9]) == pytest.approx(0.045)
    assert simes([1.0, 1.0]) == 1.0


def test_a_study_names_its_loudest_slices() -> None:
    studies = Studies(0.05)
    for i in range(20):
        value = 100.0 if i in (3, 7) else float(i)
        studies.add(i + 1, replace(RECORD, at=Slice(i)), scored(value, 0.002 if value == 100 else 0.5))
    studies.add(21, RECORD, ImageError("v", "damaged", "again"))
    studies.add(22, RECORD, EmptyImageError("v", "empty", "again"))
    studies.add(23, replace(RECORD, study=None), scored(1e9, 0.001))
    [found] = studies.results()
    assert (found.images, found.refused, found.score, found.verdict) == (20, 1, 100.0, "abnormal")
    assert found.p_value == pytest.approx(0.02)
    assert found.rows[:2] == [4, 8]
    assert found.label is None


def test_a_study_of_one_image_is_none() -> None:
    studies = Studies(0.05)
    studies.add(1, RECORD, scored(1.0, 0.5))
    assert studies.results() == []


@pytest.mark.parametrize("normals", [9, 19, 268])
def test_a_studys_verdict_is_at_the_rate_that_the_threshold_really_has(normals: int) -> None:
    """Three slices that are all as rare make a study abnormal exactly where each of them is."""
    scores = np.random.default_rng(0).standard_normal(normals)
    rank, threshold = conformal_threshold(scores, 0.05)
    fitted = Calibration(True, {}, sorted(scores.tolist()), threshold, "", {})
    assert fitted.rate == pytest.approx(max(1 - rank / (normals + 1), 1 / (normals + 1)))
    for value in (*sorted(scores)[-30:], 9.0):
        studies = Studies(fitted.rate)
        for number in range(3):
            studies.add(number, RECORD, scored(value, fitted.p_value(value)))
        assert studies.results()[0].verdict == fitted.verdict(value)
    sentence = hardly_ever(fitted)  # of 19 at most one twentieth is above the highest one, of 268 above the 13th
    assert (sentence is None) == (normals == 268)
    assert sentence is None or f"above all {normals} held-out normals" in sentence


def test_the_label_is_that_of_the_most_abnormal_slice() -> None:
    def label_of(*labels: int | None) -> int | None:
        studies = Studies(0.05)
        for i, label in enumerate(labels):
            studies.add(i, replace(RECORD, label=label), scored(float(i), 0.5))
        return studies.results()[0].label

    assert label_of(0, 0) == 0
    assert label_of(None, 1, None) == 1
    assert label_of(0, None) is None


def test_keys_are_hidden() -> None:
    studies = Studies(0.05)
    for i in range(2):
        studies.add(i, RECORD, scored(float(i), 0.5))
    line = study_row(studies.results()[0])
    assert (line["study"], line["patient"]) == (pseudonym("S1"), pseudonym("Jane"))
    identify()
    assert (study_row(studies.results()[0])["study"], study_row(studies.results()[0])["patient"]) == ("S1", "Jane")
