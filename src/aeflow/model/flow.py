"""A normalizing flow of affine coupling steps over feature maps.

| symbol | shape | meaning |
|---|---|---|
| z | (B, C, h, w) | features of the encoder |
| u | (B, C, h, w) | latent of the flow, same size |
| log_det | (B, h, w) | log |det du/dz|, as the sum of its parts at each position |

The log-determinant of an image is ``log_det.sum((1, 2))``. It is kept per position because the maps need it there.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

SubnetKind = Literal["conv", "resnet"]
Coupling = Literal["affine", "additive"]

POSITION_CHANNELS = 32


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
        # A channel that hardly varies on this batch must not blow up small values later.
        std = std.clamp(min=1e-2 * float(std.mean()) + 1e-6)
        self.bias.copy_(-mean)
        self.log_scale.copy_(-std.log())

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        u = torch.exp(self.log_scale) * (z + self.bias)
        return u, self.log_scale.float().sum().expand(z.shape[0], *z.shape[2:])

    def inverse(self, u: Tensor) -> Tensor:
        return u * torch.exp(-self.log_scale) - self.bias


class PositionNorm(nn.Module):
    """``u = (z - mean) / std`` with the mean and spread that normal images have at each position and channel.

    Medical images are aligned: what is normal at one position is not at another. Fixed after ``initialise``;
    ``log_det`` is ``-sum_c log std_c`` at each position.
    """

    mean: Tensor
    log_std: Tensor

    def __init__(self, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, channels, *size))
        self.register_buffer("log_std", torch.zeros(1, channels, *size))

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Set mean and spread from features ``z`` (B, C, h, w) of many images."""
        std, mean = torch.std_mean(z, dim=0, keepdim=True, correction=0)
        self.mean.copy_(mean)
        # Few images say little about one position: a spread is never far below that of its channel.
        floor = 0.1 * std.mean(dim=(2, 3), keepdim=True) + 1e-3
        self.log_std.copy_(torch.maximum(std, floor).log())

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        u = (z - self.mean) * torch.exp(-self.log_std)
        return u, -self.log_std.float().sum(dim=1).expand(z.shape[0], -1, -1)

    def inverse(self, u: Tensor) -> Tensor:
        return u * torch.exp(self.log_std) + self.mean


