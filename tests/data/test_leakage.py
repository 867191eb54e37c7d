"""Leakage: a train normal that the test split knows stops the training, unless the user says otherwise."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aeflow.cli import main
from aeflow.data import leakage as module
from aeflow.data.leakage import leakage
from aeflow.data.records import read_records
from aeflow.errors import DataError
from aeflow.runtime.files import content
from aeflow.training import train as training
from helpers.data import SAMPLE, small_settings, texture, write_data


@pytest.fixture
def sides(tmp_path):
    """Write images of both sides: (name, pixels, patient); give what leaks."""

    def look(train, test):
        rows = ["path,split,label,patient"]
        for split, images in (("train", train), ("test", test)):
            for name, seed, patient in images:
                Image.fromarray(texture(seed)).save(tmp_path / f"{name}.png")
                rows.append(f"{name}.png,{split},0,{patient}")
        (tmp_path / "manifest.csv").write_text("\n".join(rows))
        return leakage(read_records(tmp_path, "train"), read_records(tmp_path, "test"))

    return look


def test_nothing_leaks_between_different_patients_with_different_images(sides):
    found = sides([("a", 1, "p"), ("b", 2, "q")], [("c", 3, "r")])
    assert found.images == 0


def test_a_patient_and_a_copy_leak_and_each_image_counts_once(sides):
    train = [("a", 1, "p"), ("b", 2, "p"), ("c", 3, "q"), ("d", 4, "s")]
    found = sides(train, [("e", 5, "p"), ("f", 3, "t"), ("g", 1, "u")])
    assert [record.name for record in found.of_patients] == ["a.png", "b.png"]
    assert [record.name for record in found.copies] == ["a.png", "c.png"]
    assert found.images == 3
    assert str(found) == (
        "3 train normals in the test split: 2 of 1 patient of the test split and 2 whose file is in the test split, too"
    )


def test_only_files_of_a_size_that_is_on_both_sides_are_opened(sides, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(module, "content", lambda path, limit: opened.append(path.name) or content(path, limit))
    for name, size in {"a": 10, "b": 20, "c": 20, "d": 30}.items():
        (tmp_path / name).write_bytes(bytes([ord(name)]) * size)
    (tmp_path / "manifest.csv").write_text("path,split\na,train\nb,train\nc,test\nd,test")
    assert leakage(read_records(tmp_path, "train"), read_records(tmp_path, "test")).images == 0
    assert sorted(opened) == ["b", "c"]


def test_files_that_are_gone_are_left_to_the_reader(sides, tmp_path):
    sides([("a", 1, "p"), ("b", 2, "q")], [("c", 1, "r")])
    records = read_records(tmp_path)
    (tmp_path / "c.png").unlink()
    assert leakage(records[:2], records[2:]).images == 0
    assert content(tmp_path / "c.png") is None


def test_real_splits_do_not_leak():
    train = [record for record in read_records(SAMPLE, "train") if record.label == 0]
    assert leakage(train, read_records(SAMPLE, "test")).images == 0


@pytest.fixture
def leaky(tmp_path) -> Path:
    """A data folder in which one train normal is a file of the test split, under another patient."""
    data = write_data(tmp_path / "data")
    shutil.copy(data / "train" / "normal" / "003.png", data / "test" / "normal" / "copy.png")
    with (data / "manifest.csv").open("a") as file:
        file.write("test/normal/copy.png,test,0,other,\n")
    return data


def test_training_stops_on_leakage_before_it_writes_anything(leaky, tmp_path):
    with pytest.raises(DataError, match=r"1 train normal in the test split: 1 whose file .*--allow-leakage"):
        training.train(leaky, tmp_path / "run", small_settings(), device="cpu")
    assert not (tmp_path / "run").exists()


def test_training_goes_on_where_it_is_told_to_and_says_so(leaky, tmp_path, capsys):
    arguments = ["train", str(leaky), "--out", str(tmp_path / "run"), "--device", "cpu", "--no-graph"]
    small = [f"--set={name}" for name in ("image_size=64", "hidden=16", "flow_steps=2", "epochs=1", "batch_size=8")]
    with pytest.raises(SystemExit) as left:
        main([*arguments, *small])
    assert left.value.code == 2
    assert "aeflow audit" in capsys.readouterr().err
    with pytest.raises(SystemExit) as left:
        main([*arguments, *small, "--allow-leakage"])
    assert not left.value.code
    assert "note: 1 train normal in the test split" in capsys.readouterr().err


def test_abnormal_images_of_test_patients_stop_nothing(tmp_path):
    data = write_data(tmp_path / "data", train=30)
    with (data / "manifest.csv").open() as file:
        rows = list(csv.reader(file))
    shared = [[*row[:3], "u1", *row[4:]] if row[1:3] == ["train", "1"] else row for row in rows]
    (data / "manifest.csv").write_text("\n".join(",".join(row) for row in shared))
    trained = training.train(data, tmp_path / "run", small_settings(epochs=1), device="cpu")
    assert trained.artifact.metadata["training"]["leaked_images"] == 0
    assert np.isfinite(trained.artifact.calibration.threshold)
