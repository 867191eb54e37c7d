"""NIfTI volumes, parsed by nibabel, cut into slices as radiologists look at them, in [0, 1].

Orientation: the volume is turned to the nearest of the 48 arrangements of its axes along right, anterior, superior
(RAS+); an oblique one is not resampled. Slice 0 is the leftmost, hindmost or lowest. A slice is shown with superior up
(coronal, sagittal) or anterior up (axial), the patient's right on the image's left, and anterior on the left of a
sagittal one: the rows are the second axis of each plane, flipped, and the columns the first, flipped.

Range: of all voxels that are not zero, the 0.5th percentile becomes 0 and the 99.5th becomes 1, for the whole volume at
once, so that slices keep their relative brightness; if both are the same value (a binary volume), the least and the
greatest voxel take their place. Zero means within half a step of the stored integers. Colour is divided by 255.

A file is taken as it is or refused, never repaired: voxels that are not finite, a size that does not agree with the
header (either way), no orientation at all. A missing unit means mm, as everywhere.
"""

from __future__ import annotations

import gzip
import io
import itertools
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aeflow._types import Axis
from aeflow.imageio.errors import FileError, ImageError, ImageLimitError
from aeflow.imageio.image import Header, RawImage
from aeflow.imageio.last import Last
from aeflow.imageio.limits import Limits
from aeflow.imageio.nifti_affine import affine_of
from aeflow.imageio.nifti_space import AXES, NiftiSpace, canonical, slice_of

SINGLE_FILE_MAGICS, PAIRED_MAGICS = (b"n+1\0", b"n+2\0\r\n\x1a\n"), (b"ni1\0", b"ni2\0\r\n\x1a\n")
TAIL_SHARE = 0.005  # share of the foreground that is cut at either end
PIECE_BYTES = 2**20  # bytes inflated at a time
MAX_DEFLATE_RATIO = 1032  # bytes that one deflated byte inflates to, at most
MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # unknown, metre, millimetre, micron
RGB = 128  # data type code of colour
# data type code -> NumPy's type
NUMBER_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
HALF_A_VOXEL = 0.5  # of the shortest side: within it, two grids have the same voxels
REMEDY_SAVE_AGAIN = "save it again with a NIfTI tool, as one volume of integers or floats"


