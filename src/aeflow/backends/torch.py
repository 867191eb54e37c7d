"""Backend of torch, which runs the network itself on its device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from aeflow._types import Floats32
from aeflow.backends.base import BackendOutput
from aeflow.backends.score_graph import measured
from aeflow.model.aeflow import AEFlow
from aeflow.runtime.device import images_on, in_parts


class TorchBackend:
    """Backend that runs a network with torch, in float32: models are calibrated with these scores."""

    name = "torch"

    def __init__(self, net: AEFlow) -> None:
        self.net = net
        self.size = net.settings.image_size
        self._max_images: int | None = None  # images at a time, once a GPU's memory was too small

    @torch.no_grad()
    def run(self, x: Floats32, maps: bool = False, pictures: bool = False) -> BackendOutput:
        def compute(part: Tensor) -> dict[str, Tensor]:
            return measured(self.net, images_on(part, next(self.net.parameters()).device), maps, pictures)

        size = min(self._max_images or len(x), len(x))
        parts, fits = in_parts(compute, size, torch.from_numpy(x))
        if fits < size:
            self._max_images = fits
        return BackendOutput.of(
            {name: np.concatenate([part[name].cpu().numpy() for part in parts]) for name in parts[0]}
        )
