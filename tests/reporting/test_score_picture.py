"""Pictures of scores: what the gallery shows, in a fraction of its time, and no file that is not whole."""

from __future__ import annotations

import io
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from PIL import Image
from scipy.ndimage import gaussian_filter

from aeflow.data.records import read_records
from aeflow.errors import DataError, OutputError
from aeflow.reporting.gallery import gallery
from aeflow.reporting.heat_colours import HEAT
from aeflow.reporting.palette import INK
from aeflow.reporting.panels import panel
from aeflow.reporting.score_picture import WAITING, Frame, encoded, written
from aeflow.reporting.style import png
from aeflow.results.pictures import PictureFolder
from aeflow.scoring.score_files import score_files
from aeflow.scoring.scorer import Score
from aeflow.training.train import Trained

SIDE = 96
SCALES = {"residual": (0.1, 0.4), "anomaly": (1.0, 1.5)}


def scored(seed: int, colour: bool = False, outside: tuple[str, ...] = ()) -> Score:
    """A score whose image, reconstruction and maps are smooth and use the whole of their scales and more."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((8, SIDE, SIDE)), (0, 3, 3)).astype(np.float32)
    smooth = (noise - noise.min()) / (noise.max() - noise.min())
    image, x_hat = (part if colour else part[:1].repeat(3, axis=0) for part in (smooth[:3], smooth[3:6]))
    maps = {"residual": 0.5 * smooth[6], "anomaly": 0.5 + 1.5 * smooth[7]}
    return Score(1.23, 0.045, "abnormal", 1.1, {}, {}, maps, (image, x_hat), outside)


@pytest.fixture(scope="module")
def frame() -> Frame:
    return Frame(SCALES, SIDE)


def drawn_by(frame: Frame, result: Score) -> np.ndarray:
    return np.asarray(frame.picture(result))


def drawn(result: Score) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png(gallery([panel(result)], SCALES)))).convert("RGB"), int)


@pytest.mark.parametrize("colour", [False, True])
def test_a_picture_is_what_the_gallery_draws(frame: Frame, colour: bool) -> None:
    """Cells within the pixel by which matplotlib places and samples them elsewhere; as much ink around them."""
    result = scored(0, colour)
    ours, theirs = np.asarray(frame.picture(result), int), drawn(result)
    height, width = (min(one.shape[axis] for one in (ours, theirs)) for axis in (0, 1))
    assert np.abs(np.subtract(ours.shape, theirs.shape)).max() <= 1
    ours, theirs = ours[:height, :width], theirs[:height, :width]
    around = np.ones((height, width), bool)
    for left, top in frame.corners:
        cell = slice(top, top + frame.cell[1]), slice(left, left + frame.cell[0])
        around[cell] = False
        difference = ours[cell] - theirs[cell]
        assert np.abs(difference).mean() < 4
        assert abs(difference.mean()) < 1.5  # of 255: no brighter and no darker
    top, below = frame.corners[0][1], frame.corners[0][1] + frame.cell[1]
    for strip in (slice(0, 30), slice(30, top - 2), slice(below + 2, height)):  # heads, title, colour bars
        inked = [(one[strip] < 160).any(axis=-1) & around[strip] for one in (ours, theirs)]
        assert abs(inked[0].sum() / inked[1].sum() - 1) < 0.35
        for axis in (0, 1):
            edges = [np.flatnonzero(one.any(axis=axis))[[0, -1]] for one in inked]
            np.testing.assert_allclose(edges[0], edges[1], atol=8)


def test_the_colours_are_those_of_matplotlib() -> None:
    ours, theirs = HEAT[:, :3], colormaps["inferno"](0.35 + 0.6 * np.linspace(0, 1, 256))[:, :3]
    np.testing.assert_allclose(ours, theirs, atol=0.5 / 255)


def test_a_map_is_clear_at_the_typical_value_and_full_from_the_extreme_one_on(frame: Frame) -> None:
    """Whatever else is in the map: nothing is stretched."""
    plain = scored(0)
    image = np.full_like(plain.pictures[0], 0.5)
    cells = []
    for low, high in ((-1.0, 5.0), (0.1, 0.4)):
        maps = {"residual": np.full((SIDE, SIDE), low), "anomaly": np.full((SIDE, SIDE), 1.5 if high < 1 else 99.0)}
        maps["residual"][: SIDE // 2] = high
        picture = np.asarray(frame.picture(Score(1, 0.5, "normal", 1.1, {}, {}, maps, (image, image))), int)
        left, top = frame.corners[2]
        cells.append(picture[top : top + frame.cell[1], left : left + frame.cell[0]])
    np.testing.assert_array_equal(cells[0], cells[1])
    assert (cells[0][-10:] == 128).all()
    assert np.ptp(cells[0][:10].mean(axis=(0, 1))) > 50  # coloured


def test_a_title_that_is_too_long_loses_its_last_words(frame: Frame) -> None:
    few = scored(0, outside=("layout", "features"))
    many = scored(0, outside=("brightness", "contrast", "colour", "sharpness", "layout", "features", "modality"))
    top = frame.corners[0][1]
    ink = np.round(255 * np.array(to_rgb(INK))).astype(int)
    for result in (scored(0), few, many):
        strip = np.asarray(frame.picture(result), int)[top - 30 : top]
        assert (np.abs(strip - ink).max(axis=-1) < 20).sum() > 100
        assert (strip[:, -3:] == 255).all()
    assert frame.shortened(panel(few).title) == panel(few).title
    short = frame.shortened(panel(many).title)
    assert short.endswith(" …")
    assert panel(many).title.startswith(short.removesuffix(" …"))
    assert "OUTSIDE INTENDED INPUT: brightness" in short


def test_scales_that_are_none_are_refused() -> None:
    with pytest.raises(DataError, match="map 'anomaly'"):
        Frame({"anomaly": (1.0, 1.0)}, SIDE)


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 40), st.randoms(use_true_random=False))
def test_png_is_without_loss(height: int, width: int, random: object) -> None:
    pixels = np.frombuffer(random.randbytes(3 * height * width), np.uint8).reshape(height, width, 3)
    with Image.open(io.BytesIO(encoded(pixels))) as read:
        read.verify()  # its checksums
    read = Image.open(io.BytesIO(encoded(pixels)))
    assert read.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(read), pixels)


def test_every_file_is_there_and_whole_at_the_end(frame: Frame, tmp_path: Path) -> None:
    results = [scored(seed) for seed in range(WAITING + 5)]
    with written() as draw:
        for number, result in enumerate(results):
            draw(tmp_path / f"{number:05d}.png", partial(drawn_by, frame, result))
    assert len(list(tmp_path.iterdir())) == len(results)
    for number, result in enumerate(results):
        np.testing.assert_array_equal(Image.open(tmp_path / f"{number:05d}.png"), frame.picture(result))


def test_memory_does_not_grow_with_the_images(frame: Frame, tmp_path: Path) -> None:
    def peak(images: int) -> int:
        tracemalloc.reset_peak()
        with written() as draw:
            for number in range(images):
                draw(tmp_path / f"{number}.png", partial(drawn_by, frame, scored(number)))
        return tracemalloc.get_traced_memory()[1]

    tracemalloc.start()
    try:
        peak(1)  # what is imported and kept once
        few, many = peak(2 * WAITING), peak(6 * WAITING)
    finally:
        tracemalloc.stop()
    assert many < 1.2 * few


@pytest.mark.parametrize("broken", [0, WAITING + 3])
def test_a_picture_that_cannot_be_written_is_an_error(frame: Frame, tmp_path: Path, broken: int) -> None:
    """Not the last of them either, and what follows is not drawn."""
    (tmp_path / f"{broken:05d}.png").mkdir()

    def all_of_them() -> None:
        with written() as draw:
            for number in range(WAITING + 4):
                draw(tmp_path / f"{number:05d}.png", partial(drawn_by, frame, scored(number)))

    with pytest.raises(OSError, match=f"{broken:05d}.png"):
        all_of_them()


def test_scoring_ends_with_the_error_of_a_picture(trained: Trained, data: Path, tmp_path: Path) -> None:
    records = read_records(data, "test")[:3]
    (tmp_path / "maps" / "00002.png").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"00002\.png: is there already"):
        score_files(trained.artifact.scorer, records, [PictureFolder(tmp_path / "maps", trained.artifact.scorer)])


def test_an_error_of_the_caller_ends_the_drawing(frame: Frame, tmp_path: Path) -> None:
    def interrupted() -> None:
        with written() as draw:
            draw(tmp_path / "a.png", partial(drawn_by, frame, scored(0)))
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    for path in tmp_path.iterdir():
        Image.open(path).verify()