@dataclass(frozen=True, slots=True)
class Grid:
    """Facts of a header about its voxels: where they are in the file, their type, and their orientation in space."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]  # as stored, (x, y, z) or (x, y, z, 3)
    offset: int
    slope: float
    intercept: float
    orientation: NDArray[np.float64]  # (3, 2), as nibabel.orientations has it
    zooms: NDArray[np.float64] | None  # (3,) mm along right, anterior, superior
    affine: NDArray[np.float64]  # (4, 4) of the volume turned to (right, anterior, superior): index -> place
    space: NiftiSpace

    def distance(self, other: Grid) -> str | None:
        """Return in words how far this grid is from another one; None if each voxel lies in the other's same voxel."""
        (ours, theirs), n = (tuple(grid.shape[i] for i in grid.order) for grid in (self, other)), " x "
        if ours != theirs:
            return f"{n.join(map(str, ours))} voxels where there are {n.join(map(str, theirs))}"
        corners = np.array([[*corner, 1] for corner in itertools.product(*((0, side - 1) for side in ours))])
        apart = np.linalg.norm(((self.affine - other.affine) @ corners.T)[:3], axis=0).max()
        if apart <= HALF_A_VOXEL * np.linalg.norm(other.affine[:3, :3], axis=0).min():
            return None
        return f"up to {apart:.3g} mm apart in space"

    @property
    def order(self) -> list[int]:
        """Axes as stored, in the order right, anterior, superior."""
        return [int(i) for i in np.argsort(self.orientation[:, 0])]

    def slices(self, axis: Axis) -> tuple[int, int]:
        """Return the number of slices along an axis, and the number of pixels of each."""
        sides = dict(zip(self.orientation[:, 0].astype(int), self.shape, strict=False))
        n = sides.pop(AXES[axis])
        return n, math.prod(sides.values())

    @property
    def size(self) -> int:
        """Bytes of the file up to the last voxel."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize


class Volume:
    """Decoded voxels, unscaled: ``stored`` as in the file, ``canonical`` a view of them, (R, A, S) or (R, A, S, 3)."""

    def __init__(self, grid: Grid, content: bytes | bytearray, where: Path) -> None:
        self.grid = grid
        self.stored = np.frombuffer(content, grid.dtype, math.prod(grid.shape), grid.offset)
        if grid.dtype.kind == "f" and not (finite := np.isfinite(self.stored)).all():
            found = f"{finite.size - np.count_nonzero(finite)} of {finite.size} voxels are NaN or infinite"
            raise FileError(where, found, "write 0 where there is no data, for instance with numpy.nan_to_num")
        x_first = (*grid.shape[3:], *grid.shape[:3])  # stored with colours side by side, then voxels along x
        voxels = self.stored.reshape(x_first, order="F")
        voxels = np.moveaxis(voxels, 0, -1) if len(grid.shape) == 4 else voxels
        self.canonical = canonical(voxels, grid.orientation)
        self.bounds: tuple[float, float] | None = None
        self._marked: NDArray[np.bool_] | None = None

    def marked(self) -> NDArray[np.bool_]:
        """Return where a mask, turned as ``canonical``, is not zero in any channel."""
        if self._marked is None:
            colour = self.canonical.ndim == 4
            self._marked = np.asarray(self.canonical.any(axis=-1)) if colour else self.foreground(self.canonical)
        return self._marked

    def marked_values(self) -> NDArray[Any]:
        """Return the stored values that are not zero."""
        return np.asarray(self.stored[self.foreground(self.stored)])

    def foreground(self, voxels: NDArray[Any]) -> NDArray[np.bool_]:
        """Return where scaled voxels are not zero: by over half a step of stored integers, or at all for floats."""
        zero = -self.grid.intercept / self.grid.slope
        step = 0.5 if voxels.dtype.kind in "iu" else 0.0
        with np.errstate(over="ignore"):  # a zero beyond float32 cannot be stored
            return np.asarray((voxels < zero - step) | (voxels > zero + step))

    def scaled(self, voxels: NDArray[Any]) -> NDArray[np.float64]:
        """Return stored voxels times the slope plus the intercept."""
        with np.errstate(over="ignore"):
            return voxels.astype(np.float64) * self.grid.slope + self.grid.intercept

    def range(self, where: Path) -> tuple[float, float]:
        """Return the scaled values that become 0 and 1."""
        if self.bounds is None:
            voxels = self.stored[self.foreground(self.stored)]
            cut = int(TAIL_SHARE * (voxels.size - 1))
            if voxels.size:
                voxels.partition((cut, voxels.size - 1 - cut))
            if voxels.size == 0 or voxels[cut] == voxels[-1 - cut]:
                ends = np.array([self.stored.min(), self.stored.max()])
            else:
                ends = voxels[[cut, -1 - cut]]
            low, high = sorted(self.scaled(ends).tolist())
            if low == high:
                raise FileError(where, "every voxel has the same value", "export the volume again")
            if not math.isfinite(high - low):
                raise FileError(where, "values too large to be scaled", "scale them before saving")
            self.bounds = low, high
        return self.bounds


def is_nifti(content: bytes) -> bool:
    """Return if the content is NIfTI-1 or NIfTI-2, gzipped or not; or the header of a pair, which is then refused."""
    return _version(_start(content), SINGLE_FILE_MAGICS + PAIRED_MAGICS) is not None


def header(content: bytes, where: Path, limits: Limits, axis: Axis) -> Header:
    """Return the number of slices along an axis, from the header alone; ImageError if it could not be read."""
    found = grid(content, where, limits, axis)
    colours = "RGB" if len(found.shape) == 4 else None
    return Header("NIfTI", found.slices(axis)[0], photometric=colours, space=found.space)


def read(content: bytes, where: Path, limits: Limits, index: int, axis: Axis) -> RawImage:
    """Return slice ``index`` across an axis, float32 (H, W) or (H, W, 3) in [0, 1]; raises ImageError."""
    found = volume(content, where, limits, axis)
    voxels = _slice(found.canonical, where, index, axis)
    spacing = None
    if found.grid.zooms is not None:
        column, row = np.delete(found.grid.zooms, AXES[axis]).tolist()
        spacing = row, column
    if voxels.ndim == 3:
        return RawImage(voxels / np.float32(255), spacing, photometric="RGB")
    low, high = found.range(where)
    with np.errstate(over="ignore"):  # clipped below
        samples = (found.scaled(voxels) - low) / (high - low)
    return RawImage(samples.clip(0, 1).astype(np.float32), spacing)


def read_labels(content: bytes, where: Path, limits: Limits, index: int, axis: Axis) -> NDArray[np.bool_]:
    """Return slice ``index`` of a mask (H, W), true where it is not zero in any channel; raises ImageError."""
    return _slice(volume(content, where, limits, axis).marked(), where, index, axis)


def _slice(turned: NDArray[Any], where: Path, index: int, axis: Axis) -> NDArray[Any]:
    """Return one slice of voxels (R, A, S), turned as a radiologist looks at it."""
    n = turned.shape[AXES[axis]]
    if not 0 <= index < n:
        raise ImageError(where, f"no {axis} slice {index}", f"name one from 0 to {n - 1}")
    return np.ascontiguousarray(slice_of(turned, index, axis))


_volumes: Last[Volume] = Last()


def volume(content: bytes, where: Path, limits: Limits, axis: Axis = "axial") -> Volume:
    """Return the decoded volume; the last ones are kept, so that all slices of one cost one decoding."""
    voxels = grid(content, where, limits, axis)  # first, because the limits may differ from last time
    return _volumes.of(content, lambda: Volume(voxels, _complete(content, voxels.size, where, limits), where))


def _complete(content: bytes, size: int, where: Path, limits: Limits) -> bytes | bytearray:
    """Return the content, inflated; ImageError unless it has exactly ``size`` bytes."""
    found, remedy = "{} of {} bytes: truncated, or its header is damaged", "copy or export it again"
    if not _gzipped(content):
        if len(content) != size:
            raise FileError(where, found.format(len(content), size), remedy)
        return content
    if size > limits.max_inflated:
        raise ImageLimitError(
            where, f"inflates to {size} bytes where the limit is {limits.max_inflated}", "raise max_inflated"
        )
    if size > MAX_DEFLATE_RATIO * len(content):  # impossible: no need to begin
        raise FileError(where, found.format(f"at most {MAX_DEFLATE_RATIO * len(content)}", size), remedy)
    inflated = bytearray()
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            while piece := file.read(min(PIECE_BYTES, size + 1 - len(inflated))):
                inflated += piece
    except (OSError, EOFError, zlib.error) as error:
        raise FileError(where, f"damaged or truncated gzip data ({type(error).__name__})", remedy) from error
    if len(inflated) != size:
        raise FileError(where, found.format("more" if len(inflated) > size else len(inflated), size), remedy)
    return inflated


def _gzipped(content: bytes) -> bool:
    return content.startswith(b"\x1f\x8b")


def _start(content: bytes) -> bytes:
    """Return the first bytes, enough for any header; inflated from a bounded part, empty if that fails."""
    if not _gzipped(content):
        return content[:544]
    try:
        return zlib.decompressobj(wbits=31).decompress(content[: 2**17], 544)  # a gzip header has up to 2**16 bytes
    except zlib.error:
        return b""


def _version(start: bytes, magics: tuple[bytes, ...]) -> int | None:
    """Return 1 or 2, the version of NIfTI whose magic is at its place; None if there is none."""
    if start[344:348] in magics:
        return 1
    return 2 if start[4:12] in magics else None


def grid(content: bytes, where: Path, limits: Limits, axis: Axis) -> Grid:
    """Return the header's grid, checked against the limits of slices along an axis."""
    start = _start(content)
    if _version(start, PAIRED_MAGICS):
        raise FileError(where, "the header of a NIfTI pair, without its voxels", "save it as one .nii or .nii.gz file")
    version = _version(start, SINGLE_FILE_MAGICS)
    if version is None or len(start) < (352, 544)[version - 1]:
        raise FileError(where, "no complete NIfTI header", REMEDY_SAVE_AGAIN)
    try:
        with np.errstate(all="ignore"):
            found = _parse(start, version, where)
    except ImageError:
        raise
    except Exception as error:  # nibabel's and numpy's, whose text may quote the header
        raise FileError(where, f"a damaged NIfTI header ({type(error).__name__})", REMEDY_SAVE_AGAIN) from error
    n, pixels = found.slices(axis)
    for name, number, limit in (("max_frames", n, limits.max_frames), ("max_pixels", pixels, limits.max_pixels)):
        if number > limit:
            what = "slices" if name == "max_frames" else "pixels in a slice"
            raise ImageLimitError(where, f"{number} {what} where the limit is {limit}", f"crop it or raise {name}")
    return found


