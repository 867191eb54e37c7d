"""Reading: every pixel exact in every mode, every bad file refused in one line, nothing else ever raised."""

from __future__ import annotations

import gzip
import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import PIL.Image
import pytest

from aeflow.data.records import find_images
from aeflow.imageio.errors import ImageError, ImageLimitError
from aeflow.imageio.limits import Limits
from aeflow.imageio.reader import read_image, read_mask
from aeflow.privacy import pseudonym
from helpers.data import SAMPLE
from helpers.image_files import HEIGHT, ORIENTED, WIDTH, chunk, noise, png, tiff


@pytest.fixture
def read(tmp_path):
    def read(content: bytes, **options):
        file = tmp_path / "image"
        file.write_bytes(content)
        return read_image(file, **options).pixels

    return read


def with_pillow(pixels, mode, form, **options) -> bytes:
    """A file of a format that the tests do not write themselves."""
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).convert(mode).save(stream, form, **options)
    return stream.getvalue()


def unit(pixels) -> np.ndarray:
    return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)


# Laws: the pixels are those of the file.


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_grey_png_is_exact(read, dtype):
    pixels = noise(dtype)
    got = read(png(pixels, 0))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, unit(pixels))


def test_all_65536_levels_stay_apart(read):
    pixels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for content in (png(pixels, 0), tiff(pixels), tiff(pixels, big_endian=True, compressed=True)):
        got = read(content)
        assert len(np.unique(got)) == 65536
        assert got.min() == 0
        assert got.max() == 1


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("big_endian", [False, True])
def test_unsigned_tiff_is_exact(read, big_endian, compressed):
    for dtype in ("u1", "u2"):
        pixels = noise(dtype)
        np.testing.assert_array_equal(read(tiff(pixels, big_endian=big_endian, compressed=compressed)), unit(pixels))
    colour = noise("u1", 3)
    content = tiff(colour, big_endian=big_endian, compressed=compressed, photometric=2)
    np.testing.assert_array_equal(read(content), unit(colour))


def test_signed_tiff_is_shifted_by_half_its_range(read):
    pixels = noise("i2")
    expected = (pixels.astype(np.float64) + 32768) / 65535
    for options in ({}, {"big_endian": True}, {"compressed": True}):
        np.testing.assert_allclose(read(tiff(pixels, **options)), expected, atol=1e-7)


def test_twelve_bits_are_divided_by_4095_and_by_65535_in_a_16_bit_file(read):
    pixels = noise("u2") % 4096
    first, second = pixels.reshape(-1, 2).T
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1).astype(np.uint8)
    got = read(tiff(pixels, bits=12, data=packed.tobytes()))
    np.testing.assert_allclose(got, pixels / 4095, atol=1e-7)
    assert read(tiff(pixels)).max() < 0.07


def test_float_tiff_stays_within_the_unit_interval_and_is_stretched_outside(read):
    inside = np.random.default_rng(0).uniform(0.2, 0.6, (HEIGHT, WIDTH)).astype(np.float32)
    np.testing.assert_array_equal(read(tiff(inside)), inside)
    outside = noise("f4")
    low, high = outside.min(), outside.max()
    for options in ({}, {"big_endian": True}, {"compressed": True}):
        got = read(tiff(outside, **options))
        np.testing.assert_allclose(got, (outside - low) / (high - low), atol=1e-6)
    dark = np.minimum(outside, 1)  # below the interval alone
    np.testing.assert_allclose(read(tiff(dark)), (dark - low) / (1 - low), atol=1e-6)
    huge = outside * np.float32(6e36)  # its range exceeds float32
    np.testing.assert_allclose(read(tiff(huge)), (outside - low) / (high - low), atol=1e-6)


def test_one_bit(read):
    pixels = noise("u1") > 127
    for form in ("PNG", "TIFF", "BMP"):
        np.testing.assert_array_equal(read(with_pillow(pixels, "1", form)), pixels.astype(np.float32))


