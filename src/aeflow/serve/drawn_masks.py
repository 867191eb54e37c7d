"""Masks of the regions that readers drew: a picture beside a single image, a NIfTI volume on the grid of a volume."""

from __future__ import annotations

import gzip
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from aeflow.imageio.decoder_pool import decoders
from aeflow.imageio.image import Slice
from aeflow.imageio.nifti_space import canonical, slice_of
from aeflow.imageio.reader import read_header
from aeflow.results.nifti.map_file import KINDS, header_in, new_header
from aeflow.runtime.files import write_bytes
from aeflow.serve.labels import Region

DESCRIPTION = b"aeflow: regions that readers drew"


def mask_of(regions: Sequence[Region], height: int, width: int) -> NDArray[np.uint8]:
    """Return the mask (H, W) of drawn regions, 255 within; each marks one pixel at least.

    >>> mask_of([(0.0, 0.0, 0.5, 0.5)], 4, 4).tolist()[0]
    [255, 255, 0, 0]
    """
    mask = np.zeros((height, width), np.uint8)
    for left, top, right, bottom in regions:
        x, y = int(min(left * width, width - 1)), int(min(top * height, height - 1))
        mask[y : max(y + 1, round(bottom * height)), x : max(x + 1, round(right * width))] = 255
    return mask


def write_picture(place: Path, regions: Sequence[Region], height: int, width: int) -> None:
    """Write the mask of a single image as PNG."""
    content = io.BytesIO()
    PIL.Image.fromarray(mask_of(regions, height, width)).save(content, "png")
    _write(place, content.getvalue())


def write_volume(place: Path, image: Path, drawn: Mapping[Slice, Sequence[Region]], height: int, width: int) -> None:
    """Write the mask of all slices of a volume in which something is drawn, as NIfTI (``imageio.masks``).

    That of a NIfTI volume lies voxel on voxel; that of a file of frames (H, W) has a slice for each. Raises ImageError
    if the volume cannot be read.
    """
    found = decoders().submit(read_header, image, "axial").result()
    if found.space is not None:
        header, shape, orientation = header_in(found.space), found.space.volume, found.space.orientation
    else:
        shape, orientation = (width, height, found.frames), ((0.0, 1.0), (1.0, 1.0), (2.0, 1.0))
        header = new_header(shape)
        header.set_sform(np.eye(4), code="scanner")
    header.set_data_dtype("uint8")
    header["descrip"] = DESCRIPTION
    voxels = np.zeros(shape, np.uint8, order="F")
    turned = canonical(voxels, orientation)
    for at, regions in drawn.items():
        plane = slice_of(turned, at.index, at.axis or "axial")
        plane[...] = mask_of(regions, *plane.shape)
    _write(place, gzip.compress(_nifti(voxels, header), mtime=0))


def _nifti(voxels: NDArray[np.uint8], header: Any) -> bytes:
    kind = next(image for of, image in KINDS.values() if type(header) is of)
    content = io.BytesIO()
    kind(voxels.reshape(header.get_data_shape(), order="F"), None, header).to_stream(content)
    return content.getvalue()


def _write(place: Path, content: bytes) -> None:
    """Write a mask unless it is there already, so that features in a cache stay those of it."""
    place.parent.mkdir(mode=0o700, exist_ok=True)
    if not place.is_file() or place.read_bytes() != content:
        write_bytes(place, content)
