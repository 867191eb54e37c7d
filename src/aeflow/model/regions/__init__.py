"""Regions that score and maps are restricted to, in one registry: a new region is one file here and one line below.

A region says which positions of a map count; ``keep(values)`` returns the values (B, P) there of maps (B, h, w).
"""

from __future__ import annotations

from aeflow.model.regions.whole_image import Region, WholeImage

REGIONS: dict[str, type[Region]] = {
    "none": WholeImage,
}
