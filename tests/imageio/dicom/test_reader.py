"""DICOM files as they come: real ones, those that hold no image, damaged and hostile ones, and directories."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import traceback
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread, uid
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut

from aeflow.imageio.dicom.decode import decode, encoded
from aeflow.imageio.dicom.parse import parse
from aeflow.imageio.dicom.pixel_module import layout
from aeflow.imageio.dicom.reader import directory, header, read
from aeflow.imageio.dicom.recognise import is_dicom
from aeflow.imageio.errors import ImageError, ImageLimitError
from aeflow.imageio.limits import Limits
from helpers.dicom_files import WHERE, compressed, content, dataset, element, items, parsed, shown, values

SHIPPED = Path(pydicom.__file__).parent / "data"
NO_FILES = {".py", ".pyc", ".txt", ".md", ".json", ".icc", ".dump", ".gz", ""}


# Truth: every real file that comes with pydicom is read as pydicom reads it, or refused for a reason.

NO_IMAGE = "DICOM without an image in it"
DOSE, PLAN = "DICOM, but a radiotherapy dose, not an image", "DICOM, but a radiotherapy plan or record, not an image"
REPORT = "DICOM, but a structured report, not an image"
PALETTE = "DICOM, but a colour palette, not an image"
DIRECTORY = "DICOM, but a directory of other files, not an image"
SEGMENTATION = "DICOM, but a segmentation, not an image"
REFUSED = {
    "chrJapMulti.dcm": "a header without pixels",
    "chrJapMultiExplicitIR6.dcm": "a header without pixels",
    "chrKoreanMulti.dcm": "a header without pixels",
    "chrSQEncoding.dcm": NO_IMAGE,
    "chrSQEncoding1.dcm": NO_IMAGE,
    **{f"{name}.dcm": PALETTE for name in ("fall", "hotiron", "hotmetalblue", "pet", "pet20step", "spring", "summer")},
    "winter.dcm": PALETTE,
    "ExplVR_BigEndNoMeta.dcm": PLAN,
    "ExplVR_LitEndNoMeta.dcm": PLAN,
    # the delimiter stands in the middle of the stream, which pydicom's decoders refuse as well
    "JPEG2000-embedded-sequence-delimiter.dcm": "a JPEG 2000 frame whose header is damaged",
    # values that all lie on one side of the window
    **dict.fromkeys(("17166", "17196"), "its Window Center (0028,1050) gives pixels that differ the same grey"),
    "MR_truncated.dcm": "8130 bytes of pixels where its size takes 8192",
    "UN_sequence.dcm": NO_IMAGE,
    "badVR.dcm": DOSE,
    "empty_charset_LEI.dcm": NO_IMAGE,
    "liver_1frame.dcm": SEGMENTATION,
    "liver_expb_1frame.dcm": SEGMENTATION,
    "meta_missing_tsyntax.dcm": NO_IMAGE,
    "nested_priv_SQ.dcm": NO_IMAGE,
    "no_meta.dcm": NO_IMAGE,  # begins with a stray byte, so that no element is where it should be
    "no_meta_group_length.dcm": NO_IMAGE,
    "priv_SQ.dcm": NO_IMAGE,
    "reportsi.dcm": REPORT,
    "reportsi_with_empty_number_tags.dcm": REPORT,
    "test-SR.dcm": REPORT,
    **{f"rtdose{kind}.dcm": DOSE for kind in ("", "_1frame", "_expb", "_expb_1frame", "_rle", "_rle_1frame")},
    "rtplan.dcm": PLAN,
    "rtplan_truncated.dcm": PLAN,
    "rtstruct.dcm": "DICOM, but a set of radiotherapy structures, not an image",
    "waveform_ecg.dcm": "DICOM, but a waveform or a curve, not an image",
    "DICOMDIR-empty.dcm": DIRECTORY,
}
BY_OURSELVES = {"JPGExtended.dcm", "JPEG-lossy.dcm"}  # 12-bit JPEG, for which pydicom has no plugin here


def real_files() -> list[Path]:
    files = [file for file in SHIPPED.rglob("*") if file.is_file() and file.suffix not in NO_FILES]
    return sorted(files + [file for file in (SHIPPED / "test_files/dicomdirtests").glob("*/*/*") if file.is_file()])


def by_pydicom(file: Path, frame: int) -> np.ndarray:
    """The whole pipeline in pydicom's own functions, over [0, 1] by the rules of dicom.py."""
    data = dcmread(file, force=True)
    pixels = data.pixel_array[frame] if int(data.get("NumberOfFrames", 1)) > 1 else data.pixel_array
    if data.PhotometricInterpretation == "PALETTE COLOR":
        colours = apply_color_lut(pixels, data)
        return colours / (2 ** data.RedPaletteColorLookupTableDescriptor[2] - 1)
    if pixels.ndim == 3:
        return pixels / (2**data.BitsStored - 1)
    low = -(1 << (data.BitsStored - 1)) if data.PixelRepresentation else 0
    ends = np.array([low, low + 2**data.BitsStored - 1])
    padding = pixels == data.PixelPaddingValue if "PixelPaddingValue" in data else np.zeros(pixels.shape, bool)
    ends = np.sort(ends * float(data.get("RescaleSlope", 1)) + float(data.get("RescaleIntercept", 0)))
    units = apply_modality_lut(pixels, data)
    if data.get("WindowWidth") not in (None, "", 0):
        units = apply_voi_lut(units, data)
    elif data.get("Modality") in ("MR", "NM", "PT"):
        ends = np.percentile(units[~padding], [0.5, 99.5])
    unit = np.clip((units - ends[0]) / (ends[1] - ends[0]), 0, 1)
    unit = 1 - unit if data.PhotometricInterpretation == "MONOCHROME1" else unit
    return np.where(padding, 0, unit)