def test_white_is_zero_is_turned_black_is_zero_in_8_bits(read):
    pixels = noise("u1")
    np.testing.assert_array_equal(read(tiff(pixels, photometric=0)), unit(255 - pixels))


def test_colour_is_exact_and_grey_when_its_channels_are_equal(read):
    colour, grey = noise("u1", 3), noise("u1")
    replicated = np.stack([grey] * 3, axis=-1)
    for content in (png(colour, 2), with_pillow(colour, "RGB", "BMP"), with_pillow(colour, "RGB", "TIFF")):
        np.testing.assert_array_equal(read(content), unit(colour))
    for content in (png(replicated, 2), with_pillow(grey, "L", "BMP"), with_pillow(grey, "RGB", "BMP")):
        np.testing.assert_array_equal(read(content), unit(grey))


def test_grey_jpeg_saved_as_colour_reads_the_same(read):
    smooth = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)).astype(np.uint8) * 2
    grey = read(with_pillow(smooth, "L", "JPEG", quality=95))
    assert grey.shape == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(read(with_pillow(smooth, "RGB", "JPEG", quality=95)), grey)
    np.testing.assert_allclose(grey, unit(smooth), atol=0.03)


def test_palette_gives_its_colours(read):
    indices = noise("u1") % 4
    palette = np.array([[0, 0, 0], [255, 0, 0], [10, 20, 30], [200, 200, 200]], dtype=np.uint8)
    content = png(indices, 3, extra=chunk(b"PLTE", palette.tobytes()))
    np.testing.assert_array_equal(read(content), unit(palette[indices]))
    clear = np.array([255, 0, 51, 255], dtype=np.uint8)
    content = png(indices, 3, extra=chunk(b"PLTE", palette.tobytes()) + chunk(b"tRNS", clear.tobytes()))
    expected = palette[indices] * (clear[indices] / 255.0)[..., None] / 255.0
    np.testing.assert_allclose(read(content), expected, atol=1e-7)


def test_opaque_alpha_is_ignored_and_other_alpha_shows_black(read):
    for colours, kind in ((1, 4), (3, 6)):
        pixels = noise("u1", colours + 1)
        shown = pixels[..., :colours] / 255.0 * (pixels[..., colours:] / 255.0)
        np.testing.assert_allclose(read(png(pixels, kind)), np.squeeze(shown), atol=1e-7)
        pixels[..., colours:] = 255
        np.testing.assert_array_equal(read(png(pixels, kind)), np.squeeze(unit(pixels[..., :colours])))


def test_transparent_level_shows_black(read):
    for dtype in ("u1", "u2"):
        pixels = noise(dtype)
        clear = pixels[3, 5]
        got = read(png(pixels, 0, extra=chunk(b"tRNS", int(clear).to_bytes(2, "big"))))
        np.testing.assert_allclose(got, np.where(pixels == clear, 0, unit(pixels)), atol=1e-7)


