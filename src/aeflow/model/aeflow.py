"""AE-FLOW: frozen encoder, normalizing flow, decoder (Zhao, Ding, Zhang, ICLR 2023).

``z = f(x)``, ``u, log_det = flow(z)``, ``x_hat = g(u)``. With several stages each has its own flow, and the decoder
reads the latent of the deepest. All likelihoods here are per dimension: nats divided by the number of latent
dimensions, since a raw one (1e5 nats) would drown the reconstruction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aeflow.config import Settings
from aeflow.errors import SettingsError
from aeflow.model.class_mixture import ClassMixture
from aeflow.model.decoders import DECODERS, decoder_halvings
from aeflow.model.encoder import Encoder
from aeflow.model.flow import Flow
from aeflow.model.latent import Latent
from aeflow.model.latent_pca import LatentPCA
from aeflow.model.pooling import pool, unit_length
from aeflow.model.priors import PRIORS
from aeflow.model.regions import REGIONS
from aeflow.model.terms import TERMS
from aeflow.model.terms.scored_batch import ScoredBatch


@dataclass(frozen=True, slots=True)
class Losses:
    """``total = alpha * flow + (1 - alpha) * reconstruction`` of each image, (B,) each."""

    total: Tensor
    flow: Tensor  # nats per dimension, mean over stages
    reconstruction: Tensor  # mean squared error


@dataclass(frozen=True, slots=True)
class Measures:
    """Raw measures and maps of a batch: higher means more abnormal."""

    terms: dict[str, Tensor]  # by name, see TERMS; (B,) or (B, columns)
    flow_maps: list[Tensor]  # (B, h, w) for each stage: the whole negative log-likelihood per dimension
    brightness_map: Tensor  # (B, h, w) of the finest stage: distance from the mean normal image's grey value
    residual_map: Tensor  # (B, H, W) absolute difference of input and reconstruction
    x_hat: Tensor  # (B, 3, H, W)
    pooled: Tensor  # (B, D) of the flows' features, see ``pool``; (B, 0) unless ``forward`` made it
    log_ratios: Tensor | None = None  # (B, kinds), each kind of abnormality against normal; see ClassMixture


class AEFlow(nn.Module):
    """The whole model as one module, by the equations above."""

    mean_image: Tensor
    map_mean: Tensor
    map_std: Tensor

    def __init__(self, settings: Settings, encoder: Encoder, classes: ClassMixture | None = None) -> None:
        super().__init__()
        self.settings = settings
        self.encoder = encoder
        self.classes = classes
        at = [encoder.stages.index(stage) for stage in settings.stages]
        channels, strides = [encoder.channels[i] for i in at], [encoder.strides[i] for i in at]
        self.flows = nn.ModuleList(
            Flow(
                channels,
                settings.flow_steps,
                settings.subnet,
                settings.hidden,
                settings.coupling,
                settings.clamp,
                seed=settings.seed + index,
                size=(settings.image_size // stride,) * 2 if settings.positions else None,
            )
            for index, (channels, stride) in enumerate(zip(channels, strides, strict=True))
        )
        stride = strides[-1]
        layers = decoder_halvings(stride)
        if len(settings.decoder) != layers - 1:
            raise SettingsError(
                "decoder",
                f"{len(settings.decoder)} widths for a latent of stride {stride}",
                f"give {layers - 1} widths, each layer doubles the size",
            )
        if settings.image_size % stride:
            near = round(settings.image_size / stride) * stride
            raise SettingsError(
                "image_size",
                f"{settings.image_size} is no multiple of the stride {stride}",
                f"give for instance {near}",
            )
        side = settings.image_size
        decoder = chosen(DECODERS, settings.decoder_type, "decoder_type")
        self.decoder = decoder((channels[-1], *settings.decoder, 3), (side, side) if settings.positions else None)
        self.prior = chosen(PRIORS, settings.prior, "prior")()
        self.region = chosen(REGIONS, settings.region, "region")()
        self.latent_pca = LatentPCA((channels[-1], *(settings.image_size // stride,) * 2))
        self.cell = strides[0]  # side of a map's cell in pixels
        # Mean image of normals, in cells.
        self.register_buffer("mean_image", torch.zeros(*(settings.image_size // self.cell,) * 2))
        self.register_buffer("map_mean", torch.zeros(2))  # of flow and brightness map over held-out normals
        self.register_buffer("map_std", torch.ones(2))
        self._measures = {name: term.measure for name, term in TERMS.items()}
        self._bfloat16 = False
        self.to(memory_format=torch.channels_last)

    @contextmanager
    def in_bfloat16(self, on: bool) -> Iterator[None]:
        """Run flows and decoder under autocast, ``with net.in_bfloat16(True)``; encoder, log-dets, measures never."""
        before, self._bfloat16 = self._bfloat16, on
        try:
            yield
        finally:
            self._bfloat16 = before

    def initialise(self, features: list[Tensor], x: Tensor) -> None:
        """Start every norm from features (B, C, h, w) of images ``x`` (B, 3, H, W), decoder and maps from ``x``."""
        self.decoder.initialise(x)  # type: ignore[operator]
        self.mean_image.copy_(self._cells(x).mean(dim=0))
        for flow, z in zip(self.flows, self.prepared(features), strict=True):
            flow.initialise(z)  # type: ignore[operator]

    def encode(self, features: list[Tensor]) -> Latent:
        """Return the latents of features ``z`` (B, C, h, w) of each stage."""
        with self._precision(features[0]):
            pairs = [flow(z) for flow, z in zip(self.flows, self.prepared(features), strict=True)]
        return Latent([u for u, _ in pairs], [log_det for _, log_det in pairs])

    def prepared(self, features: list[Tensor]) -> list[Tensor]:
        """Return features (B, C, h, w) as the flows take them."""
        return [unit_length(z) for z in features] if self.settings.unit_features else features

    def decode(self, latent: Latent) -> Tensor:
        """Return the image (B, 3, H, W) of the deepest stage's latent."""
        with self._precision(latent.u[-1]):
            x_hat: Tensor = self.decoder(latent.u[-1])
        return x_hat.float()

    def losses(self, latent: Latent, x_hat: Tensor, x: Tensor) -> Losses:
        """Return the loss terms of images ``x`` (B, 3, H, W) and their weighted sum, (B,) each."""
        nll = [m.mean(dim=(1, 2)) for m in latent.negative_log_likelihood(self.prior)]
        flow = torch.stack(nll).mean(dim=0)
        reconstruction = (x_hat - x).square().mean(dim=(1, 2, 3))
        alpha = self.settings.alpha
        return Losses(alpha * flow + (1 - alpha) * reconstruction, flow, reconstruction)

    def measure(self, latent: Latent, x_hat: Tensor, x: Tensor) -> Measures:
        """Return the raw measures and maps of images ``x`` (B, 3, H, W) with this latent and reconstruction."""
        batch = ScoredBatch(self.settings, self.prior, self.region, latent, x, x_hat)
        return Measures(
            terms={name: measure(batch) for name, measure in self._measures.items()},
            flow_maps=latent.negative_log_likelihood(self.prior),
            brightness_map=(self._cells(x) - self.mean_image).abs(),
            residual_map=(x - x_hat).abs().mean(dim=1),
            x_hat=x_hat,
            pooled=x.new_empty(x.shape[0], 0),
        )

    def anomaly_map(self, measures: Measures) -> Tensor:
        """Return ``beta * flow map + (1 - beta) * brightness map``, each in standard deviations of normals; (B, H, W).

        The score is composed in the same way. The mean normal image takes the place of the reconstruction here: a good
        decoder reconstructs what is abnormal, too.
        """
        beta = self.settings.beta
        (flow_mean, brightness_mean), (flow_std, brightness_std) = self.map_mean, self.map_std
        flow, brightness = self._cell_maps(measures)
        cells = beta * (flow - flow_mean) / flow_std + (1 - beta) * (brightness - brightness_mean) / brightness_std
        return _resized(cells, measures.residual_map.shape[-2:])

    @torch.no_grad()
    def scale_maps(self, batches: Iterable[tuple[list[Tensor], Tensor]]) -> None:
        """Set the mean and spread by which ``anomaly_map`` standardises.

        ``batches``: features and images of normals that were not trained on.
        """
        count, total, squares = 0, torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
        for features, x in batches:
            latent = self.encode(features)
            maps = self._cell_maps(self.measure(latent, self.decode(latent), x))
            both = torch.stack([values.flatten() for values in maps]).double().cpu()
            count += both.shape[1]
            total += both.sum(dim=1)
            squares += both.square().sum(dim=1)
        mean = total / count
        self.map_mean.copy_(mean)
        self.map_std.copy_((squares / count - mean.square()).clamp_min(1e-12).sqrt())

    def _cell_maps(self, measures: Measures) -> tuple[Tensor, Tensor]:
        """Return the flow map (mean over stages) and the brightness map at the finest stage's size, (B, h, w) each."""
        stages = [_resized(m, measures.brightness_map.shape[-2:]) for m in measures.flow_maps]
        return torch.stack(stages).mean(dim=0), measures.brightness_map

    def _cells(self, x: Tensor) -> Tensor:
        """Return the mean grey value of each cell of images (B, 3, H, W), (B, h, w)."""
        return F.avg_pool2d(x.mean(dim=1, keepdim=True), self.cell)[:, 0]

    def forward(self, x: Tensor) -> Measures:
        """Return the terms and maps of images ``x`` (B, 3, H, W) in [0, 1]."""
        features = self.encoder(x)
        of_flows = self.of_stages(features, self.settings.stages)
        latent = self.encode(of_flows)
        measures = replace(self.measure(latent, self.decode(latent), x), pooled=pool(of_flows))
        if self.classes is None:
            return measures
        u = self.classes.latent(self.of_stages(features, self.settings.class_stages))
        return replace(measures, log_ratios=self.classes.log_ratios(u))

    def _precision(self, x: Tensor) -> AbstractContextManager[Any]:
        return torch.autocast(x.device.type, torch.bfloat16) if self._bfloat16 else nullcontext()

    def of_stages(self, features: list[Tensor], stages: Sequence[int]) -> list[Tensor]:
        """Return the encoder's feature maps of some of its stages."""
        return [features[self.encoder.stages.index(stage)] for stage in stages]


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Return maps (B, h, w) at another size, (B, *size); bilinear."""
    return F.interpolate(maps[:, None], tuple(size), mode="bilinear", align_corners=False)[:, 0]


T = TypeVar("T")


def chosen(registry: Mapping[str, T], name: str, setting: str) -> T:
    """Return the entry that a setting names; raises SettingsError if there is none."""
    if name not in registry:
        raise SettingsError(setting, f"{name!r} is unknown", f"choose one of {', '.join(registry)}")
    return registry[name]