@pytest.mark.filterwarnings("ignore")  # what is silenced outside of pytest: see the test of silence below
def test_real_files_are_read_as_pydicom_reads_them_or_refused_for_a_reason():
    read_ones, reasons = 0, {}
    for file in real_files():
        raw = file.read_bytes()
        assert is_dicom(raw) == (file.name != "no_meta.dcm")
        try:
            frames = header(raw, file, Limits()).frames
            image = read(raw, file, Limits(), frames - 1)
        except ImageError as error:
            reasons[file.name] = error.found
            continue
        read_ones += 1
        assert image.samples.dtype == np.float32
        if file.name not in BY_OURSELVES:
            np.testing.assert_allclose(image.samples, by_pydicom(file, frames - 1), atol=2e-6, err_msg=file.name)
    assert reasons == REFUSED
    assert read_ones == 92


def test_12_bit_jpeg_is_decoded_as_dcmtk_decodes_it():
    for name in sorted(BY_OURSELVES):
        file = (SHIPPED / "test_files" / name).read_bytes()
        source = parse(file, WHERE, Limits())
        of_pixels = layout(source, Limits())
        stored = decode(source, of_pixels, encoded(source, of_pixels), 0).values
        assert (stored.min(), stored.max(), stored.sum()) == (0, 264, 3767007)  # dcmdjpeg of DCMTK 3.6.7


# Behaviour: directories.


def test_a_directory_names_its_files():
    folder = SHIPPED / "test_files/dicomdirtests"
    expected = {file for file in folder.glob("*/*/*") if file.is_file()}
    for name in ("DICOMDIR", "DICOMDIR-bigEnd", "DICOMDIR-implicit", "DICOMDIR-nooffset", "DICOMDIR-reordered"):
        found = directory((folder / name).read_bytes(), folder / name, Limits())
        assert len(found) == len(set(found))
        assert set(found) == expected, name
        assert all(read(file.read_bytes(), file, Limits()).samples.shape == (16, 16) for file in found[:3])
    with pytest.raises(ImageError, match="a directory that lists no files; name an image file"):
        directory((folder / "DICOMDIR-empty.dcm").read_bytes(), folder / "DICOMDIR", Limits())
    with pytest.raises(ImageError, match="DICOM, but not a directory; name a DICOMDIR"):
        directory(content(dataset(values(8))), WHERE, Limits())


