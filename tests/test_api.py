"""Models from Python: images as people have them, and scores as they use them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

import aeflow
from aeflow.runtime.progress import Listener
from helpers.command import within
from helpers.data import ROOT, SAMPLE, SIZE, TINY

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


def test_progress_is_heard_as_it_is_made_and_what_it_raises_ends_the_scoring(model: aeflow.Model) -> None:
    images = sorted((SAMPLE / "test" / "normal").iterdir())[:10]
    heard: list[tuple[int, int, str]] = []
    array = np.asarray(PIL.Image.open(FILE))
    list(model.score_all(images[:2], array, images[2], progress=lambda *told: heard.append(told)))
    assert heard == [(done, 4, "Scoring") for done in range(5)]

    def stop(done: int, total: int, what: str) -> None:
        if done == 3:
            raise KeyError(what)

    found = []
    with pytest.raises(KeyError):
        found.extend(model.score_all(images, progress=stop))
    assert len(list(model.score_all(images))) == len(images)  # and the next one goes on as ever


def test_a_training_tells_its_progress_and_goes_on_after_it_was_stopped(
    data: Path, tiny_weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    heard: list[tuple[int, int, str]] = []
    quick = {"preset": "aeflow-1", "encoder": TINY, "stages": (3,), "epochs": 2, "image_size": SIZE, "flow_steps": 2}

    def train(progress: Listener, **options: bool) -> None:
        given = {"encoder_weights": tiny_weights, "device": "cpu", "progress": progress}
        aeflow.train(data, tmp_path / "run", **given, **options, **quick)

    def stop(done: int, total: int, what: str) -> None:
        heard.append((done, total, what))
        if what == "Training" and done == 1:
            raise KeyError(what)

    with pytest.raises(KeyError):
        train(stop)
    assert heard[0][::2] == (0, "Features")
    assert heard[-1] == (1, 2, "Training")
    assert not (tmp_path / "run" / "model.json").exists()
    heard.clear()
    with pytest.warns(UserWarning, match="held-out normals"):
        train(lambda *told: heard.append(told), resume=True)
    assert (0, 2, "Training") in heard
    assert (2, 2, "Training") in heard
    before = (0, 0, "")
    for done, total, what in heard:
        assert 0 <= done <= total
        assert done >= before[0] if (total, what) == before[1:] else done == 0  # up, or from the start in a new phase
        before = (done, total, what)
    assert " of " not in capfd.readouterr().err


def test_a_model_is_short_to_read_and_names_no_folder_in_a_notebook(model: aeflow.Model) -> None:
    assert len(repr(model)) < 200
    page = model._repr_html_()
    assert f"threshold {model.threshold:.3g}" in page
    assert "torch" in page
    assert "Research use" in page
    assert str(model.run.parent) not in page


def test_the_examples_of_the_page_on_python_run(
    model: aeflow.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but those that train: one after the other, as a reader types them."""
    (tmp_path / "images").mkdir()
    for place in ("image.png", "images/a.jpeg", "images/b.jpeg"):
        (tmp_path / place).write_bytes(FILE.read_bytes())
    (tmp_path / "RUN").symlink_to(model.run)
    monkeypatch.chdir(tmp_path)
    within("score", "RUN", "images", "--out", "scores.csv")
    lines = (tmp_path / "scores.csv").read_text().splitlines()
    more = ["scanner,date", *(f"A,2026-11-0{day}" for day in range(1, len(lines)))]
    (tmp_path / "scores.csv").write_text("".join(f"{line},{cells}\n" for line, cells in zip(lines, more, strict=True)))
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {"aeflow": aeflow}
    for block in blocks:
        if "train(" not in block:
            exec(block, names)
    assert len(names["scores"]) == len(names["frame"]) == 2
    assert names["classifier"].predict(names["x"]).tolist() == [0] * 30 + [1] * 30
