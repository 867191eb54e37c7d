"""Lanes of a batch: parts whose gradients are added in one order, whatever the number of processes.

A sum of float32 depends on its order in the last bits, and Adam lets such a difference grow, step by step. So a
training that torchrun started divides each batch into LANES, computes the gradient of each by itself, and adds them by
pairs, ``(g0 + g1) + (g2 + g3)``. One process has all four of them, two have a pair each, four have one each: the sums
are the same to the last bit. A number of processes that does not divide LANES has one lane each, and so does a GPU,
whose bits nothing is promised of.

Without torchrun a batch is one lane: four would take a quarter to half more of a step's time in bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

from aeflow.runtime import ranks

T = TypeVar("T")

LANES = 4


def lanes(images: int, device: torch.device) -> list[slice]:
    """Return the lanes of this process's share of a batch of so many images; some may be empty."""
    size = ranks.size()
    number = LANES if ranks.launched() and device.type == "cpu" and LANES % size == 0 else size
    mine = ranks.share(range(number))
    starts = [lane * images // number for lane in (*mine, mine[-1] + 1)]
    return [slice(start - starts[0], stop - starts[0]) for start, stop in pairwise(starts)]


def gradients(parameters: Sequence[Tensor], several: Sequence[slice], backward: Callable[[slice], T]) -> list[T]:
    """Set the gradients of parameters to the sum of those that ``backward`` adds of each lane; return what it gives."""
    found, of_lanes = [], []
    for lane in several:
        for parameter in parameters:
            parameter.grad = None
        found.append(backward(lane))
        of_lanes.append([parameter.grad for parameter in parameters])
    for parameter, parts in zip(parameters, zip(*of_lanes, strict=True), strict=True):
        known = [torch.zeros_like(parameter) if part is None else part for part in parts]
        parameter.grad = parts[0] if len(parts) == 1 else ranks.added_by_pairs(known)
    return found
