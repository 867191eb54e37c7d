"""Frozen front of the model: the region of an image, the box around it, and the encoder's features there.

::

    x -> region r(x) -> box b(r) -> x, r seen in the box -> encoder -> features of its stages -> description

Nothing here is trained with the model, so all of it is computed once an image and cached (``features``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aeflow.config import Settings
from aeflow.model.box import box_of, crop, shown
from aeflow.model.described import INTENSITIES, STRIDE, Described, describe_appearance, describe_intensity
from aeflow.model.encoder import Encoder
from aeflow.model.pooling import pool, statistics
from aeflow.model.regions.base import Region
from aeflow.model.regions.learned import LearnedRegion
from aeflow.model.regions.plausibility import region_statistics
from aeflow.model.resizing import averaged, sides

CELL = 4  # side in pixels of the cells in which a region is kept
SHRUNK = 5  # cells of the square whose least value a region has where maps are drawn: its edge is uncertain by a cell
GROWN = 3  # cells of the square whose greatest value a region takes in its box: its edge belongs to it


@dataclass(frozen=True, slots=True)
class Seen:
    """Images as seen in the box around their region."""

    x: Tensor  # (B, 3, H, W)
    region: Tensor  # (B, 1, H / CELL, W / CELL) in [0, 1]
    box: Tensor  # (B, 4), see ``box_of``
    statistics: Tensor  # (B, T) of the region in the whole picture, see ``region_statistics``

    def with_x(self, x: Tensor) -> Seen:
        """Return other images with the same regions and boxes."""
        return replace(self, x=x)

    def to(self, device: torch.device) -> Seen:
        """Return the same on a device."""
        return Seen(self.x.to(device), self.region.to(device), self.box.to(device), self.statistics.to(device))


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the frozen front gives of images; the rest of the model reads nothing else."""

    x: Tensor  # (B, 3, H, W) as seen in the box
    features: list[Tensor]  # (B, C, h, w) of each of the encoder's stages that the model uses
    region: Tensor | None = None  # (B, 1, H / CELL, W / CELL) in the box; None if all of the image counts
    described: Described | None = None  # None if no term reads it
    box: Tensor | None = None  # (B, 4)
    statistics: Tensor | None = None  # (B, T)


