"""Decoders back to an image, in one registry: a new decoder is one file here and one line below.

A decoder is a module that maps a code, a list of (B, C, h, w), to images (B, 3, H, W) in [0, 1]; ``of`` builds it for
an encoder's stages. One that ``reads_features`` gets those of ``decoder_stages``, and is trained apart from the flow;
another gets the deepest stage's latent, and is trained with it. ``initialise(code, x)`` takes what normal images share.
"""

from __future__ import annotations

from aeflow.model.decoders.transposed import TransposedDecoder
from aeflow.model.decoders.upsampling import UpsamplingDecoder

DECODERS: dict[str, type[TransposedDecoder] | type[UpsamplingDecoder]] = {
    "upsampling": UpsamplingDecoder,
    "transposed": TransposedDecoder,
}
