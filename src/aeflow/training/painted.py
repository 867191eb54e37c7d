"""Images of which somebody has painted a region: masks in a folder or of a manifest, found by the image's stem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from aeflow.data.loader import decoded
from aeflow.data.masks import MaskFolder
from aeflow.data.records import Record, find_images
from aeflow.errors import DataError, count
from aeflow.imageio.decoder_pool import decoders
from aeflow.imageio.errors import ImageError
from aeflow.imageio.masks import read_mask_of

LEAST = 20  # painted images from which a region is learnt


def masks_in(folder: Path) -> MaskFolder:
    """Return the masks of a folder; DataError if there is no such folder, or for two masks of one stem."""
    if not folder.is_dir():
        raise DataError(folder, "is no folder", "name the folder that holds the masks")
    return MaskFolder(folder, [record.path for record in find_images([folder])])


def with_regions(records: Sequence[Record], folder: Path) -> list[Record]:
    """Return the records with the masks of a folder as their regions; DataError as ``masks_in``."""
    masks = masks_in(folder)
    return [replace(record, region=masks.of(record.path)) for record in records]


def read_painted(where: object, records: Sequence[Record], size: int) -> tuple[list[Record], Tensor, Tensor]:
    """Return the records that have a region, their images (n, 3, size, size) and regions (n, 1, size, size).

    Both are in [0, 1]. Raises DataError, naming ``where``, if fewer than ``LEAST`` are found; ImageError for a mask
    that cannot be read, is empty, or does not fit its image.
    """
    painted = [record for record in records if record.region is not None]
    found, images, regions = [], [], []
    for record, image in decoded(painted, size):
        if isinstance(image, ImageError) or record.region is None:
            continue
        mask = decoders().submit(read_mask_of, record.path, record.region, at=record.at).result()
        if record.at is not None and not mask.any():
            continue  # a slice of a volume that shows none of it
        found.append(record)
        images.append(torch.from_numpy(image.pixels))
        regions.append(F.interpolate(torch.from_numpy(mask)[None, None].float(), size=(size, size), mode="area")[0])
    if len(images) < LEAST:
        few = f"{count(len(images), 'mask')} with the stem of a readable image where at least {LEAST} are needed"
        remedy = "paint the region of more normals and save each mask under its image's stem, as PNG"
        raise DataError(where, few, remedy)
    return found, torch.stack(images), torch.stack(regions)
