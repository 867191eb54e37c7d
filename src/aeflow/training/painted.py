"""Images of which somebody has painted a region: masks in a folder, found by the image's stem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from aeflow.data.loader import decoded
from aeflow.data.records import Record, find_images
from aeflow.errors import DataError
from aeflow.imageio.decoder_pool import decoders
from aeflow.imageio.errors import ImageError
from aeflow.imageio.reader import read_mask
from aeflow.privacy import shown

LEAST = 20  # painted images from which a region is learnt
RATIO = 0.02  # relative difference between the shapes of image and mask that rounding may cause


def read_painted(folder: Path, records: Sequence[Record], size: int) -> tuple[list[Record], Tensor, Tensor]:
    """Return the records that have a mask in ``folder``, their images (n, 3, size, size) and masks (n, 1, size, size).

    Both are in [0, 1]; mask and image have one stem. Raises DataError if fewer than ``LEAST`` are found, for two masks
    of one stem, and for a mask that is empty or has another shape; ImageError for one that cannot be read.
    """
    masks = _masks(folder)
    painted = [replace(record, mask=masks[record.path.stem]) for record in records if record.path.stem in masks]
    found, images, regions = [], [], []
    for record, image in decoded(painted, size, original=True):
        if isinstance(image, ImageError) or image.original is None or record.mask is None:
            continue
        mask = decoders().submit(read_mask, record.mask, at=record.at).result()
        if record.at is not None and not mask.any():
            continue  # a slice of a volume that shows none of it
        _check(mask, image.original.pixels.shape[:2], record)
        found.append(record)
        images.append(torch.from_numpy(image.pixels))
        regions.append(F.interpolate(torch.from_numpy(mask)[None, None].float(), size=(size, size), mode="area")[0])
    if len(images) < LEAST:
        few = f"{len(images)} masks with the stem of a readable image where at least {LEAST} are needed"
        remedy = "paint the region of more normals and save each mask under its image's stem, as PNG"
        raise DataError(folder, few, remedy)
    return found, torch.stack(images), torch.stack(regions)


def _masks(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(folder, "is no folder", "name the folder that holds the masks")
    masks: dict[str, Path] = {}
    for record in find_images([folder]):
        if (other := masks.setdefault(record.path.stem, record.path)) != record.path:
            found = f"{shown(record.path, 'mask')} has the stem of {shown(other, 'mask')}"
            raise DataError(folder, found, "keep one mask for each stem; --identify shows names")
    return masks


def _check(mask: NDArray[np.bool_], shape: tuple[int, ...], record: Record) -> None:
    where = shown(record.mask, "mask")
    if not mask.any():
        raise DataError(where, "nothing is painted in it", "paint the region in anything but black, or remove the mask")
    (height, width), (tall, wide) = mask.shape, shape
    if abs(height * wide / (width * tall) - 1) > RATIO:
        found = f"{height} x {width} pixels where its image has {tall} x {wide}"
        raise DataError(where, found, "paint on the image itself, without cropping")