def _parse(start: bytes, version: int, where: Path) -> Grid:
    """Return the grid of a complete header; ImageError for one that cannot be read exactly."""
    # Imported here, because nibabel takes longer to load than everything else that reads an image.
    from nibabel.affines import voxel_sizes
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
    from nibabel.orientations import inv_ornt_aff, io_orientation

    def refuse(found: str, remedy: str = REMEDY_SAVE_AGAIN) -> ImageError:
        return FileError(where, found, remedy)

    kind: Callable[..., Any] = (Nifti1Header, Nifti2Header)[version - 1]
    length = (348, 540)[version - 1]
    fields = kind(start[:length], check=False)  # nibabel's check prints and repairs
    rank, *dims = (int(n) for n in fields["dim"])
    if int(fields["sizeof_hdr"]) != length or not 2 <= rank <= 7 or min(dims[:rank]) < 1:
        raise refuse("impossible dimensions in the header")
    if (volumes := math.prod(dims[3:rank])) > 1:
        raise refuse(f"{volumes} volumes in one file", "save each volume as a file of its own")
    shape = (*dims[: min(rank, 3)], 1)[:3]
    code = int(fields["datatype"])
    if code not in (*NUMBER_TYPES, RGB):
        raise refuse(f"voxels of data type {code}, neither real numbers nor RGB")
    dtype = np.dtype(NUMBER_TYPES.get(code, "u1")).newbyteorder(fields.endianness)
    offset = float(fields["vox_offset"])
    if not (offset.is_integer() and offset >= length + 4):
        raise refuse("an impossible place of the voxels in the header")
    slope, intercept = float(fields["scl_slope"]), float(fields["scl_inter"])
    if code == RGB or slope == 0 or not math.isfinite(slope):  # there is no scaling
        slope, intercept = 1.0, 0.0
    if not math.isfinite(intercept):
        raise refuse("an intercept (scl_inter) that is not finite")
    if not (fields["sform_code"] or fields["qform_code"]):
        raise refuse("no orientation, so left and right are unknown", "set its sform or qform with a NIfTI tool")
    found = affine_of(fields.copy())  # it corrects them
    if found is None:
        raise refuse("an orientation that is not invertible", "set its sform or qform with a NIfTI tool")
    affine, known = found
    orientation = io_orientation(affine)  # type: ignore[no-untyped-call]
    zooms = voxel_sizes(affine)  # type: ignore[no-untyped-call]
    unit = MILLIMETRES.get(int(fields["xyzt_units"]) % 8) if known else None
    turned = np.empty(3)
    turned[orientation[:, 0].astype(int)] = zooms
    return Grid(
        dtype=dtype,
        shape=(*shape, 3) if code == RGB else shape,
        offset=int(offset),
        slope=slope,
        intercept=intercept,
        orientation=orientation,
        zooms=None if unit is None else turned * unit,
        affine=affine @ inv_ornt_aff(orientation, shape),  # type: ignore[no-untyped-call]
        space=NiftiSpace.of(fields, version, orientation),
    )
