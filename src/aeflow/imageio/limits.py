"""Limits beyond which a file is refused; ``AEFLOW_LIMITS="max_bytes=1e9 max_seconds=60"`` changes them."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields

from aeflow.errors import SettingsError

VARIABLE = "AEFLOW_LIMITS"


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits beyond which a file is refused with an ImageLimitError; the last two hold for the process that decodes."""

    max_bytes: int = 512 * 2**20  # of a file
    max_pixels: int = 100_000_000  # rows x columns of one image
    max_frames: int = 10_000  # images in one file
    max_nesting: int = 16  # levels of DICOM sequences
    max_inflated: int = 2 * 2**30  # bytes that compressed content may inflate to
    max_seconds: float = 30.0  # for one image; for all of a file together see ``file_costs``
    max_memory: int = 4 * 2**30  # bytes


def parse(text: str) -> Limits:
    """Return the limits of ``NAME=NUMBER`` pairs between blanks or commas; SettingsError for anything else."""
    kinds = {field.name: type(getattr(Limits(), field.name)) for field in fields(Limits)}
    changes: dict[str, float] = {}
    for pair in text.replace(",", " ").split():
        name, _, number = pair.partition("=")
        try:
            value = kinds[name](float(number))
        except (KeyError, ValueError, OverflowError):
            remedy = f"write for instance max_bytes=1e9; names are {', '.join(kinds)}"
            raise SettingsError(VARIABLE, f"{pair!r} is no limit", remedy) from None
        if not value > 0:
            raise SettingsError(VARIABLE, f"{pair!r} would refuse everything", "give a number above 0")
        changes[name] = value
    return Limits(**changes)  # type: ignore[arg-type]


LIMITS = parse(os.environ.get(VARIABLE, ""))
