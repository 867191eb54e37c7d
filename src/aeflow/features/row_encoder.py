"""Whatever is frozen, as a function from images to rows of features: by OpenVINO where it is proven, else by torch."""

from __future__ import annotations

import math
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from aeflow._types import Floats32
from aeflow.features.arithmetic import Arithmetic
from aeflow.features.openvino_encoder import EncoderGraph
from aeflow.model.encoder import Encoder
from aeflow.model.front import Front, Pooled
from aeflow.runtime.device import images_on, in_parts

BATCH = 16  # images that pass the network together


class RowEncoder:
    """Function from images (B, 3, size, size) in [0, 1] to all maps of a frozen network, of each image in one row.

    The row of an image is the same to the last bit whatever is computed beside it: OpenVINO takes images one by one,
    and torch, whose sums depend on the size of a batch, always takes BATCH of them, the last of them blank.
    """

    def __init__(self, net: Encoder | Front | Pooled, size: int, arithmetic: Arithmetic | None = None) -> None:
        """Take a network on its device; without an ``arithmetic`` torch computes."""
        self.net = net
        self.size = size
        self.device = net.mean.device
        self.arithmetic = arithmetic or Arithmetic.of(self.device)
        blank = torch.zeros(1, 3, size, size, device=self.device)
        self.shapes = [(z.shape[1], z.shape[2], z.shape[3]) for z in net(blank)]
        self.widths = [math.prod(shape) for shape in self.shapes]
        self.batch_size = BATCH  # fewer once the device's memory has run out

    def __call__(self, x: Tensor) -> Floats32:
        """Return the rows (B, d)."""
        return self._by_torch(x) if self._graph is None else self._graph(x.cpu().numpy())

    def stages(self, x: Tensor) -> list[Tensor]:
        """Return the same as maps (B, C, h, w), on the network's device."""
        parts = torch.split(torch.from_numpy(self(x)).to(self.device), self.widths, dim=1)
        return [part.view(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True)]

    @property
    def by(self) -> str:
        """Name and version of what computes the rows."""
        return self.arithmetic.features if self._graph is not None else f"torch {self.arithmetic.torch_version}"

    @cached_property
    def _graph(self) -> EncoderGraph | None:
        """Make the graph when first needed; None if torch is to compute, or OpenVINO gives other features."""
        if not self.arithmetic.by_graph:
            return None
        x = proof_images(self.size)
        return EncoderGraph.proven(self.net, self.widths, x.numpy(), self._by_torch(x))

    @torch.no_grad()
    def _by_torch(self, x: Tensor) -> Floats32:
        def rows(part: Tensor) -> Tensor:
            return torch.cat([z.flatten(1) for z in self.net(images_on(part, self.device))], dim=1)

        padded = F.pad(x, (0, 0, 0, 0, 0, 0, 0, -len(x) % BATCH))
        parts, self.batch_size = in_parts(rows, self.batch_size, padded)
        full: Floats32 = torch.cat(parts)[: len(x)].cpu().numpy()
        return full


def proof_images(size: int) -> Tensor:
    """Return the images that a graph is proven on, the same for every training: smooth noise of all brightnesses."""
    coarse = torch.rand(BATCH, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return F.interpolate(coarse, (size, size), mode="bilinear").expand(-1, 3, -1, -1).contiguous()
