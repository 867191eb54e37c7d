"""Images that the model generates: the healthy counterpart of an image, and images of a class from noise.

Two steps make an image healthy. If classes were learnt, its pooled statistics move to the normal component
(``ClassMixture.moved_to_normal``) by adaptive instance normalisation. Then each position's latent is pulled into the
ball of radius ``sqrt(C)``, the length that a standard normal in ``C`` dimensions has.

Images are drawn from the Gaussian of whole codes (``LatentPCA``), or from FlowGMM's prior if that was learnt.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from aeflow.model.aeflow import AEFlow
from aeflow.model.counterpart import anomaly_share, healthy_counterpart, shares
from aeflow.model.front import Encoded
from aeflow.model.maps import cells_map, laid_into
from aeflow.model.pooling import pool, unit_length, with_statistics
from aeflow.model.priors.flowgmm import FlowGMMPrior

BATCH = 16


@torch.no_grad()
def healthy(net: AEFlow, x: Tensor, limits: tuple[float, float]) -> Tensor:
    """Return the healthy counterparts (B, 3, H, W) of images ``x`` (B, 3, H, W), both in [0, 1].

    ``limits`` are the low and high end of the anomaly map's colours: what is above them is replaced.
    """
    encoded = net.seen(x)
    if net.decoder.reads_features:
        return laid_into(net, x, repaired(net, encoded, limits), encoded)
    z = net.of_flows(encoded)[-1]
    if net.classes is not None:
        s = net.classes.moved_to_normal(net.pooled_of_classes(encoded))
        z = with_class_statistics(net, z, s, encoded.region)
    if not net.flows:
        return net.decode([z])
    return net.decode([pulled_into_ball(net.flows[-1](z)[0])])


@torch.no_grad()
def sample(net: AEFlow, n: int, component: int | None = None, seed: int = 0) -> Tensor:
    """Generate ``n`` images (n, 3, H, W) in [0, 1] from whole latents, distributed as those of normal images.

    With a ``component`` of the classes, their statistics move from the normal mean to that component's: the covariance
    is shared, so the moved draws are the component's own. With prior ``flowgmm`` the draws are of its component, or of
    all by their weights, see ``drawn_of_prior``.
    """
    generator = torch.Generator().manual_seed(seed)
    if isinstance(net.prior, FlowGMMPrior):
        return _all_decoded(net, drawn_of_prior(net, net.prior, n, component, generator))
    codes = net.latent_pca.sample(n, generator)
    shift = None
    if component and net.classes is not None:
        means = net.classes.prior.means
        shift = ((means[component] - means[0]) @ net.classes.back.T)[None]
    if net.decoder.reads_features:
        if shift is not None:
            codes = [_moved(net, z, shift, stage) for z, stage in zip(codes, net.settings.decoder_stages, strict=True)]
        return _all_decoded(net, codes)
    [latents] = codes
    if shift is not None:
        latents = torch.cat([_shifted(net, u, shift) for u in torch.split(latents, BATCH)])
    return _all_decoded(net, [latents])


def drawn_of_prior(
    net: AEFlow, prior: FlowGMMPrior, n: int, component: int | None, generator: torch.Generator
) -> list[Tensor]:
    """Return codes (n, C, h, w) each, drawn of the flow's own prior: of a component, or of all by their weights.

    A decoder of latents reads the draw itself. For one of features the inverse flow gives those of the flow's stage,
    with the lengths of the mean normal code if the flow knows directions alone; what the flow does not know, the other
    stages, are the means given these under the Gaussian of whole codes. So the kind comes from the prior, the detail of
    a finer stage from normals. The prior draws what is common to a quarter of the image as learnt, the rest of each
    position apart: texture more than anatomy.
    """
    u = prior.sample(n, net.latent_shape, component, generator)
    if not net.decoder.reads_features:
        return [u]
    flow, at = net.flows[-1], net.settings.decoder_stages.index(net.settings.stages[-1])
    z = torch.cat([flow.inverse(part) for part in torch.split(u, BATCH)])  # type: ignore[operator]
    if net.settings.unit_features:
        mean = net.latent_pca.mean_code[at]
        z = unit_length(z) * mean.norm(dim=1, keepdim=True) / math.sqrt(mean.shape[1])
    return net.latent_pca.completed(z, at)


def with_class_statistics(net: AEFlow, z: Tensor, s: Tensor, region: Tensor | None = None) -> Tensor:
    """Return the deepest flow stage's ``z`` (B, C, h, w) with its part of pooled vectors ``s`` (B, D), lengths kept.

    ``s`` was pooled within the ``region``. ``z`` itself if the classes do not use that stage.
    """
    own = _part_of(net, s, net.settings.stages[-1])
    if own is None:
        return z
    length: Tensor = z.norm(dim=1, keepdim=True) / math.sqrt(z.shape[1])
    return length * unit_length(with_statistics(unit_length(z), own, region))


def _shifted(net: AEFlow, u: Tensor, shift: Tensor) -> Tensor:
    """Return latents ``u`` (B, C, h, w) whose features' statistics are moved by ``shift`` (1, D)."""
    flow, stage = net.flows[-1] if net.flows else None, net.settings.stages[-1]
    if flow is None or _part_of(net, shift, stage) is None:
        return _moved(net, u, shift, stage)
    found: Tensor = flow(_moved(net, flow.inverse(u), shift, stage))[0]  # type: ignore[operator]
    return found


