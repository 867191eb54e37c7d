"""DICOM that the standard does not allow and viewers read: read as if it were right, or refused, naming the element."""

from __future__ import annotations

import struct

import jpeg_ls
import numpy as np
import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import JPEGLSLossless

from aeflow.imageio.dicom.reader import header, read
from aeflow.imageio.errors import EmptyImageError, ImageError
from aeflow.imageio.limits import Limits
from helpers.dicom_files import WHERE, content, dataset, element, lookup, shown, values

PIXELS = values(12)
WINDOW = {"WindowCenter": "11111.11", "WindowWidth": "22222.22"}
PLACE = {"PatientID": "P1", "StudyInstanceUID": "1.2.3", "InstanceNumber": "123456", "SliceLocation": "7654321"}
DELIMITER = struct.Struct("<HHL")


def with_text(old: str, new: bytes, **elements: object) -> bytes:
    """Return a file in which the text of an element is other bytes of the same length."""
    file = content(dataset(PIXELS, 12, **elements))
    assert file.count(old.encode()) == 1
    return file.replace(old.encode(), new.ljust(len(old)))


def before_pixels(inserted: bytes) -> bytes:
    file = content(dataset(PIXELS, 12))
    at = file.rindex(b"\xe0\x7f\x10\x00")
    return file[:at] + inserted + file[at:]


NUMBERS = {  # text of a window's centre -> its value
    b"1000,5": 1000.5,
    b"1000.5\0": 1000.5,
    b"1000.5\0x": 1000.5,
    b" 1000.5": 1000.5,
    b"1000.5\\": 1000.5,
    b"+1.001e3": 1001.0,
}


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_is_read_from_text_as_it_was_meant(text):
    want = shown(dataset(PIXELS, 12, WindowCenter=str(NUMBERS[text]), WindowWidth="500"))
    np.testing.assert_array_equal(shown(with_text("11111.11", text, WindowCenter="11111.11", WindowWidth="500")), want)


def test_the_first_window_with_both_numbers_is_taken():
    want = shown(dataset(PIXELS, 12, WindowCenter="40", WindowWidth="500"))
    odd = with_text("11111.11", b"\\40", WindowCenter="11111.11", WindowWidth=["900", "500"])
    np.testing.assert_array_equal(shown(odd), want)


@pytest.mark.parametrize("text", [b"nan", b"inf", b"1e999", b"1,000.5", b"40HU", b"-", b"1_000"])
def test_a_number_that_is_none_is_refused_by_the_name_of_its_element(text):
    with pytest.raises(ImageError, match=r"its Window Center \(0028,1050\) is no finite number") as caught:
        shown(with_text("11111.11", text, **WINDOW))
    assert text.decode() not in caught.value.found or len(text) < 2


UNNEEDED = [
    ("123456", b"A1"),
    ("123456", b"\xff\xfe"),
    ("7654321", b"nan"),
    ("7654321", b"1;2"),
]


@pytest.mark.parametrize(("old", "new"), UNNEEDED)
def test_what_pixels_do_not_need_decides_nothing(old, new):
    file = with_text(old, new, **PLACE)
    found = header(file, WHERE, Limits())
    assert (found.patient, found.study, found.unread) == ("P1", "1.2.3", ())
    np.testing.assert_array_equal(shown(file), shown(dataset(PIXELS, 12)))


@pytest.mark.parametrize("text", [b"0,5\\0,5", b"0.5,0.5", b"nan\\nan", b"unknown", b"0\\0", b"\\"])
def test_a_spacing_that_is_none_costs_itself(text):
    file = with_text("0.12345\\0.12345", text, PixelSpacing=["0.12345", "0.12345"])
    np.testing.assert_array_equal(shown(file), shown(dataset(PIXELS, 12)))
    assert read(file, WHERE, Limits()).spacing == ((0.5, 0.5) if text == b"0,5\\0,5" else None)


def test_a_patient_is_text_whatever_the_file_calls_it():
    file = with_text("P1", b"P1", PatientID="P1")
    at = file.index(b"\x10\x00\x20\x00LO")
    for vr in (b"DS", b"IS", b"US", b"UI", b"ZZ"):
        odd = file[: at + 4] + vr + file[at + 6 :]
        assert header(odd, WHERE, Limits()).patient == "P1"
        np.testing.assert_array_equal(shown(odd), shown(dataset(PIXELS, 12)))


@pytest.mark.filterwarnings("ignore:Failed to decode")
def test_two_patients_stay_two_where_their_character_set_is_another():
    said = {"PatientID": "abcd", "SpecificCharacterSet": "ISO_IR 192"}
    files = [with_text("abcd", text, **said) for text in (b"M\xfcl", b"M\xf6l")]
    assert len({header(file, WHERE, Limits()).patient for file in files}) == 2


def test_a_patient_that_cannot_be_read_is_said():
    found = header(content(dataset(PIXELS, 12, PatientID="x" * 5000, StudyInstanceUID="1.2.3")), WHERE, Limits())
    assert (found.patient, found.study, found.unread) == (None, "1.2.3", ("Patient ID (0010,0020)",))


