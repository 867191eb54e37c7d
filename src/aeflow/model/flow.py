"""A normalizing flow of affine coupling steps over feature maps.

| symbol | shape | meaning |
|---|---|---|
| z | (B, C, h, w) | features of the encoder |
| u | (B, C, h, w) | latent of the flow, same size |
| log_det | (B, h, w) | log |det du/dz|, as the sum of its parts at each position |

The log-determinant of an image is ``log_det.sum((1, 2))``. It is kept per position because the flow map needs it there.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

SubnetKind = Literal["conv", "resnet"]
Coupling = Literal["affine", "additive"]


class ActNorm(nn.Module):
    """``u = exp(log_scale) * (z + bias)`` per channel, started so that the first batch has mean 0 and variance 1.

    Glow (Kingma and Dhariwal 2018), section 3.1. ``log_det`` is ``sum_c log_scale_c`` at each position.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Set scale and bias from a batch ``z`` (B, C, h, w)."""
        std, mean = torch.std_mean(z, dim=(0, 2, 3), keepdim=True, correction=0)
        # A channel that is silent on the batch must not turn a later whisper into an explosion.
        std = std.clamp(min=1e-2 * float(std.mean()) + 1e-6)
        self.bias.copy_(-mean)
        self.log_scale.copy_(-std.log())

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        u = torch.exp(self.log_scale) * (z + self.bias)
        return u, self.log_scale.float().sum().expand(z.shape[0], *z.shape[2:])

    def inverse(self, u: Tensor) -> Tensor:
        return u * torch.exp(-self.log_scale) - self.bias


class Permute(nn.Module):
    """A fixed random permutation of the channels; its log-determinant is 0."""

    order: Tensor
    back: Tensor

    def __init__(self, channels: int, generator: torch.Generator) -> None:
        super().__init__()
        order = torch.randperm(channels, generator=generator)
        self.register_buffer("order", order)
        self.register_buffer("back", torch.argsort(order))

    def forward(self, z: Tensor) -> Tensor:
        return z.index_select(1, self.order)

    def inverse(self, u: Tensor) -> Tensor:
        return u.index_select(1, self.back)


class ConvSubnet(nn.Sequential):
    """AE-FLOW's conv type: conv3x3 - ReLU - conv1x1, (B, c_in, h, w) -> (B, c_out, h, w); starts at zero."""

    def __init__(self, c_in: int, c_out: int, hidden: int) -> None:
        last = nn.Conv2d(hidden, c_out, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias if last.bias is not None else last.weight)
        super().__init__(nn.Conv2d(c_in, hidden, 3, padding=1), nn.ReLU(), last)


class ResNetSubnet(nn.Module):
    """AE-FLOW's ResNet type: conv3x3 - BatchNorm - ReLU beside a 1x1 shortcut; starts near zero.

    BatchNorm sees only the conditioning half, so each step stays exactly invertible; in training mode the
    log-determinant still depends on the batch, as in the published design.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1), nn.BatchNorm2d(c_out), nn.ReLU())
        self.shortcut = nn.Conv2d(c_in, c_out, 1)
        nn.init.zeros_(self.body[1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.shortcut.weight)
        if self.shortcut.bias is not None:
            nn.init.zeros_(self.shortcut.bias)

    def forward(self, z: Tensor) -> Tensor:
        out: Tensor = self.body(z) + self.shortcut(z)
        return out


class CouplingStep(nn.Module):
    """One coupling: ``u_a = z_a``, ``u_b = z_b * exp(s) + t`` with ``(r, t) = subnet(z_a)``, ``s = clamp * tanh(r)``.

    Real NVP (Dinh et al. 2017), section 3.2, with a soft clamp. ``log_det = sum_c s_c`` at each position; an additive
    coupling has ``s = 0`` and preserves volume.
    """

    def __init__(self, channels: int, subnet: SubnetKind, hidden: int, coupling: Coupling, clamp: float) -> None:
        super().__init__()
        self.kept = channels // 2
        self.changed = channels - self.kept
        self.clamp = clamp
        self.affine = coupling == "affine"
        c_out = self.changed * (2 if self.affine else 1)
        self.subnet: nn.Module = (
            ConvSubnet(self.kept, c_out, hidden) if subnet == "conv" else ResNetSubnet(self.kept, c_out)
        )

    def scale_and_shift(self, z_a: Tensor) -> tuple[Tensor | None, Tensor]:
        """The log-scale ``s`` (None when additive) and the shift ``t``, both (B, changed, h, w)."""
        out = self.subnet(z_a)
        if not self.affine:
            return None, out
        r, t = torch.split(out, self.changed, dim=1)
        return self.clamp * torch.tanh(r), t

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        z_a, z_b = torch.split(z, [self.kept, self.changed], dim=1)
        s, t = self.scale_and_shift(z_a)
        if s is None:
            return torch.cat((z_a, z_b + t), dim=1), z.new_zeros(z.shape[0], *z.shape[2:], dtype=torch.float32)
        return torch.cat((z_a, z_b * torch.exp(s) + t), dim=1), s.float().sum(dim=1)

    def inverse(self, u: Tensor) -> Tensor:
        u_a, u_b = torch.split(u, [self.kept, self.changed], dim=1)
        s, t = self.scale_and_shift(u_a)
        return torch.cat((u_a, u_b - t if s is None else (u_b - t) * torch.exp(-s)), dim=1)


class FlowStep(nn.Module):
    """ActNorm, permutation, coupling: one step of the flow."""

    def __init__(self, norm: ActNorm, permute: Permute, coupling: CouplingStep) -> None:
        super().__init__()
        self.norm, self.permute, self.coupling = norm, permute, coupling

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det_norm = self.norm(z)
        u, log_det_coupling = self.coupling(self.permute(z))
        return u, log_det_norm + log_det_coupling

    def inverse(self, u: Tensor) -> Tensor:
        z: Tensor = self.norm.inverse(self.permute.inverse(self.coupling.inverse(u)))
        return z


class Flow(nn.Module):
    """``u, log_det = flow(z)``: coupling steps in a row, an exact bijection of feature maps; see the table above.

    ``seed`` fixes the permutations, so that the same settings give the same flow.
    """

    def __init__(
        self,
        channels: int,
        steps: int = 8,
        subnet: SubnetKind = "conv",
        hidden: int = 128,
        coupling: Coupling = "affine",
        clamp: float = 2.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.steps = nn.ModuleList(
            FlowStep(
                ActNorm(channels),
                Permute(channels, generator),
                CouplingStep(channels, subnet, hidden, coupling, clamp),
            )
            for _ in range(steps)
        )

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        log_det = z.new_zeros(z.shape[0], *z.shape[2:], dtype=torch.float32)
        for step in self.steps:
            z, part = step(z)
            log_det = log_det + part
        return z, log_det

    def inverse(self, u: Tensor) -> Tensor:
        """The features ``z`` with ``flow(z)[0] == u``."""
        for step in reversed(self.steps):
            u = step.inverse(u)  # type: ignore[operator]
        return u

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Start every ActNorm from a batch of features ``z`` (B, C, h, w), in evaluation mode."""
        training = self.training
        self.eval()
        for step in self.steps:
            step.norm.initialise(z)  # type: ignore[union-attr, operator]
            z, _ = step(z)
        self.train(training)