def position_encoding(size: tuple[int, int], channels: int = POSITION_CHANNELS) -> Tensor:
    """Return sines and cosines of row and column, (1, channels, h, w), by which a convolution knows where it is.

    Frequencies from half a wave to some eight waves a side; CFLOW-AD (Gudovskiy et al. 2022) conditions likewise.
    """

    def waves(n: int) -> Tensor:
        frequency = math.pi * 2.0 ** (4.0 * torch.arange(channels // 4) / (channels // 4))
        angle = torch.linspace(0, 1, n)[:, None] * frequency
        return torch.cat((angle.sin(), angle.cos()), dim=1).T  # (channels / 2, n)

    h, w = size
    rows, columns = waves(h)[:, :, None].expand(-1, h, w), waves(w)[:, None, :].expand(-1, h, w)
    return torch.cat((rows, columns))[None]


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


class PositionedConv2d(nn.Conv2d):
    """``conv(cat(z, position))`` of ``z`` (B, C, h, w) and a ``position`` (1, P, h, w) that all images share.

    A convolution is linear, so the position's part is computed once for a batch: a quarter of a flow's time saved.
    """

    def forward(self, z: Tensor, position: Tensor | None = None) -> Tensor:
        if position is None:
            return super().forward(z)
        of_z, of_position = torch.split(self.weight, [z.shape[1], position.shape[1]], dim=1)
        out: Tensor = self._conv_forward(z, of_z, self.bias) + self._conv_forward(position, of_position, None)
        return out


class ConvSubnet(nn.Sequential):
    """AE-FLOW's conv type: conv3x3 - ReLU - conv1x1, (B, c_in, h, w) -> (B, c_out, h, w); starts at zero."""

    def __init__(self, c_in: int, c_out: int, hidden: int) -> None:
        last = nn.Conv2d(hidden, c_out, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias if last.bias is not None else last.weight)
        super().__init__(PositionedConv2d(c_in, hidden, 3, padding=1), nn.ReLU(), last)

    def forward(self, z: Tensor, position: Tensor | None = None) -> Tensor:
        first, relu, last = self
        out: Tensor = last(relu(first(z, position)))
        return out


class ResNetSubnet(nn.Module):
    """AE-FLOW's ResNet type: conv3x3 - BatchNorm - ReLU beside a 1x1 shortcut; starts near zero.

    BatchNorm sees only the conditioning half, so each step stays exactly invertible; in training mode the
    log-determinant still depends on the batch, as in the published design.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(PositionedConv2d(c_in, c_out, 3, padding=1), nn.BatchNorm2d(c_out), nn.ReLU())
        self.shortcut = PositionedConv2d(c_in, c_out, 1)
        nn.init.zeros_(self.body[1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.shortcut.weight)
        if self.shortcut.bias is not None:
            nn.init.zeros_(self.shortcut.bias)

    def forward(self, z: Tensor, position: Tensor | None = None) -> Tensor:
        conv, norm, relu = self.body
        out: Tensor = relu(norm(conv(z, position))) + self.shortcut(z, position)
        return out


class CouplingStep(nn.Module):
    """One coupling: ``u_a = z_a``, ``u_b = z_b * exp(s) + t`` with ``(r, t) = subnet(z_a)``.

    Real NVP (Dinh et al. 2017), section 3.2, with the soft clamp ``s = clamp * tanh(r / clamp)``. ``log_det`` is
    ``sum_c s_c`` at each position; an additive coupling has ``s = 0`` and preserves volume. With ``size`` (h, w) the
    sub-network gets the position as well.
    """

    position: Tensor | None

    def __init__(
        self,
        channels: int,
        subnet: SubnetKind,
        hidden: int,
        coupling: Coupling,
        clamp: float,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("position", None if size is None else position_encoding(size), persistent=False)
        self.kept = channels // 2
        self.changed = channels - self.kept
        self.clamp = clamp
        self.affine = coupling == "affine"
        c_out = self.changed * (2 if self.affine else 1)
        c_in = self.kept + (0 if size is None else POSITION_CHANNELS)
        self.subnet: nn.Module = ConvSubnet(c_in, c_out, hidden) if subnet == "conv" else ResNetSubnet(c_in, c_out)

    def scale_and_shift(self, z_a: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return the log-scale ``s`` (None when additive) and the shift ``t``, both (B, changed, h, w)."""
        # Under autocast the sub-network is in lower precision; what follows from it, the log-determinant too, is not.
        out = self.subnet(z_a, self.position).to(z_a.dtype)
        if not self.affine:
            return None, out
        r, t = torch.split(out, self.changed, dim=1)
        return self.clamp * torch.tanh(r / self.clamp), t

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

    ``seed`` fixes the permutations, so that the same settings give the same flow. With ``size`` (h, w) the flow knows
    positions: it starts with a PositionNorm, and its sub-networks get a position encoding.
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
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.positions = None if size is None else PositionNorm(channels, size)
        generator = torch.Generator().manual_seed(seed)
        self.steps = nn.ModuleList(
            FlowStep(
                ActNorm(channels),
                Permute(channels, generator),
                CouplingStep(channels, subnet, hidden, coupling, clamp, size),
            )
            for _ in range(steps)
        )

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        log_det = z.new_zeros(z.shape[0], *z.shape[2:], dtype=torch.float32)
        for part in self._parts():
            z, of_part = part(z)
            log_det = log_det + of_part
        return z, log_det

    def _parts(self) -> list[nn.Module]:
        return [*([] if self.positions is None else [self.positions]), *self.steps]

    def inverse(self, u: Tensor) -> Tensor:
        """Return the features ``z`` with ``flow(z)[0] == u``."""
        for part in reversed(self._parts()):
            u = part.inverse(u)  # type: ignore[operator]
        return u

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Start every norm from features ``z`` (B, C, h, w) of a batch as large as possible, in evaluation mode."""
        training = self.training
        self.eval()
        if self.positions is not None:
            self.positions.initialise(z)
            z, _ = self.positions(z)
        for step in self.steps:
            step.norm.initialise(z)  # type: ignore[union-attr, operator]
            z, _ = step(z)
        self.train(training)
