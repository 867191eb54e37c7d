"""NIfTI: one slice, however it lies in the file; one range for the volume; every bad file refused in our own words."""

from __future__ import annotations

import gzip
import itertools
import math
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import nibabel
import nibabel.orientations
import numpy as np
import pytest
from nibabel.testing import data_path

from aeflow.imageio.errors import ImageError, ImageLimitError
from aeflow.imageio.limits import Limits
from aeflow.imageio.nifti import header, is_nifti, read, read_labels
from helpers.nifti_files import CODES, OBLIQUE, nifti

WHERE = Path("/data/volume.nii")
LIMITS = Limits()
AXES = ("sagittal", "coronal", "axial")
SHAPE = (5, 6, 7)
ZOOMS = (1.5, 0.8, 3.0)


def voxels(kind: str = "i2", seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    rng, dtype = np.random.default_rng(seed), np.dtype(kind)
    if dtype.kind == "f":
        return rng.normal(0, 100, shape).astype(dtype)
    return rng.integers(0, 100, shape).astype(dtype)


def expected(volume: np.ndarray) -> np.ndarray:
    """Any volume in [0, 1] by the rule of the module: percentiles of what is not zero."""
    inside = np.sort(volume[volume != 0].astype(np.float64))
    cut = int(0.005 * (len(inside) - 1))
    low, high = inside[cut], inside[len(inside) - 1 - cut]
    if low == high:
        low, high = volume.min(), volume.max()
    return ((volume - low) / (high - low)).clip(0, 1).astype(np.float32)


def shown(canonical: np.ndarray, index: int, axis: str) -> np.ndarray:
    """A slice of a volume along right, anterior, superior as it shall appear, pixel by pixel."""
    right, anterior, superior = canonical.shape[:3]
    rows, columns = {
        "axial": (anterior, right),
        "coronal": (superior, right),
        "sagittal": (superior, anterior),
    }[axis]
    picture = np.empty((rows, columns, *canonical.shape[3:]), canonical.dtype)
    for row, column in itertools.product(range(rows), range(columns)):
        up, left = rows - 1 - row, columns - 1 - column  # the top is anterior or superior, the left right or anterior
        place = {"axial": (left, up, index), "coronal": (left, index, up), "sagittal": (index, left, up)}[axis]
        picture[row, column] = canonical[place]
    return picture


def one(content: bytes, index: int = 2, axis: str = "axial", limits: Limits = LIMITS) -> np.ndarray:
    return read(content, WHERE, limits, index, axis).samples


# Laws.


@pytest.mark.parametrize("axis", AXES)
def test_every_slice_is_the_volumes_as_radiologists_look_at_it(axis):
    volume = voxels()
    content = nifti(volume)
    n = SHAPE[AXES.index(axis)]
    assert header(content, WHERE, LIMITS, axis).frames == n
    for index in range(n):
        got = one(content, index, axis)
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, shown(expected(volume), index, axis))


WAYS = [(order, flips) for order in itertools.permutations(range(3)) for flips in itertools.product((1, -1), repeat=3)]