def empty(**elements: object) -> Sequence:
    item = Dataset()
    for name, value in elements.items():
        setattr(item, name, value)
    return Sequence([item])


def without_entries() -> Sequence:
    sequence = empty(LUTExplanation="NORMAL")
    sequence[0].add_new("LUTDescriptor", "US", None)
    sequence[0].add_new("LUTData", "OW", None)
    return sequence


def test_a_table_that_holds_nothing_counts_for_nothing():
    window = {"WindowCenter": "1000", "WindowWidth": "500"}
    want = shown(dataset(PIXELS, 12, **window))
    for sequence in (empty(), empty(LUTExplanation="NORMAL"), without_entries()):
        both = {"VOILUTSequence": sequence, "ModalityLUTSequence": sequence}
        np.testing.assert_array_equal(shown(dataset(PIXELS, 12, **window, **both)), want)
    behind = Sequence([*empty(), *lookup(0, list(range(4096)), 12)])
    np.testing.assert_allclose(shown(dataset(PIXELS, 12, VOILUTSequence=behind)), PIXELS / 4095, atol=1e-6)


def test_an_empty_group_of_a_frame_leaves_what_the_file_says():
    per_frame = Sequence([*empty(FrameVOILUTSequence=empty())])
    window = {"WindowCenter": "1000", "WindowWidth": "500"}
    odd = dataset(PIXELS, 12, **window, PerFrameFunctionalGroupsSequence=per_frame)
    np.testing.assert_array_equal(shown(odd), shown(dataset(PIXELS, 12, **window)))


STRAY = {
    "the end of a sequence": DELIMITER.pack(0xFFFE, 0xE0DD, 0),
    "the end of an item": DELIMITER.pack(0xFFFE, 0xE00D, 0),
    "an item": DELIMITER.pack(0xFFFE, 0xE000, 0) + DELIMITER.pack(0xFFFE, 0xE00D, 0),
    "many": DELIMITER.pack(0xFFFE, 0xE0DD, 0) * 3 + DELIMITER.pack(0xFFFE, 0xE00D, 0) * 3,
    "a sequence whose item has no end": element(0x00081140, b"SQ", b"", 0xFFFFFFFF)
    + DELIMITER.pack(0xFFFE, 0xE000, 0xFFFFFFFF)
    + DELIMITER.pack(0xFFFE, 0xE0DD, 0),
    "an item of a sequence that holds one": element(
        0x00081140, b"SQ", DELIMITER.pack(0xFFFE, 0xE000, 8) + DELIMITER.pack(0xFFFE, 0xE0DD, 0)
    ),
}


@pytest.mark.parametrize("name", STRAY)
def test_a_stray_delimiter_changes_nothing(name):
    want = shown(dataset(PIXELS, 12))
    np.testing.assert_array_equal(shown(before_pixels(STRAY[name])), want)
    np.testing.assert_array_equal(shown(content(dataset(PIXELS, 12)) + STRAY[name]), want)


def test_jpeg_ls_that_one_decoder_refuses_is_read_by_the_next():
    stream = bytes(jpeg_ls.encode_array(values(16)))
    padded = stream[:-2] + b"\0" + stream[-2:]
    with pytest.raises(RuntimeError):
        jpeg_ls.decode_pixel_data(padded)
    file = dataset(values(16))
    file.file_meta.TransferSyntaxUID = JPEGLSLossless
    for encoded in (stream, padded):
        file.PixelData = encapsulate([encoded])
        file["PixelData"].is_undefined_length = True
        np.testing.assert_allclose(shown(file), values(16) / 65535, atol=1e-6)


BLIND = {
    "Window Center (0028,1050)": {"WindowCenter": "-9000", "WindowWidth": "10"},
    "Rescale Slope (0028,1053)": {"RescaleSlope": "0", "RescaleIntercept": "5"},
    "VOI LUT Sequence (0028,3010)": {"VOILUTSequence": lookup(0, [7] * 4096, 12)},
    "Modality LUT Sequence (0028,3000)": {"ModalityLUTSequence": lookup(0, [7] * 4096, 12)},
}


@pytest.mark.parametrize("name", BLIND)
def test_what_shows_nothing_is_blamed_by_its_name(name):
    with pytest.raises(EmptyImageError) as caught:
        shown(dataset(PIXELS, 12, **BLIND[name]))
    assert name in caught.value.found


def test_a_damaged_header_names_the_element_where_it_ends():
    file = content(dataset(PIXELS, 12, StudyInstanceUID="1.2.3"))
    at = file.index(b"\x20\x00\x0d\x00UI")
    with pytest.raises(ImageError, match="Study Instance UID"):
        shown(file[:at] + element(0x0020000D, b"SQ", b"\1\2\3", 0xFFFFFFFF))


def test_frames_that_are_not_there_cost_one_refusal_and_no_patient():
    file = content(dataset(PIXELS, 12, NumberOfFrames=10_000, PatientID="P1"))
    found = header(file, WHERE, Limits())
    assert (found.frames, found.patient) == (1, "P1")
    with pytest.raises(ImageError, match="bytes of pixels where its size takes"):
        shown(file)
