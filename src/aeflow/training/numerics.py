"""Search for the layer that made a number that is not finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from aeflow.errors import NumericalError

REMEDY = "lower --set learning_rate, or --set clamp; look for odd images with `aeflow score`"


def check_finite(net: nn.Module, loss: Tensor, again: Callable[[], Any], where: str) -> None:
    """Raise NumericalError naming the first layer at fault if ``loss`` is not finite; ``again`` repeats the forward."""
    if bool(torch.isfinite(loss).all()):
        return
    for name, parameter in net.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise NumericalError(where, f"weights of {name} are not finite", REMEDY)
    culprits: list[str] = []

    def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            tensors = output if isinstance(output, tuple | list) else (output,)
            if any(isinstance(t, Tensor) and not bool(torch.isfinite(t).all()) for t in tensors):
                culprits.append(name)

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in net.named_modules() if name]
    try:
        with torch.no_grad():
            again()
    finally:
        for handle in handles:
            handle.remove()
    found = f"output of {culprits[0]} is not finite" if culprits else "the loss is not finite, every layer's output is"
    raise NumericalError(where, found, REMEDY)


def check_gradients(net: nn.Module, norm: Tensor, where: str) -> None:
    """Raise NumericalError naming the first parameter at fault if the gradients' ``norm`` is not finite."""
    if bool(torch.isfinite(norm)):
        return
    for name, parameter in net.named_parameters():
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            raise NumericalError(where, f"gradient of {name} is not finite", REMEDY)
    raise NumericalError(where, "the gradients' norm is not finite", REMEDY)