@pytest.mark.parametrize("affine", [np.diag(ZOOMS), OBLIQUE], ids=["straight", "oblique"])
@pytest.mark.parametrize("kind", ["sform", "qform"])
def test_the_same_slices_come_out_of_all_48_ways_to_store_a_volume(affine, kind):
    assert len(WAYS) == 48
    volume, seen = voxels(), []
    full = np.eye(4)
    full[:3, :3] = affine
    want = {axis: shown(expected(volume), 3, axis) for axis in AXES}
    for order, flips in WAYS:
        way = np.array([order, flips]).T
        stored = nibabel.orientations.apply_orientation(volume, way)
        matrix = full @ nibabel.orientations.inv_ornt_aff(way, SHAPE)
        fields = {}
        if kind == "qform":
            made = nibabel.Nifti1Image(stored, None)
            made.set_qform(matrix, 1)
            names = ("quatern_b", "quatern_c", "quatern_d")
            quatern = [float(made.header[name]) for name in names]
            fields = {"sform_code": 0, "qform_code": 1, "quatern": quatern, "pixdim": made.header["pixdim"]}
        content = nifti(np.ascontiguousarray(stored), matrix, **fields)
        seen.append(stored.tobytes(order="F"))
        for axis in AXES:
            raw = read(content, WHERE, LIMITS, 3, axis)
            np.testing.assert_array_equal(raw.samples, want[axis])
            zooms = {"axial": (0.8, 1.5), "coronal": (3, 1.5), "sagittal": (3, 0.8)}[axis]
            assert raw.spacing == pytest.approx(zooms, rel=2e-3)
    assert len(set(seen)) == 48


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("big_endian", [False, True])
def test_the_encoding_changes_nothing(version, big_endian):
    for kind in CODES:
        volume = voxels(kind)
        want = shown(expected(volume), 2, "axial")
        for zipped in (False, True):
            content = nifti(volume, version=version, big_endian=big_endian, zipped=zipped)
            assert is_nifti(content)
            np.testing.assert_array_equal(one(content), want)


def test_the_range_is_the_volumes_and_one_for_all_slices():
    volume = np.zeros((40, 40, 10), np.float32)
    volume[10:30, 10:30] = np.linspace(100, 200, 4000).reshape(20, 20, 10)
    volume[20, 20] *= 50  # some metal
    content = nifti(volume)
    want = expected(volume)
    for index in range(10):
        np.testing.assert_array_equal(one(content, index), shown(want, index, "axial"))
    inside = want[10:30, 10:30]
    assert (inside == 0).mean() == pytest.approx(0.005, abs=0.001)
    assert (inside == 1).mean() == pytest.approx(0.005, abs=0.001)
    wide = np.pad(volume, ((50, 50), (50, 50), (0, 0)))  # more air around it
    np.testing.assert_array_equal(one(nifti(wide), 4)[50:-50, 50:-50], one(content, 4))


def test_slope_and_intercept_are_applied():
    volume = voxels("f8", shape=(8, 9, 10))
    volume[:4] = 0
    want = one(nifti(volume), 3)
    step = np.ptp(volume) / 60000
    for slope, intercept in ((step, volume.min()), (step, 0.0), (-step, 10.0)):
        stored = np.rint((volume - intercept) / slope)
        kind = "i4" if stored.min() < -32768 or stored.max() > 32767 else "i2"
        got = one(nifti(stored.astype(kind), scl_slope=slope, scl_inter=intercept), 3)
        np.testing.assert_allclose(got, want, atol=3e-4)
    for slope in (0, math.nan, math.inf):  # mean: none
        np.testing.assert_array_equal(one(nifti(volume, scl_slope=slope, scl_inter=7), 3), want)


def test_background_that_scaling_moved_off_zero_is_background():
    volume = np.zeros((20, 20, 20), np.float32)
    volume[5:15, 5:15, 5:15] = np.random.default_rng(0).uniform(500, 900, (10, 10, 10))
    slope, intercept = 0.02, 400.003  # zero is stored as -20000 and read as 0.003
    stored = np.rint((volume - intercept) / slope).astype("i2")
    got = one(nifti(stored, scl_slope=slope, scl_inter=intercept), 10)
    np.testing.assert_allclose(got, one(nifti(volume), 10), atol=1e-4)
    labels = read_labels(nifti(stored, scl_slope=slope, scl_inter=intercept), WHERE, LIMITS, 10, "axial")
    np.testing.assert_array_equal(labels, shown(volume != 0, 10, "axial"))


@pytest.mark.parametrize("axis", AXES)
def test_labels_are_true_where_not_zero(axis):
    volume = voxels("u1") % 3
    for content in (nifti(volume), nifti(volume.astype("f4"), zipped=True), nifti(volume, scl_slope=0.25)):
        got = read_labels(content, WHERE, LIMITS, 1, axis)
        assert got.dtype == np.bool_
        np.testing.assert_array_equal(got, shown(volume != 0, 1, axis))
    empty = read_labels(nifti(0 * volume), WHERE, LIMITS, 1, axis)
    assert not empty.any()
    colour = np.stack([volume, 0 * volume, 0 * volume], axis=-1)
    np.testing.assert_array_equal(
        read_labels(nifti(colour, rgb=True), WHERE, LIMITS, 1, axis), shown(volume != 0, 1, axis)
    )


