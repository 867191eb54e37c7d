"""What a file may cost before it is refused."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Beyond any of these a file is refused with an ImageLimitError; the last two hold for the process that decodes."""

    max_bytes: int = 512 * 2**20  # of a file
    max_pixels: int = 100_000_000  # rows x columns of one image
    max_frames: int = 10_000  # images in one file
    max_nesting: int = 16  # levels of DICOM sequences
    max_inflated: int = 2 * 2**30  # bytes that compressed content may unfold to
    max_seconds: float = 30.0  # for one file
    max_memory: int = 4 * 2**30  # bytes


LIMITS = Limits()
