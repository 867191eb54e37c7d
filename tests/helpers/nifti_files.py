"""NIfTI files written byte by byte from the standard's table of fields, so that tests need not ask nibabel."""

from __future__ import annotations

import gzip
import struct

import numpy as np
from numpy.typing import NDArray

CODES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024, "u8": 1280}
COMPLEX = {"c8": 32}
OBLIQUE = (  # millimetres of 1.5, 0.8 and 3 along right, anterior, superior, turned by some 20 degrees
    np.array([[0.925, -0.298, 0.236], [0.345, 0.921, -0.181], [-0.163, 0.249, 0.955]]) * [1.5, 0.8, 3.0]
)
FIELDS = {  # name: offset and type in NIfTI-1, in NIfTI-2
    "sizeof_hdr": ((0, "i"), (0, "i")),
    "magic": ((344, "4s"), (4, "8s")),
    "dim": ((40, "8h"), (16, "8q")),
    "datatype": ((70, "h"), (12, "h")),
    "bitpix": ((72, "h"), (14, "h")),
    "pixdim": ((76, "8f"), (104, "8d")),
    "vox_offset": ((108, "f"), (168, "q")),
    "scl_slope": ((112, "f"), (176, "d")),
    "scl_inter": ((116, "f"), (184, "d")),
    "xyzt_units": ((123, "B"), (500, "i")),
    "descrip": ((148, "80s"), (240, "80s")),
    "qform_code": ((252, "h"), (344, "i")),
    "sform_code": ((254, "h"), (348, "i")),
    "quatern": ((256, "3f"), (352, "3d")),
    "qoffset": ((268, "3f"), (376, "3d")),
    "srow": ((280, "12f"), (400, "12d")),
}


def nifti(
    voxels: NDArray,
    affine: NDArray = OBLIQUE,
    *,
    version: int = 1,
    big_endian: bool = False,
    zipped: bool = False,
    rgb: bool = False,
    data: bytes | None = None,
    **fields: object,
) -> bytes:
    """Return a NIfTI file of (x, y, z[, ...]) voxels, or (x, y, z, 3) with ``rgb``; ``fields`` replace the header's."""
    order = ">" if big_endian else "<"
    shape = voxels.shape[:3] if rgb else voxels.shape
    length = (348, 540)[version - 1]
    values: dict[str, object] = {
        "sizeof_hdr": length,
        "magic": (b"n+1\0", b"n+2\0\r\n\x1a\n")[version - 1],
        "dim": (len(shape), *shape, *(1,) * (7 - len(shape))),
        "datatype": 128 if rgb else (CODES | COMPLEX)[voxels.dtype.str[1:]],
        "bitpix": 24 if rgb else 8 * voxels.dtype.itemsize,
        "pixdim": (1, *np.linalg.norm(affine[:3, :3], axis=0), 1, 1, 1, 1),
        "vox_offset": length + 4,
        "scl_slope": 1,
        "xyzt_units": 2,
        "descrip": b"PATIENT^NAME",
        "sform_code": 1,
        "srow": np.hstack([affine[:3, :3], [[-30.0], [12.0], [5.0]]]).ravel(),
        **fields,
    }
    content = bytearray(length + 4)
    for name, value in values.items():
        offset, kind = FIELDS[name][version - 1]
        struct.pack_into(order + kind, content, offset, *(value if np.iterable(value) and "s" not in kind else [value]))
    stored = np.moveaxis(voxels, -1, 0) if rgb else voxels
    content += stored.astype(voxels.dtype.newbyteorder(order)).tobytes(order="F") if data is None else data
    return gzip.compress(bytes(content), 1, mtime=0) if zipped else bytes(content)