def test_colour_is_exact():
    colour = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    for axis in AXES:
        raw = read(nifti(colour, rgb=True), WHERE, LIMITS, 3, axis)
        np.testing.assert_array_equal(raw.samples, shown(colour, 3, axis) / np.float32(255))
        assert raw.photometric == header(nifti(colour, rgb=True), WHERE, LIMITS, axis).photometric == "RGB"


def test_spacing_is_in_millimetres():
    for unit, factor in ((2, 1.0), (0, 1.0), (3, 0.001), (1, 1000.0), (2 + 8, 1.0)):  # 8: seconds
        content = nifti(voxels(), np.diag(ZOOMS), xyzt_units=unit)
        for axis, spacing in (("axial", (0.8, 1.5)), ("coronal", (3.0, 1.5)), ("sagittal", (3.0, 0.8))):
            got = read(content, WHERE, LIMITS, 0, axis).spacing
            assert got == pytest.approx([factor * side for side in spacing])
    assert read(nifti(voxels(), xyzt_units=5), WHERE, LIMITS, 0, "axial").spacing is None


def test_volumes_of_one_value_inside_and_binary_ones_have_a_range():
    binary = voxels("u1") % 2
    np.testing.assert_array_equal(one(nifti(binary)), shown(binary.astype(np.float32), 2, "axial"))
    np.testing.assert_array_equal(one(nifti(binary * 200)), shown(binary.astype(np.float32), 2, "axial"))
    labels = voxels("u1") % 4
    np.testing.assert_array_equal(one(nifti(labels)), shown(expected(labels.astype(float)), 2, "axial"))


def test_one_slice_and_more_than_three_dimensions_of_one():
    flat = voxels()[:, :, :1]
    want = shown(expected(flat), 0, "axial")
    for shape in ((5, 6), (5, 6, 1), (5, 6, 1, 1), (5, 6, 1, 1, 1, 1, 1)):
        content = nifti(flat.reshape(shape))
        assert header(content, WHERE, LIMITS, "axial").frames == 1
        np.testing.assert_array_equal(one(content, 0), want)


def test_a_volume_is_decoded_once_for_all_its_slices():
    volume = voxels("i2", shape=(160, 160, 150))
    content = nifti(volume, zipped=True)
    began = time.process_time()
    first = one(content, 0)
    once = time.process_time() - began
    began = time.process_time()
    rest = [one(content, index) for index in range(1, 150)]
    assert time.process_time() - began < 20 * once  # and not 149 times
    want = expected(volume)
    for index, got in enumerate([first, *rest]):
        np.testing.assert_array_equal(got, want[::-1, ::-1, index].T)
    other = nifti(volume[::-1].copy(), zipped=True)
    assert not np.array_equal(one(other, 0), first)
    np.testing.assert_array_equal(one(content, 0), first)


# Behaviour: orientations as NIfTI's own library reads them.

TURNED = (0.6, 0.64, 0.48)  # of length 1
BY_QFORM = {"sform_code": 0, "qform_code": 1, "quatern": TURNED, "pixdim": (1, 2, 3, 4, 0, 0, 0, 0)}
AS_WITHOUT = {
    "a quaternion that rounding made too long": {"quatern": tuple(np.array(TURNED) * (1 + 4e-7))},
    "no qfac": {"pixdim": (0, 2, 3, 4, 0, 0, 0, 0)},
    "a qfac beyond 1": {"pixdim": (7, 2, 3, 4, 0, 0, 0, 0)},
    "an sform of nothing": {"sform_code": 1, "srow": [0] * 12},
    "an sform that is not finite": {"sform_code": 1, "srow": [math.nan] * 12},
    "an offset that is not finite": {"qoffset": (math.nan,) * 3},
}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", AS_WITHOUT)
def test_an_oddity_of_the_orientation_changes_nothing(name, version):
    fine = nifti(voxels(), version=version, **BY_QFORM)
    odd = nifti(voxels(), version=version, **{**BY_QFORM, **AS_WITHOUT[name]})
    assert odd != fine
    got, want = (read(content, WHERE, Limits(), 2, "coronal") for content in (odd, fine))
    np.testing.assert_array_equal(got.samples, want.samples)
    assert got.spacing == pytest.approx(want.spacing)


