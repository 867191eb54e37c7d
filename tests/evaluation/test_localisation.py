"""Localisation in an evaluation: region and lesion masks of a real run, in figures and in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aeflow.data.records import Record
from aeflow.evaluation.localisation import WhereMapsLook, lines, words
from aeflow.training.train import Trained
from helpers.command import within
from helpers.data import SIZE, write_data

BOX = np.zeros((SIZE, SIZE), bool)
BOX[16:48, 16:48] = True  # a quarter of the picture
INNER = np.zeros((SIZE, SIZE), bool)
INNER[1:-1, 1:-1] = True  # all but the border


def record(label: int | None, patient: str) -> Record:
    return Record(Path("x"), "x", "test", label, patient, None, None)


def looked(inside: bool, n: int = 30, **changes: Any) -> dict[str, Any]:
    """Return the localisation of maps whose hottest half lies in the box, or outside of it."""
    rng, measure = np.random.default_rng(0), WhereMapsLook()
    for i in range(2 * n):
        scores = (rng.random((SIZE, SIZE)) + (inside == BOX)).astype(np.float32)
        if i % 2:  # abnormal images are hotter, in the box alone
            scores += BOX * np.float32(0.1)
        measure.add(record(i % 2, f"p{i}"), scores, **{"mask": None, "region": BOX, **changes})
    found = measure.result()
    assert found is not None
    return found


def test_words_say_where_the_model_looks() -> None:
    there, normal = words(looked(inside=True))
    assert (
        "in the region in 100 of 100 abnormal images (89 to 100), by chance in 25: the model looks there." in there.text
    )
    assert not there.warns
    assert normal.text.endswith("in 100 of 100 normal images (89 to 100), by chance in 25.")  # a hint, no conclusion
    elsewhere, _ = words(looked(inside=False))
    assert "in 0 of 100 abnormal images (0 to 11), by chance in 25: the score is carried by something" in elsewhere.text
    assert elsewhere.warns
    undecided = words(looked(inside=False, n=2))[0]
    assert undecided.text.endswith("by chance in 25: that cannot be told from chance.")
    assert words(None) == lines(None) == []


def test_the_part_of_the_map_that_tells_classes_apart_is_named() -> None:
    parts = looked(inside=True)["region"]["parts"]
    assert (parts["n_normal"], parts["n_abnormal"]) == (30, 30)
    assert parts["inside"]["value"] == 1
    assert parts["outside"]["interval"] == "delong"
    assert parts["outside"]["low"] < 0.5 < parts["outside"]["high"]


def test_a_missing_label_has_no_area_and_no_group() -> None:
    measure = WhereMapsLook()
    for i in range(3):
        measure.add(record(1, str(i)), np.ones((SIZE, SIZE), np.float32), None, BOX)
        measure.add(record(None, str(i)), np.ones((SIZE, SIZE), np.float32), BOX, BOX)
    found = measure.result() or {}
    assert found["region"]["normal"] is found["lesion"]["abnormal"] is None
    assert found["region"]["parts"] == {"n_normal": 0, "n_abnormal": 3, "inside": None, "outside": None}


def test_lesion_masks_count_on_abnormal_images_alone() -> None:
    found = looked(inside=True, mask=BOX, region=None)
    assert found["lesion"]["abnormal"]["n_images"] == 30
    assert found["region"]["abnormal"] is None
    assert [line.name for line in lines(found)] == [
        "Hottest point in the lesion, abnormal",
        "Hottest 5 % in the lesion, abnormal",
        "Hottest 5 % at the border, abnormal",
    ]


def test_what_lies_outside_of_the_counting_area_changes_nothing() -> None:
    counts = np.zeros_like(BOX)
    counts[8:56, 8:56] = True
    found = looked(inside=False, counts=BOX)
    assert found["region"]["abnormal"]["hottest_point"]["value"] == 1  # nothing else is left
    assert found["region"]["parts"]["n_abnormal"] == 0  # no map outside of the region, so no two parts
    found = looked(inside=True, counts=counts)
    assert found["region"]["abnormal"]["hottest_point"]["chance"] == pytest.approx(BOX.sum() / counts.sum())


def test_where_the_model_found_no_region_its_flat_map_gives_chance() -> None:
    """Instead of an error that ends the evaluation for all the others."""
    measure = WhereMapsLook()
    for i in range(3):
        measure.add(record(1, f"p{i}"), np.full((SIZE, SIZE), -3, np.float32), None, BOX, np.zeros_like(BOX))
    point = (measure.result() or {})["region"]["abnormal"]["hottest_point"]
    assert point["value"] == pytest.approx(0.25) == point["chance"]


# A real run


def save(folder: Path, name: str, mask: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    Image.fromarray(mask).save(folder / name)


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Test images of which the normals have a box as region, and the abnormal ones what is not lesion."""
    data = write_data(tmp_path_factory.mktemp("regions") / "data")
    lines = (data / "manifest.csv").read_text().splitlines()
    for i, line in enumerate(lines):
        path, split, label = line.split(",")[:3]
        region = ""
        if split == "test":
            lesion = np.array(Image.open(data / f"test/mask/{Path(path).name}")).astype(bool) if label == "1" else None
            mask = BOX if lesion is None else ~lesion & INNER
            region = f"test/region/{'ab' if label == '1' else ''}normal_{Path(path).name}"
            save(data / "test/region", Path(region).name, mask)
        lines[i] = f"{line},{region}" if i else f"{line},region"
    (data / "manifest.csv").write_text("\n".join(lines))
    return data


