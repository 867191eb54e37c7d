"""Learning of a region from a few painted normals, on the encoder's frozen features."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from aeflow.model.encoder import Encoder
from aeflow.model.regions.learned import LearnedRegion

COPIES = 400  # changed copies of the painted normals, all together
STEPS = 300
BATCH = 16
LEARNING_RATE = 3e-3
TURN = 0.21  # radians either way: 12 degrees
SCALE = 0.2  # share either way
SHIFT = 0.1  # of a side, either way
OPACITIES = 0.6  # share of every second copy's images that get one, or consolidation would be taken for "no lung"


def learn_region(
    images: Tensor, masks: Tensor, encoder: Encoder, seed: int, copies: int = COPIES, steps: int = STEPS
) -> LearnedRegion:
    """Return the region learnt from normals (n, 3, H, W) in [0, 1] and their painted masks (n, 1, H, W) in [0, 1].

    Binary cross-entropy and soft Dice loss on features of changed copies: turned, scaled, mirrored, recaptured, half of
    them with opacities. Twenty masks of lungs are enough.
    """
    device = next(encoder.parameters()).device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        region = LearnedRegion(encoder).to(device)
        features, targets = _copies(region, images, masks, encoder, max(2, round(copies / len(images))), device)
        optimiser = torch.optim.AdamW(region.parameters(), LEARNING_RATE)
        rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
        for _ in range(steps):
            rows = torch.randint(len(targets), (BATCH,))
            logit, target = region.logit([z[rows].to(device) for z in features]), targets[rows].to(device)
            optimiser.zero_grad()
            loss = F.binary_cross_entropy_with_logits(logit, target) + soft_dice_loss(logit.sigmoid(), target)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            rate.step()
    return region.requires_grad_(False).eval()


def soft_dice_loss(p: Tensor, target: Tensor) -> Tensor:
    """Return ``1 - 2 |p t| / (|p| + |t| + 1)``, averaged over images (B, 1, h, w); Milletari et al., 2016."""
    both = (p * target).sum(dim=(1, 2, 3))
    return 1 - (2 * both / (p.sum(dim=(1, 2, 3)) + target.sum(dim=(1, 2, 3)) + 1)).mean()


@torch.no_grad()
def _copies(
    region: LearnedRegion, images: Tensor, masks: Tensor, encoder: Encoder, times: int, device: torch.device
) -> tuple[list[Tensor], Tensor]:
    """Return features of ``times`` changed copies of each image, and the masks at their finest stage."""
    features: list[list[Tensor]] = []
    targets = []
    for copy in range(times):
        for x, m in zip(torch.split(images, BATCH), torch.split(masks, BATCH), strict=True):
            x, m = moved(x, m)
            if copy % 2:
                x = torch.where(_uniform(len(x), 0, 1) < OPACITIES, with_opacities(x, m), x)
            found = region.features(recaptured(x).to(device), encoder)
            features.append([z.cpu() for z in found])
            targets.append(F.interpolate(m, size=found[0].shape[-2:], mode="area"))
    return [torch.cat(stage) for stage in zip(*features, strict=True)], torch.cat(targets)


def moved(x: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return images and masks turned, scaled, shifted and half of them mirrored; beyond the edge its pixels repeat."""
    n = len(x)
    angle, scale = _uniform(n, -TURN, TURN).view(n), _uniform(n, 1 - SCALE, 1 + SCALE).view(n)
    mirror = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    shift = (2 * torch.rand(n, 2) - 1) * SHIFT
    rows = torch.stack([scale * angle.cos() * mirror, -scale * angle.sin(), shift[:, 0]], dim=1)
    columns = torch.stack([scale * angle.sin() * mirror, scale * angle.cos(), shift[:, 1]], dim=1)
    grid = F.affine_grid(torch.stack([rows, columns], dim=1), list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    return x, F.grid_sample(masks, grid, align_corners=False)


def recaptured(x: Tensor) -> Tensor:
    """Return images as another device would give them: gamma, contrast, brightness, resolution and noise."""
    n, sides = len(x), x.shape[-2:]
    x = x.clamp(0, 1) ** _uniform(n, -0.6, 0.6).exp()
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = (x - mean) * _uniform(n, -0.4, 0.4).exp() + mean + _uniform(n, -0.15, 0.15)
    coarse = [round(side * float(_uniform(1, 0.4, 0.9))) for side in sides]
    soft = F.interpolate(F.interpolate(x, size=coarse, mode="area"), size=sides, mode="bilinear")
    x = torch.where(torch.rand(n, 1, 1, 1) < 0.5, soft, x)
    return (x + torch.randn_like(x[:, :1]) * _uniform(n, 0, 0.04)).clamp(0, 1)


def with_opacities(x: Tensor, masks: Tensor) -> Tensor:
    """Return images with haze inside their masks: ``x + a w (b - x)``, b the brightness of bright tissue.

    The shape w is a random field with a power-law spectrum, cut so that it covers a fiftieth to nearly all of the mask.
    """
    n = len(x)
    field = random_fields(n, x.shape[-2], x.shape[-1])
    cut = _uniform(n, -2, 2)  # in standard deviations of the field
    weight = masks * ((field - cut) / _uniform(n, 0.1, 0.8)).sigmoid() * _uniform(n, 0.3, 1)
    bright = torch.quantile(x.flatten(1)[:, ::7], 0.85, dim=1).view(n, 1, 1, 1)
    texture = 1 + 0.06 * random_fields(n, x.shape[-2], x.shape[-1])
    return x + weight * ((bright * texture).clamp(0, 1) - x)


def random_fields(n: int, height: int, width: int) -> Tensor:
    """Return random fields (n, 1, height, width) of mean 0 and spread 1, of power-law spectra of random slope, scale.

    Amplitude ``(1 + (k / k0)^2)^(-s / 2)`` at k cycles a picture.
    """
    fy, fx = torch.fft.fftfreq(height)[:, None] * height, torch.fft.rfftfreq(width)[None] * width
    scale, slope = torch.exp(torch.rand(n, 1, 1) * math.log(12)), 1.5 + 2.5 * torch.rand(n, 1, 1)
    amplitude = (1 + (fy**2 + fx**2) / scale**2) ** (-slope / 2)
    amplitude[:, 0, 0] = 0
    field: Tensor = torch.fft.irfft2(torch.fft.rfft2(torch.randn(n, height, width)) * amplitude, s=(height, width))
    field = field / field.std(dim=(1, 2), keepdim=True)
    return field[:, None]


def _uniform(n: int, low: float, high: float) -> Tensor:
    return torch.rand(n, 1, 1, 1) * (high - low) + low