@pytest.mark.parametrize("size", [0, -3, math.nan])
def test_a_voxel_size_that_is_none_costs_the_spacing_alone(size):
    odd = nifti(voxels(), **{**BY_QFORM, "pixdim": (1, 2, size, 4, 0, 0, 0, 0)})
    got, want = (read(content, WHERE, Limits(), 2, "axial") for content in (odd, nifti(voxels(), **BY_QFORM)))
    np.testing.assert_array_equal(got.samples, want.samples)
    assert (got.spacing, want.spacing is None) == (None, False)


def test_a_negative_qfac_flips_the_last_axis():
    upright = {**BY_QFORM, "quatern": (0, 0, 0)}
    fine, flipped = (nifti(voxels(), **{**upright, "pixdim": (q, 2, 3, 4, 0, 0, 0, 0)}) for q in (1, -1))
    np.testing.assert_array_equal(one(flipped, 0), one(fine, SHAPE[2] - 1))


# Behaviour: what is refused, and in which words.

GOOD = nifti(voxels())
SAVE = "save it again with a NIfTI tool, as one volume of integers or floats"
ORIENT = "set its sform or qform with a NIfTI tool"
COPY = "copy or export it again"
NAN = np.where(voxels() < 5, math.nan, voxels("f4"))
REFUSED = {
    "pair": (nifti(voxels(), magic=b"ni1\0"), "the header of a NIfTI pair, without its voxels; save it as one .nii "),
    "pair, 2": (nifti(voxels(), version=2, magic=b"ni2\0\r\n\x1a\n"), "the header of a NIfTI pair, without its voxels"),
    "header cut": (GOOD[:350], f"no complete NIfTI header; {SAVE}"),
    "cut": (GOOD[:-1], f"771 of 772 bytes: truncated, or its header is damaged; {COPY}"),
    "longer": (GOOD + b"\0", f"773 of 772 bytes: truncated, or its header is damaged; {COPY}"),
    "zipped, cut inside": (gzip.compress(GOOD[:-1]), "771 of 772 bytes: truncated"),
    "zipped, longer": (gzip.compress(GOOD + b"\0" * 10**6), "more of 772 bytes: truncated"),
    "zipped, cut": (gzip.compress(GOOD)[:-9], f"damaged or truncated gzip data (EOFError); {COPY}"),
    "zipped, wrong sum": (gzip.compress(GOOD)[:-8] + b"12345678", "damaged or truncated gzip data (BadGzipFile)"),
    "four volumes": (
        nifti(voxels(shape=(5, 6, 7, 2, 2))),
        "4 volumes in one file; save each volume as a file of its own",
    ),
    "line": (nifti(voxels(), dim=(1, 210, 1, 1, 1, 1, 1, 1)), f"impossible dimensions in the header; {SAVE}"),
    "no dimensions": (nifti(voxels(), dim=(0,) * 8), "impossible dimensions in the header"),
    "zero": (nifti(voxels(), dim=(3, 5, 0, 7, 1, 1, 1, 1)), "impossible dimensions in the header"),
    "negative": (nifti(voxels(), dim=(3, -5, 6, -7, 1, 1, 1, 1)), "impossible dimensions in the header"),
    "nine dimensions": (nifti(voxels(), dim=(9, 5, 6, 7, 1, 1, 1, 1)), "impossible dimensions in the header"),
    "complex": (nifti(voxels("c8")), f"voxels of data type 32, neither real numbers nor RGB; {SAVE}"),
    "RGBA": (nifti(voxels(), datatype=2304), "voxels of data type 2304, neither real numbers nor RGB"),
    "one bit": (nifti(voxels(), datatype=1), "voxels of data type 1, neither"),
    "no type": (nifti(voxels(), datatype=77), "voxels of data type 77, neither"),
    "offset": (nifti(voxels(), vox_offset=0), f"an impossible place of the voxels in the header; {SAVE}"),
    "offset NaN": (nifti(voxels(), vox_offset=math.nan), "an impossible place of the voxels in the header"),
    "offset infinite": (nifti(voxels(), vox_offset=math.inf), "an impossible place of the voxels in the header"),
    "offset too far": (nifti(voxels(), vox_offset=1e30), "bytes: truncated, or its header is damaged"),
    "intercept": (nifti(voxels(), scl_inter=math.nan), f"an intercept (scl_inter) that is not finite; {SAVE}"),
    "no orientation": (nifti(voxels(), sform_code=0), f"no orientation, so left and right are unknown; {ORIENT}"),
    "flat": (nifti(voxels(), np.diag((1.0, 0.0, 1.0))), f"an orientation that is not invertible; {ORIENT}"),
    "affine NaN": (nifti(voxels(), np.diag((1.0, math.nan, 1.0))), "an orientation that is not invertible"),
    "affine huge": (nifti(voxels(), 1e38 * np.ones((3, 3))), "an orientation that is not invertible"),
    "quaternion": (
        nifti(voxels(), sform_code=0, qform_code=1, quatern=(2, 2, 2)),
        f"an orientation that is not invertible; {ORIENT}",
    ),
    "quaternion NaN": (
        nifti(voxels(), sform_code=0, qform_code=1, quatern=(math.nan, 0, 0)),
        "an orientation that is not invertible",
    ),
    "NaN": (
        nifti(NAN.astype("f4")),
        f"{np.isnan(NAN).sum()} of 210 voxels are NaN or infinite; write 0 where ",
    ),
    "infinite": (
        nifti(voxels("f8") / 0.0 if False else np.where(voxels() > 95, np.inf, 1.0)),
        "voxels are NaN or infi",
    ),
    "blank": (nifti(np.full(SHAPE, 9, "u1")), "every voxel has the same value; export the volume again"),
    "black": (nifti(np.zeros(SHAPE, "f4")), "every voxel has the same value"),
    "too large": (
        nifti(np.where(voxels() > 50, 1.7e308, -1.7e308)),
        "values too large to be scaled; scale them",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line_of_our_own_words(name):
    content, message = REFUSED[name]
    assert is_nifti(content)
    with pytest.raises(ImageError) as caught:
        one(content)
    assert caught.value.where == str(WHERE)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "PATIENT" not in str(caught.value)


def test_a_slice_that_is_not_there():
    for index in (-1, 7, 10**9):
        with pytest.raises(ImageError, match=f"no axial slice {index}; name one from 0 to 6"):
            one(GOOD, index)


def test_what_is_nifti_is_known_by_its_content():
    for version in (1, 2):
        for big_endian in (False, True):
            assert is_nifti(nifti(voxels(), version=version, big_endian=big_endian, zipped=True))
    extra = bytearray(gzip.compress(GOOD))
    extra[3] |= 4  # an extra field, as long as it may be
    extra[10:10] = b"\xff\xff" + b"x" * 65535
    assert is_nifti(bytes(extra))
    np.testing.assert_array_equal(one(bytes(extra)), one(GOOD))
    for content in (
        b"",
        b"\x1f\x8b",
        gzip.compress(b"text"),
        gzip.compress(GOOD)[:30],
        GOOD[1:],
        b"\0" * 600,
        GOOD[:340],
    ):
        assert not is_nifti(content)


def test_gzip_of_several_members_is_one_file():
    content = b"".join(gzip.compress(GOOD[start : start + 100]) for start in range(0, len(GOOD), 100))
    with pytest.raises(ImageError, match="no complete NIfTI header"):
        one(content)  # the header is looked for in the first member alone
    content = gzip.compress(GOOD[:600]) + gzip.compress(GOOD[600:]) + b"\0" * 100
    np.testing.assert_array_equal(one(content), one(GOOD))


def test_limits_are_inclusive_and_known_from_the_header():
    exact = Limits(max_pixels=30, max_frames=7, max_inflated=len(GOOD))
    zipped = gzip.compress(GOOD)
    assert one(zipped, limits=exact).shape == (6, 5)
    for limits, found in (
        (Limits(max_pixels=29), "30 pixels in a slice where the limit is 29; crop it or raise max_pixels"),
        (Limits(max_frames=6), "7 slices where the limit is 6; crop it or raise max_frames"),
    ):
        with pytest.raises(ImageLimitError, match=found):
            one(zipped, limits=limits)  # though the volume is at hand
        with pytest.raises(ImageLimitError, match=found):
            header(zipped, WHERE, limits, "axial")
    with pytest.raises(ImageLimitError, match=r"inflates to 772 bytes where the limit is 771; raise max_inflated"):
        one(gzip.compress(nifti(voxels(seed=1))), limits=Limits(max_inflated=771))


def test_a_bomb_takes_no_memory():
    huge = nifti(voxels("u1"), dim=(3, 10_000, 10_000, 5000, 1, 1, 1, 1), data=b"")
    small = nifti(voxels("u1"), dim=(3, 1000, 1000, 1000, 1, 1, 1, 1), data=b"")
    bomb = gzip.compress(GOOD + bytes(2**28), 1)
    tracemalloc.start()
    try:
        for content, kind, found in (
            (gzip.compress(huge), ImageLimitError, "inflates to 500000000352 bytes"),
            (gzip.compress(small), ImageError, "of 1000000352 bytes: truncated"),
            (huge, ImageError, "352 of 500000000352 bytes: truncated"),
            (bomb, ImageError, "more of 772 bytes"),
        ):
            with pytest.raises(kind, match=found):
                one(content)
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


def test_nothing_is_printed_and_nibabel_is_loaded_only_for_nifti(tmp_path):
    (tmp_path / "odd.nii").write_bytes(nifti(voxels(), pixdim=(0, -1, 1, 1, 1, 1, 1, 1), bitpix=7))
    code = (
        "import sys; from pathlib import Path\n"
        "from aeflow.imageio import nifti; from aeflow.imageio.limits import Limits\n"
        "assert 'nibabel' not in sys.modules\n"
        "path = Path(sys.argv[1]); print(nifti.read(path.read_bytes(), path, Limits(), 1, 'axial').samples.shape)"
    )
    command = [sys.executable, "-Werror", "-c", code, str(tmp_path / "odd.nii")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("(6, 5)\n", "")


# Truth: files that came with nibabel.


@pytest.mark.parametrize(
    "name", ["standard.nii.gz", "anatomical.nii", "reoriented_anat_moved.nii", "example_nifti2.nii.gz"]
)
def test_real_volumes_agree_with_nibabel(name):
    path = Path(data_path) / name
    content = path.read_bytes()
    image = nibabel.as_closest_canonical(nibabel.load(path))
    if image.ndim == 4:
        with pytest.raises(ImageError, match=f"{image.shape[3]} volumes in one file"):
            one(content)
        return
    want = expected(image.get_fdata())
    for axis in AXES:
        n = header(content, WHERE, LIMITS, axis).frames
        assert n == image.shape[AXES.index(axis)]
        for index in (0, n // 2, n - 1):
            raw = read(content, WHERE, LIMITS, index, axis)
            np.testing.assert_array_equal(raw.samples, shown(want, index, axis))
            column, row = np.delete(image.header.get_zooms()[:3], AXES.index(axis))
            assert raw.spacing == pytest.approx((row, column), rel=1e-4)
