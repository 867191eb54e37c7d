"""JPEG: one with a gap is refused, which Pillow would fill in grey; one that is odd and whole is read."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate

from aeflow.imageio.errors import ImageError
from aeflow.imageio.limits import Limits
from aeflow.imageio.reader import decode_image
from aeflow.imageio.whole_jpeg import is_whole
from helpers.data import SAMPLE
from helpers.dicom_files import content as dicom_content
from helpers.dicom_files import dataset

KINDS = {
    "baseline": ("RGB", {}),
    "grey": ("L", {}),
    "of four inks": ("CMYK", {}),
    "fine": ("RGB", {"quality": 98, "subsampling": 0}),
    "with restarts": ("RGB", {"restart_marker_rows": 1}),
    "progressive": ("RGB", {"progressive": True}),
    "optimised": ("L", {"optimize": True}),
}
LAYERS = {"L": 1, "RGB": 3, "CMYK": 4}


def picture() -> PIL.Image.Image:
    return PIL.Image.open(next((SAMPLE / "test" / "normal").iterdir())).convert("RGB").resize((200, 160))


def jpeg(kind: str) -> bytes:
    mode, options = KINDS[kind]
    stream = io.BytesIO()
    picture().convert(mode).save(stream, "JPEG", **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_a_gap_anywhere_in_the_data_is_noticed(kind: str) -> None:
    whole, layers = jpeg(kind), LAYERS[KINDS[kind][0]]
    assert is_whole(whole, layers)
    rng, unseen, silent = random.Random(0), 0, 0
    data = whole.index(b"\xff\xda") + 20
    for _ in range(100):
        length = rng.randrange(16, len(whole) // 3)
        start = rng.randrange(data, len(whole) - length - 2)
        cut = whole[:start] + whole[start + length :]
        unseen += is_whole(cut, layers)
        try:
            PIL.Image.open(io.BytesIO(cut)).load()
            silent += 1
        except OSError:
            pass
    assert silent > 90, "Pillow says nothing"
    assert unseen <= 2  # codes may fall into step again and come out even


def test_the_reader_refuses_it_in_one_line(tmp_path: Path) -> None:
    whole = jpeg("grey")
    with pytest.raises(ImageError, match="a JPEG of which a part is missing or damaged; copy or export the file again"):
        decode_image(whole[:2000] + whole[3500:], tmp_path / "a.jpg")
    stored = dataset(np.asarray(picture().convert("L")))
    for stream, good in ((whole, True), (whole[:2000] + whole[3500:], False)):
        stored.PixelData = encapsulate([stream])
        stored["PixelData"].is_undefined_length = True
        file = dicom_content(stored, uid.JPEGBaseline8Bit)
        if good:
            assert decode_image(file, tmp_path / "a.dcm").pixels.shape == (160, 200)
        else:
            with pytest.raises(ImageError, match="a JPEG frame of which a part is missing or damaged"):
                decode_image(file, tmp_path / "a.dcm")


@pytest.mark.parametrize("kind", KINDS)
def test_what_follows_the_end_or_pads_it_is_no_gap(kind: str, tmp_path: Path) -> None:
    whole = jpeg(kind)
    want = decode_image(whole, tmp_path / "a.jpg").pixels
    for odd in (
        whole + b"\0" * 512,
        whole + b"a note of the camera",
        whole + whole,
        whole[:-2] + b"\0" * 100 + whole[-2:],
        whole[:-2] + b"\xff" * 100 + whole[-2:],
    ):
        assert np.array_equal(decode_image(odd, tmp_path / "a.jpg").pixels, want)


def test_every_sample_image_is_whole() -> None:
    files = [file for file in SAMPLE.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg")]
    for file in files:
        decode_image(file.read_bytes(), file, Limits())
    assert files
