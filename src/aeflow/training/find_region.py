"""Region of a training: one of the registry, or one learnt from painted normals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aeflow.config import PAINTED, Settings
from aeflow.data.records import Record
from aeflow.data.splits import evenly
from aeflow.model.aeflow import chosen
from aeflow.model.encoder import Encoder
from aeflow.model.regions import REGIONS
from aeflow.model.regions.base import Region
from aeflow.training.learn_region import learn_region
from aeflow.training.painted import read_painted

MOST_PAINTED = 100  # painted normals that a region is learnt from; more teach nothing new


def find_region(
    data: Path | str, painted: Path | None, kept: Sequence[Record], settings: Settings, encoder: Encoder
) -> Region | None:
    """Return the region for the ``kept`` normals, learnt now if it is painted; None if all of the image counts."""
    if not settings.describes:
        return None
    if settings.region != PAINTED:
        return chosen(REGIONS, settings.region, "region")(encoder).to(encoder.mean.device)
    folder = painted or Path(data) / "train" / "region"
    known = {path.stem for path in folder.iterdir()} if folder.is_dir() else set()
    of_painter = evenly([record for record in kept if record.path.stem in known], MOST_PAINTED)
    _, x, masks = read_painted(folder, of_painter, settings.image_size)
    return learn_region(x, masks, encoder, settings.seed)
