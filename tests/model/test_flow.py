"""Laws of the flow: bijection, log-determinant, start, parity with FrEIA."""

from __future__ import annotations

import FrEIA.framework as ff
import FrEIA.modules as fm
import pytest
import torch
from torch import Tensor, nn

from aeflow.model.flow import ActNorm, CouplingStep, Flow, Permute, PositionedConv2d, PositionNorm

KINDS = [("conv", "affine"), ("conv", "additive"), ("resnet", "affine"), ("resnet", "additive")]
SIZES = [None, (3, 2)]  # the flow knows no positions, or those of a map of this size


def rough(module: nn.Module, scale: float = 0.3, seed: int = 1) -> nn.Module:
    """Move every parameter off its gentle start, where laws could hold by accident."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return module.eval()


def make(subnet: str, coupling: str, channels: int = 5, steps: int = 3, size: tuple[int, int] | None = None) -> Flow:
    torch.manual_seed(0)
    flow = Flow(channels, steps=steps, subnet=subnet, hidden=7, coupling=coupling, size=size).double()
    if size:
        flow.initialise(2 + 3 * latents(50, channels, *size, seed=9))
    rough(flow)
    return flow


def latents(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("subnet", "coupling"), KINDS)
def test_inverse_undoes_forward(subnet: str, coupling: str, size: tuple[int, int] | None) -> None:
    flow = make(subnet, coupling, size=size)
    z = latents(4, 5, 3, 2)
    u, _ = flow(z)
    assert (u - z).abs().max() > 0.1  # it does something
    torch.testing.assert_close(flow.inverse(u), z, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(flow(flow.inverse(z))[0], z, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("subnet", "coupling"), KINDS)
def test_log_det_is_that_of_the_jacobian(subnet: str, coupling: str, size: tuple[int, int] | None) -> None:
    flow = make(subnet, coupling, channels=4, size=size)
    z = latents(2, 4, 3, 2)
    _, log_det = flow(z)
    for image, claimed in zip(z, log_det.sum(dim=(1, 2)), strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda v: flow(v[None])[0][0], image)
        exact = torch.linalg.slogdet(jacobian.reshape(image.numel(), image.numel())).logabsdet
        torch.testing.assert_close(claimed.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("subnet", "coupling"), KINDS)
def test_every_parameter_gets_a_gradient(subnet: str, coupling: str) -> None:
    flow = make(subnet, coupling).train()
    u, log_det = flow(latents(4, 5, 4, 4))
    (u.square().sum() - log_det.sum()).backward()
    for name, parameter in flow.named_parameters():
        assert parameter.grad is not None, name
        # BatchNorm takes its input's mean off, so the bias before it has no effect by design
        if not (subnet == "resnet" and name.endswith("body.0.bias")):
            assert parameter.grad.abs().max() > 0, name


def test_fresh_coupling_is_the_identity() -> None:
    z = latents(2, 6, 3, 3)
    step = CouplingStep(6, "conv", 8, "affine", 2.0).double()
    u, log_det = step(z)
    torch.testing.assert_close(u, z)
    assert not log_det.any()


def test_additive_coupling_preserves_volume() -> None:
    step = rough(CouplingStep(6, "conv", 8, "additive", 2.0).double())
    _, log_det = step(latents(2, 6, 3, 3))
    assert not log_det.any()


def test_soft_clamp_bounds_the_scale() -> None:
    step = rough(CouplingStep(6, "conv", 8, "affine", 1.5).double(), scale=50)
    _, log_det = step(latents(2, 6, 3, 3))
    assert log_det.abs().max() <= 1.5 * 3
    assert log_det.abs().max() > 1.4 * 3  # the bound is reached, so it is the clamp that holds


def test_actnorm_starts_at_mean_0_and_variance_1() -> None:
    flow = Flow(6, steps=3, hidden=4)
    z = 5 + 3 * torch.randn(64, 6, 4, 4, generator=torch.Generator().manual_seed(0))
    flow.initialise(z)
    u, _ = flow(z)
    std, mean = torch.std_mean(u, dim=(0, 2, 3))
    torch.testing.assert_close(mean, torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(std, torch.ones(6), atol=1e-3, rtol=0)


def test_actnorm_does_not_blow_up_a_silent_channel() -> None:
    norm = ActNorm(3)
    z = torch.randn(16, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    z[:, 1] = 0
    norm.initialise(z)
    z[0, 1, 0, 0] = 0.1
    assert norm(z)[0].abs().max() < 50


def test_position_norm_starts_at_mean_0_and_variance_1_everywhere() -> None:
    norm = PositionNorm(3, (2, 4))
    z = torch.linspace(-5, 5, 24).view(1, 3, 2, 4) + torch.randn(
        400, 3, 2, 4, generator=torch.Generator().manual_seed(0)
    )
    norm.initialise(z)
    std, mean = torch.std_mean(norm(z)[0], dim=0, correction=0)
    torch.testing.assert_close(mean, torch.zeros(3, 2, 4), atol=1e-4, rtol=0)
    torch.testing.assert_close(std, torch.ones(3, 2, 4), atol=1e-3, rtol=0)


def test_a_flow_that_knows_positions_tells_them_apart() -> None:
    """The same features everywhere: without positions every inner place gets the same latent, with them none does."""
    z = latents(1, 6, 1, 1).expand(1, 6, 9, 9)
    blind = rough(Flow(6, steps=2, hidden=4).double())(z)[0][0, :, 4:6, 4:6]
    seeing = rough(Flow(6, steps=2, hidden=4, size=(9, 9)).double())(z)[0][0, :, 4:6, 4:6]
    torch.testing.assert_close(blind, blind[:, :1, :1].expand_as(blind))
    assert (seeing[:, 0, 0] - seeing[:, 1, 1]).abs().max() > 1e-3


def test_permutation_and_its_inverse() -> None:
    permute = Permute(8, torch.Generator().manual_seed(3))
    z = latents(2, 8, 2, 2)
    assert not torch.equal(permute(z), z)
    assert torch.equal(permute.inverse(permute(z)), z)


def test_same_seed_same_permutations() -> None:
    a, b, c = (Flow(16, steps=2, hidden=4, seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(a["steps.1.permute.order"], b["steps.1.permute.order"])
    assert not torch.equal(a["steps.1.permute.order"], c["steps.1.permute.order"])


def test_coupling_equals_freia_on_copied_weights() -> None:
    channels, kept, hidden, clamp = 6, 3, 8, 1.7
    ours = rough(CouplingStep(channels, "conv", hidden, "affine", clamp).double())

    def subnet(c_in: int, c_out: int) -> nn.Module:
        assert (c_in, c_out) == (kept, 2 * (channels - kept))
        net = nn.Sequential(nn.Conv2d(c_in, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, c_out, 1)).double()
        net.load_state_dict(ours.subnet.state_dict())
        with torch.no_grad():  # FrEIA takes a tenth of what its sub-network says
            tenfold = torch.tensor([10 / clamp] * 3 + [10.0] * 3, dtype=torch.float64)  # and clamps r, not r / clamp
            net[2].weight.mul_(tenfold.view(-1, 1, 1, 1))
            net[2].bias.mul_(tenfold)
        return net

    node = ff.InputNode(channels, 4, 4)
    block = ff.Node(
        node,
        fm.AllInOneBlock,
        {"subnet_constructor": subnet, "affine_clamping": clamp, "permute_soft": False, "global_affine_init": 1.0},
    )
    graph = ff.GraphINN([node, block, ff.OutputNode(block)]).double()
    module = graph.module_list[0]
    with torch.no_grad():
        module.w_perm.copy_(torch.eye(channels, dtype=torch.float64).view(channels, channels, 1, 1))
        module.w_perm_inv.copy_(module.w_perm)
        module.global_offset.zero_()
        scale = module.global_scale_activation(module.global_scale)
    z = latents(3, channels, 4, 4)
    theirs, their_log_det = graph(z)
    u, log_det = ours(z)
    torch.testing.assert_close(u * scale, theirs)
    constant = 16 * torch.log(scale).sum().float()
    torch.testing.assert_close(log_det.sum(dim=(1, 2)) + constant, their_log_det.float(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("subnet", "coupling"), KINDS)
def test_one_image_or_many_makes_no_difference(subnet: str, coupling: str) -> None:
    flow = make(subnet, coupling)
    z = latents(4, 5, 3, 3)
    together, _ = flow(z)
    torch.testing.assert_close(together, torch.cat([flow(image[None])[0] for image in z]))


def test_a_shared_position_is_convolved_as_if_each_image_had_it() -> None:
    conv = PositionedConv2d(5 + 3, 7, 3, padding=1).double()
    z, position = latents(4, 5, 6, 6), latents(1, 3, 6, 6, seed=1)
    expected = nn.Conv2d.forward(conv, torch.cat((z, position.expand(4, -1, -1, -1)), dim=1))
    torch.testing.assert_close(conv(z, position), expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("subnet", "coupling"), KINDS)
def test_bfloat16_leaves_flow_and_log_det_exact(subnet: str, coupling: str, size: tuple[int, int] | None) -> None:
    """Under autocast the sub-networks are coarse; the flow they make is still a bijection whose log-det is its own."""
    flow = make(subnet, coupling, size=size).float()
    z = latents(4, 5, 3, 2).float()
    exact, exact_log_det = flow(z)
    scales = []
    with torch.autocast("cpu", torch.bfloat16):
        for step in flow.steps:
            step.coupling.subnet.register_forward_hook(lambda *told: scales.append(told[2].dtype))
        u, log_det = flow(z)
        assert set(scales) == {torch.bfloat16}
        assert u.dtype == log_det.dtype == torch.float32
        torch.testing.assert_close(flow.inverse(u), z, rtol=1e-4, atol=1e-4)
    assert not torch.equal(u, exact)
    torch.testing.assert_close(u, exact, rtol=0.1, atol=0.1)
    torch.testing.assert_close(log_det, exact_log_det, rtol=0.1, atol=0.1)
