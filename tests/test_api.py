"""Models from Python: images as people have them, and scores as they use them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

import aeflow
from helpers.data import SAMPLE

FILE = sorted((SAMPLE / "test" / "normal").iterdir())[0]


@pytest.fixture(scope="module")
def model(tiny_run: Path) -> aeflow.Model:
    return aeflow.load(tiny_run, backend="torch")


def test_an_image_scores_the_same_whatever_it_comes_in(model: aeflow.Model) -> None:
    array = np.asarray(PIL.Image.open(FILE))
    want = model.score(FILE).value
    for given in (str(FILE), PIL.Image.open(FILE), array, torch.from_numpy(array.copy()), array / 255):
        assert model.score(given).value == pytest.approx(want, abs=1e-5)
    assert model.score(array.astype("i4") - 100, value_range=(-100, 155)).value == pytest.approx(want, abs=1e-5)


def test_lists_of_anything_are_scored_and_what_is_no_image_costs_itself(model: aeflow.Model) -> None:
    array = np.asarray(PIL.Image.open(FILE))
    found = dict(model.score_all([array, np.zeros((2, 2, 9)), FILE]))
    assert list(found) == ["image 1", "image 2", FILE.as_posix()]
    assert isinstance(found["image 2"], aeflow.ImageError)
    scores = [found["image 1"], found[FILE.as_posix()]]
    assert scores[0].value == pytest.approx(scores[1].value, abs=1e-5)


def test_a_file_states_its_own_range(model: aeflow.Model) -> None:
    with pytest.raises(aeflow.SettingsError, match="value_range: given for a file"):
        model.score(FILE, value_range=(0, 1))


def test_a_score_is_short_to_read_and_a_row_of_a_table(model: aeflow.Model) -> None:
    score = model.score(FILE)
    assert repr(score).startswith(f"Score({score.value:.3f}, p=")
    assert len(repr(score)) < 200
    row = score.to_dict()
    assert row["score"] == score.value
    assert row.keys() >= {"p_value", "verdict", "outside", *score.terms}
    assert (score.value > model.threshold) == (score.verdict == "abnormal")
