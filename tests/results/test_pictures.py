"""Pictures of scores say whose they are; overlays are the image itself under the colours of its map."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aeflow.data.records import Record, find_images
from aeflow.imageio.reader import read_image
from aeflow.privacy import identify, pseudonym
from aeflow.reporting.overlay import MIN_STRIP, blend, resample, with_strip
from aeflow.reporting.score_picture import Frame
from aeflow.results.pictures import PictureFolder, caption
from aeflow.scoring.score_files import score_files
from aeflow.scoring.scorer import score
from aeflow.training.train import Trained
from helpers.command import error_of, within
from helpers.data import texture

SCALE = (1.0, 2.0)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Images of several sizes, and one that is none."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, size in (("a.png", (300, 200)), ("b.png", (64, 64)), ("d.png", (40, 500))):
        Image.fromarray(texture(7)).resize(size).save(folder / name)
    (folder / "c.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    return folder


def test_the_table_names_the_picture_of_each_row_and_the_folder_holds_it(
    tiny_run: Path, images: Path, tmp_path: Path
) -> None:
    places = ("--out", tmp_path / "s.csv", "--maps", tmp_path / "maps", "--overlay")
    out, _ = within("score", tiny_run, images, *places, "--json", "--backend", "torch", ok=1)
    with (tmp_path / "s.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["map"] for row in rows] == ["00001.png", "00002.png", "", "00004.png"]
    assert [json.loads(line)["map"] or "" for line in out.splitlines()] == [row["map"] for row in rows]
    names = {row["map"] for row in rows if row["map"]}
    there = {path.name for path in (tmp_path / "maps").iterdir()}
    assert there == names | {name.replace(".png", "_overlay.png") for name in names}
    for name, size in (("00001", (300, 200)), ("00002", (64, 64)), ("00004", (40, 500))):
        with Image.open(tmp_path / "maps" / f"{name}_overlay.png") as overlay:
            assert overlay.width == max(size[0], MIN_STRIP)
            assert size[1] < overlay.height < size[1] + 80  # the image at its own size, and a thin strip


def test_an_overlay_is_the_image_where_nothing_is_unusual(trained: Trained, images: Path, tmp_path: Path) -> None:
    """Grey value by grey value, and coloured only where the region counts."""
    scorer, [record] = trained.artifact.scorer, find_images([images / "a.png"])
    score_files(scorer, [record], [PictureFolder(tmp_path / "maps", scorer, overlay=True)])
    [(_, result)] = score(scorer, [record], maps=True)
    low, _ = scorer.calibration.map_limits["anomaly"]
    pixels = read_image(record.path).pixels
    shown = np.asarray(Image.open(tmp_path / "maps" / "00001_overlay.png"))[:200, :300].astype(int)
    grey = np.rint(255 * pixels)[..., None]
    clear = resample(result.maps["anomaly"], pixels.shape) < low - 1e-3
    assert clear.any()
    np.testing.assert_allclose(shown[clear], np.broadcast_to(grey, shown.shape)[clear], atol=1)
    if result.region is not None:
        assert clear[resample(result.region, pixels.shape) == 0].all()


def test_no_place_that_does_not_count_is_coloured_at_any_size() -> None:
    region = np.zeros((8, 8), np.float32)
    region[2:6, 2:5] = 1
    score_map = np.where(region > 0, 40.0, -3.0).astype(np.float32)
    pixels = np.full((200, 120), 0.5, np.float32)
    coloured = np.ptp(blend(pixels, score_map, SCALE), axis=2) > 0
    assert coloured.any()
    assert not coloured[resample(region, pixels.shape) == 0].any()


def test_a_large_image_is_coloured_as_a_small_one() -> None:
    """In bands: they leave no seam."""
    pixels, score_map = np.full((700, 30), 0.4, np.float32), np.full((4, 4), 1.5, np.float32)
    made = blend(pixels, score_map, SCALE)
    assert (made == made[:1, :1]).all()
    colour = np.full((700, 30, 3), 0.4, np.float32)
    np.testing.assert_array_equal(blend(colour, score_map, SCALE), made)
    assert (with_strip(made, ("row 1",), SCALE)[:700, :30] == made).all()


def test_a_picture_carries_row_pseudonym_threshold_and_use(trained: Trained, data: Path) -> None:
    scorer, [record] = trained.artifact.scorer, find_images([data / "test" / "normal" / "000.png"])
    [(_, result)] = score(scorer, [record], maps=True, pictures=True)
    assert not isinstance(result, Exception)
    lines = caption(12, record, result)
    assert lines[0] == f"row 12   ·   image {pseudonym(record.name)}"
    assert lines[1] == f"threshold {scorer.calibration.threshold:.3g}   ·   research use, not a medical device"
    frame = Frame(scorer.calibration.map_limits, scorer.settings.image_size)
    with_words, without = (np.asarray(frame.picture(result, words), int) for words in (lines, ()))
    changed = np.argwhere((with_words != without).any(axis=2))
    assert len(changed) > 300
    below, right = frame.corners[0][1] + frame.cell[1], frame.corners[2][0]
    assert (changed[:, 0] > below).all()
    assert (changed[:, 1] < right).all()  # beside the colour bars
    identify()
    long = Record(record.path, "ward/" * 30 + "x.png", None, None, "p", None, None)
    assert caption(1, long, result)[0].endswith("ward/x.png")
    assert len(caption(1, long, result)[0]) < 70


def test_overlays_are_asked_for_with_a_folder(tiny_run: Path, images: Path) -> None:
    line = error_of("score", tiny_run, images, "--overlay")
    assert line == "--overlay: given without --maps; name a folder with --maps"
