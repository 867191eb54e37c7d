"""DICOM: every stored value exact in every encoding, shown by the rules that dicom.py states."""

from __future__ import annotations

import gdcm
import numpy as np
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.sequence import Sequence

from aeflow.imageio.dicom.reader import header, read
from aeflow.imageio.dicom.recognise import is_dicom
from aeflow.imageio.errors import ImageError
from aeflow.imageio.limits import Limits
from aeflow.imageio.reader import read_image, read_mask
from helpers.dicom_files import (
    HIGH_THROUGHPUT,
    SIZE,
    WHERE,
    by_gdcm,
    compressed,
    content,
    dataset,
    items,
    lookup,
    parsed,
    shown,
    values,
)

NATIVE = [
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
]
DEPTHS = [(8, False), (8, True), (10, False), (12, False), (12, True), (16, False), (16, True)]


def full(pixels, bits: int, signed: bool = False) -> np.ndarray:
    """Values over the full range of so many bits."""
    low = -(1 << (bits - 1)) if signed else 0
    return ((pixels.astype(np.float64) - low) / (2**bits - 1)).astype(np.float32)


# Laws: what is stored is what is read.


@pytest.mark.parametrize(("bits", "signed"), DEPTHS)
def test_native_pixels_are_exact(bits, signed):
    pixels = values(bits, signed)
    for syntax in NATIVE:
        got = shown(content(dataset(pixels, bits), syntax))
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, full(pixels, bits, signed))


@pytest.mark.parametrize(("bits", "signed"), DEPTHS)
@pytest.mark.parametrize("syntax", [uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless])
def test_lossless_compression_is_exact(bits, signed, syntax):
    pixels = values(bits, signed)
    np.testing.assert_array_equal(shown(compressed(dataset(pixels, bits), syntax)), full(pixels, bits, signed))


@pytest.mark.parametrize(("bits", "signed"), DEPTHS)
@pytest.mark.parametrize("process", ["JPEGLosslessProcess14", "JPEGLosslessProcess14_1"])
def test_lossless_jpeg_is_exact(tmp_path, bits, signed, process):
    pixels = values(bits, signed)
    file = by_gdcm(dataset(pixels, bits), getattr(gdcm.TransferSyntax, process), tmp_path)
    assert parsed(file).file_meta.TransferSyntaxUID in (uid.JPEGLossless, uid.JPEGLosslessSV1)
    np.testing.assert_array_equal(shown(file), full(pixels, bits, signed))


@pytest.mark.parametrize(("bits", "process"), [(8, "JPEGBaselineProcess1"), (12, "JPEGExtendedProcess2_4")])
def test_lossy_jpeg_is_near_the_original(tmp_path, bits, process):
    smooth = (np.add.outer(np.arange(40), np.arange(48)) * (2**bits - 1) / 86).astype("u1" if bits == 8 else "u2")
    file = by_gdcm(dataset(smooth, bits), getattr(gdcm.TransferSyntax, process), tmp_path)
    assert parsed(file).file_meta.TransferSyntaxUID == (uid.JPEGBaseline8Bit if bits == 8 else uid.JPEGExtended12Bit)
    got = shown(file)
    np.testing.assert_allclose(got, full(smooth, bits), atol=0.02)
    assert len(np.unique(got)) > 80


def test_near_lossless_jpeg_ls_and_lossy_jpeg_2000_are_near_the_original():
    smooth = (np.add.outer(np.arange(40), np.arange(48)) * 47).astype("u2")
    near = compressed(dataset(smooth, 12), uid.JPEGLSNearLossless, jls_error=3)
    np.testing.assert_allclose(shown(near), full(smooth, 12), atol=3.1 / 4095)
    lossy = compressed(dataset(smooth, 12), uid.JPEG2000, j2k_cr=[4])
    np.testing.assert_allclose(shown(lossy), full(smooth, 12), atol=0.02)


