"""The guard: silent on finite numbers, exact about where others come from."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aeflow.errors import NumericalError
from aeflow.training.numerics import check_finite, check_gradients


class Poison(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / 0


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.ReLU(), Poison()), nn.Linear(3, 1))


def test_silent_on_finite_numbers() -> None:
    model = nn.Linear(3, 1)
    loss = model(torch.ones(2, 3)).sum()
    loss.backward()
    check_finite(model, loss, lambda: pytest.fail("must not run again"), "here")
    check_gradients(model, torch.tensor(1.0), "here")


def test_names_the_first_layer_whose_output_is_not_finite() -> None:
    model, x = net(), torch.ones(2, 3)
    with pytest.raises(NumericalError, match=r"epoch 1, step 2: output of 1\.1 is not finite; lower"):
        check_finite(model, model(x), lambda: model(x), "epoch 1, step 2")
    assert not any(module._forward_hooks for module in model.modules())  # nothing is left behind


def test_names_weights_that_are_not_finite() -> None:
    model, x = net(), torch.ones(2, 3)
    with torch.no_grad():
        model[2].weight[0, 0] = torch.nan
    with pytest.raises(NumericalError, match=r"weights of 2\.weight are not finite"):
        check_finite(model, model(x), lambda: model(x), "here")


def test_names_the_parameter_whose_gradient_is_not_finite() -> None:
    model = nn.Linear(3, 1)
    (model(torch.ones(2, 3)).sum() * torch.inf).backward()
    with pytest.raises(NumericalError, match=r"gradient of weight is not finite"):
        check_gradients(model, torch.tensor(torch.inf), "here")
