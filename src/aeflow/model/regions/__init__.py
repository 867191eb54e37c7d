"""Regions that score and maps are restricted to, in one registry: a new region is one file here and one line below.

A region of an organ is a file like ``lungs``, with weights made as ``scripts/train_lungs.py`` makes them. A region that
a user has painted is a ``LearnedRegion`` without an entry.
"""

from __future__ import annotations

from collections.abc import Callable

from aeflow.model.encoder import Encoder
from aeflow.model.regions.base import Region
from aeflow.model.regions.body import Body
from aeflow.model.regions.lungs import Lungs
from aeflow.model.regions.whole_image import WholeImage

REGIONS: dict[str, Callable[[Encoder], Region]] = {
    "none": lambda encoder: WholeImage(),
    "body": lambda encoder: Body(),
    "lungs": Lungs,
}
