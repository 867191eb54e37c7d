"""aeflow: learn what normal medical images look like, score how abnormal a new one is, and show where.

Research use, not a medical device.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from aeflow._version import __version__ as __version__

# Before torch is loaded: idle threads of OpenMP sleep. By default they spin, which costs nine tenths of the speed on a
# shared machine, or if two threads run on one core.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# torchrun gives each of several processes one thread, unless told otherwise, but a single one all cores, whose sums
# have other bits: the model would depend on the number of processes.
if os.environ.get("WORLD_SIZE") == "1":
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if TYPE_CHECKING:
    from aeflow.api import Model, load, train
    from aeflow.config import Settings, make_settings
    from aeflow.errors import AeflowError, ArtifactError, DataError, NumericalError, SettingsError, WeightsError
    from aeflow.flowgmm import FlowGMM
    from aeflow.imageio.errors import ImageError, ImageLimitError
    from aeflow.scoring.scorer import Score


_HOME = {
    "Model": "api",
    "FlowGMM": "flowgmm",
    "load": "api",
    "train": "api",
    "Settings": "config",
    "make_settings": "config",
    "Score": "scoring.scorer",
    "AeflowError": "errors",
    "ArtifactError": "errors",
    "DataError": "errors",
    "ImageError": "imageio.errors",
    "ImageLimitError": "imageio.errors",
    "NumericalError": "errors",
    "SettingsError": "errors",
    "WeightsError": "errors",
}

__all__ = [
    "AeflowError",
    "ArtifactError",
    "DataError",
    "FlowGMM",
    "ImageError",
    "ImageLimitError",
    "Model",
    "NumericalError",
    "Score",
    "Settings",
    "SettingsError",
    "WeightsError",
    "load",
    "make_settings",
    "train",
]


def __getattr__(name: str) -> Any:
    # Loaded on first use: `aeflow --help` should not wait for torch.
    if name not in _HOME:
        raise AttributeError(f"module 'aeflow' has no attribute {name!r}")
    from aeflow.runtime.extras import extra

    with extra("train"):
        return getattr(importlib.import_module(f"aeflow.{_HOME[name]}"), name)
