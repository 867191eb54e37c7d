"""Contract of all readers: what every format that is read keeps, and every other one says."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from aeflow.imageio.errors import ImageError, ImageLimitError
from aeflow.imageio.formats import FORMATS, Format, recognise
from aeflow.imageio.image import Slice
from aeflow.imageio.limits import Limits
from aeflow.imageio.reader import MIN_SIDE, decode_image, read_header, read_image
from aeflow.privacy import pseudonym
from helpers.hostile_seeds import CANARY, pillow, seeds
from helpers.image_files import chunk, noise, png, tiff

FILES = {  # good files; a new format needs one here, or the first test fails
    "png": png(noise("u1"), 0),
    "png 16": png(noise("u2"), 0),
    "png palette": pillow(noise("u1", 3), "P", "PNG"),
    "png rgba": png(noise("u1", 4), 6, extra=chunk(b"tEXt", b"Comment\0text")),
    "jpeg": pillow(noise("u1", 3), "RGB", "JPEG", progressive=True),
    "jpeg cmyk": pillow(noise("u1", 3), "CMYK", "JPEG"),
    "tiff": tiff(noise("u2"), tags={0x0112: [6]}),
    "tiff zip": tiff(noise("u1", 3), photometric=2, big_endian=True, compressed=True),
    "tiff float": tiff(noise("f4")),
    "bmp": pillow(noise("u1", 3), "P", "BMP"),
    **{seed.name: seed.content for seed in seeds() if seed.name.startswith(("nii", "dicom"))},
}
READ = [form for form in FORMATS if form.read is not None]
REFUSED = [form for form in FORMATS if form.read is None]

every_file = pytest.mark.parametrize("name", FILES)
pytestmark = pytest.mark.filterwarnings("ignore")  # readers silence them outside of pytest: tested of each of them


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "image"


def damaged(content: bytes, flips: int, seed: int = 0):
    """Yield the file cut at every fiftieth, then with single bits flipped, half of them where headers stand."""
    yield from (content[: len(content) * part // 50] for part in range(50))
    rng = np.random.default_rng(seed)
    for turn in range(flips):
        copy = bytearray(content)
        edge = min(len(copy), 200)
        at = [rng.integers(len(copy)), rng.integers(edge), len(copy) - 1 - rng.integers(edge)][turn % 3]
        copy[at] ^= 1 << rng.integers(8)
        yield bytes(copy)


def outcome(file: Path) -> np.ndarray | ImageError:
    """Return the pixels of a file, or the error that refuses it."""
    try:
        return read_image(file).pixels
    except ImageError as error:
        return error


def assert_in_range(pixels: np.ndarray) -> None:
    assert pixels.dtype == np.float32
    assert pixels.ndim == 2 or pixels.shape[2:] == (3,)
    assert pixels.min() >= 0
    assert pixels.max() <= 1


def test_every_format_that_is_read_has_a_file_here() -> None:
    assert {recognise(content).name for content in FILES.values()} == {form.name for form in READ}


@every_file
def test_one_format_alone_claims_a_file(name: str) -> None:
    claimed = [form.name for form in FORMATS if form.matches(FILES[name])]
    zipped = ["a gzip archive, not an image"] if name.startswith("nii.gz") else []  # what else it is
    assert claimed == [recognise(FILES[name]).name, *zipped]


@every_file
def test_pixels_are_in_range_and_the_same_each_time(name: str, file: Path) -> None:
    file.write_bytes(FILES[name])
    image = read_image(file)
    assert_in_range(image.pixels)
    assert min(image.pixels.shape[:2]) >= MIN_SIDE
    assert len(np.unique(image.pixels)) > 1
    assert image.source == str(file)
    np.testing.assert_array_equal(read_image(file).pixels, image.pixels)
    np.testing.assert_array_equal(decode_image(FILES[name], Path("elsewhere")).pixels, image.pixels)


@every_file
def test_reading_leaves_the_file_as_it_was(name: str, file: Path) -> None:
    file.write_bytes(FILES[name])
    file.chmod(0o444)
    before = hashlib.sha256(FILES[name]).digest(), file.stat().st_mtime_ns
    read_image(file)
    read_header(file, "axial")
    assert (hashlib.sha256(file.read_bytes()).digest(), file.stat().st_mtime_ns) == before
    assert [path.name for path in file.parent.iterdir()] == ["image"]


@every_file
def test_the_header_tells_how_many_images_there_are(name: str, file: Path) -> None:
    file.write_bytes(FILES[name])
    header = read_header(file, "axial")
    assert header.format == recognise(FILES[name]).name
    assert header.frames >= 1
    axis = "axial" if header.format == "NIfTI" else None
    for index in {0, header.frames - 1}:
        assert_in_range(read_image(file, at=Slice(index, axis)).pixels)
    if header.frames > 1:
        with pytest.raises(ImageError):
            read_image(file, at=Slice(header.frames, axis))


@every_file
def test_limits_hold_and_are_inclusive(name: str, file: Path) -> None:
    file.write_bytes(FILES[name])
    height, width = read_image(file).pixels.shape[:2]
    exact = Limits(max_pixels=height * width, max_bytes=len(FILES[name]))
    np.testing.assert_array_equal(read_image(file, exact).pixels, read_image(file).pixels)
    with pytest.raises(ImageLimitError, match=f"where the limit is {height * width - 1}; "):
        read_image(file, Limits(max_pixels=height * width - 1))
    with pytest.raises(ImageLimitError, match=f"where the limit is {len(FILES[name]) - 1}; "):
        read_image(file, Limits(max_bytes=len(FILES[name]) - 1))


@every_file
def test_a_damaged_file_is_an_image_or_an_image_error(name: str, file: Path) -> None:
    refused = 0
    for content in damaged(FILES[name], flips=90):
        file.write_bytes(content)
        read = outcome(file)
        if isinstance(read, ImageError):
            refused += 1
            assert read.where == str(file)
            assert CANARY.decode() not in str(read)
        else:
            assert_in_range(read)
    assert refused > 20


@every_file
def test_half_a_file_is_refused_in_one_line(name: str, file: Path) -> None:
    file.write_bytes(FILES[name][: len(FILES[name]) // 2])
    with pytest.raises(ImageError) as caught:
        read_image(file)
    found, remedy = caught.value.found, caught.value.remedy
    assert str(caught.value) == f"image {pseudonym(str(file))}: {found}; {remedy}"
    assert "\n" not in str(caught.value)
    assert found
    assert remedy


@pytest.mark.parametrize("form", REFUSED, ids=lambda form: form.name)
def test_what_is_not_read_is_named_with_what_to_do(form: Format, file: Path) -> None:
    for offset, mark in form.marks:
        file.write_bytes((b"\0" * offset + mark).ljust(4096, b"\0"))
        with pytest.raises(ImageError) as caught:
            read_image(file)
        assert (caught.value.found, caught.value.remedy) == (form.name, form.remedy)
