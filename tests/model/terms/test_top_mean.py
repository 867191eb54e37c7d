"""Mean over the highest positions: the plain one for whole weights, between the extremes, continuous."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from aeflow.model.terms.top_mean import top_mean

SHARES = [0.05, 0.25, 0.5, 1.0]


def values(seed: int = 0, n: int = 3) -> Tensor:
    return torch.randn(n, 8, 8, generator=torch.Generator().manual_seed(seed))


def weights(seed: int = 1, n: int = 3) -> Tensor:
    return torch.rand(n, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("share", SHARES)
def test_it_is_the_mean_of_the_highest_positions(share: float) -> None:
    n = round(share * 64)
    expected = np.sort(values().flatten(1).numpy(), axis=1)[:, -n:].mean(axis=1)
    np.testing.assert_allclose(top_mean(values(), share).numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_whole_weights_choose_positions(share: float) -> None:
    """Of 32 positions that count, the highest share; without weights, of all 64."""
    torch.testing.assert_close(top_mean(values(), share, torch.ones(3, 8, 8)), top_mean(values(), share))
    half = torch.zeros(3, 8, 8)
    half[:, :, 4:] = 1
    torch.testing.assert_close(top_mean(values(), share, half), top_mean(values()[:, :, 4:], share))


@pytest.mark.parametrize("share", SHARES)
def test_positions_of_weight_0_never_matter(share: float) -> None:
    counted = (weights() > 0.5).float() * weights(2)
    other = torch.where(counted > 0, values(), 1e3 * values(5))
    torch.testing.assert_close(top_mean(other, share, counted), top_mean(values(), share, counted))


@pytest.mark.parametrize("share", SHARES)
def test_it_is_continuous_in_values_and_weights(share: float) -> None:
    step = 1e-4
    of_values = top_mean(values() + step * values(7).clamp(-1, 1), share, weights())
    of_weights = top_mean(values(), share, weights() + step * weights(8))
    start = top_mean(values(), share, weights())
    assert (of_values - start).abs().max() <= 1.01 * step  # no value moved further
    spread = float(values().max() - values().min())
    assert (of_weights - start).abs().max() <= 10 * step * spread / share


@given(st.integers(0, 1000), st.floats(0.01, 1.0), st.floats(-5, 5), st.floats(0.1, 10))
def test_it_moves_with_the_values_and_lies_between_mean_and_maximum(
    seed: int, share: float, shift: float, scale: float
) -> None:
    z, w = values(seed), 0.05 + weights(seed)
    found = top_mean(z, share, w)
    mean = (z * w).sum(dim=(1, 2)) / w.sum(dim=(1, 2))
    assert (found >= mean - 1e-4).all()
    assert (found <= z.amax(dim=(1, 2)) + 1e-4).all()
    torch.testing.assert_close(top_mean(scale * z + shift, share, w), scale * found + shift, rtol=1e-4, atol=1e-3)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(seed))
    shuffled = top_mean(z.flatten(1)[:, order].view_as(z), share, w.flatten(1)[:, order].view_as(w))
    torch.testing.assert_close(shuffled, found, rtol=1e-4, atol=1e-4)


def test_a_region_of_nothing_is_finite() -> None:
    assert torch.isfinite(top_mean(values(), 0.05, torch.zeros(3, 8, 8))).all()
