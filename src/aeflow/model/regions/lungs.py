"""Lungs in a chest X-ray, as learnt from masks that people drew (weights/ATTRIBUTION.md)."""

from __future__ import annotations

from aeflow.model.regions.shipped import ShippedRegion


class Lungs(ShippedRegion):
    """Both lungs, what lies behind the heart included."""

    organ = "lungs"