def listing(*names: object) -> bytes:
    records = [items(ReferencedFileID=name, RecordInUseFlag=0xFFFF)[0] for name in names]
    data = Dataset()
    data.file_meta = dataset(values(8)).file_meta
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.1.3.10", "1.2.3"
    data.DirectoryRecordSequence = records
    return content(data)


@pytest.mark.parametrize(
    "name",
    [["..", "A"], ["A", "..", "..", "B"], "..", "/etc/passwd", ["A", "/etc"], ["OUT", "SCAN"], "C:A", [".", "A"]],
)
def test_a_directory_never_leads_out_of_its_folder(tmp_path, name):
    (tmp_path / "cd").mkdir()
    (tmp_path / "cd" / "OUT").symlink_to("/etc")
    where = tmp_path / "cd" / "DICOMDIR"
    inside = directory(listing(["A", "B"], "C", ["A", "B"]), where, Limits())
    assert inside == [tmp_path / "cd/A/B", tmp_path / "cd/C"]
    with pytest.raises(ImageError) as caught:
        directory(listing("C", name), where, Limits())
    assert caught.value.found == "a directory that names a file outside of its folder"


# Behaviour: limits.


def test_limits_are_inclusive():
    file = content(dataset(np.stack([values(12)] * 3), 12, frames=3))
    size = 40 * 48
    exact = Limits(max_pixels=size, max_frames=3, max_inflated=2 * size)
    assert read(file, WHERE, exact).samples.shape == (40, 48)
    for less, found in {
        Limits(max_pixels=size - 1): "48 x 40 pixels of 1 samples where the limit is 1919",
        Limits(max_frames=2): "3 frames where the limit is 2",
        Limits(max_inflated=2 * size - 1): "a frame of 3840 bytes where the limit is 3839",
    }.items():
        for ask in (read, header):
            with pytest.raises(ImageLimitError) as caught:
                ask(file, WHERE, less)
            assert caught.value.found == found
    with pytest.raises(ImageLimitError, match="48 x 40 pixels of 3 samples"):
        read(content(dataset(values(8, False, 3))), WHERE, Limits(max_pixels=3 * size - 1))


def nested(levels: int, defined: bool) -> bytes:
    """A file with an image and sequences in each other."""
    body = b""
    for _ in range(levels):
        if defined:
            item = struct.pack("<HHL", 0xFFFE, 0xE000, len(body)) + body
            body = element(0x00081140, b"SQ", item)
        else:
            item = struct.pack("<HHL", 0xFFFE, 0xE000, 2**32 - 1) + body + struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
            body = element(0x00081140, b"SQ", item, 2**32 - 1) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    file = content(dataset(values(8)))
    at = file.index(struct.pack("<HH", 0x0010, 0x0010))  # where the patient's name stands
    return file[:at] + body + file[at:]


@pytest.mark.parametrize("defined", [False, True])
def test_sequences_nested_too_deep_are_refused(defined):
    assert shown(nested(16, defined)).shape == (40, 48)
    for levels in (17, 300, 5000):
        for ask in (read, header):
            with pytest.raises(ImageLimitError, match="sequences nested deeper than 16 levels"):
                ask(nested(levels, defined), WHERE, Limits())
    assert read(nested(18, defined), WHERE, Limits(max_nesting=18)).samples.shape == (40, 48)


