"""AE-FLOW: frozen encoder, normalizing flow, decoder (Zhao, Ding, Zhang, ICLR 2023), within a region.

``z = f(x)``, ``u, log_det = flow(z)``, ``x_hat = g(u)``. With several stages each has its own flow, and the decoder
reads the latent of the deepest. All likelihoods here are per dimension: nats divided by the number of latent
dimensions, since a raw one (1e5 nats) would drown the reconstruction. A model none of whose terms reads a likelihood
has no flow, and its decoder reads the features.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from aeflow.config import PAINTED, Settings
from aeflow.errors import SettingsError
from aeflow.model.class_mixture import ClassMixture
from aeflow.model.decoders import DECODERS
from aeflow.model.described import STRIDE
from aeflow.model.encoder import Encoder
from aeflow.model.flow import Flow
from aeflow.model.front import Encoded, Front
from aeflow.model.latent import Latent
from aeflow.model.latent_pca import LatentPCA
from aeflow.model.pooling import pool, unit_length
from aeflow.model.priors import PRIORS
from aeflow.model.priors.flowgmm import FlowGMMPrior
from aeflow.model.regions import REGIONS
from aeflow.model.regions.base import Region
from aeflow.model.regions.learned import LearnedRegion
from aeflow.model.resizing import averaged
from aeflow.model.terms import TERMS
from aeflow.model.terms.base import Layout, TermModule
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
    maps: dict[str, Tensor]  # of each term, (B, h, w) in standard deviations of held-out normals
    encoded: Encoded
    x_hat: Tensor  # (B, 3, H, W) in the box
    pooled: Tensor  # (B, D) of the flows' features, see ``pool``; (B, 0) unless ``forward`` made it
    log_ratios: Tensor | None = None  # (B, kinds), each kind of abnormality against normal


class AEFlow(nn.Module):
    """The whole model as one module, by the equations above."""

    def __init__(
        self,
        settings: Settings,
        encoder: Encoder,
        classes: ClassMixture | None = None,
        region: Region | None = None,
        prior: FlowGMMPrior | None = None,
    ) -> None:
        """Build the model.

        ``region`` is one learnt from painted images, if the settings say ``painted``; ``prior`` is that of ``flowgmm``.
        """
        super().__init__()
        self.settings = settings
        self.encoder = encoder
        self.classes = classes
        if region is None and settings.describes:
            region = (
                LearnedRegion(encoder)
                if settings.region == PAINTED
                else chosen(REGIONS, settings.region, "region")(encoder)
            )
        self.region = region
        self._front = [Front(encoder, region, settings)]  # in a list: its parts are registered
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
            if settings.has_flow
        )
        if settings.image_size % strides[-1]:
            near = round(settings.image_size / strides[-1]) * strides[-1]
            raise SettingsError(
                "image_size",
                f"{settings.image_size} is no multiple of the stride {strides[-1]}",
                f"give for instance {near}",
            )
        decoder = chosen(DECODERS, settings.decoder_type, "decoder_type")
        read = settings.decoder_stages if decoder.reads_features else settings.stages[-1:]
        of_decoder = [encoder.stages.index(stage) for stage in read]
        widths, steps = [encoder.channels[i] for i in of_decoder], [encoder.strides[i] for i in of_decoder]
        self.decoder = decoder.of(settings, widths, steps)
        self.code_shapes = [
            (width, *(settings.image_size // step,) * 2) for width, step in zip(widths, steps, strict=True)
        ]
        self.prior = chosen(PRIORS, settings.prior, "prior")() if prior is None else prior
        self.latent_pca = LatentPCA(self.code_shapes)
        layout = Layout(self.front.described_channels, settings.image_size // STRIDE, strides[0])
        self.terms = nn.ModuleDict(
            {name: chosen(TERMS, name, "terms").module(settings, layout) for name in settings.chosen_terms}
        )
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

    @property
    def front(self) -> Front:
        """The frozen front, made of this model's encoder and region."""
        return self._front[0]

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape (C, h, w) of the deepest flow stage's latent."""
        at = self.encoder.stages.index(self.settings.stages[-1])
        side = self.settings.image_size // self.encoder.strides[at]
        return self.encoder.channels[at], side, side

    @property
    def knows_kinds(self) -> bool:
        """If kinds of abnormality were learnt: by classes of pooled features, or by the prior of the latent."""
        return self.classes is not None or isinstance(self.prior, FlowGMMPrior)

    def encoded(self, parts: Sequence[Tensor], x: Tensor) -> Encoded:
        """Return what the front gave of images ``x`` (B, 3, H, W) as seen, from the tensors that a cache keeps."""
        return self.front.encoded(parts, x)

    def initialise(self, encoded: Encoded) -> None:
        """Start every norm, a decoder that is trained with the flow, and the mean normal image from normals."""
        if not self.decoder.reads_features:
            self.decoder.initialise([], encoded.x)
        for flow, z in zip(self.flows, self.of_flows(encoded) if self.flows else [], strict=True):
            flow.initialise(z)  # type: ignore[operator]
        if "reconstruction" in self.terms:
            self.terms["reconstruction"].initialise(encoded.x)  # type: ignore[operator]

    def of_flows(self, encoded: Encoded) -> list[Tensor]:
        """Return the features (B, C, h, w) of the flows' stages, as the flows take them."""
        return self.prepared(self.flow_features(encoded))

    def flow_features(self, encoded: Encoded) -> list[Tensor]:
        """Return the features (B, C, h, w) of the flows' stages, as the encoder gives them."""
        return self.stage_features(encoded, self.settings.stages)

    def stage_features(self, encoded: Encoded, stages: Sequence[int]) -> list[Tensor]:
        """Return the features (B, C, h, w) of some of the encoder's stages."""
        return [encoded.features[self.front.stages.index(stage)] for stage in stages]

    def encoder_features(self, x: Tensor, stages: Sequence[int]) -> list[Tensor]:
        """Return the encoder's features of images ``x`` (B, 3, H, W) as they are, with no region and no box."""
        features = self.encoder(x)
        return [features[self.encoder.stages.index(stage)] for stage in stages]

    def encode(self, encoded: Encoded) -> Latent | None:
        """Return the latents of a batch, one for each stage; None if the model has no flow."""
        if not self.flows:
            return None
        features = self.of_flows(encoded)
        with self._precision(features[0]):
            pairs = [flow(z) for flow, z in zip(self.flows, features, strict=True)]
        return Latent([u for u, _ in pairs], [log_det for _, log_det in pairs])

    def prepared(self, features: list[Tensor]) -> list[Tensor]:
        """Return features (B, C, h, w) as the flows take them."""
        return [unit_length(z) for z in features] if self.settings.unit_features else features

    def code(self, encoded: Encoded, latent: Latent | None) -> list[Tensor]:
        """Return what the decoder reads, (B, C, h, w) each: features of its stages, or the deepest stage's latent."""
        if self.decoder.reads_features:
            return self.stage_features(encoded, self.settings.decoder_stages)
        return self.of_flows(encoded)[-1:] if latent is None else latent.u[-1:]

    def decode(self, code: list[Tensor]) -> Tensor:
        """Return the image (B, 3, H, W) of a code."""
        with self._precision(code[0]):
            x_hat: Tensor = self.decoder(code)
        return x_hat.float()

    def needed_x_hat(self, encoded: Encoded, latent: Latent | None) -> Tensor:
        """Return the reconstruction (B, 3, H, W); the image itself if neither the flow's loss nor a term reads it."""
        if self.decoder.reads_features and "reconstruction" not in self.terms:
            return encoded.x
        return self.decode(self.code(encoded, latent))

    def losses(self, latent: Latent | None, x_hat: Tensor, x: Tensor) -> Losses:
        """Return the loss terms of images ``x`` (B, 3, H, W) and their weighted sum, (B,) each."""
        reconstruction = (x_hat - x).square().mean(dim=(1, 2, 3))
        if latent is None:
            return Losses(reconstruction, torch.zeros_like(reconstruction), reconstruction)
        nll = [m.mean(dim=(1, 2)) for m in latent.negative_log_likelihood(self.prior)]
        flow = torch.stack(nll).mean(dim=0)
        if self.decoder.reads_features:  # it is not trained with the flow
            return Losses(flow, flow, reconstruction)
        alpha = self.settings.alpha
        return Losses(alpha * flow + (1 - alpha) * reconstruction, flow, reconstruction)

    def batch(self, encoded: Encoded, latent: Latent | None, x_hat: Tensor) -> ScoredBatch:
        """Return a batch as the terms see it."""
        return ScoredBatch(self.settings, self.prior, encoded.x, x_hat, latent, encoded.described)

    def measure(self, encoded: Encoded, latent: Latent | None, x_hat: Tensor, maps: bool = True) -> Measures:
        """Return the raw measures, and the maps if asked for, of a batch with this latent and reconstruction."""
        batch = self.batch(encoded, latent, x_hat)
        return Measures(
            terms={name: term(batch) for name, term in self.terms.items()},
            maps={name: term.standardised_map(batch) for name, term in self._term_modules()} if maps else {},
            encoded=encoded,
            x_hat=x_hat,
            pooled=encoded.x.new_empty(encoded.x.shape[0], 0),
        )

    def seen(self, x: Tensor) -> Encoded:
        """Return what the frozen front gives of images ``x`` (B, 3, H, W) in [0, 1]."""
        boxed, *parts = self.front(x)
        return self.encoded(parts, boxed)

    @torch.no_grad()
    def scale_maps(self, batches: Iterable[Encoded]) -> None:
        """Set each term's ``map_mean`` and ``map_std`` from normals that were not trained on."""
        sums: dict[str, Tensor] = {}
        for encoded in batches:
            latent = self.encode(encoded)
            batch = self.batch(encoded, latent, self.needed_x_hat(encoded, latent))
            for name, term in self._term_modules():
                values = term.map(batch).double()  # the square of a large likelihood is beyond float32
                weight = torch.ones_like(values)
                if encoded.described is not None:
                    weight = averaged(encoded.described.weight, values.shape[1:]).double()
                moments = torch.stack([weight.sum(), (weight * values).sum(), (weight * values.square()).sum()])
                sums[name] = sums.get(name, 0) + moments.cpu()
        for name, term in self._term_modules():
            count, total, squares = sums[name]
            mean = total / count
            term.map_mean.copy_(mean)
            term.map_std.copy_((squares / count - mean.square()).clamp_min(1e-12).sqrt())

    def forward(self, x: Tensor, maps: bool = True, reconstructed: bool = True) -> Measures:
        """Return the terms and maps of images ``x`` (B, 3, H, W) in [0, 1], with their reconstruction if asked for."""
        encoded = self.seen(x)
        latent = self.encode(encoded)
        x_hat = self.decode(self.code(encoded, latent)) if reconstructed else self.needed_x_hat(encoded, latent)
        measures = self.measure(encoded, latent, x_hat, maps)
        pooled = pool(self.flow_features(encoded))
        return replace(measures, pooled=pooled, log_ratios=self.log_ratios(encoded, latent))

    def log_ratios(self, encoded: Encoded, latent: Latent | None) -> Tensor | None:
        """Return the log-ratio of each kind of abnormality to normal in nats, (B, kinds); None if none was learnt."""
        if self.classes is not None:
            return self.classes.log_ratios(self.classes.latent_of(self.pooled_of_classes(encoded)))
        if isinstance(self.prior, FlowGMMPrior) and latent is not None:
            return self.prior.log_ratios(latent.u[-1])
        return None

    def pooled_of_classes(self, encoded: Encoded) -> Tensor:
        """Return the vectors (B, D) in which the classes differ, pooled within the region."""
        return self.front.pooled(encoded, self.settings.class_stages)

    def _term_modules(self) -> list[tuple[str, TermModule]]:
        return [(name, cast(TermModule, term)) for name, term in self.terms.items()]

    def _precision(self, x: Tensor) -> AbstractContextManager[Any]:
        return torch.autocast(x.device.type, torch.bfloat16) if self._bfloat16 else nullcontext()


T = TypeVar("T")


def chosen(registry: Mapping[str, T], name: str, setting: str) -> T:
    """Return the entry that a setting names; raises SettingsError if there is none."""
    if name not in registry:
        raise SettingsError(setting, f"{name!r} is unknown", f"choose one of {', '.join(registry)}")
    return registry[name]
