"""Volumes and mixed formats in one data set, from training to the studies' table, as a user does it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt
from PIL import Image

from aeflow.cli import main
from helpers.command import within
from helpers.data import SIZE, lesion, texture

SLICES = 5


def write_volume(path: Path, slices: list[np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # what an axial slice shows is the volume's plane turned: rows run from anterior, columns from the right
    voxels = np.stack([pixels.T[::-1, ::-1] for pixels in slices], axis=2)
    nibabel.save(nibabel.Nifti1Image(voxels.astype(np.int16), np.diag([1.0, 1.0, 3.0, 1.0])), path)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train normals as volumes with an empty first slice and as PNGs; volumes to test, abnormal ones with masks."""
    root = tmp_path_factory.mktemp("mixed")
    for i in range(6):
        empty = np.zeros((SIZE, SIZE), np.uint8)
        write_volume(root / f"train/normal/v{i}.nii.gz", [empty, *(texture(10 * i + k) for k in range(SLICES - 1))])
    (root / "train/normal").mkdir(exist_ok=True)
    for i in range(12):
        Image.fromarray(texture(500 + i)).save(root / f"train/normal/p{i}.png")
    for i in range(3):
        write_volume(root / f"test/normal/n{i}.nii", [texture(1000 + 10 * i + k) for k in range(SLICES)])
        slices, masks = [texture(2000 + 10 * i + k) for k in range(SLICES)], [np.zeros((SIZE, SIZE), np.uint8)] * SLICES
        slices[2], masks[2] = lesion(3000 + i)
        write_volume(root / f"test/abnormal/a{i}.nii", slices)
        write_volume(root / f"test/mask/a{i}.nii", masks)
    return root


@pytest.fixture(scope="module")
def mixed_run(mixed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "mixed"
    small = ("image_size=64", "hidden=16", "flow_steps=2", "batch_size=8")
    changes = [part for change in small for part in ("--set", change)]
    with pytest.raises(SystemExit) as end:
        main(["train", str(mixed), "--out", str(run), "--epochs", "3", "--device", "cpu", "--no-graph", *changes])
    assert end.value.code == 0, "empty slices are no refusals"
    return run


def test_the_training_counts_slices(mixed_run: Path) -> None:
    facts = json.loads((mixed_run / "model.json").read_text())["training"]
    assert facts["normal_images"] + facts["held_out_images"] == 6 * (SLICES - 1) + 12
    assert facts["patients"] + facts["held_out_patients"] == 6 + 12
    assert facts["refused_images"] == 0


def test_scores_name_slices_and_studies(mixed: Path, mixed_run: Path, tmp_path: Path) -> None:
    out, _ = within("score", mixed_run, mixed / "test", "--out", tmp_path / "scores.csv")
    assert "6 studies" in out
    rows = list(csv.DictReader((tmp_path / "scores.csv").open()))
    assert len(rows) == 6 * SLICES
    assert [row["slice"] for row in rows[:SLICES]] == ["1", "2", "3", "4", "5"]
    studies = list(csv.DictReader((tmp_path / "scores.studies.csv").open()))
    assert [study["images"] for study in studies] == ["5"] * 6
    for study in studies:
        named = [rows[int(row) - 1] for row in study["rows"].split()]
        assert {row["study"] for row in named} == {study["study"]}
        assert [float(row["score"]) for row in named] == sorted((float(row["score"]) for row in named), reverse=True)


def test_evaluation_is_of_slices_and_studies(mixed: Path, mixed_run: Path, tmp_path: Path) -> None:
    out, _ = within("evaluate", mixed_run, mixed, "--out", tmp_path)
    assert "AUROC, studies" in out
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["n_normal"], metrics["n_abnormal"]) == (3 * SLICES, 3)
    assert (metrics["study"]["n_normal"], metrics["study"]["n_abnormal"]) == (3, 3)
    assert metrics["auroc"]["value"] > 0.9
    assert metrics["pixel"]["anomaly"]["auroc"]["value"] > 0.7
    assert (tmp_path / "scores.studies.csv").exists()
    assert 'id="studies"' in (tmp_path / "report.html").read_text()


def test_a_slice_can_be_explained(mixed: Path, mixed_run: Path, tmp_path: Path) -> None:
    volume = mixed / "test/abnormal/a0.nii"
    out, _ = within("explain", mixed_run, volume, "--slice", "3", "--out", tmp_path)
    assert "picture:" in out
    _, err = within("explain", mixed_run, volume, "--out", tmp_path / "whole", ok=2)
    assert "5 images in one file; name a slice" in err


def test_the_map_of_a_volume_is_hottest_at_the_lesion_in_world_coordinates(
    mixed: Path, mixed_run: Path, tmp_path: Path
) -> None:
    turned = axcodes2ornt("SPL")
    for i in range(3):  # each lies in its file in another way, and obliquely in space
        for kind in ("abnormal", "mask"):
            image = nibabel.load(mixed / f"test/{kind}/a{i}.nii")
            affine = np.array([[0.8, -0.6, 0, 40], [0.6, 0.8, 0, -70], [0, 0, 1, 9], [0, 0, 0, 1]]) @ image.affine
            oblique = nibabel.Nifti1Image(np.asarray(image.dataobj), affine).as_reoriented(np.roll(turned, i, axis=0))
            (tmp_path / kind).mkdir(exist_ok=True)
            nibabel.save(oblique, tmp_path / kind / f"a{i}.nii.gz")
    (tmp_path / "abnormal/b.nii.gz").write_bytes(b"no volume")
    options = ("--nifti", tmp_path / "maps", "--out", tmp_path / "s.csv")
    out, err = within("score", mixed_run, tmp_path / "abnormal", *options, ok=1)
    assert "no NIfTI map" not in err
    assert f"maps of volumes: {tmp_path / 'maps'}\n" in out
    named = [row["map"] for row in csv.DictReader((tmp_path / "s.csv").open())]
    firsts = (f"{1 + SLICES * i:05}.nii.gz" for i in range(3))
    assert named == [*(name for name in firsts for _ in range(SLICES)), ""], (
        "the file of each row's volume; none if refused"
    )
    for i, row in enumerate((1, 1 + SLICES, 1 + 2 * SLICES)):
        made = nibabel.load(tmp_path / f"maps/{row:05}.nii.gz")
        mask = nibabel.load(tmp_path / f"mask/a{i}.nii.gz")
        assert made.shape == nibabel.load(tmp_path / f"abnormal/a{i}.nii.gz").shape
        hottest = np.unravel_index(np.argmax(made.get_fdata()), made.shape)
        place = made.affine @ [*hottest, 1]
        marked = np.rint(np.linalg.inv(mask.affine) @ place)[:3].astype(int)
        assert np.asarray(mask.dataobj)[tuple(marked)] > 0, i