def test_a_deflated_bomb_is_refused_before_it_unfolds():
    file = content(dataset(values(8)), uid.DeflatedExplicitVRLittleEndian)
    start = 144 + int.from_bytes(file[140:144], "little")
    data = zlib.decompress(file[start:], -15)
    assert read(file, WHERE, Limits(max_inflated=len(data))).samples.shape == (40, 48)
    found = f"deflated content that unfolds to more than {len(data) - 1} bytes"
    with pytest.raises(ImageLimitError, match=found):
        read(file, WHERE, Limits(max_inflated=len(data) - 1))
    deflate = zlib.compressobj(wbits=-15)
    bomb = file[:start] + deflate.compress(bytes(50_000_000)) + deflate.flush()
    with pytest.raises(ImageLimitError, match="unfolds to more than 1000000 bytes"):
        read(bomb, WHERE, Limits(max_inflated=1_000_000))
    with pytest.raises(ImageError, match="deflated content that is cut off"):
        read(file[:-20], WHERE, Limits())


def test_streams_larger_than_their_header_are_not_decoded():
    for syntax in (uid.JPEG2000Lossless, uid.JPEGLSLossless):
        data = parsed(compressed(dataset(values(8)), syntax))
        data.Rows, data.Columns = 20, 24
        found = "a compressed frame of 48 x 40 pixels and 1 samples under a header of 24 x 20 and 1; "
        with pytest.raises(ImageError, match=found):
            shown(data)
    data = parsed(compressed(dataset(np.zeros((40, 48), "u1")), uid.RLELossless))
    flat = struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\0" * 100_000  # unfolds to 12.8 million bytes
    data.PixelData = encapsulate([flat])
    assert shown(data).max() == 0


# Behaviour: what is damaged is refused.


def changed(change, syntax: str | None = None, frames: int = 0) -> bytes:
    pixels = np.stack([values(12, seed=seed) for seed in range(frames)]) if frames else values(12)
    data = dataset(pixels, 12, frames=frames)
    data = parsed(compressed(data, syntax)) if syntax else data
    change(data)
    return content(data)


def put(**elements: object):
    return lambda data: [setattr(data, keyword, value) for keyword, value in elements.items()]


def cut(count: int):
    """Only so many bytes of pixels."""
    return lambda data: setattr(data, "PixelData", data.PixelData[:count])


def fragment(*streams: bytes, table: bool = False):
    def change(data):
        data.PixelData = encapsulate(list(streams), has_bot=table)
        data["PixelData"].is_undefined_length = True

    return change


