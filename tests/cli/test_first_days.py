"""What people met in their first days: results where images lie, names that agree, errors before a wait."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aeflow.artifacts.layout import EXPORT, holds
from helpers import dicom_files
from helpers.command import error_of, within
from helpers.data import NORMALS, texture

ALONE = """
import sys
from aeflow.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert end.code == 2, end.code
assert "torch" not in sys.modules
"""


@pytest.mark.parametrize("option", ["--maps", "--dicom", "--nifti"])
def test_results_do_not_lie_where_the_next_score_would_take_them_for_images(
    openvino_export: Path, data: Path, tmp_path: Path, option: str
) -> None:
    images = Path(shutil.copytree(data / "test" / "normal", tmp_path / "images"))
    error = error_of("score", openvino_export, images, option, images / "deep" / "results")
    assert error.endswith("where the next score would take its files for new images; name a folder elsewhere")
    assert not (images / "deep").exists()
    one = sorted(images.iterdir())[0]
    within("score", openvino_export, one, "--maps", images / "results")  # of a file that is named, nothing is repeated


def test_a_model_has_one_name(openvino_export: Path, data: Path, tmp_path: Path) -> None:
    within("score", openvino_export, data / "test" / "normal", "--out", tmp_path / "scores.csv")
    [name] = {row["model"] for row in csv.DictReader((tmp_path / "scores.csv").open())}
    shown, _ = within("info", openvino_export)
    assert shown.splitlines()[0].split() == ["model", name]


def test_a_recalibrated_model_scores_without_torch_as_the_trained_one_does(
    tiny_run: Path, data: Path, tmp_path: Path
) -> None:
    normals = tmp_path / "normals"
    normals.mkdir()
    for number in range(NORMALS):
        Image.fromarray(texture(80_000 + number)).save(normals / f"{number}.png")
    within("recalibrate", tiny_run, normals, "--out", tmp_path / "made")
    assert holds(tmp_path / "made" / "openvino", EXPORT)
    within("recalibrate", tiny_run, normals, "--out", tmp_path / "without", "--no-graph")
    assert not (tmp_path / "without" / "openvino").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "nowhere", "--out", "made"), "nowhere: there is no such folder"),
        (("train", "{data}", "--out", "{run}"), "already holds a model"),
        (("train", "{data}", "--out", "made", "--set", "epoch=3"), "epoch"),
        (("export", "{run}", "--to", "foo"), "--to: 'foo' is no format; choose openvino or onnx"),
    ],
)
def test_what_is_wrong_is_said_before_torch_is_imported(
    words: tuple[str, ...], said: str, tiny_run: Path, data: Path, tmp_path: Path
) -> None:
    typed = [word.format(data=data, run=tiny_run) for word in words]
    done = subprocess.run([sys.executable, "-c", ALONE, *typed], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert said in done.stderr


def test_an_image_without_a_dicom_result_is_not_called_refused(openvino_export: Path, tmp_path: Path) -> None:
    found = dicom_files.dataset(np.asarray(texture(1)))
    (tmp_path / "few.dcm").write_bytes(dicom_files.content(found))
    out = ("--out", tmp_path / "scores.csv", "--dicom", tmp_path / "objects")
    shown, said = within("score", openvino_export, tmp_path / "few.dcm", *out, ok=1)
    assert shown.startswith(("1 image called normal", "0 images called normal, 1 abnormal"))
    assert "1 image scored, but without DICOM results:" in said
    assert "refused" not in said


@pytest.mark.parametrize("name", ["nowhere.csv", "nowhere.parquet"])
def test_a_table_that_is_not_there_is_called_that(tiny_run: Path, tmp_path: Path, name: str) -> None:
    assert error_of("drift", tiny_run, tmp_path / name).endswith(f"{name}: there is no such file; check the path")