def test_evaluate_says_in_words_that_the_model_looks_elsewhere(
    trained: Trained, run: Path, regions: Path, tmp_path: Path
) -> None:
    """The small model finds the lesions; told that disease is everywhere but there, it looks elsewhere."""
    shown, _ = within("evaluate", run, regions, "--out", tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    found = metrics["localisation"]
    point, lesion = found["region"]["abnormal"]["hottest_point"], found["lesion"]["abnormal"]["hottest_point"]
    assert found["region"]["abnormal"]["n_images"] == found["region"]["normal"]["n_images"] == 12
    assert point["value"] + lesion["value"] == pytest.approx(1, abs=0.1)  # but for the border
    assert point["chance"] + lesion["chance"] == pytest.approx(INNER.mean(), abs=0.05)
    assert lesion["low"] > lesion["chance"]
    for area in (found["region"]["parts"]["inside"], found["region"]["parts"]["outside"]):
        assert 0 <= area["low"] <= area["value"] <= area["high"] <= 1
    assert found["region"]["parts"]["outside"]["value"] > 0.9  # where the lesions are
    page, card = ((tmp_path / name).read_text() for name in ("report.html", "model_card.md"))
    for text in (" ".join(shown.split()), page, card):
        assert "the score is carried by something outside of the region" in text
        assert "the model looks there" in text
    assert "The model looks elsewhere:" in page
    assert "hottest point in the lesion, abnormal (chance" in shown.replace("\n", "")
    assert metrics["pixel"]["anomaly"]["n_images"] == 12


def test_regions_alone_are_measured_and_a_bad_one_refuses_its_image(
    trained: Trained, run: Path, tmp_path: Path
) -> None:
    data = write_data(tmp_path / "data", test=5)
    for label in ("normal", "abnormal"):
        for path in sorted((data / "test" / label).iterdir()):
            path.rename(path.with_name(f"{label}{path.name}"))
            save(data / "test/region", f"{label}{path.name}", BOX)
    (data / "manifest.csv").unlink()
    for path in (data / "test/mask").iterdir():
        path.unlink()
    (data / "test/region/normal001.png").write_bytes(b"no mask")
    within("evaluate", run, data, "--out", tmp_path / "out", ok=1)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["pixel"] is None
    assert metrics["refused"] == 1
    found = metrics["localisation"]["region"]
    assert [found[side]["n_images"] for side in ("normal", "abnormal")] == [4, 5]
    assert found["normal"]["hottest_point"]["chance"] == pytest.approx(0.25, abs=0.02)


def test_without_masks_there_is_no_localisation(trained: Trained, run: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", test=3)
    rows = (data / "manifest.csv").read_text().splitlines()
    (data / "manifest.csv").write_text(
        "\n".join(row.rpartition(",")[0] + "," if i else row for i, row in enumerate(rows))
    )
    within("evaluate", run, data, "--out", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["localisation"] is None
    assert 'id="localisation"' not in (tmp_path / "out" / "report.html").read_text()
