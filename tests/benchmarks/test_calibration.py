"""The study of calibration: what is fresh was never seen, and a right probability is found right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit

from aeflow.calibration.calibration import fit_calibration
from aeflow.config import make_settings
from aeflow.data.records import Record, read_records
from benchmarks.calibration import study


def test_fresh_normals_are_apart_with_their_patients(data):
    before = read_records(data)
    with study.set_aside(data) as folder:
        after = read_records(folder)
        assert all(record.path.is_file() for record in after)
    fresh = [record for record in after if record.split == "val"]
    train = [record for record in after if record.split == "train"]
    assert 4 <= len(fresh) <= 8  # of 40 train normals, two a patient
    assert {record.label for record in fresh} == {0}
    assert not {record.patient for record in fresh} & {record.patient for record in train}
    assert len(train) + len(fresh) == sum(record.split == "train" for record in before)
    test = [(record.patient, record.label) for record in after if record.split == "test"]
    assert test == [(record.patient, record.label) for record in before if record.split == "test"]


def made_up(n: int, share: float) -> tuple[object, np.ndarray]:
    """Images of two Gaussians two apart, and their probability under a share of one half."""
    rng = np.random.default_rng(0)
    labels = (rng.random(n) < share).astype(int)
    x = rng.standard_normal(n) + 2 * labels
    records = [Record(Path(str(i)), str(i), "test", int(y), str(i), None, None) for i, y in enumerate(labels)]
    return study.Scored(records, x, x, None), expit(2 * (x - 1))


def test_a_right_probability_needs_only_the_right_share():
    found = study.posterior(*made_up(4000, 0.7), assumed=0.5)
    right, raw = found["right share"], found["as it comes"]
    assert right["error"]["value"] < 0.03 < raw["error"]["value"]
    assert right["mean"] == pytest.approx(found["real"], abs=0.02)
    rare = found["shares"]["0.05"]
    assert rare["right share"]["error"] < 0.03 < rare["as it comes"]["error"]
    assert rare["right share"]["mean"] == pytest.approx(0.05, abs=0.02)


def test_a_wrong_probability_is_not_mended_by_the_share():
    test, p = made_up(4000, 0.5)
    found = study.posterior(test, expit(3 * logit(p)), assumed=0.5)  # too sure of itself
    assert found["right share"]["error"]["value"] > 0.05


def test_scores_of_another_source_are_told_from_those_of_the_same():
    """Of one source: as often at a level as it says; from elsewhere: too many small p-values."""
    rng = np.random.default_rng(1)

    def measures(n: int, shift: float = 0.0) -> dict[str, np.ndarray]:
        return {"flow": rng.standard_normal((n, 1)) + shift, "reconstruction": rng.standard_normal(n)}

    calibration = fit_calibration(make_settings("aeflow-1"), measures(400), {})

    def scored(shift: float) -> object:
        values = calibration.value(calibration.terms(measures(300, shift)))
        records = [Record(Path(str(i)), str(i), "val", 0, str(i), None, None) for i in range(300)]
        return study.Scored(records, values, np.array([calibration.p_value(v) for v in values]), None)

    found = study.p_values(calibration, scored(0.0), scored(1.0))
    assert found["fresh"]["ks"]["p"] > 0.01 > found["test"]["ks"]["p"]
    assert found["fresh"]["false_positive_rate"]["value"] < 0.1 < found["test"]["false_positive_rate"]["low"]
    away = {name: np.abs(np.array(found[name]["reached"]) - found["levels"]).max() for name in ("fresh", "test")}
    assert away["fresh"] < 0.1 < away["test"]