def test_high_throughput_jpeg_2000_is_exact():
    pixels = (np.add.outer(np.arange(40), np.arange(48)) * 700).astype("u2")
    data = parsed(compressed(dataset(pixels), uid.JPEG2000Lossless))
    for syntax in (uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K):
        data.file_meta.TransferSyntaxUID = syntax
        data.PixelData = encapsulate([HIGH_THROUGHPUT])
        np.testing.assert_array_equal(shown(data), full(pixels, 16))


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_lossless_jpeg_of_colour_is_exact(tmp_path, photometric):
    data = dataset(values(8, False, 3), PhotometricInterpretation=photometric)
    file = by_gdcm(data, gdcm.TransferSyntax.JPEGLosslessProcess14_1, tmp_path)
    np.testing.assert_array_equal(shown(file), shown(data))


def test_bits_of_an_overlay_never_show():
    pixels = values(12)
    overlay = (values(16, seed=1) & 0xF000).astype("u2")
    for syntax in NATIVE:
        np.testing.assert_array_equal(shown(content(dataset(pixels | overlay, 12), syntax)), full(pixels, 12))
    np.testing.assert_array_equal(shown(compressed(dataset(pixels | overlay, 12), uid.RLELossless)), full(pixels, 12))
    signed = values(12, signed=True)
    mixed = ((signed.view("u2") & 0x0FFF) | overlay).view("i2")
    np.testing.assert_array_equal(shown(dataset(mixed, 12)), full(signed, 12, signed=True))
    aligned = (pixels << 4) | (overlay >> 12)  # values in the upper bits, as old files have them
    np.testing.assert_array_equal(shown(dataset(aligned, 12, HighBit=15)), full(pixels, 12))


def test_single_bits_of_frames_that_share_a_byte():
    bits = np.random.default_rng(0).integers(0, 2, (3, 5, 7), dtype=np.uint8)
    data = dataset(bits, 1, frames=3, BitsAllocated=1)
    packed = np.packbits(bits, bitorder="little").tobytes()
    data.PixelData = packed + b"\0" * (len(packed) % 2)
    for frame in range(3):
        np.testing.assert_array_equal(shown(data, frame), bits[frame].astype(np.float32))


def test_32_bits_and_floats():
    for signed in (False, True):
        pixels = values(32, signed)
        np.testing.assert_array_equal(shown(dataset(pixels)), full(pixels, 32, signed))
    for kind in ("f4", "f8"):
        floats = np.random.default_rng(0).normal(size=SIZE).astype(kind)
        low, high = np.percentile(floats.astype(np.float64), [0.5, 99.5])
        np.testing.assert_allclose(shown(dataset(floats)), np.clip((floats - low) / (high - low), 0, 1), atol=1e-6)
        windowed = shown(dataset(floats, WindowCenter=0, WindowWidth=2, VOILUTFunction="LINEAR_EXACT"))
        np.testing.assert_allclose(windowed, np.clip(floats / 2 + 0.5, 0, 1), atol=1e-6)
        floats[0, 0] = np.nan
        with pytest.raises(ImageError, match="1 values are NaN or infinite"):
            shown(dataset(floats))


@pytest.mark.parametrize("syntax", [None, uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless])
def test_colour_is_exact(syntax):
    for bits in (8, 16):
        pixels = values(bits, False, 3)
        file = compressed(dataset(pixels), syntax) if syntax else content(dataset(pixels))
        np.testing.assert_array_equal(shown(file), pixels.astype(np.float32) / np.float32(2**bits - 1))


def test_colour_by_plane_and_in_big_endian_words():
    pixels = values(8, False, 3)
    data = dataset(pixels, PlanarConfiguration=1, PixelData=pixels.transpose(2, 0, 1).tobytes())
    np.testing.assert_array_equal(shown(data), pixels.astype(np.float32) / np.float32(255))
    swapped = dataset(pixels, PixelData=pixels.reshape(-1, 2)[:, ::-1].tobytes())
    swapped["PixelData"].VR = "OW"
    np.testing.assert_array_equal(
        shown(content(swapped, uid.ExplicitVRBigEndian)), pixels.astype(np.float32) / np.float32(255)
    )


