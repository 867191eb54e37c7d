"""Images that the model makes itself: the healthy counterpart of an image, and images of a class from nothing.

Two moves turn an image healthy. Where classes were learnt, its pooled statistics go to the normal component
(``ClassMixture.moved_to_normal``) by adaptive instance normalisation. Then each position's latent is drawn onto the
ball of radius ``sqrt(C)``, the length that a standard normal in ``C`` dimensions has.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from aeflow.model.aeflow import AEFlow
from aeflow.model.pooled import pool, unit_length, with_statistics

BATCH = 16


@torch.no_grad()
def healthy(net: AEFlow, x: Tensor) -> Tensor:
    """The healthy counterparts (B, 3, H, W) of images ``x`` (B, 3, H, W), both in [0, 1]."""
    features = net.encoder(x)
    z = net.prepared(net.of_stages(features, net.settings.stages))[-1]
    if net.classes is not None:
        s = pool(net.of_stages(features, net.settings.class_stages))
        z = with_class_statistics(net, z, net.classes.moved_to_normal(s))
    return _decoded(net, drawn_in(net.flows[-1](z)[0]))


@torch.no_grad()
def sample(net: AEFlow, n: int, component: int | None = None, seed: int = 0) -> Tensor:
    """``n`` images (n, 3, H, W) in [0, 1] of latents from the flow's prior.

    With a ``component`` of the classes each gets the statistics of a draw from it. The prior draws each position by
    itself: what comes out has normal texture but no anatomy, as far as real latents depend on their neighbours.
    """
    generator = torch.Generator().manual_seed(seed)
    at = net.encoder.stages.index(net.settings.stages[-1])
    side = net.settings.image_size // net.encoder.strides[at]
    device = next(net.parameters()).device
    latents = net.prior.sample(n, (net.encoder.channels[at], side, side), generator).to(device)
    if component is None or net.classes is None:
        return torch.cat([_decoded(net, u) for u in torch.split(latents, BATCH)])
    s = net.classes.centre + net.classes.prior.sample(n, component, generator) @ net.classes.back.T
    flow, images = net.flows[-1], []
    for u, its_s in zip(torch.split(latents, BATCH), torch.split(s, BATCH), strict=True):
        z = with_class_statistics(net, flow.inverse(u), its_s)  # type: ignore[operator]
        images.append(_decoded(net, flow(z)[0]))
    return torch.cat(images)


def with_class_statistics(net: AEFlow, z: Tensor, s: Tensor) -> Tensor:
    """``z`` (B, C, h, w) of the deepest flow stage with its part of pooled vectors ``s`` (B, D), and its own lengths.

    ``z`` itself where the classes do not look at that stage.
    """
    stage, stages = net.settings.stages[-1], net.settings.class_stages
    if stage not in stages:
        return z
    widths = [2 * net.encoder.channels[net.encoder.stages.index(i)] for i in stages]
    own = torch.split(s, widths, dim=1)[stages.index(stage)]
    length: Tensor = z.norm(dim=1, keepdim=True) / math.sqrt(z.shape[1])
    return length * unit_length(with_statistics(unit_length(z), own))


def drawn_in(u: Tensor) -> Tensor:
    """``u / max(1, |u| / sqrt(C))`` at each position of ``u`` (B, C, h, w)."""
    length: Tensor = u.norm(dim=1, keepdim=True) / math.sqrt(u.shape[1])
    return u / length.clamp(min=1)


def _decoded(net: AEFlow, u: Tensor) -> Tensor:
    x: Tensor = net.decoder(u).float()
    return x
