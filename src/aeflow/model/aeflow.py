"""AE-FLOW: frozen encoder, normalizing flow, decoder (Zhao, Ding, Zhang, ICLR 2023).

``z = f(x)``, ``u, log_det = flow(z)``, ``x_hat = g(u)``. With several stages each has its own flow, and the decoder reads
the latent of the deepest. All likelihoods here are per dimension: nats divided by the number of latent dimensions,
since a raw one (1e5 nats) would drown the reconstruction.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aeflow.config import Settings, decoder_halvings
from aeflow.errors import SettingsError
from aeflow.model.decoder import Decoder
from aeflow.model.encoder import Encoder
from aeflow.model.flow import Flow
from aeflow.model.prior import StandardNormal
from aeflow.model.ssim import ssim_map

SSIM_WINDOW = 7


@dataclass(frozen=True, slots=True)
class Latent:
    """What the flow makes of a batch, for each stage."""

    u: list[Tensor]  # (B, C, h, w)
    log_det: list[Tensor]  # (B, h, w)


@dataclass(frozen=True, slots=True)
class Measures:
    """What a batch is scored by: higher means more abnormal."""

    flow: Tensor  # (B, stages) negative log-likelihood per dimension
    reconstruction: Tensor  # (B,)
    flow_maps: list[Tensor]  # (B, h, w) for each stage, whose mean is ``flow``
    residual_map: Tensor  # (B, H, W) absolute difference of input and reconstruction
    x_hat: Tensor  # (B, 3, H, W)


class AEFlow(nn.Module):
    """The whole model as one module; see the equations above."""

    def __init__(self, settings: Settings, encoder: Encoder) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = encoder
        self.flows = nn.ModuleList(
            Flow(
                channels,
                settings.flow_steps,
                settings.subnet,
                settings.hidden,
                settings.coupling,
                settings.clamp,
                seed=settings.seed + index,
            )
            for index, channels in enumerate(encoder.channels)
        )
        layers = decoder_halvings(encoder.strides[-1])
        if len(settings.decoder) != layers - 1:
            raise SettingsError(
                "decoder",
                f"{len(settings.decoder)} widths for a latent of stride {encoder.strides[-1]}",
                f"give {layers - 1} widths, each layer doubles the size",
            )
        if settings.image_size % encoder.strides[-1]:
            stride = encoder.strides[-1]
            near = round(settings.image_size / stride) * stride
            raise SettingsError(
                "image_size", f"{settings.image_size} is no multiple of the stride {stride}", f"give for instance {near}"
            )
        self.decoder = Decoder((encoder.channels[-1], *settings.decoder, 3))
        self.prior = StandardNormal()

    def encode(self, features: list[Tensor]) -> Latent:
        """The latents of features ``z`` (B, C, h, w) of each stage."""
        pairs = [flow(z) for flow, z in zip(self.flows, features, strict=True)]
        return Latent([u for u, _ in pairs], [log_det for _, log_det in pairs])

    def decode(self, latent: Latent) -> Tensor:
        """The image (B, 3, H, W) of the deepest stage's latent."""
        x_hat: Tensor = self.decoder(latent.u[-1])
        return x_hat

    def negative_log_likelihood(self, latent: Latent, log_det: bool = True) -> list[Tensor]:
        """``-(log p(u) + log |det|) / C`` at each position, (B, h, w) for each stage; without the latter on request."""
        return [
            -(self.prior.log_prob(u) + (jacobian if log_det else 0.0)) / u.shape[1]
            for u, jacobian in zip(latent.u, latent.log_det, strict=True)
        ]

    def losses(self, features: list[Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """Flow loss (nats per dimension, mean over stages) and reconstruction loss (MSE) of each image, (B,) both."""
        latent = self.encode(features)
        flow = torch.stack([nll.mean(dim=(1, 2)) for nll in self.negative_log_likelihood(latent)], dim=1).mean(dim=1)
        return flow, (self.decode(latent).float() - x).square().mean(dim=(1, 2, 3))

    def combine(self, flow: Tensor, reconstruction: Tensor) -> Tensor:
        """``alpha * flow + (1 - alpha) * reconstruction``: the loss that is trained."""
        alpha = self.settings.alpha
        return alpha * flow + (1 - alpha) * reconstruction

    @torch.no_grad()
    def measure(self, features: list[Tensor], x: Tensor) -> Measures:
        """The terms and maps of images ``x`` (B, 3, H, W) with these features."""
        latent = self.encode(features)
        maps = self.negative_log_likelihood(latent, self.settings.score_log_det)
        x_hat = self.decode(latent).float()
        if self.settings.reconstruction == "ssim":
            reconstruction = 1 - ssim_map(x, x_hat, SSIM_WINDOW).mean(dim=(1, 2, 3))
        else:
            reconstruction = F.mse_loss(x_hat, x, reduction="none").mean(dim=(1, 2, 3))
        return Measures(
            flow=torch.stack([m.mean(dim=(1, 2)) for m in maps], dim=1),
            reconstruction=reconstruction,
            flow_maps=maps,
            residual_map=(x - x_hat).abs().mean(dim=1),
            x_hat=x_hat,
        )

    def forward(self, x: Tensor) -> Measures:
        """The terms and maps of images ``x`` (B, 3, H, W) in [0, 1]."""
        return self.measure(self.encoder(x), x)
