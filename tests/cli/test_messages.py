"""What a newcomer meets: mistakes at the first try, each with one line that says what to do instead."""

from __future__ import annotations

import pickle
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import aeflow
from aeflow.cli import main
from aeflow.data.records import find_images, read_records
from aeflow.errors import ArtifactError, DataError, OutputError, SettingsError
from aeflow.imageio.errors import ImageError
from aeflow.imageio.reader import read_image
from helpers.data import texture


def error_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err.removeprefix("error: ").rstrip()


@pytest.mark.parametrize(
    ("typed", "command", "found"),
    [
        ("trian", "aeflow", "no such command 'trian'. Did you mean 'train'?"),
        ("train", "aeflow train", "missing argument 'data'"),
        ("data split", "aeflow data split", "missing argument 'data'"),
        ("cache lst", "aeflow cache", "no such command 'lst'. Did you mean 'list'?"),
        ("score --ot x", "aeflow score", "no such option: --ot (Possible options: --json, --out, --report)"),
        ("serve --port x", "aeflow serve", "invalid value for '--port'; give a whole number"),
    ],
)
def test_wrong_use_is_one_line_that_names_the_help(
    capsys: pytest.CaptureFixture[str], typed: str, command: str, found: str
) -> None:
    line = error_of(capsys, *typed.split())
    assert line.startswith(f"{command}: {found}")
    assert line.endswith(f"; see {command} --help")


