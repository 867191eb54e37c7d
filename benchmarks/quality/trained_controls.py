"""Controls that are trained: the decoder without a flow, and FastFlow's flow; both by one small loop."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aeflow.model.decoders.transposed import TransposedDecoder
from aeflow.model.encoder_weights import pretrained
from aeflow.model.flow import Flow
from aeflow.model.pooling import unit_length
from aeflow.model.priors.standard_normal import StandardNormal
from aeflow.model.ssim import ssim, ssim_map
from aeflow.training.loop import Material, learning_rate
from benchmarks.quality.controls import Judge, Judged, Normals

Loss = Callable[[list[Tensor], Tensor], Tensor]  # features and pixels -> loss of each image (B,)


def train(net: nn.Module, loss: Loss, normals: Normals, optimizer: torch.optim.Optimizer, one_cycle: bool) -> None:
    """Train as many steps as preset aeflow-1, on the same images in the same order; keep the best epoch's weights.

    The learning rate follows the preset's schedule if ``one_cycle``, or stays as the optimizer has it.
    """
    settings, material = normals.settings, Material(normals.views, normals.held, normals.held)
    train_features = normals.kept.and_also(normals.views[1:])
    steps = math.ceil(len(normals.kept) / settings.batch_size)
    epochs = settings.epochs or math.ceil(settings.updates / steps)
    best, best_loss, waited = copy.deepcopy(net.state_dict()), math.inf, 0
    for epoch in range(epochs):
        net.train()
        order = material.shuffled(settings.seed, epoch + 1)
        for step in range(steps):
            for group in optimizer.param_groups if one_cycle else ():
                group["lr"] = learning_rate(settings, epoch * steps + step, epochs * steps)
            rows = order[step * settings.batch_size : (step + 1) * settings.batch_size]
            optimizer.zero_grad()
            torch.autograd.backward(loss(*train_features.batch(rows)).mean())
            nn.utils.clip_grad_norm_(net.parameters(), settings.max_grad_norm)
            optimizer.step()
        net.eval()
        with torch.no_grad():
            held = torch.cat([loss(*batch) for batch in normals.held.batches(settings.batch_size)]).mean().item()
        waited += 1
        if held < best_loss:
            best, best_loss, waited = copy.deepcopy(net.state_dict()), held, 0
        if waited >= settings.patience:
            break
    net.load_state_dict(best)


def autoencoder(normals: Normals) -> Judge:
    """Train AE-FLOW's decoder on the features that its flow would get, on the mean squared error alone."""
    settings = normals.settings
    torch.manual_seed(settings.seed)
    encoder = pretrained(settings.encoder, settings.stages)
    decoder = TransposedDecoder.of(settings, encoder.channels, encoder.strides)
    decoder.initialise(*normals.kept.batch(range(len(normals.kept))))

    def decoded(features: list[Tensor]) -> Tensor:
        x_hat: Tensor = decoder([unit_length(features[-1]) if settings.unit_features else features[-1]])
        return x_hat

    def loss(features: list[Tensor], x: Tensor) -> Tensor:
        return (decoded(features) - x).square().mean(dim=(1, 2, 3))

    optimizer = torch.optim.Adam(decoder.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    train(decoder, loss, normals, optimizer, settings.schedule == "one-cycle")

    @torch.no_grad()
    def judge(features: list[Tensor], x: Tensor) -> dict[str, Judged]:
        x_hat = decoded(features)
        error = (x_hat - x).square().mean(dim=1)
        unlike = 1 - ssim_map(x, x_hat).mean(dim=1)
        edge = (x.shape[-1] - unlike.shape[-1]) // 2
        unlike = F.pad(unlike[:, None], (edge,) * 4, mode="replicate")[:, 0]
        return {", MSE": Judged(error.mean(dim=(1, 2)), error), ", SSIM": Judged(1 - ssim(x, x_hat), unlike)}

    return judge


class Subnet(nn.Sequential):
    """FastFlow's sub-network, conv - ReLU - conv with one kernel, as wide as its input; ``position`` is not given."""

    def __init__(self, c_in: int, c_out: int, kernel: int) -> None:
        super().__init__(
            nn.Conv2d(c_in, c_in, kernel, padding=kernel // 2),
            nn.ReLU(),
            nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2),
        )
        for of_last in self[2].parameters():
            nn.init.zeros_(of_last)  # each step starts as the identity, as in every flow here

    def forward(self, z: Tensor, position: Tensor | None = None) -> Tensor:
        out: Tensor = super().forward(z)  # type: ignore[no-untyped-call]
        return out


def fastflow(
    normals: Normals, at: list[int], steps: int, clamp: float, learning_rate: float, weight_decay: float
) -> Judge:
    """Train flows with 3x3 and 1x1 kernels in turn on three stages, by likelihood alone (Yu et al. 2021).

    Score: the highest place of the map, which is the negative log-likelihood per dimension, log-determinant included,
    averaged over the stages at the size of the finest. ActNorm replaces the published LayerNorm.
    """
    torch.manual_seed(normals.settings.seed)
    flows: list[Flow] = []
    for stage in at:
        channels = normals.kept.shapes[stage][0]
        flow = Flow(channels, steps, "conv", channels, "affine", clamp, seed=normals.settings.seed + stage)
        for number, step in enumerate(flow.steps):
            coupling: Any = step.coupling
            c_out = 2 * coupling.changed
            coupling.subnet = Subnet(coupling.kept, c_out, 1 if number % 2 else 3)
        flows.append(flow.to(memory_format=torch.channels_last))
    prior = StandardNormal()

    def maps(features: list[Tensor]) -> list[Tensor]:
        found = []
        for flow, stage in zip(flows, at, strict=True):
            u, log_det = flow(features[stage])
            found.append(-(prior.log_prob(u) + log_det) / u.shape[1])
        return found

    def loss(features: list[Tensor], _: Tensor) -> Tensor:
        return torch.stack([m.mean(dim=(1, 2)) for m in maps(features)]).mean(dim=0)

    rows = torch.linspace(0, len(normals.kept) - 1, min(len(normals.kept), 256)).long().tolist()
    features, _ = normals.kept.batch(rows)
    for flow, stage in zip(flows, at, strict=True):
        flow.initialise(features[stage])
    net = nn.ModuleList(flows)
    train(net, loss, normals, torch.optim.Adam(net.parameters(), learning_rate, weight_decay=weight_decay), False)

    @torch.no_grad()
    def judge(features: list[Tensor], _: Tensor) -> dict[str, Judged]:
        of_stages = maps(features)
        size = of_stages[0].shape[1:]
        one = torch.stack([F.interpolate(m[:, None], size, mode="bilinear")[:, 0] for m in of_stages]).mean(dim=0)
        return {"": Judged(one.amax(dim=(1, 2)), one)}

    return judge
