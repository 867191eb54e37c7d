"""Decoders from the latent back to an image, in one registry: a new decoder is one file here and one line below.

A decoder is a module built from widths (latent, ..., 3) and, for aligned images, their size; it maps latents
(B, C, h, w) to images (B, 3, H, W) in [0, 1], and ``initialise(x)`` takes what normal images share.
"""

from __future__ import annotations

import math

from torch import nn

from aeflow.errors import SettingsError
from aeflow.model.decoders.transposed import TransposedDecoder

DECODERS: dict[str, type[nn.Module]] = {
    "transposed": TransposedDecoder,
}


def decoder_halvings(stride: int) -> int:
    """Return how often the size must double to undo ``stride``; SettingsError unless it is a power of two."""
    doublings = math.log2(stride)
    if not doublings.is_integer():
        raise SettingsError("stages", f"stride {stride} is not a power of two", "choose another stage or encoder")
    return int(doublings)
