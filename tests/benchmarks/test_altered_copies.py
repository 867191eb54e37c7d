"""Altered copies show what they say and nothing else; the page's tables are made from the measured results."""

from __future__ import annotations

import json

import pytest
import torch

from aeflow.data.records import read_records
from aeflow.model.box import box_of
from benchmarks.common import CHEST, DOCS, RESULTS, ROOT, with_table
from benchmarks.studies.altered_copies.copies import DARK, GREY, VERSIONS, LungFinder, write_copies
from benchmarks.studies.altered_copies.simple import CONTROLS, RING, either_way, ring
from benchmarks.studies.altered_copies.table import altered_table, hottest_table


@pytest.fixture
def lungs() -> torch.Tensor:
    """Two rectangles in each of two images, (2, 1, 224, 224)."""
    mask = torch.zeros(2, 1, 224, 224)
    mask[:, :, 60:160, 40:90] = mask[:, :, 60:160, 130:180] = 1
    return mask


@pytest.fixture
def x() -> torch.Tensor:
    """Noise, (2, 1, 224, 224)."""
    return torch.rand(2, 1, 224, 224, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "hidden"), [("lungs painted over", 1.0), ("lungs alone", 0.0)])
def test_what_is_hidden_changes_nothing_and_the_rest_is_as_it_was(x, lungs, name, hidden):
    box = box_of(lungs)
    other = torch.where(lungs == hidden, 1 - x, x)
    found = VERSIONS[name](x, lungs, box)
    assert torch.equal(found, VERSIONS[name](other, lungs, box))
    assert torch.equal(found[lungs != hidden], x[lungs != hidden])
    assert (found[lungs == hidden] == GREY).all()


def test_the_outline_knows_nothing_but_the_lungs(x, lungs):
    found = VERSIONS["outline alone"](x, lungs, box_of(lungs))
    assert torch.equal(found, torch.where(lungs > 0, GREY, DARK))


def test_the_crop_fills_the_picture_with_the_lungs(lungs):
    found = VERSIONS["cropped to the lungs"](lungs, lungs, box_of(lungs))
    assert found.mean() > 1.5 * lungs.mean()
    assert float(found.sum(dim=(1, 2))[:, :10].sum()) == 0  # some is left beside them


def test_the_ring_lies_beside_the_lungs(lungs):
    found = ring(lungs)
    assert float((found * lungs).sum()) == 0
    assert float(found[0, 0, 100, 40 - RING]) == 1
    assert float(found[0, 0, 100, 40 - RING - 1]) == 0


def test_brightness_and_area_are_of_the_lungs(x, lungs):
    painted = torch.where(lungs > 0, 0.75, 0.25)
    assert CONTROLS["brightness of the lungs"](painted, lungs).tolist() == pytest.approx([0.75] * 2)
    less = CONTROLS["brightness of the lungs less that of a ring around them"]
    assert less(painted, lungs).tolist() == pytest.approx([0.5] * 2)
    assert torch.allclose(less(0.5 * x + 0.1, lungs), 0.5 * less(x, lungs), atol=1e-6)  # an exposure shifts nothing
    assert CONTROLS["area of the lungs"](x, lungs).tolist() == pytest.approx([10_000 / 224**2] * 2)


def test_a_mirror_image_is_at_no_distance_and_a_plain_file_is_small(x):
    symmetric = (x + x.flip(3)) / 2
    mirror, size = CONTROLS["distance to the mirror image, pixels"], CONTROLS["size as a JPEG file"]
    assert float(mirror(symmetric, x).max()) < 1e-6 < float(mirror(x, x).min())
    assert (size(torch.full_like(x, GREY), x) < size(x, x)).all()


def test_a_control_is_turned_the_right_way():
    assert either_way([1.0, 2.0, 3.0, 4.0], [1, 1, 0, 0]) == 1
    assert either_way([1.0, 1.0], [1, 0]) == 0.5


def test_copies_are_a_data_set_of_the_same_people(tmp_path):
    sample = ROOT / "sample"
    data = tmp_path / "data"
    lines = ["path,split,label,patient"]
    for place in ("train/normal/IM-0115-0001.jpeg", "test/normal/IM-0001-0001.jpeg"):
        (data / place).parent.mkdir(parents=True)
        (data / place).symlink_to(sample / place)
        lines.append(f"{place},{place.split('/')[0]},0,{place}")
    (data / "manifest.csv").write_text("\n".join(lines) + "\n")
    [(records, found)] = write_copies(data, tmp_path / "out", LungFinder())
    assert list(found) == ["whole image", *VERSIONS]
    assert 0.1 < float(found["whole image"][1].mean()) < 0.6  # lungs were found
    for name in VERSIONS:
        copies = read_records(tmp_path / "out" / name / CHEST)
        assert [(one.split, one.label, one.patient) for one in copies] == [
            (one.split, one.label, one.patient) for one in records
        ]
        assert all(one.path.suffix == ".png" for one in copies)


def test_the_tables_are_those_of_the_results():
    altered, quality = (json.loads((RESULTS / name).read_text()) for name in ("altered.json", "quality.json"))
    page = (DOCS / "where-it-looks.md").read_text()
    for name, table in (("altered", altered_table(altered, quality)), ("hottest", hottest_table(quality))):
        assert with_table(page, name, table) == page


def test_where_maps_are_hottest_is_shown_where_it_was_measured():
    metric = {"value": 0.75, "low": 0.7, "high": 0.8, "chance": 0.34}
    group = {"hottest_point": metric, "hottest_area": metric, "border": metric}
    where = {"region": {"abnormal": group, "normal": None}, "lesion": {"abnormal": None}}
    rows = {"default": [{"seed": 0, "localisation": where}], "file size": [{"seed": 0}]}
    table = hottest_table({"sets": {CHEST: rows}})
    assert "| chest_xray_224, abnormal, lungs | default | 0.75 (0.70 to 0.80) | 0.34 |" in table
    assert len(table.splitlines()) == 3
    assert "not measured" in hottest_table({"sets": {}})


def test_several_seeds_are_shown_by_their_mean():
    area = {"auroc": {"value": 0.9, "low": 0.8, "high": 0.95}, "seeds": {"0": 0.9, "1": 0.8}}
    altered = {name: {"aeflow-1": area} for name in ("whole image", *VERSIONS)}
    [row] = [line for line in altered_table(altered, {"sets": {CHEST: {}}}).splitlines() if "aeflow-1" in line]
    assert row.count("0.850 ± 0.071, 2 seeds") == 1 + len(VERSIONS)