def test_a_second_folder_of_train_is_told_its_option(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    line = error_of(capsys, "train", folder, folder, "--out", folder / "run")
    assert "abnormal images go behind --abnormal" in line


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert "recalibrate" in out
    assert err == ""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("train/normal/a", "train/normal/b", "test/normal/a", "test/abnormal/b"):
        path = tmp_path / "data" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(texture(len(name))).save(path)
    return tmp_path / "data"


@pytest.mark.parametrize("command", ["score", "evaluate", "explain", "recalibrate"])
def test_a_model_in_the_place_of_the_images_is_recognised(folder, tmp_path, capsys, command):
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.json").touch()
    out = ["--out", tmp_path / "out"] if command != "score" else []
    found = error_of(capsys, command, folder, model, *out)
    what = "data folder" if command == "evaluate" else "images"
    assert found == f"{folder}: is no model, but {model} is one; name the model first, then the {what}"


def test_what_does_not_exist_is_wrong_use_and_named(folder, tmp_path, capsys):
    found = error_of(capsys, "score", tmp_path / "model", tmp_path / "gone")
    assert found == f"{tmp_path}/gone: there is no such file or folder; check the path"


@pytest.mark.parametrize("below", ["train", "train/normal"])
def test_a_part_of_a_data_folder_is_told_the_whole(folder, tmp_path, capsys, below):
    found = error_of(capsys, "train", folder / below, "--out", tmp_path / "out")
    assert found.endswith(f"; name that: aeflow train {folder} --out RUN")
    found = error_of(capsys, "audit", folder / "train" / "normal", "--out", tmp_path / "out")
    assert found.endswith(f"; name the data folder itself: {folder}")


@pytest.mark.parametrize("command", ["score", "evaluate", "explain"])
def test_an_unknown_device_is_refused_whatever_runs_the_model(folder, tmp_path, capsys, command):
    out = ["--out", tmp_path / "out"] if command != "score" else []
    images = folder if command == "evaluate" else folder / "train/normal/a.png"
    found = error_of(capsys, command, tmp_path, images, *out, "--device", "gpu")
    assert found == "device: 'gpu' is not supported; choose auto, cpu or cuda"


@pytest.mark.parametrize("command", ["score", "train", "audit", "cache list", ""])
def test_help_shows_no_type_beside_a_flag(capsys, command):
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    assert "<bool>" not in capsys.readouterr().out


def test_what_lies_beside_images_is_passed_over_with_a_note_and_a_damaged_image_is_not(folder, capsys):
    before = [record.name for record in read_records(folder)]
    beside = {"Thumbs.db": b"\xd0\xcf\x11\xe0", "README": b"About", "notes.txt": "fünf".encode(), "a.pdf": b"%PDF-1.7"}
    for name, content in beside.items():
        (folder / "train/normal" / name).write_bytes(content)
    assert [record.name for record in read_records(folder)] == before
    err = capsys.readouterr().err
    assert err.startswith("note: 4 files are no images and are passed over: file ")
    assert err.endswith("; --identify shows names\n")
    assert err.count("\n") == 1
    damaged = {"text.png": b"no image", "scan": b"\x89PNG cut off", "empty": b"", "old.gif": b"GIF89a"}
    for name, content in damaged.items():
        (folder / "train/normal" / name).write_bytes(content)
    listed = {record.path.name: record.path for record in find_images([folder / "train/normal"])}
    assert set(listed) == {"a.png", "b.png", *damaged}
    for name in damaged:
        with pytest.raises(ImageError):
            read_image(listed[name])


def test_what_was_typed_is_named_in_its_refusal(folder, tmp_path, capsys, tiny_run):
    bad = tmp_path / "notes.txt"
    bad.write_text("no image")
    with pytest.raises(SystemExit) as end:
        main(["score", str(tiny_run), str(bad), str(folder / "test/normal/a.png")])
    assert end.value.code == 1
    err = capsys.readouterr().err
    assert f"1 image refused:\n  {bad}: text, not an image; name an image file\n" in err
    assert "--identify" not in err


def test_slips_in_python_are_one_line_with_the_remedy(folder, tmp_path, tiny_run):
    model = aeflow.load(tiny_run, "cpu")
    image, gone = folder / "test/normal/a.png", tmp_path / "nosuch.png"
    with pytest.raises(ImageError, match=re.escape(f"{gone}: ")):  # typed, so named
        model.score(gone)
    with pytest.raises(ImageError, match=r"^the image given: has the shape \(40, 40, 4\); give"):
        model.score(np.zeros((40, 40, 4)))
    with pytest.raises(SettingsError, match=r"^image: a list of 2 images; score_all or frame take several$"):
        model.score([image, image])
    with pytest.raises(
        DataError, match=r"^data: a list where a folder is read; name the folder that holds the images$"
    ):
        aeflow.train([image, image], out=tmp_path / "run")
    with pytest.raises(SettingsError, match=r"^looks_fro: no such setting; do you mean looks_for\?"):
        aeflow.train(folder, out=tmp_path / "run", looks_fro="focal")
    with pytest.raises(ArtifactError, match=r"already holds a model; .*in Python overwrite=True"):
        aeflow.train(folder, out=tiny_run)


def test_results_do_not_come_among_the_images_that_they_are_of(folder, tmp_path, capsys, tiny_run):
    images = folder / "train" / "normal"
    for option in ("--maps", "--dicom", "--nifti"):
        found = error_of(capsys, "score", tiny_run, images, option, images)
        assert found == f"{images}: holds images that are read here; name a folder of its own for the results"
    file = tmp_path / "file"
    file.touch()
    assert error_of(capsys, "score", tiny_run, images, "--maps", file) == f"{file}: is a file; name a folder"
    plain = tmp_path / "plain"
    shutil.copytree(images, plain)
    with pytest.raises(OutputError, match=r"holds images that are read here"):
        aeflow.train(plain, out=plain)
    for place in (images, plain):
        assert sorted(path.name for path in place.iterdir()) == ["a.png", "b.png"]


def test_the_folder_that_was_probably_meant_is_named(folder, capsys, tiny_run):
    found = error_of(capsys, "score", tiny_run, folder / "tset")
    assert found.endswith(f"/tset: there is no such file or folder; check the path: there is {folder / 'test'}")


def test_office_documents_beside_images_are_passed_over(folder, capsys):
    for name, first in (("list.xlsx", "[Content_Types].xml"), ("a.docx", "word/document.xml"), ("a.odt", "mimetype")):
        with zipfile.ZipFile(folder / "train/normal" / name, "w") as file:
            file.writestr(first, "<Types/>")
    (folder / "train/normal/old.doc").write_bytes(bytes.fromhex("d0cf11e0a1b11ae1") + bytes(500))
    assert len(read_records(folder)) == 4
    assert capsys.readouterr().err.startswith("note: 4 files are no images and are passed over: ")


def test_a_file_that_is_named_twice_is_scored_once(folder, capsys, tiny_run):
    image = next((folder / "train/normal").iterdir())
    with pytest.raises(SystemExit):
        main(["score", str(tiny_run), str(image), str(folder / "train"), str(image), "--backend", "torch"])
    out, err = capsys.readouterr()
    assert out.count(image.name) == 1
    assert "note: 2 files are named more than once, and taken once" in err


def test_a_path_that_nobody_typed_is_not_named(folder, tiny_run, capsys):
    found = error_of(capsys, "score", tiny_run, folder / "test", "--out", "/proc/x.csv")
    assert found.startswith("/proc/x.csv: ")
    assert ".part" not in found


def test_a_score_compares_by_what_it_holds_and_a_model_pickles_as_its_folder(folder, tiny_run):
    model = aeflow.load(tiny_run, "cpu")
    image = folder / "test/normal/a.png"
    score, again = model.score(image), pickle.loads(pickle.dumps(model)).score(image)
    assert score == again
    assert len({score, again}) == 1
    assert np.isclose(score.value, again.value)
    assert repr(model) == f"Model({str(tiny_run)!r}, backend={model.scorer.backend.name!r})"