def test_ybr_becomes_rgb():
    ybr = values(8, False, 3).astype(np.float64)
    luma, blue, red = ybr[..., 0], ybr[..., 1] - 128, ybr[..., 2] - 128
    green = luma - 0.114 * 1.772 / 0.587 * blue - 0.299 * 1.402 / 0.587 * red
    expected = np.stack([luma + 1.402 * red, green, luma + 1.772 * blue], -1)
    expected = np.clip(np.floor(expected + 0.5), 0, 255) / 255
    data = dataset(ybr.astype("u1"), PhotometricInterpretation="YBR_FULL")
    np.testing.assert_allclose(shown(data), expected, atol=1e-6)
    np.testing.assert_allclose(shown(compressed(data, uid.RLELossless)), expected, atol=1e-6)
    halved = ybr.copy()
    halved[:, 1::2, 1:] = halved[:, ::2, 1:]  # two neighbours share their colour
    pairs = halved.astype("u1").reshape(40, 24, 6)[..., [0, 3, 1, 2]]  # Y1 Y2 B R
    subsampled = dataset(halved.astype("u1"), PhotometricInterpretation="YBR_FULL_422", PixelData=pairs.tobytes())
    whole = dataset(halved.astype("u1"), PhotometricInterpretation="YBR_FULL")
    np.testing.assert_array_equal(shown(subsampled), shown(whole))


def test_only_the_frame_that_is_asked_for_is_decoded():
    pixels = np.stack([values(12, seed=seed) for seed in range(3)])
    for syntax in (None, uid.RLELossless, uid.JPEG2000Lossless):
        data = dataset(pixels, 12, frames=3)
        file = compressed(data, syntax) if syntax else content(data)
        assert header(file, WHERE, Limits()).frames == 3
        for frame in range(3):
            np.testing.assert_array_equal(shown(file, frame), full(pixels[frame], 12))
        for frame in (-1, 3):
            with pytest.raises(ImageError, match=f"no frame {frame} in 3; name a frame it has"):
                shown(file, frame)
    damaged = file.replace(b"\xff\x4f\xff\x51", b"\xff\x4f\xff\x00", 1)  # the first frame's header
    np.testing.assert_array_equal(shown(damaged, 1), full(pixels[1], 12))
    with pytest.raises(ImageError):
        shown(damaged, 0)


# Behaviour: how values are shown.


