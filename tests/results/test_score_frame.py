"""Scores as a DataFrame: the very rows of scores.csv."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

import aeflow
from aeflow.privacy import identify
from aeflow.results.score_table import columns
from helpers.command import within
from helpers.data import SAMPLE

IMAGES = sorted((SAMPLE / "test" / "abnormal").iterdir())[:3]
TEXT = {name: str for name, kind in columns().items() if kind == "string"}


@pytest.fixture(scope="module")
def model(tiny_run: Path) -> aeflow.Model:
    return aeflow.load(tiny_run, backend="torch")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images, one that is none, and one whose name says nothing of text."""
    folder = tmp_path / "images"
    folder.mkdir()
    for image in IMAGES:
        (folder / image.name).write_bytes(image.read_bytes())
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def test_it_is_the_table_that_the_command_writes(
    model: aeflow.Model, tiny_run: Path, folder: Path, tmp_path: Path
) -> None:
    table = tmp_path / "scores.csv"
    within("score", tiny_run, folder, "--out", table, "--backend", "torch", ok=1)
    frame = model.frame(folder)
    plain = pd.read_csv(table)
    pd.testing.assert_frame_equal(frame, pd.read_csv(table, dtype=TEXT), rtol=1e-12)
    with table.open(newline="") as file:
        assert frame.score.dropna().tolist() == [float(row["score"]) for row in csv.DictReader(file) if row["score"]]
    assert list(frame.columns) == list(plain.columns) == list(columns())
    filled = [name for name in plain.columns if plain[name].notna().any() and name not in ("patient", "study", "model")]
    assert {"path", "score", "verdict", "p_abnormal", "error"} <= set(filled)
    assert [frame[name].dtype for name in filled] == [plain[name].dtype for name in filled]


def test_a_refused_image_is_a_row_with_its_error(model: aeflow.Model, folder: Path) -> None:
    frame = model.frame([folder, np.zeros((2, 2, 9))])
    assert len(frame) == len(IMAGES) + 2
    refused = frame[frame.error.notna()]
    assert [Path(path).name for path in refused.path] == ["broken.png", "image 2"]
    assert refused.score.isna().all()
    assert frame[frame.error.isna()].score.notna().all()


def test_whole_numbers_without_gaps_stay_whole(model: aeflow.Model, tmp_path: Path) -> None:
    volume = np.random.default_rng(0).integers(1, 255, (48, 48, 3)).astype(np.uint8)
    nibabel.Nifti1Image(volume, np.eye(4)).to_filename(tmp_path / "volume.nii")
    frame = model.frame(tmp_path / "volume.nii")
    assert frame.slice.tolist() == [1, 2, 3]
    assert frame.slice.dtype == "int64"
    assert frame.label.dtype == "float64"
    assert model.frame(tmp_path / "volume.nii", IMAGES[0]).slice.dtype == "float64"


def test_text_stays_text(model: aeflow.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a file or patient is called, and where no image was refused, too."""
    monkeypatch.chdir(tmp_path)
    for name in ("007", "NA"):
        Path(name).write_bytes(IMAGES[0].read_bytes())
    identify()
    for given in ("007", "NA"):
        frame = model.frame(given)
        assert frame.path.tolist() == frame.patient.tolist() == [given]
        assert frame.error.isna().all()
        assert not frame.error.str.contains("x", na=False).any()
