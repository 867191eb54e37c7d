"""Whole image as a region: every position counts."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Region(Protocol):
    """Choice of the positions that count."""

    def keep(self, values: Tensor) -> Tensor:
        """Return the values (B, P) of maps (B, h, w) at the positions that count."""


class WholeImage:
    """Region without a restriction."""

    def keep(self, values: Tensor) -> Tensor:
        """Return every value, (B, h * w)."""
        return values.flatten(1)
