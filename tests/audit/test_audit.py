"""The audit: laws of its measures, copies as people make them of real images, and what a user is told."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import roc_auc_score

from aeflow.audit import near_duplicates as duplicates
from aeflow.audit import shortcuts
from aeflow.audit.audit import audit
from aeflow.audit.file_traits import traits
from aeflow.audit.report import _twins
from aeflow.cli import main
from aeflow.data.records import Record
from aeflow.errors import DataError
from aeflow.imageio.errors import ImageError
from aeflow.imageio.image import Slice
from aeflow.imageio.reader import read_image
from aeflow.metrics.intervals import delong
from helpers.data import SAMPLE, lesion, texture

FILES = sorted((SAMPLE / "train" / "normal").iterdir())  # thresholds are chosen and tested on train images


def code(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return int(left.value.code or 0)


def record(name: str, split: str | None = "train", label: int | None = 0, patient: str = "", **more) -> Record:
    return Record(Path(name), name, split, label, patient or name, None, None, **more)


# Shortcuts


@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(2, 60), st.sampled_from([1, 3, 1000]))
@settings(max_examples=60)
def test_separation_is_the_area_of_scikit_learn_with_the_interval_of_delong(seed, n, m, values):
    generator = np.random.default_rng(seed)
    x = np.concatenate([generator.integers(0, values, n), generator.integers(values // 3, 2 * values, m)]).astype(float)
    y = np.arange(n + m) >= n
    area, low, high = delong(x, y)
    assert area == pytest.approx(roc_auc_score(y, x))
    assert 0 <= low <= area + 1e-12
    assert area <= high + 1e-12 <= 1 + 1e-11
    found = shortcuts.by_class({"a": x}, [record(f"{i}", label=int(ill)) for i, ill in enumerate(y)])
    assert bool(found) == (min(n, m) >= shortcuts.FEWEST and np.ptp(x) > 0)
    for one in found:
        expected = (area, low, high) if one.higher else (1 - area, 1 - high, 1 - low)
        assert (one.auroc, one.low, one.high) == pytest.approx(expected)


def test_a_separation_is_at_least_a_half_and_says_which_way():
    records = [record(f"{i}", label=i % 2) for i in range(40)]
    rising = np.array([i % 2 + i / 100 for i in range(40)])
    [up] = shortcuts.by_class({"a": rising}, records)
    [down] = shortcuts.by_class({"a": -rising}, records)
    assert (up.auroc, up.higher, down.auroc, down.higher) == (1, True, 1, False)
    assert (up.low, up.high) == pytest.approx((down.low, down.high))
    assert up.suspect


def test_one_ranking_is_measured_once_and_constants_never():
    records = [record(f"{i}", label=i % 2) for i in range(40)]
    x = np.arange(40.0)
    found = shortcuts.by_class({"a": x, "b": x**3, "c": -x, "d": np.ones(40), "e": np.full(40, np.nan)}, records)
    assert [one.attribute for one in found] == ["a"]


def test_few_images_raise_no_alarm():
    generator, alarms = np.random.default_rng(0), 0
    records = [record(f"{i}", label=i % 2) for i in range(24)]
    for _ in range(200):
        alarms += any(one.suspect for one in shortcuts.by_class({"noise": generator.standard_normal(24)}, records))
    assert alarms <= 10  # 5 in 100 intervals miss, and half of these on either side


def test_slices_are_placed_within_their_patient_by_position_or_by_name():
    told = [record(f"x{i}", patient="p", position=10 * i) for i in range(3)]
    named = [record(f"scan_{i}.png", patient="q") for i in (1, 2, 3, 4, 11)]
    single = [record("IM-0115-0001.jpeg", patient="r")]
    found = shortcuts.attributes_of([{}] * 9, [{}] * 9, [*told, *named, *single])
    assert found["slice position"][:8] == pytest.approx([0, 0.5, 1, 0, 0.1, 0.2, 0.3, 1])
    assert np.isnan(found["slice position"][8])
    assert found["distance from the middle slice"][:3] == pytest.approx([0.5, 0, 0.5])


def test_slice_position_is_found(tmp_path):
    """Abnormal slices lie in the middle of each volume; nothing else differs."""
    rows = ["path,split,label,patient,rel_pos"]
    for i in range(60):
        place = i % 10
        Image.fromarray(texture(i)).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,test,{int(3 <= place <= 6)},p{i // 10},{place / 9:.3f}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    found = {finding.name: finding for finding in audit(tmp_path).findings}
    assert found["shortcut: distance from the middle slice"].severity == "stop"
    assert "lower in abnormal images" in found["shortcut: distance from the middle slice"].found
    assert "shortcut: slice position" not in found


def test_file_size_is_found_in_real_chest_x_rays_and_nothing_wrong_with_their_patients():
    found = audit(SAMPLE)
    [finding] = [f for f in found.findings if f.name == "shortcut: file size"]
    assert finding.severity == "stop"
    sizes = [(r.path.stat().st_size, r.label) for r in found.records if r.split == "test"]
    expected = 1 - roc_auc_score([label for _, label in sizes], [size for size, _ in sizes])
    assert f"AUROC {expected:.3f}" in finding.found
    assert not found.near  # 620 persons: none is a copy of another
    assert not any("patient" in f.name or "copies" in f.name for f in found.findings)


# Traits


@pytest.mark.parametrize("quality", [1, 25, 50, 75, 90, 95, 100])
def test_jpeg_quality_is_read_from_the_tables(tmp_path, quality):
    Image.fromarray(texture(0)).save(tmp_path / "a.jpg", quality=quality)
    assert traits(tmp_path / "a.jpg").numbers["JPEG quality"] == quality


def test_the_same_pixels_in_another_container_have_the_same_digest(tmp_path):
    x = texture(0)
    Image.fromarray(x).save(tmp_path / "a.png")
    Image.fromarray(x).save(tmp_path / "b.bmp")
    Image.fromarray(np.repeat(x[..., None], 3, axis=2)).save(tmp_path / "c.tiff")
    Image.fromarray(x.astype(np.uint16) * 257).save(tmp_path / "d.png")
    found = [traits(path) for path in sorted(tmp_path.iterdir())]
    assert len({t.pixels for t in found}) == 1
    assert len({t.content for t in found}) == 4
    assert [t.numbers["bit depth"] for t in found] == [8, 8, 8, 16]
    assert [t.names["format"] for t in found] == ["PNG", "BMP", "TIFF", "PNG"]
    Image.fromarray(x.T.copy()).save(tmp_path / "e.png")
    assert traits(tmp_path / "e.png").pixels != found[0].pixels


def test_attributes_are_what_they_are_called(tmp_path):
    x = np.zeros((40, 80), np.uint8)
    x[:, 20:] = 255
    Image.fromarray(x).save(tmp_path / "a.png")
    numbers = traits(tmp_path / "a.png").numbers
    assert (numbers["width"], numbers["height"], numbers["aspect ratio"]) == (80, 40, 2)
    assert (numbers["mean intensity"], numbers["share of black pixels"]) == (0.75, 0.25)
    assert numbers["file size"] == (tmp_path / "a.png").stat().st_size == numbers["bytes per pixel"] * 3200


# Copies


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


COPIES = {
    "compressed": lambda image: jpeg(image, 30),
    "half the size": lambda image: image.resize((112, 112), Image.Resampling.BICUBIC),
    "larger": lambda image: image.resize((300, 290), Image.Resampling.BILINEAR),
    "brighter": lambda image: image.point(lambda v: min(255, int(1.2 * v + 15))),
    "darker": lambda image: image.point(lambda v: int(0.7 * v)),
    "other gamma": lambda image: image.point(lambda v: int(255 * (v / 255) ** 1.5)),
    "cropped by 2 %": lambda image: image.crop((4, 4, 220, 220)),
    "cropped by 5 %": lambda image: image.crop((11, 11, 213, 213)),
    "cropped, smaller and compressed": lambda image: jpeg(image.crop((6, 6, 218, 218)).resize((160, 160)), 60),
}


@pytest.fixture(scope="module")
def originals():
    return [traits(path) for path in FILES[:60]]


def near(found) -> list[tuple[int, int]]:
    patients = [str(i) for i in range(len(found))]
    pairs, complete = duplicates.near(
        np.stack([t.hashes for t in found]), np.stack([t.picture for t in found]), patients
    )
    assert complete
    return [(pair.a, pair.b) for pair in pairs]


@pytest.mark.parametrize("how", COPIES)
def test_copies_of_real_images_are_found_and_different_persons_are_not(how, originals, tmp_path):
    copies = []
    for i in range(0, 60, 10):
        COPIES[how](Image.open(FILES[i]).convert("L")).save(tmp_path / "copy.png")
        copies.append(traits(tmp_path / "copy.png"))
    assert near([*originals, *copies]) == [(i, 60 + i // 10) for i in range(0, 60, 10)]


def test_images_of_one_patient_are_not_called_copies(originals):
    hashes, pictures = np.stack([originals[0].hashes] * 2), np.stack([originals[0].picture] * 2)
    assert duplicates.near(hashes, pictures, ["p", "p"])[0] == []
    assert [(p.a, p.b) for p in duplicates.near(hashes, pictures, ["p", "q"])[0]] == [(0, 1)]


def test_beyond_the_limit_the_most_alike_are_compared_and_it_is_said(originals):
    hashes, pictures = np.stack([originals[0].hashes] * 6), np.stack([originals[0].picture] * 6)
    hashes[5, :, 0] ^= 0b11  # further than the others
    pairs, complete = duplicates.near(hashes, pictures, list("abcdef"), most=10)
    assert not complete
    assert [(pair.a, pair.b) for pair in pairs] == [(a, b) for a in range(5) for b in range(a + 1, 5)]


@given(st.integers(0, 1000), st.integers(2, 40))
@settings(max_examples=20)
def test_pairs_come_in_blocks_as_they_come_at_once(seed, rows):
    """Copies among random hashes are all found, whatever the size of the blocks."""
    generator = np.random.default_rng(seed)
    hashes = generator.integers(0, 256, (30, 3, 32), dtype=np.uint8)
    hashes[29], hashes[17, 0] = hashes[3], hashes[5, 2]  # a copy, and one of a cropped image
    pictures = np.repeat(generator.integers(0, 256, (1, 64, 64), dtype=np.uint8), 30, axis=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "ROWS", rows)
        pairs, _ = duplicates.near(hashes, pictures, [str(i) for i in range(30)])
    assert {(pair.a, pair.b) for pair in pairs} == {(3, 29), (5, 17)}


def test_groups_of_one_digest():
    assert duplicates.same(["a", "b", None, "a", None, "c", "b", "a"]) == [[0, 3, 7], [1, 6]]


# What a user is told


@pytest.fixture(scope="module")
def bad(tmp_path_factory) -> Path:
    """A data folder with everything wrong that an audit knows of, under names that must not get out."""
    root = tmp_path_factory.mktemp("bad")
    rows = ["path,split,label,patient,mask,region"]

    def put(
        image, name: str, split: str, label: int | str, patient: str, mask: str = "", region: str = "", **how
    ) -> None:
        path = root / f"{name}_CANARY"
        if isinstance(image, bytes):
            path.write_bytes(image)
        else:
            (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **how)
        rows.append(f"{path.name},{split},{label},{patient},{mask},{region}")

    for i in range(20):
        put(texture(i), f"n{i}", "train", 0, f"CANARY{i}", format="JPEG", quality=90)
        put(texture(100 + i), f"t{i}", "test", 0, f"CANARY{100 + i}", format="JPEG", quality=90)
        put(lesion(200 + i)[0], f"a{i}", "test", 1, f"CANARY{200 + i}", mask="gone.png" if i else "", format="PNG")
    put(texture(300), "leak", "train", 0, "CANARY100", format="JPEG", quality=90)
    put((root / "n1_CANARY").read_bytes(), "same", "test", 0, "CANARY301")
    put(Image.open(root / "n2_CANARY"), "pixels", "test", 1, "CANARY302", format="PNG")
    put(Image.open(root / "n3_CANARY"), "near", "test", 0, "CANARY303", format="JPEG", quality=40)
    put(b"", "empty", "train", 0, "CANARY304")
    put(texture(305), "unknown", "", 0, "", region="gone.png", format="PNG")
    (root / "manifest.csv").write_text("\n".join(rows))
    return root


def test_everything_that_is_wrong_is_found(bad):
    found = audit(bad)
    names = {f.name: f for f in found.findings}
    number = {record.path.name.removesuffix("_CANARY"): i for i, record in enumerate(found.records)}
    expected = {
        "patients in train and test, normal": ("stop", ["t0", "leak"]),
        "copies across splits": ("stop", ["n1", "n2", "same", "pixels"]),
        "copies across labels": ("stop", ["n2", "pixels"]),
        "near copies across splits": ("warn", ["n3", "near"]),
        "unreadable images": ("warn", ["empty"]),
        "patients unknown": ("warn", ["unknown"]),
        "images without a split": ("warn", ["unknown"]),
        "masks missing": ("warn", ["a0", "pixels"]),
        "mask files missing": ("warn", [f"a{i}" for i in range(1, 20)]),
        "region files missing": ("warn", ["unknown"]),
    }
    for name, (severity, images) in expected.items():
        assert names[name].severity == severity, name
        assert names[name].images == tuple(sorted(number[image] for image in images)), name
    assert "1 of them byte for byte" in names["copies across splits"].found
    assert names["shortcut: format: JPEG"].severity == "stop"
    assert {"few train normals", "few images in test", "balance of test", "mixed formats"} <= names.keys()
    severities = [f.severity for f in found.findings]
    assert severities == sorted(severities, key=["stop", "warn", "note"].index)


def test_the_command_tells_and_writes_without_a_name(bad, tmp_path, capsys):
    assert code("audit", bad, "--out", tmp_path) == 1
    shown = capsys.readouterr()
    assert "what to do" in shown.out
    assert "an empty file" in shown.out
    assert shown.err == ""
    written = json.loads((tmp_path / "audit.json").read_text())
    assert written["worst"] == "stop"
    assert written["splits"]["test"] == {"normal": 22, "abnormal": 21}
    assert code("audit", bad, "--out", tmp_path) == 2
    assert "audit.json: is there already; name another place, or replace it with --overwrite" in capsys.readouterr().err
    html = (tmp_path / "audit.html").read_text()
    assert html.count("data:image/png") == 4
    assert "http:" not in html
    assert "https:" not in html
    for text in (shown.out, json.dumps(written), html):
        assert "CANARY" not in text
        assert str(bad) not in text


def test_names_are_told_when_asked_for(bad, capsys):
    assert code("audit", bad, "--json", "--identify") == 1
    named = json.loads(capsys.readouterr().out)
    [empty] = named["refused"]
    assert named["names"][str(empty["image"])] == "empty_CANARY"
    assert set(named["names"]) == set(named["pseudonyms"])


def test_nothing_wrong_is_exit_code_0(tmp_path, capsys):
    rows = ["path,split,label,patient"]
    for i in range(210):
        split, label = ("train", 0) if i < 110 else ("test", i % 2)
        Image.fromarray(texture(i)).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{split},{label},p{i}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    assert code("audit", tmp_path) == 0
    assert "balance of test" in capsys.readouterr().out


def test_wrong_use_is_exit_code_2(tmp_path, bad, capsys):
    assert code("audit", tmp_path / "nowhere") == 2
    (tmp_path / "file").touch()
    assert code("audit", bad, "--out", tmp_path / "file") == 2
    assert "give another folder with --out" in capsys.readouterr().err


def test_a_folder_without_splits_is_audited_too(tmp_path):
    for label in ("normal", "abnormal"):
        shutil.copytree(SAMPLE / "train" / "abnormal", tmp_path / label)
    found = audit(tmp_path)
    names = {f.name: f for f in found.findings}
    assert "aeflow data split" in names["no splits"].remedy
    assert len(names["copies across labels"].images) == len(found.records)


def test_a_patient_in_val_and_test_is_told(tmp_path):
    for i, split in enumerate(["train", "val", "test", "train"]):
        (tmp_path / split / "normal").mkdir(parents=True, exist_ok=True)
        Image.fromarray(texture(i)).save(tmp_path / split / "normal" / f"IM-{min(i, 1)}-{i}.png")
    names = {f.name: f for f in audit(tmp_path).findings}
    assert names["patients in val and test, normal"].images == (2, 3)
    assert names["patients in train and test, normal"].severity == "stop"


def test_audit_needs_images(tmp_path):
    (tmp_path / "normal").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        audit(tmp_path)
    with pytest.raises(ImageError):
        traits(tmp_path / "none.png")


def test_pairs_of_slices_are_drawn_as_they_were_compared(tmp_path):
    """One volume in two splits: each pair of copies is shown by its own slice, not by one that stands for the file."""
    voxels = np.stack([texture(i) for i in range(3)], axis=2).astype(np.int16)
    for split in ("train", "test"):
        (tmp_path / split / "normal").mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / split / "normal" / f"{split}.nii")
    found = audit(tmp_path)
    twins = list(_twins(found))
    assert len(twins) == 3
    for number, pair in enumerate(twins):
        shown = read_image(found.records[0].path, at=Slice(number, "axial")).pixels
        for picture in pair.images:
            np.testing.assert_array_equal(picture, shown)


def test_masks_that_fit_no_image_or_contradict_theirs_are_found(tmp_path):
    spot = np.zeros((64, 64), np.uint8)
    spot[20:30, 20:30] = 255
    for i in range(4):
        for name in ("normal/n", "abnormal/a", "mask/a", "region/n"):
            path = tmp_path / f"test/{name}{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(texture(i + len(name)) if name[-1] == "l" or "normal" in name else spot).save(path)
    Image.fromarray(spot[:32]).save(tmp_path / "test/mask/a0.png")
    Image.fromarray(255 - spot).save(tmp_path / "test/mask/a1.png")
    Image.fromarray(255 - spot).save(tmp_path / "test/region/n2.png")
    (tmp_path / "test/mask/a3.png").rename(tmp_path / "test/mask/a3_mask.png")
    found = audit(tmp_path)
    names = {f.name: f for f in found.findings}
    number = {record.path.stem: i for i, record in enumerate(found.records)}
    assert names["masks that do not fit"].images == (number["a0"], number["a1"])
    assert names["masks that do not fit"].found.startswith("2 of 3 masks cannot be used: a mask of 32 x 64 pixels")
    assert names["regions that do not fit"].images == (number["n2"],)
    assert "inverted" in names["regions that do not fit"].found
    assert names["masks of no image"].found.startswith("1 of 4 masks in test/mask fits no image")