class Front(nn.Module):
    """Region, box, encoder and description, from images (B, 3, H, W) in [0, 1].

    As a function it gives a list of tensors, as caches keep them: the image in its box, the features of ``stages``, and
    if it ``describes`` the region, box, statistics and description; ``encoded`` takes them apart again.
    """

    def __init__(self, encoder: Encoder, region: Region | None, settings: Settings) -> None:
        super().__init__()
        self.encoder = encoder
        self.region = region
        self.size = settings.image_size
        self.stages = settings.model_stages
        self.described_stages = settings.described_stages
        self.mirror_axis = settings.mirror_axis or "left-right"
        self.boxed = region is not None and region.boxed
        self.beside = region is not None and region.beside

    @property
    def describes(self) -> bool:
        """If positions are described, within a region."""
        return self.region is not None

    @property
    def recognises(self) -> bool:
        """If the region was learnt, so that an implausible one is told by its statistics."""
        return isinstance(self.region, LearnedRegion)

    @property
    def name(self) -> str:
        """Name for people."""
        return self.encoder.name

    @property
    def mean(self) -> Tensor:
        """A tensor on the device of the encoder."""
        return self.encoder.mean

    @property
    def described_channels(self) -> tuple[int, ...]:
        """Channels of each of the encoder's stages that describe a position; none if the whole image counts."""
        if self.region is None:
            return ()
        return tuple(self.encoder.channels[self.encoder.stages.index(stage)] for stage in self.described_stages)

    @torch.no_grad()
    def forward(self, x: Tensor) -> list[Tensor]:
        if self.region is None:
            return [x, *self._of_stages(self.encoder(x), self.stages)]
        seen = self.see(x)
        encoded = self.of_seen(seen)
        assert encoded.described is not None
        flat = [seen.box[:, :, None, None], seen.statistics[:, :, None, None]]
        return [encoded.x, *encoded.features, seen.region, *flat, encoded.described.z]

    def see(self, x: Tensor) -> Seen:
        """Return images ``x`` (B, 3, H, W) as seen in the box around their region."""
        assert self.region is not None, "the whole image counts"
        height, width = sides(x)
        found = averaged(self.region(x, self.encoder), (height // CELL, width // CELL))
        box = box_of(found)
        if not self.boxed:
            box = x.new_tensor([0.0, 0.0, 1.0, 1.0]).expand(x.shape[0], 4)
            return Seen(x, found, box, region_statistics(found))
        inside = crop(grown(found), box)
        return Seen(crop(x, box), inside, box, region_statistics(found))

    def of_seen(self, seen: Seen) -> Encoded:
        """Return the features and descriptions of images in their boxes."""
        return self.of_features(self.encoder(seen.x), seen)

    def of_features(self, features: Sequence[Tensor], seen: Seen) -> Encoded:
        """Return the same from what the encoder gave of the images, each of its stages."""
        appearance = describe_appearance(self._of_stages(features, self.described_stages))
        intensity = describe_intensity(seen.x, seen.region, self.beside)
        described = described_of(torch.cat([appearance, intensity], dim=1), seen.region, self.mirror_axis)
        of_flows = self._of_stages(features, self.stages)
        return Encoded(seen.x, of_flows, seen.region, described, seen.box, seen.statistics)

    def pooled(self, encoded: Encoded, stages: Sequence[int]) -> Tensor:
        """Return mean and spread (B, D) of the features of some stages within the region, see ``pool``.

        Those of brightness and texture come last, if positions are described.
        """
        s = pool([encoded.features[self.stages.index(stage)] for stage in stages], encoded.region)
        if encoded.described is None:
            return s
        intensities = encoded.described.z[:, -INTENSITIES:]
        return torch.cat([s, *statistics(intensities, encoded.described.weight[:, None])], dim=1)

    def core(self, region: Tensor, box: Tensor) -> Tensor:
        """Return regions (B, 1, h, w) in boxes (B, 4) as maps are drawn in them.

        One that was grown is shrunk to within its edge, and within that of the picture where it is cut off: beyond it
        a box repeats pixels, so a peak there would be of no tissue.
        """
        if not self.boxed:
            return region
        known = region * grown(shown(box, sides(region))[:, None])
        return -F.max_pool2d(-known, SHRUNK, stride=1, padding=SHRUNK // 2)

    def encoded(self, parts: Sequence[Tensor], x: Tensor) -> Encoded:
        """Return the parts that ``forward`` gave after the first, and images ``x`` as seen, taken apart."""
        features = list(parts[: len(self.stages)])
        if self.region is None:
            return Encoded(x, features)
        region, box, statistics, z = parts[len(self.stages) :]
        return Encoded(
            x, features, region, described_of(z, region, self.mirror_axis), box.flatten(1), statistics.flatten(1)
        )

    def fingerprint(self) -> str:
        """Return the SHA-256 of all that the output depends on beside the image, in hex."""
        digest = hashlib.sha256(self.encoder.fingerprint().encode())
        if self.region is not None:
            digest.update(f"{type(self.region).__name__} {self.described_stages}".encode())
            for key, value in self.region.state_dict().items():
                digest.update(key.encode())
                digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _of_stages(self, features: Sequence[Tensor], stages: Sequence[int]) -> list[Tensor]:
        return [features[self.encoder.stages.index(stage)] for stage in stages]


def grown(region: Tensor) -> Tensor:
    """Return regions (B, 1, h, w) with the cells around their edge."""
    return F.max_pool2d(region, GROWN, stride=1, padding=GROWN // 2)


def described_of(z: Tensor, region: Tensor, mirror_axis: str) -> Described:
    """Return descriptions ``z`` (B, D, h, w) within regions (B, 1, H / CELL, W / CELL)."""
    return Described(z, F.avg_pool2d(region, STRIDE // CELL)[:, 0], mirror_axis)


class Pooled(nn.Module):
    """A front whose only feature map is ``Front.pooled`` as (B, D, 1, 1), for a cache that keeps vectors alone."""

    def __init__(self, front: Front, stages: Sequence[int]) -> None:
        """Pool these ``stages`` of a front."""
        super().__init__()
        self.front = front
        self.name, self.stages, self.mean = f"pooled {front.name}", tuple(stages), front.mean

    def forward(self, x: Tensor) -> list[Tensor]:
        boxed, *parts = self.front(x)
        return [self.front.pooled(self.front.encoded(parts, boxed), self.stages)[:, :, None, None]]

    def fingerprint(self) -> str:
        """Return the front's fingerprint."""
        return self.front.fingerprint()
