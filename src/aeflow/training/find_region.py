"""Region of a training: one of the registry, or one learnt from painted normals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aeflow.config import PAINTED, Settings
from aeflow.data.masks import REGION, strays
from aeflow.data.plain_folders import TrainingData
from aeflow.data.records import Record, stray_masks
from aeflow.data.splits import evenly
from aeflow.model.aeflow import chosen
from aeflow.model.encoder import Encoder
from aeflow.model.regions import REGIONS
from aeflow.model.regions.base import Region
from aeflow.training.learn_region import learn_region
from aeflow.training.painted import masks_in, read_painted, with_regions

MOST_PAINTED = 100  # painted normals that a region is learnt from; more teach nothing new


def find_region(
    data: TrainingData, painted: Path | None, kept: Sequence[Record], settings: Settings, encoder: Encoder
) -> Region | None:
    """Return the region for the ``kept`` normals, learnt now if it is painted; None if all of the image counts.

    ``painted``: folder of masks; without it the regions that the data folder gives, by its folder or its manifest.
    """
    if not settings.describes:
        return None
    if settings.region != PAINTED:
        return chosen(REGIONS, settings.region, "region")(encoder).to(encoder.mean.device)
    where = painted or Path(data) / "train" / REGION
    known = kept if painted is None else with_regions(kept, painted)
    of_painter = evenly([record for record in known if record.region is not None], MOST_PAINTED)
    _, x, masks = read_painted(where, of_painter, settings.image_size)
    return learn_region(x, masks, encoder, settings.seed)


def unused_masks(data: TrainingData, painted: Path | None, train: Sequence[Record], settings: Settings) -> list[str]:
    """Return a sentence on the painted masks that fit no train image, in a list; empty if there are none."""
    if settings.region != PAINTED:
        return []
    if painted is None:
        return stray_masks(Path(data), train, (REGION,))
    note = strays(painted, "mask", list(masks_in(painted).paths.values()), [record.path for record in train])
    return [] if note is None else [note]
