"""The network itself, on the device it lies on."""

from __future__ import annotations

import torch

from aeflow.backends.base import Floats, Raw
from aeflow.graph import measured
from aeflow.model import names
from aeflow.model.aeflow import AEFlow


class TorchBackend:
    """Runs a network with torch; on a CPU these are the scores that a model was calibrated with."""

    name = "torch"
    precision = "fp32"

    def __init__(self, net: AEFlow) -> None:
        self.net = net
        self.size = net.settings.image_size

    @torch.no_grad()
    def run(self, x: Floats, maps: bool = False, pictures: bool = False) -> Raw:
        images = torch.from_numpy(x).to(next(self.net.parameters()).device)
        found = measured(self.net, images, maps)
        if not pictures:
            del found[names.X_HAT]
        return Raw.of({name: value.cpu().numpy() for name, value in found.items()})
