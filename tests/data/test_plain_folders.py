"""Plain folders of train images: what each image is taken for, and slips that are named with the command meant."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

import aeflow
from aeflow.config import make_settings
from aeflow.data.plain_folders import PlainFolders, implied_settings, place_of, records_of, training_data
from aeflow.data.records import read_records
from aeflow.data.splits import hold_out
from aeflow.errors import DataError
from helpers.command import error_of
from helpers.data import SIZE, TINY


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """NORMALS, ILL, MORE and POOL with images of the same names, and a data folder DATA."""
    monkeypatch.chdir(tmp_path)
    for folder in ("NORMALS", "ILL", "MORE", "POOL", "DATA/train/normal", "DATA/train/abnormal", "TREE/a", "TREE/b"):
        Path(folder).mkdir(parents=True)
        for number in range(3):
            Path(folder, f"{number}.png").write_text(f"{folder} {number}")
    for label in ("normal", "abnormal", "unlabelled"):
        shutil.copytree("NORMALS" if label == "normal" else "ILL", f"FLAT/{label}")
    return tmp_path


def test_each_image_has_the_label_of_its_folder_and_is_a_patient_of_its_own(folders: Path) -> None:
    found = training_data("NORMALS", ["ILL", "MORE"], "POOL")
    records = records_of(found, "train")
    assert Counter(record.label for record in records) == {0: 3, 1: 6, None: 3}
    assert {record.path.parent.name for record in records if record.label == 1} == {"ILL", "MORE"}
    assert len({record.name for record in records}) == len({record.patient for record in records}) == 12
    assert records_of(found, "test") == []
    alone = read_records("NORMALS", "train")  # so both trainings hold out the same
    assert [record.name for record in records if record.label == 0] == [record.name for record in alone]


def test_a_folder_per_patient_is_normal_if_the_user_says_so(folders: Path) -> None:
    for place in ("TREE/a/scan 1/0.png", "TREE/3.png", "TREE/b/person7_1.jpeg"):
        Path(place).parent.mkdir(exist_ok=True)
        Path(place).write_text(place)
    found = training_data("TREE", all_normal=True)
    records = records_of(found, "train")
    assert {record.label for record in records} == {0}
    assert Counter(record.patient for record in records) == {"a": 4, "b": 4, "3.png": 1}
    assert len({record.name for record in records}) == 9
    for seed in range(5):
        kept, held_out = hold_out(records, 0.4, seed)
        assert held_out
        assert not {one.patient for one in kept} & {one.patient for one in held_out}
    assert make_settings(**implied_settings(found)).classifier == "none"
    Path("TREE/Abnormal").mkdir()
    with pytest.raises(DataError, match="holds a folder named Abnormal, and --all-normal says"):
        training_data("TREE", all_normal=True)


def test_patients_of_public_sets_are_known_in_every_folder(folders: Path) -> None:
    for folder in ("NORMALS", "ILL"):
        Path(folder, f"person7_{folder}.jpeg").write_text(folder)
    records = records_of(training_data("NORMALS", "ILL"))
    assert [record.label for record in records if record.patient == "person7"] == [0, 1]


def test_a_data_folder_and_a_folder_of_normals_stay_what_they_are(folders: Path) -> None:
    for name in ("NORMALS", "DATA", "nowhere"):
        assert training_data(name) == Path(name)
    assert place_of(training_data("NORMALS"), 0) == Path("NORMALS")
    assert place_of(training_data("DATA"), 1) == Path("DATA/train/abnormal")
    assert place_of(training_data("NORMALS", "ILL"), 1) == Path("ILL")


SLIPS = {
    ("DATA", "--abnormal", "ILL"): "aeflow train DATA --classifier mixture --out RUN",
    ("DATA/train",): "aeflow train DATA --out RUN",
    ("DATA/train/normal",): "aeflow train DATA --out RUN",
    ("DATA/train/normal", "--abnormal", "DATA/train/abnormal"): "aeflow train DATA --classifier mixture --out RUN",
    ("FLAT",): "aeflow train FLAT/normal --abnormal FLAT/abnormal --unlabelled FLAT/unlabelled --out RUN",
    ("FLAT/abnormal",): "aeflow train FLAT/normal --abnormal FLAT/abnormal --out RUN",
    ("FLAT/abnormal", "--abnormal", "FLAT/normal"): "aeflow train FLAT/normal --abnormal FLAT/abnormal --out RUN",
    ("ILL", "--abnormal", "FLAT/normal"): "aeflow train FLAT/normal --abnormal ILL --out RUN",
    (
        "TREE",
    ): "belong; if each is a patient and all are normal: aeflow train TREE --all-normal --out RUN; else name them,",
    (
        "FLAT",
        "--all-normal",
    ): "aeflow train FLAT/normal --abnormal FLAT/abnormal --unlabelled FLAT/unlabelled --out RUN",
    ("DATA", "--all-normal"): "which say themselves what is abnormal; name it alone: aeflow train DATA --out RUN",
    ("NORMALS", "--abnormal", "TREE"): "TREE: holds 2 folders (folder ",
    ("NORMALS", "--abnormal", "NORMALS"): "NORMALS: is named twice; name a folder once",
    ("NORMALS", "--abnormal", "ILL", "--unlabelled", "./ILL/"): "ILL: is named twice",
    ("NORMALS", "--abnormal", "nowhere"): "nowhere: there is no such folder; check the path",
    ("NORMALS", "--abnormal", "ILL/0.png"): "ILL/0.png: is not a folder",
    ("nowhere", "--abnormal", "ILL"): "nowhere: there is no such folder; check the path",
    ("NORMALS", "--abnormal", "ILLL"): "ILLL: there is no such folder; check the path: there is ILL",
    ("TREES/0/more", "--abnormal", "ILL"): "TREES/0/more: there is no such folder; check the path: there is TREE",
}


@pytest.mark.parametrize("words", SLIPS, ids=" ".join)
def test_a_slip_is_named_with_the_command_that_was_meant(folders: Path, words: tuple[str, ...]) -> None:
    assert SLIPS[words] in error_of("train", *words, "--out", "RUN")
    assert not Path("RUN").exists()


def test_an_image_in_folders_of_two_labels_is_refused(folders: Path) -> None:
    shutil.copy("NORMALS/1.png", "ILL/other name.png")
    with pytest.raises(DataError, match=r"^NORMALS: 1 normal image also in a folder of abnormal ones, byte for byte; "):
        training_data("NORMALS", abnormal="ILL")


def test_folders_of_other_images_imply_the_classifier_that_learns_from_them() -> None:
    taught = implied_settings(PlainFolders(Path("NORMALS"), (Path("ILL"),)))
    assert make_settings(**taught).classifier == "mixture"
    assert make_settings(**{**taught, "labels": 3}).classifier == "mixture"
    assert make_settings(**taught, prior="flowgmm").classifier == "none"
    assert make_settings(**taught, classifier="none").classifier == "none"
    assert make_settings(**implied_settings("NORMALS")).classifier == "none"


def test_python_trains_on_plain_folders(data: Path, tiny_weights: Path, tmp_path: Path) -> None:
    tiny = {"encoder": TINY, "stages": (3,), "class_stages": (2, 3), "epochs": 1, "hidden": 8, "flow_steps": 1}
    model = aeflow.train(
        _copy(data / "train" / "normal", tmp_path / "well"),
        tmp_path / "run",
        abnormal=_copy(data / "train" / "abnormal", tmp_path / "ill"),
        preset="aeflow-1",  # whose terms need no synthetic anomalies
        encoder_weights=tiny_weights,
        device="cpu",
        image_size=SIZE,
        **tiny,
    )
    assert model.artifact.settings.classifier == "mixture"
    assert model.artifact.metadata["labelled_set"]["labelled_images"] == {"abnormal": 6}
    score = model.score(next((data / "test" / "abnormal").iterdir()))
    assert set(score.posterior) == {"normal", "abnormal"}
    assert str(tmp_path).encode() not in (tmp_path / "run" / "model.json").read_bytes()


def _copy(folder: Path, place: Path) -> Path:
    return Path(shutil.copytree(folder, place))


def test_as_a_path_it_is_the_folder_of_normals() -> None:
    folders = PlainFolders(Path("NORMALS"), (Path("ILL"),))
    assert (Path(folders), str(folders)) == (Path("NORMALS"), "NORMALS")
