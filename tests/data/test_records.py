"""Records: folders and manifests say the same thing, and whatever is wrong with either is said by file and line."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from aeflow.data.preprocess import preprocess_mask
from aeflow.data.records import find_images, of_label, patient_of, read_records
from aeflow.data.splits import shared_patients
from aeflow.errors import DataError
from aeflow.imageio.errors import ImageError
from aeflow.imageio.reader import read_image
from aeflow.privacy import identify, pseudonym
from helpers.data import SAMPLE
from helpers.image_files import noise, png

FILES = (
    "train/normal/b.png",
    "train/normal/a.png",
    "train/normal/ward 3/c.png",
    "train/normal/.hidden.png",
    "train/normal/.cache/d.png",
    "train/unlabelled/u.png",
    "test/normal/a.png",
    "test/abnormal/a.png",
    "test/abnormal/z.png",
    "test/mask/a.tif",
    "notes.txt",
)


@pytest.fixture
def data(tmp_path):
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.fixture
def manifest(data):
    def write(text: str | bytes) -> Path:
        (data / "manifest.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        return data

    return write


def error_of(function, *arguments, **options) -> str:
    with pytest.raises(DataError) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Folders


def test_folders_give_split_label_and_mask_in_sorted_order(data):
    found = [(r.name, r.split, r.label, r.mask) for r in read_records(data)]
    assert found == [
        ("train/normal/a.png", "train", 0, None),
        ("train/normal/b.png", "train", 0, None),
        ("train/normal/ward 3/c.png", "train", 0, None),
        ("train/unlabelled/u.png", "train", None, None),
        ("test/normal/a.png", "test", 0, None),
        ("test/abnormal/a.png", "test", 1, data / "test/mask/a.tif"),
        ("test/abnormal/z.png", "test", 1, None),
    ]
    assert all(record.path == data / record.name for record in read_records(str(data)))


def test_a_split_is_what_it_is_within_the_whole(data):
    whole = read_records(data)
    for split in ("train", "test"):
        assert read_records(data, split) == [record for record in whole if record.split == split]


def test_images_of_one_stem_are_different_patients(data):
    assert len({record.patient for record in read_records(data)}) == len(read_records(data))
    assert not shared_patients(read_records(data, "train"), read_records(data, "test"))


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("train/abnormal/person123_bacteria_456.jpeg", "person123"),
        ("train/normal/IM-0115-0001.jpeg", "IM-0115"),
        ("train/normal/NORMAL2-IM-0115-0001-0002.jpeg", "NORMAL2-IM-0115"),
        ("TCGA_CS_4941_19960909_10.png", "TCGA_CS_4941_19960909"),
        ("train/normal/scan-IM-1.png", "train/normal/scan-IM-1.png"),
        ("person/1.png", "person/1.png"),
    ],
)
def test_patients_of_public_sets_are_known_by_name(name, patient):
    assert patient_of(name) == patient


def test_linked_folders_are_followed_but_not_in_circles(data):
    (data / "train/normal/again").symlink_to(data / "train")
    (data / "train/normal/more").symlink_to(data / "test/abnormal")
    names = [record.name for record in of_label(read_records(data, "train"), 0)]
    assert "train/normal/more/z.png" in names
    assert len(names) == len(set(names)) < 20


def test_folder_errors(data, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    layout = "put the images in {train,val,test}/{normal,abnormal,unlabelled}/ or list them in manifest.csv"
    assert error_of(read_records, data / "gone") == f"{data}/gone: there is no such folder; check the path"
    assert error_of(read_records, data / "notes.txt") == f"{data}/notes.txt: is not a folder; {layout}"
    assert error_of(read_records, data / ("long" * 100)).endswith("there is no such folder; check the path")
    expected = f"{empty}: has none of the folders train, val, test and no manifest.csv; {layout}"
    assert error_of(read_records, empty) == expected
    (empty / "train/normal").mkdir(parents=True)
    assert error_of(read_records, empty) == f"{empty}: holds no images; {layout}"
    into = f"put images into {data}/val/{{normal,abnormal}} (the splits are: train, test)"
    assert error_of(read_records, data, "val") == f"{data}: no images in split 'val'; {into}"


def test_a_folder_of_images_alone_is_taken_for_train_normals_with_a_note(tmp_path, capsys):
    for name in ("a.png", "b.png", "notes.txt"):
        (tmp_path / name).write_text("text")
    records = read_records(tmp_path, "train")
    assert [(record.name, record.split, record.label) for record in records] == [
        ("a.png", "train", 0),
        ("b.png", "train", 0),
    ]
    read_records(tmp_path)
    assert capsys.readouterr().err.count(f"all 2 files in {tmp_path} are taken for normal to train on") == 1
    assert error_of(read_records, tmp_path, "test").endswith("/test/{normal,abnormal} (the splits are: train)")


@pytest.mark.parametrize("name", ["pneumonia", "Train", "series"])
def test_a_folder_of_folders_may_hold_anything_and_is_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    for path in (tmp_path / "a.png", tmp_path / name / "b.png"):
        path.write_text("text")
    assert "has none of the folders train, val, test" in error_of(read_records, tmp_path)


def test_a_misspelt_class_is_not_passed_over(data):
    (data / "test/Abnormal").mkdir()
    folder = f"folder {pseudonym('Abnormal')}"
    found = (
        f"{folder} is not one of normal, abnormal, unlabelled, mask, region; rename or move it; --identify shows names"
    )
    assert error_of(read_records, data) == f"{data}/test: {found}"
    identify()
    assert "test: Abnormal is not one of" in error_of(read_records, data)


def test_ambiguous_masks_are_refused(data):
    (data / "test/mask/a.png").touch()
    assert "keep one mask for each stem" in error_of(read_records, data)
    (data / "test/mask/a.png").unlink()
    (data / "test/abnormal/b").mkdir()
    (data / "test/abnormal/b/a.png").touch()
    identify()
    expected = f"{data}/test/abnormal/b/a.png and {data}/test/abnormal/a.png share a mask; give masks in a column of"
    assert expected in error_of(read_records, data)


def test_regions_serve_images_of_any_label(data):
    for name in ("a.png", "b.png", "u.png"):
        (data / "train/region").mkdir(exist_ok=True)
        (data / "train/region" / name).touch()
    regions = {r.name: r.region for r in read_records(data)}
    found = {name: region.name for name, region in regions.items() if region is not None}
    assert found == {f"train/{name}.png": f"{name[-1]}.png" for name in ("normal/a", "normal/b", "unlabelled/u")}
    assert len(find_images([data / "train"])) == 4  # no mask is scored as an image
    (data / "train/region/a.tif").touch()
    assert "keep one region for each stem" in error_of(read_records, data)


def test_images_of_two_classes_cannot_share_a_region(data):
    (data / "test/region").mkdir()
    (data / "test/region/a.png").touch()
    identify()
    expected = f"{data}/test/abnormal/a.png and {data}/test/normal/a.png share a region; give regions in a column of"
    assert expected in error_of(read_records, data)


def test_a_missing_class_is_an_error_where_it_is_needed(data):
    train = read_records(data, "train")
    assert [record.name for record in of_label(train, None)] == ["train/unlabelled/u.png"]
    assert len(of_label(train, 0, at_least=3)) == 3
    assert of_label(train, 1) == []
    expected = "0 abnormal images where at least 1 are needed; add images to abnormal/, or rows with label '1' to"
    assert error_of(of_label, train, 1, at_least=1, where=data) == f"{data}: {expected} manifest.csv"


# Manifest


def test_the_manifest_wins_and_says_all(manifest):
    data = manifest(
        "\ufeffpath, label,split,patient,kind,mask,scanner\r\n"
        "train/normal/b.png,0,train,Jane,,,A\r\n"
        '"train/normal/ward 3/c.png",1,test,,"stroke, old",test/mask/a.tif,B\r\n'
        "\r\n"
        "train/unlabelled/u.png,,,,,,\r\n"
        "test/abnormal/a.png,1,test,,,,\r\n"
    )
    first, second, third, fourth = read_records(data)
    assert (first.name, first.split, first.label, first.patient) == ("train/normal/b.png", "train", 0, "Jane")
    assert (first.kind, first.mask) == (None, None)
    assert (second.path, second.split, second.label) == (data / "train/normal/ward 3/c.png", "test", 1)
    assert (second.kind, second.mask) == ("stroke, old", data / "test/mask/a.tif")
    assert second.patient == "train/normal/ward 3/c.png"
    assert (third.split, third.label) == (None, None)
    assert fourth.mask is None


def test_a_manifest_of_paths_alone_is_enough(manifest):
    (record,) = read_records(manifest("path\nnotes.txt\n"))
    assert (record.split, record.label, record.kind, record.mask) == (None, None, None, None)


def test_subtype_stands_for_kind_and_masks_are_found_without_a_column(manifest):
    data = manifest("path,split,label,subtype\ntest/abnormal/a.png,test,1,virus\ntest/normal/a.png,test,0,\n")
    abnormal, normal = read_records(data)
    assert (abnormal.kind, abnormal.mask) == ("virus", data / "test/mask/a.tif")
    assert (normal.kind, normal.mask) == (None, None)


def test_regions_come_from_their_column_or_else_from_their_folder(manifest, data):
    (data / "test/region").mkdir()
    (data / "test/region/z.png").touch()
    rows = "test/abnormal/z.png,test,1", "test/normal/a.png,test,0"
    z, a = read_records(manifest("path,split,label\n" + "\n".join(rows)))
    assert (z.region, a.region) == (data / "test/region/z.png", None)
    z, a = read_records(manifest(f"path,split,label,region\n{rows[0]},\n{rows[1]},any/r.png"))
    assert (z.region, a.region) == (None, data / "any/r.png")


def test_folders_and_the_manifest_that_lists_them_agree(manifest, data):
    by_folder = read_records(data)
    rows = [f"{r.name},{r.split},{'' if r.label is None else r.label}" for r in by_folder]
    assert read_records(manifest("\n".join(["path,split,label", *rows]))) == by_folder


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("", "", "no column 'path' among 0 columns; save it as CSV in UTF-8, with the names of the columns "),
        ("file;label\nx;1\n", "", "no column 'path' among 2 columns; save it"),
        ("path,label,paitent\na.png,0,x\n", "", "unknown column 'paitent', which is much like 'patient'; "),
        ("paht,label\na.png,0\n", "", "unknown column 'paht', which is much like 'path'; write 'path'"),
        ("path,patient_id\na.png,x\n", "", "unknown column 'patient_id', which is much like 'patient'; "),
        ("path,label,Label\na.png,0,0\n", "", "two columns 'label'; keep one of them"),
        (
            "path,label\na.png,0\nb.png,2\n",
            ", line 3",
            "a label of another kind; write 0 or normal, 1 or abnormal, nothing for ",
        ),
        ("path,label\na.png,yes\n", ", line 2", "a label of another kind; write 0 or normal"),
        ("path,split\na.png,training\n", ", line 2", "a split of another name; write train, val, test or nothing"),
        ("path\n../a.png\n", ", line 2", "its path leads out of the data folder; give a path that starts at "),
        ("path\nx/../../a.png\n", ", line 2", "its path leads out of the data folder; "),
        ("path\n..\\a.png\n", ", line 2", "its path leads out of the data folder; "),
        ("path\n/etc/passwd\n", ", line 2", "its path leads out of the data folder; "),
        ("path\nC:\\data\\a.png\n", ", line 2", "its path leads out of the data folder; "),
        ("path,mask\na.png,../m.png\n", ", line 2", "its path leads out of the data folder; "),
        ("path,region\na.png,/m.png\n", ", line 2", "its path leads out of the data folder; "),
        ("path,label\n,1\n", ", line 2", "names no file; give every row a path"),
        ("path\na\0.png\n", ", line 2", "names no file; give every row a path"),
        ("path\na.png\n\n./a.png\n", ", line 4", "its image is listed before, in line 2; list each image once"),
        ("path;label\nx/a.png;\nx\\a.png;\n", ", line 3", "its image is listed before, in line 2; "),
        ("path,label\na.png\n", ", line 2", "1 field under 2 columns; give every row one field a column, with commas"),
        ("path;label\na;b.png;1\n", ", line 2", "3 fields under 2 columns; give every row one field a column, with"),
        ("path,label\na, b.png,1\n", ", line 2", "3 fields under 2 columns; give every row one field a column"),
        (b"path\n\xff\xfe\x81\n", "", "cannot be read (UnicodeDecodeError); save it as CSV in UTF-8"),
        ('path\n"a.png\n', ", line 2", "no CSV (unexpected end of data); save it as CSV in UTF-8"),
        ('path\n"a".png\n', ", line 2", "no CSV ("),
    ],
)
def test_manifest_errors_name_the_line(manifest, text, where, message):
    data = manifest(text)
    assert error_of(read_records, data).startswith(f"{data}/manifest.csv{where}: {message}")


HEADER = ("path", "split", "label", "patient")
ROWS = (
    ("train/normal/b.png", "train", "0", "Jäger, Émile"),
    ("train/normal/ward 3/c.png", "Train", "NORMAL", "two\r\nlines"),
    ("test/abnormal/a.png", "test", "1.0", "J"),
    ("train/unlabelled/u.png", "", "unlabelled", ""),
)


def written(delimiter=",", end="\n", quote='"{}"', header=HEADER, last=()) -> str:
    lines = (header, *(tuple(quote.format(value) for value in row) for row in ROWS))
    return "".join(delimiter.join((*line, *last)) + end for line in lines)


@pytest.mark.parametrize(
    "content",
    [
        written(),
        written(";", "\r\n"),
        written("\t", "\r"),
        "sep=;\r\n" + written(";", "\r\n"),
        "\n\n" + written(last=("", "")) + ",,,\n , \n\n",
        written(quote=' "{}" '),
        written(header=("Path", " SPLIT", '"Label"', "Patient ")),
        written(";").replace("/", "\\"),
        written().encode("utf-8-sig"),
        written(";", "\r\n").encode("utf-16"),
        written("\t").encode("utf-16-be"),
        written().encode("latin-1"),
    ],
)
def test_a_manifest_says_the_same_in_every_form_that_people_have(manifest, content):
    found = [(r.name, r.split, r.label, r.patient) for r in read_records(manifest(content))]
    assert found == [
        ("train/normal/b.png", "train", 0, "Jäger, Émile"),
        ("train/normal/ward 3/c.png", "train", 0, "two\r\nlines"),
        ("test/abnormal/a.png", "test", 1, "J"),
        ("train/unlabelled/u.png", None, None, "train/unlabelled/u.png"),
    ]


def test_an_absolute_path_may_lie_in_the_data_folder(manifest, data, tmp_path_factory):
    link = tmp_path_factory.mktemp("elsewhere") / "link"
    link.symlink_to(data)
    manifest(f"path\n{data}/train/normal/b.png\n")
    assert [r.name for r in read_records(data)] == [r.name for r in read_records(link)] == ["train/normal/b.png"]


def test_a_backslash_in_a_file_name_stays_one(manifest, data):
    (data / "a\\b.png").touch()
    assert [r.name for r in read_records(manifest("path\na\\b.png\n"))] == ["a\\b.png"]


def test_missing_files_of_a_split_are_an_error_at_once_that_names_the_line(manifest):
    data = manifest("path,split,mask\nnotes.txt,train,\ngone.png,train,\nlost.png,train,\ntrain/normal/b.png,val,no\n")
    correct = f"correct the path, which starts at {data}"
    expected = f"{data}/manifest.csv, line 3: its image is no file, as of 1 further row; {correct}"
    assert error_of(read_records, data, "train") == expected
    assert error_of(read_records, data, "val") == f"{data}/manifest.csv, line 5: its mask is no file; {correct}"
    gone = read_records(data)[1]  # of all splits they are left to who reads them, such as an audit
    with pytest.raises(ImageError, match=r"^image [0-9a-f]{12}: cannot be opened \(No such file"):
        read_image(gone.path)
    data = manifest("path,split\nnotes.txt,train\nlost.png,test\n")
    expected = f"{data}: of 1 listed file none exists; paths in manifest.csv start here"
    assert error_of(read_records, data, "test") == expected
    assert error_of(read_records, manifest("path\nnotes.txt\n"), "test").endswith(
        "give the images one with aeflow data split"
    )


# Images to score


def test_images_to_score_keep_the_order_and_the_names_given(data, monkeypatch):
    (data / "manifest.csv").touch()
    monkeypatch.chdir(data)
    names = [record.name for record in find_images(["test/normal/a.png", "gone.png", "test", Path("train/normal")])]
    assert names == [
        "test/normal/a.png",
        "gone.png",
        "test/abnormal/a.png",
        "test/abnormal/z.png",
        "test/normal/a.png",
        "train/normal/a.png",
        "train/normal/b.png",
        "train/normal/ward 3/c.png",
    ]
    assert [record.name for record in find_images([data / "test" / "mask"])] == [f"{data}/test/mask/a.tif"]
    assert all((r.split, r.label, r.mask) == (None, None, None) for r in find_images(["."]))
    assert "notes.txt" in [record.name for record in find_images(["."])]
    assert "manifest.csv" not in [record.name for record in find_images(["."])]


def test_nothing_to_score_is_an_error(tmp_path):
    assert error_of(find_images, []) == "images: no path was given; name at least one image or folder"
    assert error_of(find_images, [tmp_path]) == f"{tmp_path}: a folder without images; name a folder that holds images"


def test_a_file_of_any_name_is_a_candidate(tmp_path):
    (tmp_path / "scan.txt").write_bytes(png(noise("u1"), 0))
    (record,) = find_images([tmp_path])
    assert read_image(record.path).pixels.shape == (40, 48)


# Truth: the bundled chest X-rays.


def test_the_sample_is_what_it_says():
    records = read_records(SAMPLE)
    counts = Counter((record.split, record.label) for record in records)
    expected = {"train": (300, 40), "val": (40, 40), "test": (100, 100)}
    assert counts == {(split, label): n for split, both in expected.items() for label, n in enumerate(both)}
    kinds = Counter((record.split, record.kind) for record in records if record.label)
    assert kinds == {
        (split, kind): n for split, n in (("train", 20), ("val", 20), ("test", 50)) for kind in ("bacteria", "virus")
    }
    for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not shared_patients(read_records(SAMPLE, a), read_records(SAMPLE, b))
    regions = {record.path: record.region for record in records if record.region is not None}
    assert set(regions.values()) == set(SAMPLE.rglob("*.png"))
    assert Counter(path.parts[-3] for path in regions) == {"train": 87, "val": 80}
    assert all(region.stem == path.stem for path, region in regions.items())
    assert all(0.1 < preprocess_mask(region, 224).mean() < 0.6 for region in regions.values())  # a pair of lungs
    assert len({record.path.read_bytes() for record in records}) == len(records)
    listed = {record.path for record in records}
    assert listed == set(SAMPLE.rglob("*.jpeg"))
    assert all(record.patient == patient_of(record.name) for record in records)


# Images without a split, and positions


def test_class_folders_without_splits_hold_images_without_a_split(tmp_path, capsys):
    for name in ("normal/a.png", "abnormal/b.png", "abnormal/c.png", "mask/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [(r.name, r.split, r.label, r.mask) for r in read_records(tmp_path)]
    assert found == [
        ("normal/a.png", None, 0, None),
        ("abnormal/b.png", None, 1, tmp_path / "mask/b.png"),
        ("abnormal/c.png", None, 1, None),
    ]
    assert error_of(read_records, tmp_path, "test").endswith("give the images one with aeflow data split")
    assert read_records(tmp_path, "test", unsplit=True) == read_records(tmp_path)
    taken = "its 3 images are taken for test images, of which the model must not have learnt from any"
    assert f"note: {tmp_path} has no split: {taken}" in capsys.readouterr().err
    (tmp_path / "test/normal").mkdir(parents=True)
    (tmp_path / "test/normal/d.png").touch()
    assert [r.name for r in read_records(tmp_path, "test", unsplit=True)] == ["test/normal/d.png"]
    shutil.rmtree(tmp_path / "test")
    (tmp_path / "Normal2").mkdir()
    assert error_of(read_records, tmp_path).endswith("rename or move it; --identify shows names")


@pytest.mark.parametrize(
    ("header", "cells", "expected"),
    [
        ("slice", ["3", "", "-1.5"], [3, None, -1.5]),
        ("slice,rel_pos", ["3,0.1", "4,0.2", "5,"], [0.1, 0.2, None]),
        ("position,slice", ["AP,1", "PA,2", "AP,3"], [1, 2, 3]),  # how a chest was taken, not where
        ("rel_pos", ["nan", "1", "2"], [None, None, None]),
        ("other", ["1", "2", "3"], [None, None, None]),
        ("slice", ['"1,5"', "2", '"-0,5"'], [1.5, 2, -0.5]),  # a decimal comma
    ],
)
def test_positions_come_from_the_first_column_of_numbers(manifest, header, cells, expected):
    names = ["train/normal/a.png", "train/normal/b.png", "test/normal/a.png"]
    rows = [f"{name},{cell}" for name, cell in zip(names, cells, strict=True)]
    assert [r.position for r in read_records(manifest("\n".join([f"path,{header}", *rows])))] == expected
