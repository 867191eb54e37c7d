"""The arithmetic of a training: who computes features, with how many threads, on what processor.

The last bits of features and weights depend on it, so it is decided once for a training, part of the key of cached
features, written into the model, and the same when the training is resumed. It is decided from the device, from what
is installed and from the number of images that the training computes features of, cached or not: never from what
happens to be in the cache.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, Self

import torch

from aeflow.backends.openvino import OpenVINOBackend
from aeflow.runtime.machine import cpu_model
from aeflow.runtime.threads import cores

# Images of a training from which on OpenVINO computes their features: making its two graphs, of all that is frozen and
# of the encoder alone, takes as long as it saves on so many.
GRAPH_FROM_IMAGES = 500


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Name and version of what computes features, and all else that their last bits depend on."""

    features: str  # as "openvino 2026.4.1" or "torch 2.15.0"
    torch_version: str
    threads: int  # of torch
    cores: int
    processor: str

    @classmethod
    def of(cls, device: torch.device, images: int = 0) -> Self:
        """Return the arithmetic of a training on ``device`` that computes features of so many images."""
        fast = images >= GRAPH_FROM_IMAGES and device.type == "cpu" and OpenVINOBackend.installed()
        instructions = torch.backends.cpu.get_cpu_capability()
        gpu = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
        return cls(
            features=f"openvino {version('openvino')}" if fast else f"torch {version('torch')}",
            torch_version=version("torch"),
            threads=torch.get_num_threads(),
            cores=cores(),
            processor=f"{cpu_model()}, {instructions}{gpu}",
        )

    @property
    def by_graph(self) -> bool:
        """If OpenVINO computes the features, once its graph is proven."""
        return self.features.startswith("openvino")

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)
