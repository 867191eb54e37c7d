"""Painted normals of a data folder, from which a region is learnt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from aeflow.config import Settings
from aeflow.data.loader import stream
from aeflow.data.preprocess import preprocess_mask
from aeflow.data.records import Record
from aeflow.data.splits import evenly
from aeflow.errors import DataError
from aeflow.imageio.errors import ImageError
from aeflow.imageio.reader import read_image
from aeflow.model.encoder import Encoder
from aeflow.model.regions.learned import LearnedRegion
from aeflow.training.learn_region import learn_region

LEAST, MOST = 20, 100  # painted normals; of fewer little is learnt, of more nothing new
SMALLEST = 0.01  # share of a picture that a region covers at least


def learn_painted(folder: Path, normals: Sequence[Record], encoder: Encoder, settings: Settings) -> LearnedRegion:
    """Return the region learnt from masks in a folder that have the names (without ending) of train normals.

    Raises DataError for fewer than LEAST of them, or a mask that is empty.
    """
    masks = {path.stem: path for path in sorted(folder.iterdir()) if path.is_file()} if folder.is_dir() else {}
    painted = evenly([record for record in normals if record.path.stem in masks], MOST)
    if len(painted) < LEAST:
        found = f"{len(painted)} of its {len(masks)} masks have the name of a train normal"
        raise DataError(folder, found, f"paint {LEAST} to 50 normal images, each mask named as its image")
    images, targets = [], []
    for record, x in stream(painted, settings.image_size):
        if isinstance(x, ImageError):
            raise x
        path = masks[record.path.stem]
        mask = preprocess_mask(read_image(path), settings.image_size)
        if mask.mean() < SMALLEST:
            raise DataError(path, f"covers {mask.mean():.1%} of the picture", "paint where disease can be in white")
        images.append(torch.from_numpy(x))
        targets.append(torch.from_numpy(np.asarray(mask, np.float32))[None])
    return learn_region(torch.stack(images), torch.stack(targets), encoder, settings.seed)
