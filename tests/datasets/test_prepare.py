"""Recipes: the download of a public set becomes a data folder that says what its authors published, or an error."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aeflow.audit.audit import audit
from aeflow.cli import main
from aeflow.data.records import SPLITS, read_records
from aeflow.data.splits import shared_patients
from aeflow.datasets import prepare
from aeflow.datasets.catalog import RECIPES
from aeflow.datasets.prepare import Prepared, one_side, tally
from aeflow.datasets.recipe import Release
from aeflow.errors import DataError
from aeflow.imageio.errors import ImageError
from aeflow.imageio.reader import read_image, read_mask
from helpers import public_sets

PUBLISHED = {  # of the miniatures: images by split and class, before any is left out
    "chest_xray": {
        ("train", "normal"): 6,
        ("train", "abnormal"): 7,
        ("train", "bacteria"): 3,
        ("train", "virus"): 4,
        ("val", "normal"): 1,
        ("val", "abnormal"): 1,
        ("test", "normal"): 4,
        ("test", "abnormal"): 4,
    },
    "oct2017": {(s, k): n for s, n in (("train", 3), ("test", 2)) for k in ("normal", "CNV", "DME", "DRUSEN")},
    "isic2018": {
        ("train", "normal"): 3,
        ("train", "MEL"): 1,
        ("train", "DF"): 1,
        ("test", "normal"): 1,
        ("test", "BCC"): 1,
    },
    "brats2021": {("", "volume"): 5},
    "lgg_mri": {("", "normal"): 15, ("", "abnormal"): 5},
    "brain_tumor_mri": {
        ("train", "normal"): 3,
        ("train", "glioma"): 3,
        ("test", "normal"): 2,
        ("test", "pituitary"): 2,
    },
    "rsna_pneumonia": {("", "normal"): 10, ("", "lung opacity"): 10, ("", "other"): 10},
    "vinbigdata": {("", "normal"): 6, ("", "abnormal"): 4},
    "bmad": {("train", "normal"): 3, ("val", "abnormal"): 3, ("test", "normal"): 3, ("test", "abnormal"): 3},
    "mvtec": {("train", "normal"): 3, ("test", "normal"): 3, ("test", "broken"): 3},
}
DRAWN = ("brats2021", "lgg_mri", "rsna_pneumonia", "vinbigdata")
MASKED = ("brats2021", "lgg_mri", "bmad", "mvtec")


@pytest.fixture(scope="module")
def downloads(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("downloads")
    for name in RECIPES:
        getattr(public_sets, name)(root / name)
    return root


def miniature(name: str, counts: dict[tuple[str, str], int] | None = None):
    """The recipe as it is, with the counts of the miniature as the published ones."""
    return replace(RECIPES[name], releases=(Release("in miniature", PUBLISHED[name] if counts is None else counts),))


def run(name: str, downloads: Path, out: Path) -> Prepared:
    return prepare(miniature(name), downloads / name, out)


def error_of(*arguments, **options) -> str:
    with pytest.raises(DataError) as caught:
        prepare(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def call(*arguments: str, code: int = 0) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == code


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_prepared_is_what_is_read_back(name, downloads, tmp_path):
    prepared = run(name, downloads, tmp_path)
    records = read_records(tmp_path)
    assert Counter((r.split, r.label, r.kind) for r in records) == Counter(
        (split, r.label, r.kind) for split, members in prepared.splits.items() for r in members
    )
    assert {r.label for r in records if r.split == "train"} >= {0}
    assert {r.label for r in records if r.split == "test"} == {0, 1}
    assert all(read_image(r.path).pixels.std() > 0 for r in records)
    assert all(bool(r.mask) == (r.label == 1 and name in MASKED) for r in records)
    assert all(read_mask(r.mask).any() for r in records if r.mask)
    assert prepared.release is not None
    assert prepared.release.name == "in miniature"


@pytest.mark.parametrize("name", RECIPES)
def test_no_patient_is_on_two_sides(name, downloads, tmp_path):
    run(name, downloads, tmp_path)
    parts = [[r for r in read_records(tmp_path) if r.split == split] for split in SPLITS]
    for i, part in enumerate(parts):
        assert not shared_patients(part, [r for other in parts[i + 1 :] for r in other])


@pytest.mark.parametrize("name", sorted(set(RECIPES) - set(DRAWN)))
def test_a_published_split_is_kept(name, downloads, tmp_path):
    prepared = run(name, downloads, tmp_path)
    found = tally(read_records(tmp_path))
    left_out = 2 if name == "chest_xray" else 0  # see the test below
    assert sum(PUBLISHED[name].get(key, 0) - found[key] for key in found if key[1] == "abnormal") <= left_out
    assert prepared.left_out == left_out
    for split, class_ in PUBLISHED[name]:
        if class_ == "normal":
            assert found[split, class_] == PUBLISHED[name][split, class_]


def test_images_of_a_test_patient_leave_the_train_split(downloads, tmp_path):
    prepared = run("chest_xray", downloads, tmp_path)
    assert (prepared.left_out, prepared.patients_left_out) == (2, 1)
    names = {r.path.name for r in read_records(tmp_path, "train")}
    assert "person2_bacteria_2.jpeg" not in names
    assert "person2_virus_77.jpeg" not in names
    assert "person3_virus_3.jpeg" in names
    assert "person2_virus_0.jpeg" in {r.path.name for r in read_records(tmp_path, "test")}
    assert "Left out: 2 images of 1 patient with others" in (tmp_path / "SOURCE.md").read_text()


def test_a_later_split_keeps_the_patient(downloads):
    records = RECIPES["chest_xray"].records(downloads / "chest_xray/chest_xray")
    everyone = [replace(record, patient="one") for record in records]
    assert {record.split for record in one_side(everyone)} == {"test"}
    assert one_side([r for r in everyone if r.split == "train"]) == [r for r in everyone if r.split == "train"]


def test_kinds_and_patients_come_from_the_names(downloads, tmp_path):
    run("chest_xray", downloads, tmp_path / "chest")
    chest = {r.path.name: r for r in read_records(tmp_path / "chest")}
    assert (chest["person3_virus_3.jpeg"].kind, chest["person3_virus_3.jpeg"].patient) == ("virus", "person3")
    assert chest["NORMAL2-IM-0001-0001.jpeg"].patient == "NORMAL2-IM-0001"
    run("oct2017", downloads, tmp_path / "oct")
    oct_ = {r.path.name: r for r in read_records(tmp_path / "oct")}
    assert (oct_["DME-1101-2.jpeg"].kind, oct_["DME-1101-2.jpeg"].patient) == ("DME", "1101")
    run("isic2018", downloads, tmp_path / "isic")
    lesions = [r.patient for r in read_records(tmp_path / "isic", "train")]
    assert Counter(lesions) == {"HAM_0": 2, "HAM_1": 2, "HAM_2": 1}


def test_images_stay_where_they_are(downloads, tmp_path):
    prepare(miniature("chest_xray"), downloads / "chest_xray", tmp_path)
    assert (tmp_path / "images").resolve() == (downloads / "chest_xray/chest_xray").resolve()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["SOURCE.md", "images", "manifest.csv"]
    with (tmp_path / "manifest.csv").open(newline="") as file:
        assert all(row["path"].startswith("images/") for row in csv.DictReader(file))


def test_slices_of_volumes_show_what_the_volume_holds(downloads, tmp_path):
    run("brats2021", downloads, tmp_path)
    records = read_records(tmp_path)
    assert {r.position for r in records} == {60, 65, 70, 75, 80, 85, 90}  # above there is no head
    assert all(r.label == (62 <= r.position <= 81) for r in records)
    assert {r.patient for r in records} == {f"BraTS2021_{i:05}" for i in range(5)}
    one = next(r for r in records if r.label == 1)
    pixels, marked = np.array(Image.open(one.path)), read_mask(one.mask)
    assert pixels.shape == marked.shape == (40, 48)
    assert np.argwhere(marked).min(axis=0).tolist() == [40 - 20, 48 - 20]  # anterior is up, the patient's right is left


@pytest.mark.parametrize("name", ["chest_xray", "lgg_mri", "rsna_pneumonia"])
def test_what_is_prepared_can_be_audited(name, downloads, tmp_path):
    run(name, downloads, tmp_path)
    found = audit(tmp_path)
    assert not found.refusals
    assert not [finding for finding in found.findings if "patient" in finding.found]


# Counts


def test_counts_as_published_pass_and_others_are_named(downloads, tmp_path):
    good = PUBLISHED["oct2017"]
    bad = {**good, ("train", "CNV"): 4, ("test", "normal"): 9}
    message = error_of(miniature("oct2017", bad), downloads / "oct2017", tmp_path / "a")
    found = "train CNV 3 where 4 were published, test normal 2 where 9 were published (in miniature)"
    remedy = "download and unpack it again, or go on as it is with --allow-counts"
    assert message == f"{downloads}/oct2017: {found}; {remedy}"
    assert not (tmp_path / "a").exists()
    prepared = prepare(miniature("oct2017", bad), downloads / "oct2017", tmp_path / "b", allow_counts=True)
    assert prepared.release is None
    assert "train CNV 3 where 4 were published" in (tmp_path / "b/SOURCE.md").read_text()


def test_of_several_releases_the_one_at_hand_is_compared(downloads, tmp_path):
    good = Release("second", PUBLISHED["oct2017"])
    other = Release("first", {key: 5 * n for key, n in PUBLISHED["oct2017"].items()})
    recipe = replace(RECIPES["oct2017"], releases=(other, good))
    assert prepare(recipe, downloads / "oct2017", tmp_path / "a").release == good
    close = Release("second", {**good.counts, ("test", "DME"): 3})
    message = error_of(replace(recipe, releases=(other, close)), downloads / "oct2017", tmp_path / "b")
    assert ": test DME 2 where 3 were published (second); " in message


def test_counts_that_nobody_confirms_are_said_to_be_unchecked(downloads, tmp_path):
    prepare(RECIPES["mvtec"], downloads / "mvtec", tmp_path)
    assert "its counts were not checked: no source confirms them" in (tmp_path / "SOURCE.md").read_text()


def test_published_totals_are_those_of_the_papers():
    totals = {name: [sum(release.counts.values()) for release in recipe.releases] for name, recipe in RECIPES.items()}
    assert totals["chest_xray"] == [5856, 5856]
    assert totals["oct2017"] == [84484, 109309]  # 83,484 + 968 + 32; 108,309 + 1,000
    assert totals["isic2018"] == [10015 + 193]
    assert totals["lgg_mri"] == [3929]
    assert totals["brain_tumor_mri"] == [5712 + 1311]
    assert totals["rsna_pneumonia"] == [26684]
    assert totals["vinbigdata"] == [15000]


# What is not as it should be


def test_a_wrong_folder_says_what_is_there_and_what_is_not(downloads, tmp_path):
    recipe = RECIPES["chest_xray"]
    assert error_of(recipe, tmp_path / "gone", tmp_path / "out") == (
        f"{tmp_path}/gone: there is no such folder; unpack the archive, and name the folder it gives"
    )
    (tmp_path / "archive.zip").write_bytes(b"PK")
    assert "archive.zip: is a file; unpack" in error_of(recipe, tmp_path / "archive.zip", tmp_path / "out")
    message = error_of(recipe, downloads / "oct2017", tmp_path / "out")
    found = "holds train/NORMAL, test/NORMAL and lacks train/PNEUMONIA, test/PNEUMONIA (1 entries in it)"
    page = "https://data.mendeley.com/datasets/rscbjbr9sj"
    assert message == f"{downloads}/oct2017: of {recipe.title} it {found}; name the unpacked download of {page}"
    assert "it holds nothing and lacks train/NORMAL," in error_of(recipe, tmp_path, tmp_path / "out")


def test_half_a_download_is_refused(downloads, tmp_path):
    half = tmp_path / "half"
    shutil.copytree(downloads / "chest_xray", half)
    shutil.rmtree(half / "chest_xray/test/PNEUMONIA")
    message = error_of(miniature("chest_xray"), half, tmp_path / "out")
    assert "it holds train/NORMAL, train/PNEUMONIA, test/NORMAL and lacks test/PNEUMONIA" in message
    (half / "chest_xray/test/PNEUMONIA").mkdir()
    message = error_of(miniature("chest_xray"), half, tmp_path / "out")
    assert ": test abnormal 0 where 4 were published (in miniature); download and unpack it again" in message
    for file in (half / "chest_xray/train/NORMAL").iterdir():
        file.write_bytes(b"")
    message = error_of(miniature("chest_xray"), half, tmp_path / "out")
    assert message == f"{half}: 0 of 19 files missing, 6 empty; download and unpack it again"


def test_a_table_that_names_absent_images_or_is_damaged_is_refused(downloads, tmp_path):
    copy = tmp_path / "isic"
    shutil.copytree(downloads / "isic2018", copy)
    next((copy / "ISIC2018_Task3_Training_Input").glob("*.jpg")).unlink()
    assert "1 of 7 files missing, 0 empty; " in error_of(miniature("isic2018"), copy, tmp_path / "out")
    table = copy / "ISIC2018_Task3_Validation_GroundTruth.csv"
    table.write_text("image,MEL\nISIC_1,1.0\n")
    message = error_of(miniature("isic2018"), copy, tmp_path / "out")
    assert message == f"{table}: no column 'NV', 'BCC', 'AKIEC', 'BKL', 'DF', 'VASC' among 2 columns; download it again"


def test_a_volume_without_its_segmentation_or_damaged_is_refused(downloads, tmp_path):
    copy = tmp_path / "brats"
    shutil.copytree(downloads / "brats2021", copy)
    (copy / "BraTS2021_00003/BraTS2021_00003_seg.nii.gz").unlink()
    assert "1 of 10 files missing" in error_of(miniature("brats2021"), copy, tmp_path / "out")
    flair = copy / "BraTS2021_00003/BraTS2021_00003_flair.nii.gz"
    shutil.copy(downloads / "brats2021/BraTS2021_00003/BraTS2021_00003_seg.nii.gz", flair.parent)
    flair.write_bytes(flair.read_bytes()[:5000])
    with pytest.raises(ImageError, match="truncated"):
        prepare(miniature("brats2021"), copy, tmp_path / "out")
    assert not (tmp_path / "out/manifest.csv").exists()


def test_nothing_is_written_over_or_into_the_download(downloads, tmp_path):
    recipe = miniature("mvtec")
    assert "lies in the download; name a folder outside" in error_of(
        recipe, downloads / "mvtec", downloads / "mvtec/bottle/out"
    )
    prepare(recipe, downloads / "mvtec", tmp_path)
    message = error_of(recipe, downloads / "mvtec", tmp_path)
    assert message == f"{tmp_path}/manifest.csv: is there already; move it away, or name another folder with --out"


def test_a_data_folder_that_cannot_be_made_is_named(downloads, tmp_path):
    (tmp_path / "file").write_text("")
    message = error_of(miniature("mvtec"), downloads / "mvtec", tmp_path / "file/DATA")
    expected = f"{tmp_path}/file/DATA: cannot be written (Not a directory); name another folder with --out"
    assert message == expected
    (tmp_path / "DATA/images").mkdir(parents=True)
    message = error_of(miniature("mvtec"), downloads / "mvtec", tmp_path / "DATA")
    assert message == f"{tmp_path}/DATA: cannot be written (File exists); name another folder with --out"
    assert not (tmp_path / "DATA/manifest.csv").exists()


# On the command line


def test_the_list_names_terms_and_pages(capsys):
    call("data", "prepare")
    out = capsys.readouterr().out
    for name, recipe in RECIPES.items():
        assert name in out
        assert recipe.url in out
        assert recipe.licence in out


def test_the_command_prints_split_licence_and_citation(downloads, tmp_path, capsys):
    call("data", "prepare", "bmad", str(downloads / "bmad"), "--out", str(tmp_path / "DATA"))
    out = capsys.readouterr().out
    assert "train 3 normal, 0 abnormal, 0 unlabelled images of 3 patients" in out
    assert "Licence: CC BY-NC-SA 4.0" in out
    assert "Cite: Bao J et al." in out
    assert "no source confirms them" in out
    assert len(read_records(tmp_path / "DATA")) == 15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chest"], "error: data set: 'chest' is not known; name one of chest_xray, oct2017, isic2018, "),
        (["mvtec"], "error: mvtec: no download or no --out; aeflow data prepare mvtec FOLDER --out DATA"),
    ],
)
def test_a_wrong_call_says_what_is_right(arguments, message, capsys):
    call("data", "prepare", *arguments, code=2)
    assert capsys.readouterr().err.startswith(message)