def _moved(net: AEFlow, z: Tensor, shift: Tensor, stage: int) -> Tensor:
    """Return a stage's features ``z`` (B, C, h, w) whose statistics are moved by its part of ``shift``, lengths kept.

    ``z`` itself if the classes do not use that stage.
    """
    own = _part_of(net, shift, stage)
    if own is None:
        return z
    length: Tensor = z.norm(dim=1, keepdim=True) / math.sqrt(z.shape[1])
    return length * unit_length(with_statistics(unit_length(z), pool([z]) + own))


def _part_of(net: AEFlow, s: Tensor, stage: int) -> Tensor | None:
    """Return the part of pooled vectors ``s`` (B, D) that belongs to a stage; None if the classes do not use it."""
    stages = net.settings.class_stages
    if stage not in stages:
        return None
    widths = [2 * net.encoder.channels[net.encoder.stages.index(i)] for i in stages]
    return torch.split(s[:, : sum(widths)], widths, dim=1)[stages.index(stage)]


def pulled_into_ball(u: Tensor) -> Tensor:
    """Return ``u / max(1, |u| / sqrt(C))`` at each position of ``u`` (B, C, h, w)."""
    length: Tensor = u.norm(dim=1, keepdim=True) / math.sqrt(u.shape[1])
    return u / length.clamp(min=1)


def _all_decoded(net: AEFlow, codes: list[Tensor]) -> Tensor:
    """Return the images (n, 3, H, W) of codes (n, C, h, w) each."""
    return torch.cat([net.decode(list(part)) for part in zip(*(torch.split(z, BATCH) for z in codes), strict=True)])


def repaired(net: AEFlow, encoded: Encoded, limits: tuple[float, float]) -> Tensor:
    """Return images (B, 3, H, W) in the box, decoded from features in which what is anomalous was replaced.

    By the look of the other side where normals are mirror images of themselves and the other side is healthy, else by
    the nearest that the normals' principal directions reach.
    """
    code, latent = net.code(encoded, None), net.encode(encoded)
    deviations = cells_map(net, net.measure(encoded, latent, net.needed_x_hat(encoded, latent)))
    normal = net.latent_pca.nearest(code)
    if net.settings.mirrors and net.settings.mirror_axis != "up-down":
        return net.decode(healthy_counterpart(code, [z.flip(3) for z in code], normal, *shares(deviations, *limits)))
    hot = anomaly_share(deviations, *limits)
    return net.decode(healthy_counterpart(code, normal, normal, torch.zeros_like(hot), hot))