RLE, WAVELET = uid.RLELossless, uid.JPEG2000Lossless
ONE = get_frame(parsed(compressed(dataset(values(12), 12), WAVELET)).PixelData, 0)
DAMAGED = {
    "short": (changed(cut(3000)), "3000 bytes of pixels where its size takes 3840"),
    "odd": (changed(put(Rows=41)), "3840 bytes of pixels where its size takes 3936"),
    "long": (changed(put(Rows=20)), "3840 bytes of pixels where its size takes only 1920"),
    "a frame too few": (changed(put(NumberOfFrames=3), frames=2), "7680 bytes of pixels where its size takes 11520"),
    "a frame too many": (changed(put(NumberOfFrames=2), frames=3), "11520 bytes of pixels where its size takes only"),
    "no frames": (changed(put(NumberOfFrames=0)), "0 frames"),
    "no rows": (changed(put(Rows=0)), "0 rows and 48 columns"),
    "no pixels": (changed(lambda data: delattr(data, "PixelData")), "a header without pixels"),
    "two sets": (changed(put(FloatPixelData=bytes(7680))), "2 sets of pixels"),
    "bits": (changed(put(BitsStored=17)), "17 bits of 16, up to bit 11"),
    "allocated": (changed(put(BitsAllocated=12)), "12 bits of 12, up to bit 11"),
    "no bits": (changed(lambda data: delattr(data, "BitsStored")), "integers whose bits or sign it does not tell"),
    "no sign": (changed(lambda data: delattr(data, "PixelRepresentation")), "integers whose bits or sign it does not"),
    "no order": (
        changed(put(SamplesPerPixel=3, PhotometricInterpretation="RGB")),
        "colour that does not tell whether it lies pixel by pixel",
    ),
    "sign": (changed(put(PixelRepresentation=2)), "pixel representation 2 and planar configuration 0"),
    "samples": (changed(put(SamplesPerPixel=3)), "MONOCHROME2 of 3 samples a pixel"),
    "colour": (changed(put(PhotometricInterpretation="Canary")), "an unknown photometric interpretation of 1 samples"),
    "ybr": (changed(put(PhotometricInterpretation="YBR_RCT", SamplesPerPixel=3)), "YBR_RCT outside of JPEG 2000"),
    "window": (changed(put(WindowCenter=1, WindowWidth=9, VOILUTFunction="CANARY")), "a window of an unknown shape"),
    "table": (
        changed(put(VOILUTSequence=items(LUTDescriptor=[9, 0, 16]))),
        "a lookup table of 0 entries",
    ),
    "video": (changed(lambda data: setattr(data.file_meta, "TransferSyntaxUID", uid.MPEG2MPML), WAVELET), "a video, "),
    "private": (
        changed(lambda data: setattr(data.file_meta, "TransferSyntaxUID", "1.2.826.0.1.3680043.8.498.1"), WAVELET),
        "a private transfer syntax that is not read",
    ),
    "compressed under native": (
        changed(lambda data: None, WAVELET).replace(WAVELET.encode(), uid.ExplicitVRLittleEndian.encode() + bytes(3)),
        "compressed pixels under a transfer syntax of uncompressed ones",
    ),
    "no fragments": (changed(fragment(), WAVELET), "no compressed pixels"),
    "a fragment of two": (changed(fragment(ONE), WAVELET, frames=2), "1 compressed fragments for 2 frames"),
    "half a stream": (changed(fragment(ONE[: len(ONE) // 2]), WAVELET), "a compressed frame that is cut off"),
    "half an RLE frame": (
        changed(lambda data: fragment(get_frame(data.PixelData, 0)[:2000])(data), RLE),
        "a run-length frame that is cut off",
    ),
    "no RLE header": (changed(fragment(b"ab"), RLE), "a run-length frame of 2 bytes for 16 bits a sample"),
    "an item too long": (
        changed(lambda data: setattr(data, "PixelData", data.PixelData[:-100]), WAVELET),
        "compressed pixels that are cut off or damaged",
    ),
    "offsets": (
        changed(lambda data: setattr(data, "PixelData", data.PixelData[:12] + b"\x09" + data.PixelData[13:]), RLE, 2),
        "a table of 2 offsets that does not fit 2 frames",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.filterwarnings("ignore")
def test_damage_is_refused_in_our_words(name):
    file, found = DAMAGED[name]
    with pytest.raises(ImageError) as caught:
        read(file, WHERE, Limits())
    assert found in caught.value.found
    assert caught.value.where == "folder/scan.dcm"
    assert "canary" not in "".join(traceback.format_exception(caught.value)).split("Error: ")[-1].lower()


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        ("88.11", "a structured report"),
        ("88.59", "a selection of key objects"),
        ("104.1", "an encapsulated document (PDF, CDA or a 3D model)"),
        ("11.1", "a presentation state or a lookup table"),
        ("9.1.1", "a waveform or a curve"),
        ("66.4", "a segmentation"),
        ("481.3", "a set of radiotherapy structures"),
        ("4.2", "spectroscopy"),
    ],
)
def test_what_is_no_image_is_named(number, kind):
    data = dataset(values(8), SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{number}")
    for ask in (read, header):
        with pytest.raises(ImageError) as caught:
            ask(content(data), WHERE, Limits())
        assert caught.value.found == f"DICOM, but {kind}, not an image"


def test_frames_in_several_fragments():
    streams = [
        get_frame(parsed(compressed(dataset(values(12, seed=seed), 12), WAVELET)).PixelData, 0) for seed in range(2)
    ]
    pieces = [piece for stream in streams for piece in (stream[:1000], stream[1000:])]
    whole = [shown(dataset(values(12, seed=seed), 12)) for seed in range(2)]
    for table in (False, True):
        data = parsed(compressed(dataset(np.stack([values(12)] * 2), 12, frames=2), WAVELET))
        data.PixelData = encapsulate(streams, fragments_per_frame=2, has_bot=table)
        for frame in range(2):
            np.testing.assert_array_equal(shown(data, frame), whole[frame])
    data.PixelData = encapsulate(pieces[:1] + pieces[2:], has_bot=False)  # one fragment is missing
    with pytest.raises(ImageError):
        shown(data, 0)


FUZZED = {
    "native": content(dataset(values(12)[:20], 12, WindowCenter=2000, WindowWidth=3000, PixelPaddingValue=0)),
    "run length": compressed(dataset(np.stack([values(8)[:9]] * 2), frames=2), RLE),
    "wavelet": compressed(dataset(values(12), 12), WAVELET),
    "lossless JPEG": (SHIPPED / "test_files/SC_rgb_jpeg_gdcm.dcm").read_bytes(),
    "palette": (SHIPPED / "test_files/examples_palette.dcm").read_bytes()[:4000],
}


@pytest.mark.parametrize("name", FUZZED)
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=120, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_damaged_files_are_images_or_image_errors(name, data):
    file = bytearray(FUZZED[name])
    if data.draw(st.booleans()):
        file = file[: data.draw(st.integers(0, len(file)))]
    for at in data.draw(st.lists(st.integers(0, max(len(file) - 1, 0)), max_size=4)) if file else ():
        file[at] ^= data.draw(st.integers(1, 255))
    limits, errors = Limits(max_pixels=2**20, max_inflated=2**24), []
    for ask in (header, read):
        try:
            result = ask(bytes(file), WHERE, limits)
        except ImageError as error:
            errors.append(error)
            continue
        if ask is read:
            assert result.samples.min() >= 0
            assert result.samples.max() <= 1
        else:
            assert result.frames >= 1
    assert not [error for error in errors if "canary" in str(error).lower() or error.__cause__]


def test_nothing_reaches_the_user_but_the_result(tmp_path):
    """No warning and no line of a log, with everything turned on and from files that make pydicom talk."""
    talkative = ["MR_small_padded", "SC_rgb_jpeg", "MR_truncated", "no_meta_group_length", "SC_rgb_small_odd_jpeg"]
    files = [str(SHIPPED / f"test_files/{name}.dcm") for name in talkative]
    wrong = tmp_path / "wrong.dcm"
    data = content(dataset(values(8), PatientBirthDate="20000101", StudyDescription="x"))
    wrong.write_bytes(data.replace(b"20000101", b"canary!!").replace(b"canary-id", b"canary\xff\xfed"))
    code = """
import logging, sys
from pathlib import Path
from aeflow.imageio.dicom.reader import header, read
from aeflow.imageio.errors import ImageError
from aeflow.imageio.limits import Limits
logging.basicConfig(level=logging.DEBUG)
for name in sys.argv[1:]:
    try:
        header(Path(name).read_bytes(), Path(name), Limits())
        print(read(Path(name).read_bytes(), Path(name), Limits()).samples.shape)
    except ImageError as error:
        print("refused")
"""
    expected = "(64, 64)\n(256, 256, 3)\nrefused\nrefused\n(3, 3, 3)\n(40, 48)\n"
    for flag in ("-Walways", "-Werror"):
        command = [sys.executable, flag, "-c", code, *files, str(wrong)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
        assert (done.stdout, done.stderr) == (expected, "")
