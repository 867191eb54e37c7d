"""Gaussian over whole codes: what it knows of one map of a code from another."""

from __future__ import annotations

import torch
from torch import Tensor

from aeflow.model.latent_pca import LatentPCA

SHAPES = [(2, 4, 4), (3, 2, 2)]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fitted(noise: float = 0.0) -> LatentPCA:
    """Of codes that lie in two directions, and of some noise beside them."""
    e, plane = random(400, 2, seed=1), random(2, 32 + 12, seed=2)
    u = e @ plane + 3 + noise * random(400, 44, seed=3)
    prior = LatentPCA(SHAPES, directions=2).double()
    prior.fit([u[:, :32].view(-1, *SHAPES[0]), u[:, 32:].view(-1, *SHAPES[1])])
    return prior


def test_a_drawn_code_is_completed_to_itself() -> None:
    prior = fitted()
    code = prior.sample(5, torch.Generator().manual_seed(0))
    for at in (0, 1):
        for found, whole in zip(prior.completed(code[at], at), code, strict=True):
            torch.testing.assert_close(found, whole, rtol=1e-3, atol=1e-3)


def test_what_is_known_stays_and_noise_says_nothing_of_the_rest() -> None:
    """Noise beside the directions moves the other map less than the same length along them does."""
    prior = fitted(0.1)
    mean = prior.mean_code
    noise = random(1, *SHAPES[0], seed=4)
    along = prior.directions[:1, :32].view(1, *SHAPES[0])
    moves = []
    for change in (noise, along * noise.norm() / along.norm()):
        known = mean[0] + change
        completed = prior.completed(known, 0)
        torch.testing.assert_close(completed[0], known)
        moves.append((completed[1] - mean[1]).norm())
    assert moves[0] < moves[1]


def test_the_mean_is_completed_by_the_mean() -> None:
    prior = fitted(0.1)
    for found, mean in zip(prior.completed(prior.mean_code[1], 1), prior.mean_code, strict=True):
        torch.testing.assert_close(found, mean)


def test_a_code_of_one_map_is_what_is_known() -> None:
    prior = LatentPCA([(2, 4, 4)]).double()
    known = random(3, 2, 4, 4)
    [found] = prior.completed(known, 0)
    assert found is known