def test_monochrome1_is_inverted_last():
    pixels = values(12)
    plain = dataset(pixels, 12, WindowCenter=2000, WindowWidth=1500)
    inverted = dataset(pixels, 12, WindowCenter=2000, WindowWidth=1500, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_allclose(shown(inverted), 1 - shown(plain), atol=1e-7)


def parity(data, bits: int, signed: bool) -> np.ndarray:
    """What pydicom shows, over its own range."""
    file = parsed(content(data))
    out = apply_voi_lut(apply_modality_lut(file.pixel_array, file), file).astype(np.float64)
    ends = np.array([-(1 << (bits - 1)) if signed else 0, (1 << (bits - int(signed))) - 1])
    low, high = sorted(ends * float(file.get("RescaleSlope", 1)) + float(file.get("RescaleIntercept", 0)))
    return (out - low) / (high - low)


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("signed", [False, True])
def test_the_first_window_after_slope_and_intercept(function, signed):
    pixels = values(12, signed)
    data = dataset(pixels, 12, RescaleSlope=2.5, RescaleIntercept=-1024, WindowCenter=[40, 9], WindowWidth=[400, 1])
    if function:
        data.VOILUTFunction = function
    units = pixels * 2.5 - 1024
    if function == "SIGMOID":
        expected = 1 / (1 + np.exp(-4 * (units - 40) / 400))
    elif function == "LINEAR_EXACT":
        expected = np.clip((units - 40) / 400 + 0.5, 0, 1)
    else:
        expected = np.clip((units - 39.5) / 399 + 0.5, 0, 1)
    np.testing.assert_allclose(shown(data), expected, atol=1e-6)
    np.testing.assert_allclose(shown(data), parity(data, 12, signed), atol=1e-6)


def test_windows_of_little_or_no_width():
    pixels = values(8)
    one = dataset(pixels, WindowCenter=100, WindowWidth=1)
    np.testing.assert_array_equal(shown(one), (pixels > 99.5).astype(np.float32))
    half = dataset(pixels / np.float32(255), WindowCenter=0.5, WindowWidth=0.5)
    np.testing.assert_allclose(shown(half), np.clip((pixels / 255 - 0.25) * 2, 0, 1), atol=1e-6)
    for width in (0, -5, None):
        np.testing.assert_array_equal(shown(dataset(pixels, WindowCenter=9, WindowWidth=width)), full(pixels, 8))


def test_lookup_tables_of_modality_and_interest():
    pixels = values(8)
    curve = [(3 * level**2) % 4096 for level in range(100)]
    through = np.array(curve)[np.clip(pixels.astype(int) - 50, 0, 99)]
    data = dataset(pixels, ModalityLUTSequence=lookup(50, curve, 12, ModalityLUTType="US"))
    np.testing.assert_allclose(shown(data), through / 4095, atol=1e-6)
    windowed = dataset(pixels, ModalityLUTSequence=data.ModalityLUTSequence, WindowCenter=2000, WindowWidth=1001)
    np.testing.assert_allclose(shown(windowed), np.clip((through - 1999.5) / 1000 + 0.5, 0, 1), atol=1e-6)
    for syntax in (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian):
        voi = dataset(pixels, VOILUTSequence=lookup(50, curve, 12), WindowCenter=1, WindowWidth=2)
        np.testing.assert_allclose(shown(content(voi, syntax)), through / 4095, atol=1e-6)
    data = dataset(pixels, VOILUTSequence=lookup(50, curve, 12))
    np.testing.assert_allclose(shown(data), apply_voi_lut(pixels, parsed(content(data))) / 4095, atol=1e-6)


def test_a_table_of_bytes_and_one_that_begins_below_zero():
    pixels = values(8)
    packed = bytes(255 - level for level in range(256))
    voi = items(LUTDescriptor=[256, 0, 8], LUTData=packed)
    voi[0]["LUTData"].VR, voi[0]["LUTDescriptor"].VR = "OW", "US"
    np.testing.assert_array_equal(shown(dataset(pixels, VOILUTSequence=voi)), full(255 - pixels, 8))
    curve = [7 * level % 1024 for level in range(300)]
    expected = np.array(curve)[np.clip(pixels.astype(int) - 100 + 50, 0, 299)] / 1023
    for first in (-50, 65486):  # the second as some write the first
        data = dataset(pixels, RescaleSlope=1, RescaleIntercept=-100, VOILUTSequence=lookup(first, curve, 10))
        np.testing.assert_allclose(shown(data), expected, atol=1e-6)


def palette(bits: int, first: int, entries: np.ndarray) -> dict:
    elements = {}
    for channel, name in enumerate(("Red", "Green", "Blue")):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [len(entries), first, bits]
        elements[f"{name}PaletteColorLookupTableData"] = entries[:, channel].tobytes()
    return elements


@pytest.mark.parametrize("bits", [8, 16])
def test_palettes_give_their_colours(bits):
    pixels = values(8)
    entries = values(bits, False, 3).reshape(-1, 3)[:200]
    data = dataset(pixels, PhotometricInterpretation="PALETTE COLOR", **palette(bits, 20, entries))
    expected = entries[np.clip(pixels.astype(int) - 20, 0, 199)] / (2**bits - 1)
    np.testing.assert_allclose(shown(data), expected, atol=1e-7)
    np.testing.assert_array_equal(shown(content(data, uid.ImplicitVRLittleEndian)), shown(data))


@pytest.mark.parametrize("bits", [8, 16])
def test_a_segmented_palette(bits):
    plain = [0, 3, 10, 20, 30, 1, 4, 50, 0, 2, 7, 9]  # three values, a line to 50 in four steps, two values
    width = bits // 8
    data = np.array(plain, f"<u{width}").tobytes()
    data += np.array([2, 1], f"<u{width}").tobytes() + (5 * width).to_bytes(4, "little")  # the line once more
    entries = np.array([10, 20, 30, 35, 40, 45, 50, 7, 9, 19, 30, 40, 50])  # from 9 to 50: 19.25, 29.5, 39.75, 50
    elements = {}
    for name in ("Red", "Green", "Blue"):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [len(entries), 0, bits]
        elements[f"Segmented{name}PaletteColorLookupTableData"] = data
    pixels = (values(8) % 13).astype("u1")
    colours = shown(dataset(pixels, PhotometricInterpretation="PALETTE COLOR", **elements))
    for channel in range(3):
        np.testing.assert_allclose(colours[..., channel], entries[pixels] / (2**bits - 1), atol=1e-7)
    elements["SegmentedRedPaletteColorLookupTableData"] = data[: 3 * width + width % 2]
    with pytest.raises(ImageError, match=r"a lookup table of . entries where it says to have 13"):
        shown(dataset(pixels, PhotometricInterpretation="PALETTE COLOR", **elements))
    loop = np.array([0, 1, 5, 0] + [2, 255] * 4, f"<u{width}").tobytes()  # copies what copies
    elements["SegmentedRedPaletteColorLookupTableData"] = loop
    with pytest.raises(ImageError, match="a segmented lookup table that is damaged"):
        shown(dataset(pixels, PhotometricInterpretation="PALETTE COLOR", **elements))


def test_without_a_window_the_bits_or_the_values_decide():
    pixels = (values(12) // 2 + 100).astype("u2")
    ct = dataset(pixels, 12, Modality="CT", RescaleSlope=1, RescaleIntercept=-1024)
    np.testing.assert_array_equal(shown(ct), full(pixels, 12))
    falling = dataset(pixels, 12, RescaleSlope=-1, RescaleIntercept=0)
    np.testing.assert_allclose(shown(falling), 1 - full(pixels, 12), atol=1e-7)
    low, high = np.percentile(pixels, [0.5, 99.5])
    for modality in ("MR", "PT", "NM"):
        expected = np.clip((pixels - low) / (high - low), 0, 1)
        np.testing.assert_allclose(shown(dataset(pixels, 12, Modality=modality)), expected, atol=1e-6)
        assert shown(dataset(np.full(SIZE, 7, "u2"), Modality=modality)).max() == 0


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_counts_in_no_range_and_is_the_background(photometric):
    pixels = values(12, signed=True).clip(-500, 500)
    measured = np.ones(SIZE, bool)
    measured[:, :20] = False
    pixels[~measured] = -2000
    low, high = np.percentile(pixels[measured], [0.5, 99.5])
    expected = np.clip((pixels - low) / (high - low), 0, 1)
    expected = np.where(measured, 1 - expected if photometric == "MONOCHROME1" else expected, 0)
    for syntax in (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian):
        data = dataset(pixels, 12, Modality="MR", PhotometricInterpretation=photometric, PixelPaddingValue=-2000)
        data["PixelPaddingValue"].VR = "SS"
        np.testing.assert_allclose(shown(content(data, syntax)), expected, atol=1e-6)
    unsigned = dataset(pixels, 12, Modality="MR", PhotometricInterpretation=photometric, PixelPaddingValue=63536)
    unsigned["PixelPaddingValue"].VR = "US"
    np.testing.assert_allclose(shown(unsigned), expected, atol=1e-6)
    pixels[~measured] = np.arange(800) % 101 - 2000
    between = dataset(pixels, 12, Modality="MR", PhotometricInterpretation=photometric)
    between.add_new("PixelPaddingValue", "SS", -2000)
    between.add_new("PixelPaddingRangeLimit", "SS", -1900)
    np.testing.assert_allclose(shown(between), expected, atol=1e-6)


def test_functional_groups_of_the_frame_or_shared():
    pixels = np.stack([values(12, seed=seed) for seed in range(2)])
    shared = items(
        PixelMeasuresSequence=items(PixelSpacing=[0.5, 0.25]),
        FrameVOILUTSequence=items(WindowCenter=1000, WindowWidth=501),
        PixelValueTransformationSequence=items(RescaleSlope=2, RescaleIntercept=-7),
    )
    own = Sequence(
        [
            items(PixelMeasuresSequence=items(PixelSpacing=[2, 3]))[0],
            items(FrameVOILUTSequence=items(WindowCenter=3000, WindowWidth=1001))[0],
        ]
    )
    data = dataset(pixels, 12, frames=2, SharedFunctionalGroupsSequence=shared, PerFrameFunctionalGroupsSequence=own)
    file = content(data)
    for frame, (centre, width, spacing) in enumerate([(1000, 501, (2, 3)), (3000, 1001, (0.5, 0.25))]):
        raw = read(file, WHERE, Limits(), frame)
        expected = np.clip((pixels[frame] * 2.0 - 7 - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
        np.testing.assert_allclose(raw.samples, expected, atol=1e-6)
        assert raw.spacing == spacing
    del data.PerFrameFunctionalGroupsSequence[1]
    with pytest.raises(ImageError, match="functional groups for 1 frames, fewer than it says to have"):
        shown(data, 1)


# Behaviour: what the file says about itself.


def test_header():
    data = dataset(values(8), StudyInstanceUID="1.2.3", Modality="CT", InstanceNumber=7, PatientID=" A1 ")
    found = header(content(data), WHERE, Limits())
    assert (found.format, found.frames, found.patient, found.study) == ("DICOM", 1, "A1", "1.2.3")
    assert (found.modality, found.photometric, found.position) == ("CT", "MONOCHROME2", 7)
    data.SliceLocation = -12.5
    assert header(content(data), WHERE, Limits()).position == -12.5
    data.ImagePositionPatient, data.ImageOrientationPatient = [1, 2, 3], [1, 0, 0, 0, 0, 1]  # coronal: normal is -y
    assert header(content(data), WHERE, Limits()).position == -2
    data.IssuerOfPatientID = "Hospital"
    assert header(content(data), WHERE, Limits()).patient == "A1^^^Hospital"
    data.PatientID = ""
    assert header(content(data), WHERE, Limits()).patient is None
    del data.PixelData, data.InstanceNumber
    assert header(content(data), WHERE, Limits()).frames == 1  # nothing is decoded


def test_spacing_of_the_pixels_else_of_the_detector():
    data = dataset(values(8), ImagerPixelSpacing=[0.2, 0.1])
    assert read(content(data), WHERE, Limits()).spacing == (0.2, 0.1)
    data.PixelSpacing = [0.15, 0.3]
    assert read(content(data), WHERE, Limits()).spacing == (0.15, 0.3)
    for wrong in ([0, 1], [0.5], None):
        assert read(content(dataset(values(8), PixelSpacing=wrong)), WHERE, Limits()).spacing is None


def test_dicom_is_known_by_its_content():
    data = dataset(values(8))
    for syntax in NATIVE:
        file = content(dataset(values(8)), syntax)
        assert is_dicom(file)
        bare = file[132:]
        assert is_dicom(bare)  # from group 0002 on
        np.testing.assert_array_equal(shown(bare), full(values(8), 8))
        start = 12 + int.from_bytes(bare[8:12], "little")
        if syntax != uid.DeflatedExplicitVRLittleEndian:
            assert is_dicom(bare[start:])  # from group 0008 on
            np.testing.assert_array_equal(shown(bare[start:]), full(values(8), 8))
    for other in (b"", b"\x08", b"\x08\0\x05\0", b"BM" + bytes(200), b"\x89PNG\r\n\x1a\n", b"\x02\0\0\0" + b"\xff" * 8):
        assert not is_dicom(other)
    assert not is_dicom(content(data)[:100])


def test_read_image_reads_dicom(tmp_path):
    pixels = values(12)
    data = dataset(pixels, 12, PixelSpacing=[0.5, 0.25], PhotometricInterpretation="MONOCHROME1")
    file = tmp_path / "scan.png"
    file.write_bytes(content(data))
    image = read_image(file)
    np.testing.assert_allclose(image.pixels, 1 - full(pixels, 12), atol=1e-7)
    assert (image.spacing, image.patient, image.source) == ((0.5, 0.25), "canary-id", str(file))
    assert (image.modality, image.photometric) == ("DX", "MONOCHROME1")
    with pytest.raises(ImageError, match="a mask saved as DICOM"):
        read_mask(file)
    file.write_bytes(content(dataset(pixels[:31], 12)))
    with pytest.raises(ImageError, match="48 x 31 pixels, nothing to look at; give an image of at least 32 x 32"):
        read_image(file)
