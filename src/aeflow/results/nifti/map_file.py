"""One anomaly map as a NIfTI file: float32, gzipped, with the numbers that place it and no text but our own."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

from nibabel.nifti1 import Nifti1Header, Nifti1Image
from nibabel.nifti2 import Nifti2Header, Nifti2Image

from aeflow._types import Floats32
from aeflow.imageio.nifti_space import NiftiSpace
from aeflow.runtime.files import replacing

DESCRIPTION = "aeflow anomaly map, sum of terms; research use, not a medical device"  # up to 79 bytes
NAME_INSIDE = "aeflow anomaly map.nii"  # in gzip's own header, by which a file of ours is known
LEVEL = 1  # of gzip: noise gets little smaller with more
MAX_BYTES = 2**31  # of a map in memory

KINDS: dict[int, tuple[Any, Any]] = {1: (Nifti1Header, Nifti1Image), 2: (Nifti2Header, Nifti2Image)}


def fits_memory(shape: tuple[int, ...]) -> bool:
    """Return if a map of this shape is held in memory as a whole."""
    return 4 * math.prod(shape) <= MAX_BYTES


def new_header(shape: tuple[int, ...], version: int = 1) -> Any:
    """Return nibabel's header of a map that lies nowhere yet."""
    header = KINDS[version][0]()
    header.set_data_dtype("float32")
    header.set_data_shape(shape)
    header["descrip"] = DESCRIPTION.encode()
    return header


def header_in(space: NiftiSpace) -> Any:
    """Return nibabel's header of a map in the space of a volume."""
    header = new_header(space.shape, space.version)
    for name, values in space.numbers:
        if name == "pixdim":
            header["pixdim"][: len(values)] = values
        else:
            header[name] = values if len(values) > 1 else values[0]
    return header


def write_map(path: Path, voxels: Floats32, header: Any) -> None:
    """Write a map as a whole or not at all, with a header that places it; the folder is synced by the caller."""
    kind = next(image for of, image in KINDS.values() if type(header) is of)
    image = kind(voxels.reshape(header.get_data_shape(), order="F"), None, header)
    with replacing(path, sync_name=False) as file, gzip.GzipFile(NAME_INSIDE, "wb", LEVEL, file, mtime=0) as zipped:
        image.to_stream(zipped)
