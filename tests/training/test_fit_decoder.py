"""Training of the decoder: the loss falls, a seed decides everything, grey stays grey, and no NaN goes on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from aeflow.errors import NumericalError
from aeflow.model.decoders.upsampling import UpsamplingDecoder
from aeflow.training import fit_decoder as fitting
from aeflow.training.fit_decoder import fit_decoder, one_cycle, reconstruction_loss

SIDE = 32


class Pictures:
    """Stand-in for a Feed: smooth grey images, and as features what they look like at strides 8 and 16."""

    def __init__(self, n: int = 24) -> None:
        small = torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(0))
        self.x = F.interpolate(small, SIDE, mode="bilinear").repeat(1, 3, 1, 1)
        self.stages = [F.pixel_unshuffle(F.avg_pool2d(self.x[:, :1], 4), 2), F.avg_pool2d(self.x[:, :1], 16)]

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, rows: Sequence[int]) -> tuple[list[Tensor], Tensor]:
        rows = list(rows)
        return [z[rows] for z in self.stages], self.x[rows]


def fitted(feed: Pictures, seed: int = 0) -> tuple[UpsamplingDecoder, float]:
    torch.manual_seed(7)
    decoder = UpsamplingDecoder((4, 1), (8, 16), (SIDE, SIDE))
    return decoder, fit_decoder(decoder, feed, seed)  # type: ignore[arg-type]


def test_it_learns_more_than_the_mean_image() -> None:
    feed = Pictures()
    decoder, loss = fitted(feed)
    mean = feed.x.mean(dim=0, keepdim=True).expand_as(feed.x)
    assert loss < 0.6 * float(reconstruction_loss(mean, feed.x).mean())
    assert not decoder.training


def test_grey_images_teach_it_grey() -> None:
    feed = Pictures()
    decoder, _ = fitted(feed)
    x_hat = decoder(feed.stages).detach()
    assert float((x_hat - x_hat.mean(dim=1, keepdim=True)).abs().max()) < 1e-4


def test_a_seed_decides_every_weight() -> None:
    first, again, other = (fitted(Pictures(), seed)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["paint.weight"], other["paint.weight"])


def test_features_that_are_not_finite_stop_it() -> None:
    feed = Pictures()
    feed.x[3] = torch.nan
    with pytest.raises(NumericalError, match=r"decoder, step 1: its loss is nan; look"):
        fitted(feed)


def test_updates_are_bounded_however_many_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "MOST_UPDATES", 2)
    steps = []
    monkeypatch.setattr(fitting, "one_cycle", lambda step, total: steps.append((step, total)) or 1.0)
    fitted(Pictures())
    assert steps == [(0, 2), (1, 2)]


def test_rate_rises_for_a_fifth_and_falls_to_nothing() -> None:
    shares = [one_cycle(step, 100) for step in range(100)]
    assert shares.index(max(shares)) in (19, 20)
    assert shares[:20] == sorted(shares[:20])
    assert shares[20:] == sorted(shares[20:], reverse=True)
    assert shares[-1] < 0.01


def test_loss_is_nothing_for_the_image_itself() -> None:
    x = torch.rand(2, 3, SIDE, SIDE)
    assert torch.allclose(reconstruction_loss(x, x), torch.zeros(2), atol=1e-5)
