"""Frozen encoder: a timm network with ImageNet weights, cut after the last stage that is used."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn

from aeflow.errors import SettingsError


class Encoder(nn.Module):
    """``z_1, ..., z_k = f(x)``: feature maps of the chosen stages of a network that is never trained.

    The network always stays in evaluation mode, so that BatchNorm cannot drift. Input (B, 3, H, W) in [0, 1]; it is
    standardised inside by the network's own mean and spread.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, stages: Sequence[int]) -> None:
        """Build the network without weights; raises SettingsError for an unknown name or stage."""
        super().__init__()
        self.net = _build(name)
        info: list[dict[str, Any]] = list(self.net.feature_info)  # type: ignore[arg-type]
        if not stages or list(stages) != sorted(set(stages)) or not 0 <= stages[0] <= stages[-1] < len(info):
            strides = ", ".join(f"{i} (stride {stage['reduction']})" for i, stage in enumerate(info))
            raise SettingsError(
                "stages", f"{list(stages)} do not fit {name}", f"give some of {strides}, in rising order"
            )
        self.name = name
        self.stages = tuple(stages)
        self.channels: list[int] = [info[i]["num_chs"] for i in stages]
        self.strides: list[int] = [info[i]["reduction"] for i in stages]
        config: Mapping[str, Any] = self.net.pretrained_cfg  # type: ignore[assignment]
        self.register_buffer("mean", torch.tensor(config["mean"]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(config["std"]).view(1, 3, 1, 1))
        self.net.prune_intermediate_layers(list(stages), prune_head=True)  # type: ignore[operator]
        self.requires_grad_(False).eval()
        self.net.to(memory_format=torch.channels_last)  # 1.5 times as fast on a CPU

    def train(self, mode: bool = True) -> Encoder:
        """Stay in evaluation mode, whatever ``mode`` says."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> list[Tensor]:
        x = x * (1 / self.std) - self.mean / self.std  # one multiply-add
        features: list[Tensor] = self.net.forward_intermediates(  # type: ignore[operator]
            x, indices=list(self.stages), intermediates_only=True, stop_early=True
        )
        return features

    def fingerprint(self) -> str:
        """Return the SHA-256 of the weights in use, in hex."""
        digest = hashlib.sha256()
        for key, value in self.net.state_dict().items():
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def strides_of(name: str) -> list[int]:
    """Return the stride of each stage of a timm network; raises SettingsError for an unknown name."""
    info: list[dict[str, Any]] = list(_build(name).feature_info)  # type: ignore[arg-type]
    return [stage["reduction"] for stage in info]


def _build(name: str) -> nn.Module:
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:4]) or "tf_efficientnet_lite0, wide_resnet50_2"
        raise SettingsError("encoder", f"timm knows no network named {name!r}", f"choose for instance {near}")
    net: nn.Module = timm.create_model(name)
    if not hasattr(net, "forward_intermediates"):
        raise SettingsError("encoder", f"{name} gives no features of its stages", "choose another timm network")
    return net
