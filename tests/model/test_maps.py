"""Maps in the whole picture: they fade towards the edge of a region, the picture's own edge included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from aeflow.config import make_settings
from aeflow.model.encoder import Encoder
from aeflow.model.front import CELL, Encoded, Front, Seen
from aeflow.model.maps import region_map
from aeflow.model.regions.learned import LearnedRegion
from helpers.data import TINY

SIDE = 224


class Painted(LearnedRegion):
    """A region that is what the brightness shows."""

    def forward(self, x: Tensor, encoder: Encoder) -> Tensor:
        return x[:, :1]


class Net(nn.Module):
    """What ``region_map`` reads of a model."""

    def __init__(self, boxed: bool) -> None:
        super().__init__()
        encoder = Encoder(TINY, (1, 2, 3))
        self.front = Front(encoder, Painted(encoder), make_settings("default", encoder=TINY, image_size=SIDE))
        self.front.boxed = boxed

    def counted(self, x: Tensor) -> Tensor:
        """Return how far each pixel of one image counts, (H, W)."""
        seen: Seen = self.front.see(x)
        return region_map(self, Encoded(seen.x, [], region=seen.region, box=seen.box))[0]  # type: ignore[arg-type]


def painted(top: int, bottom: int, left: int = 56, right: int = 168) -> Tensor:
    x = torch.zeros(1, 3, SIDE, SIDE)
    x[:, :, top:bottom, left:right] = 1
    return x


@pytest.mark.parametrize(("top", "bottom"), [(56, 168), (0, 140), (90, SIDE), (0, SIDE)])
def test_a_region_ends_at_its_edge_and_at_that_of_the_picture(top: int, bottom: int) -> None:
    counted = Net(boxed=True).counted(painted(top, bottom))[:, SIDE // 2]  # a column through its middle
    at = torch.arange(SIDE)
    cut = ((at == 0) & (top == 0)) | ((at == SIDE - 1) & (bottom == SIDE))
    assert (counted[cut] < 0.5).all(), "beyond the picture pixels repeat: its edge must not be hottest for that"
    assert (counted[(at >= top + 3 * CELL) & (at < bottom - 3 * CELL)] > 0.99).all()
    assert (counted[(at < top - CELL) | (at >= bottom + CELL)] < 0.01).all()


def test_a_region_that_is_cut_off_loses_as_little_as_any() -> None:
    whole, cut = (float(Net(boxed=True).counted(painted(*rows)).sum()) for rows in ((56, 168), (0, 112)))
    assert cut == pytest.approx(whole, rel=0.05)


def test_without_a_box_the_region_counts_as_it_is() -> None:
    counted, x = Net(boxed=False).counted(painted(0, 140)), painted(0, 140)
    torch.testing.assert_close(counted.sum(), x[0, 0].sum(), rtol=0.01, atol=0)
    assert (counted[0, 64:160] > 0.99).all()
