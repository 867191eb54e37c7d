"""Descriptions: the blur is the same wherever it runs."""

from __future__ import annotations

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from aeflow.model.described import blurred


class Blur(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return blurred(x, 2.0)


@pytest.mark.parametrize("sigma", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("shape", [(2, 1, 40, 56), (1, 3, 32, 32)])
def test_a_blur_is_scipys_gaussian_filter(sigma: float, shape: tuple[int, ...]) -> None:
    x = torch.rand(*shape, generator=torch.Generator().manual_seed(0))
    expected = gaussian_filter(x.numpy(), sigma, mode="nearest", truncate=2.0, axes=(2, 3))
    torch.testing.assert_close(blurred(x, sigma), torch.from_numpy(expected), rtol=1e-5, atol=1e-5)


def test_a_graph_blurs_as_torch_does_by_other_arithmetic() -> None:
    x = torch.rand(2, 1, 48, 48, generator=torch.Generator().manual_seed(1))
    graph = torch.export.export(Blur(), (x,))
    assert any("conv" in str(node.target) for node in graph.graph.nodes)
    torch.testing.assert_close(graph.module()(x), blurred(x, 2.0), rtol=1e-5, atol=1e-5)