def packed_png(indices: np.ndarray, depth: int, colour: int, extra: bytes) -> bytes:
    """Return a PNG of 1, 2 or 4 bits; its width is a multiple of 8."""
    bits = np.unpackbits(indices[..., np.newaxis].astype("u1"), axis=-1)[..., 8 - depth :]
    rows = np.packbits(bits.reshape(len(indices), -1), axis=-1)
    head = chunk(b"IHDR", struct.pack(">LLBBBBB", indices.shape[1], len(indices), depth, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + head + extra + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_transparent_grey_below_8_bits_shows_black(read, depth):
    highest = 2**depth - 1
    grey = noise("u1") & highest
    clear = highest - 1  # for one bit black itself is transparent, which changes nothing
    for stored in (clear, clear | 0xFF00):  # only the low bits count
        got = read(packed_png(grey, depth, 0, chunk(b"tRNS", struct.pack(">H", stored))))
        np.testing.assert_allclose(got, np.where(grey == clear, 0, grey / highest), atol=1e-6)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_transparent_entries_of_a_small_palette_show_black(read, depth):
    indices = noise("u1") & (2**depth - 1)
    palette = noise("u1", 3, seed=1)[0, : 2**depth]
    alpha = np.array([255, 0] + [255] * (2**depth - 2), "u1")
    got = read(packed_png(indices, depth, 3, chunk(b"PLTE", palette.tobytes()) + chunk(b"tRNS", alpha.tobytes())))
    shown = (palette * (alpha[:, np.newaxis] / 255) / 255)[indices]
    np.testing.assert_allclose(got, shown, atol=1e-6)


def test_a_transparent_colour_shows_black(read):
    colour = noise("u1", 3)
    colour[5:9] = clear = (10, 20, 30)
    got = read(png(colour, 2, extra=chunk(b"tRNS", struct.pack(">3H", *clear))))
    np.testing.assert_allclose(got, np.where((colour == clear).all(-1, keepdims=True), 0, colour / 255), atol=1e-6)


def test_cmyk(read):
    pixels = np.zeros((HEIGHT, WIDTH, 4), dtype=np.uint8)
    pixels[..., 3] = noise("u1")
    np.testing.assert_array_equal(read(tiff(pixels, photometric=5)), unit(255 - pixels[..., 3]))
    pixels[: HEIGHT // 2] = (0, 255, 255, 0)  # red
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels, "CMYK").save(stream, "JPEG", quality=100)
    np.testing.assert_allclose(read(stream.getvalue())[4, 4], (1, 0, 0), atol=0.02)


@pytest.mark.parametrize("orientation", ORIENTED)
def test_exif_rotation_is_applied_once(read, orientation):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    for dtype in ("u1", "u2"):
        pixels = noise(dtype)
        expected = ORIENTED[orientation](unit(pixels))
        tags = {0x0112: [orientation]}
        for content in (
            png(pixels, 0, extra=chunk(b"eXIf", exif.tobytes()[6:])),
            tiff(pixels, tags=tags),
            tiff(pixels, tags=tags, big_endian=True, compressed=True),
        ):
            np.testing.assert_array_equal(read(content), expected)
    plain = read(with_pillow(pixels >> 8, "L", "JPEG"))
    turned = read(with_pillow(pixels >> 8, "L", "JPEG", exif=exif))
    np.testing.assert_array_equal(turned, ORIENTED[orientation](plain))


def test_the_content_decides_not_the_name(tmp_path):
    pixels = noise("u2")
    for name in ("scan.jpg", "scan", "scan.dcm", "scan.txt"):
        (tmp_path / name).write_bytes(png(pixels, 0))
        image = read_image(str(tmp_path / name))
        np.testing.assert_array_equal(image.pixels, unit(pixels))
        assert image.source == str(tmp_path / name)
        assert image.spacing is None
        assert image.patient is None


def test_masks_are_true_where_not_zero(tmp_path):
    file = tmp_path / "mask"
    pixels = noise("u1") % 3
    for content in (png(pixels, 0), png(pixels.astype(np.uint16), 0), tiff(pixels.astype(np.int16))):
        file.write_bytes(content)
        np.testing.assert_array_equal(read_mask(file), pixels != 0)
    file.write_bytes(png(np.stack([pixels, 0 * pixels, 0 * pixels], -1), 2))
    np.testing.assert_array_equal(read_mask(file), pixels != 0)
    for value in (0, 255):  # no finding, or nothing but
        file.write_bytes(png(np.full((8, 8), value, dtype=np.uint8), 0))
        np.testing.assert_array_equal(read_mask(file), np.full((8, 8), value > 0))
    file.write_bytes(with_pillow(pixels * 127, "L", "JPEG"))
    with pytest.raises(ImageError, match="a mask saved as JPEG, which blurs its border; save the mask as PNG"):
        read_mask(file)


# Behaviour: what is refused, and in which words.

IMAGE_PNG = png(noise("u1"), 0)
CONVERT = "convert it to a 16-bit grey PNG"
NO_IMAGE = "name an image file"
LOSS = "which cannot be read without loss; " + CONVERT
TOO_SMALL = "nothing to look at; give an image of at least 32 x 32 pixels"
NOT_FINITE = "values are NaN or infinite; give every pixel a finite value"
REFUSED = {
    "empty": (b"", "an empty file; export the image again"),
    "text": (b"patient,score\n1,2\n", "text, not an image; " + NO_IMAGE),
    "html": (b"\n<!DOCTYPE html><html>", "HTML, not an image; " + NO_IMAGE),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG, not an image; " + NO_IMAGE),
    "xml": (b"<?xml version='1.0'?>", "XML, not an image; " + NO_IMAGE),
    "cut character": (("é".encode() * 3000)[:4097], "text, not an image; " + NO_IMAGE),
    "zip": (b"PK\x03\x04rest", "a ZIP archive, not an image; unpack it"),
    "gzip": (gzip.compress(b"x" * 900), "a gzip archive, not an image; unpack it"),
    "broken gzip": (b"\x1f\x8b\xffrest", "a gzip archive, not an image; unpack it"),
    "pdf": (b"%PDF-1.7", "a PDF document, not an image; " + NO_IMAGE),
    "bytes": (bytes(range(256)), "not an image, nor anything else that is known; " + NO_IMAGE),
    "gif": (with_pillow(noise("u1"), "L", "GIF"), "GIF, which is not read; " + CONVERT),
    "dicom": (b"\0" * 128 + b"DICM", "DICOM without an image in it; name an image file"),
    "nifti": (b"\0" * 344 + b"n+1\0", "no complete NIfTI header"),
    "nifti, zipped": (gzip.compress(b"\0" * 344 + b"n+1\0" + b"x" * 900), "impossible dimensions in the header"),
    "1 x 1": (png(noise("u1")[:1, :1], 0), "1 x 1 pixels, " + TOO_SMALL),
    "31 rows": (png(noise("u1")[:31], 0), "48 x 31 pixels, " + TOO_SMALL),
    "blank": (png(np.full((40, 40), 9, np.uint8), 0), "every pixel has the same value; export the image again"),
    "one colour": (png(noise("u1", 3)[:1, :1].repeat(40, 0).repeat(40, 1), 2), "every pixel has the same value; "),
    "all clear": (png(noise("u1", 4) * np.array([1, 1, 1, 0], np.uint8), 6), "every pixel has the same value; "),
    "NaN": (tiff(np.where(np.arange(1920).reshape(40, 48) < 3, np.nan, noise("f4"))), "3 " + NOT_FINITE),
    "infinite": (tiff(np.where(noise("f4") > 49, -np.inf, noise("f4"))), NOT_FINITE),
    "16-bit RGB PNG": (png(noise("u2", 3), 2), "16-bit colour or transparency, " + LOSS),
    "16-bit grey + alpha PNG": (png(noise("u2", 2), 4), "16-bit colour or transparency, " + LOSS),
    "16-bit RGB TIFF": (tiff(noise("u2", 3), photometric=2), "16-bit colour, " + LOSS),
    "32-bit TIFF": (tiff(noise("u4")), "32-bit integers, " + LOSS),
    "signed 8-bit TIFF": (tiff(noise("i1")), "signed 8-bit pixels, " + LOSS),
    "inverted 16-bit TIFF": (tiff(noise("u2"), photometric=0), "16-bit pixels with 0 for white, " + LOSS),
    "big-endian compressed float TIFF": (
        tiff(noise("f4"), big_endian=True, compressed=True),
        "compressed big-endian signed or float pixels, " + LOSS,
    ),
    "TrialTrainer TIFF": (tiff(noise("u1", 3), photometric=8), "pixels of mode LAB, " + LOSS),
    "half of the strips": (tiff(noise("u1"), tags={278: [HEIGHT // 2]}), "holds 960 of 1920 pixels; export or copy "),
    "two pages": (
        with_pillow(noise("u1"), "L", "TIFF", save_all=True, append_images=[PIL.Image.new("L", (48, 40))]),
        "more than one frame; save each frame as a file of its own",
    ),
    "animation": (
        with_pillow(noise("u1"), "L", "PNG", save_all=True, append_images=[PIL.Image.new("L", (48, 40))]),
        "more than one frame; save each frame as a file of its own",
    ),
    "half a PNG": (IMAGE_PNG[: len(IMAGE_PNG) // 2], "pixels are damaged or cut off"),
    "half a JPEG": (
        with_pillow(noise("u1"), "L", "JPEG")[:600],
        "pixels are damaged or cut off",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line_that_names_the_file_and_the_remedy(tmp_path, name):
    content, message = REFUSED[name]
    file = tmp_path / "image"
    file.write_bytes(content)
    with pytest.raises(ImageError) as caught:
        read_image(file)
    assert caught.value.where == str(file)
    assert str(caught.value).startswith(f"image {pseudonym(str(file))}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [png(noise("u1"), 0, size=(30000, 30000)), tiff(noise("u1"), size=(30000, 30000))])
def test_a_pixel_bomb_is_refused_by_its_header(tmp_path, content):
    file = tmp_path / "bomb"
    file.write_bytes(content)
    with pytest.raises(ImageLimitError) as caught:
        read_image(file)
    assert caught.value.found == "30000 x 30000 pixels where the limit is 100000000"


def test_limits_are_inclusive(read):
    exact = Limits(max_bytes=len(IMAGE_PNG), max_pixels=HEIGHT * WIDTH)
    assert read(IMAGE_PNG, limits=exact).shape == (HEIGHT, WIDTH)
    with pytest.raises(ImageLimitError, match=f"{len(IMAGE_PNG)} bytes where the limit is {len(IMAGE_PNG) - 1}; "):
        read(IMAGE_PNG, limits=Limits(max_bytes=len(IMAGE_PNG) - 1))
    with pytest.raises(ImageLimitError, match="48 x 40 pixels where the limit is 1919; "):
        read(IMAGE_PNG, limits=Limits(max_pixels=HEIGHT * WIDTH - 1))


def test_the_least_image_is_32_x_32(read):
    assert read(png(noise("u1")[:32, :32], 0)).shape == (32, 32)


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    for path, found in {
        tmp_path: "a folder",
        tmp_path / "pipe": "not a file",
        tmp_path / "missing": "cannot be opened (No such file or directory)",
        tmp_path / "nowhere": "cannot be opened (No such file or directory)",
        tmp_path / "null\0byte": "cannot be opened (embedded null byte)",
        tmp_path / ("long" * 100): "cannot be opened (File name too long)",
    }.items():
        with pytest.raises(ImageError) as caught:
            read_image(path)
        assert caught.value.found == found


def test_no_warning_reaches_the_user(tmp_path):
    skipped_tag = tiff(noise("u1"), tags={65000: [1, 2, 3]})[:-2]  # Pillow warns that the tag exceeds the file
    (tmp_path / "image").write_bytes(skipped_tag)
    code = "import sys; from aeflow.data import read_image; print(read_image(sys.argv[1]).pixels.shape)"
    for flag in ("-Walways", "-Werror"):
        command = [sys.executable, flag, "-c", code, str(tmp_path / "image")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == (f"({HEIGHT}, {WIDTH})\n", "")


# Truth: real images.


def test_real_chest_x_rays():
    for record in find_images([SAMPLE / "test"]):
        pixels = read_image(record.path).pixels
        assert pixels.shape == (224, 224)
        with PIL.Image.open(record.path) as image:
            np.testing.assert_array_equal(pixels, unit(np.asarray(image.convert("L"))))
