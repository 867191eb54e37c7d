"""Sizes are changed as torch changes them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from aeflow.model.resizing import averaged, bilinear

SIZES = [((14, 14), (224, 224)), ((7, 5), (20, 33)), ((112, 96), (224, 192)), ((30, 20), (7, 9))]


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_bilinear_is_torch_s(before: tuple[int, int], after: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *before, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(x, after, mode="bilinear", align_corners=False)
    torch.testing.assert_close(bilinear(x, after), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(bilinear(x[:, 0], after), expected[:, 0], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("before", "after"), [((224, 224), (56, 56)), ((224, 200), (128, 72)), ((9, 5), (9, 2))])
def test_averages_are_torch_s(before: tuple[int, int], after: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *before, generator=torch.Generator().manual_seed(0))
    expected = F.adaptive_avg_pool2d(x, after)
    torch.testing.assert_close(averaged(x, after), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(averaged(x[:, 0], after), expected[:, 0], atol=1e-6, rtol=0)


def test_they_are_differentiable() -> None:
    x = torch.rand(1, 1, 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: bilinear(x, (8, 9)), x)
    assert torch.autograd.gradcheck(lambda x: averaged(x, (2, 4)), x)
