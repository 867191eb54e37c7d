"""The box around a region: what it holds, how it moves, and that crop and paste are inverse."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from aeflow.model.box import PAD, box_of, crop, paste

SIDE = 96


def ellipse(y: float, x: float, tall: float, wide: float) -> Tensor:
    """Return a soft ellipse (1, 1, SIDE, SIDE) with centre and radii in pixels."""
    at = torch.arange(SIDE) + 0.5
    radius = (((at[:, None] - y) / tall) ** 2 + ((at[None] - x) / wide) ** 2).sqrt()
    return ((1 - radius) * 20).sigmoid()[None, None]


def waves() -> Tensor:
    """Return a smooth picture (1, 1, SIDE, SIDE)."""
    at = torch.linspace(0, 3, SIDE)
    return (0.5 + 0.25 * at.sin()[:, None] + 0.25 * (2 * at).cos()[None])[None, None]


def in_pixels(box: Tensor) -> list[float]:
    return [float(value) * SIDE for value in box[0]]


@pytest.mark.parametrize(("y", "x", "tall", "wide"), [(48, 48, 20, 30), (30, 60, 25, 9), (40, 40, 35, 35)])
def test_the_box_holds_the_region_and_little_more(y: float, x: float, tall: float, wide: float) -> None:
    region = ellipse(y, x, tall, wide)
    top, left, bottom, right = in_pixels(box_of(region))
    at = torch.arange(SIDE) + 0.5
    rows, columns = (at > top) & (at < bottom), (at > left) & (at < right)
    inside = region[0, 0][rows][:, columns].sum()
    assert inside > 0.99 * region.sum()
    assert bottom - top == pytest.approx(2 * tall * (1 + 2 * PAD), rel=0.1)
    assert right - left == pytest.approx(2 * wide * (1 + 2 * PAD), rel=0.1)


@pytest.mark.parametrize("by", [0.25, 1, 7.5])
def test_the_box_moves_as_its_region_moves(by: float) -> None:
    here, there = in_pixels(box_of(ellipse(40, 44, 20, 25))), in_pixels(box_of(ellipse(40 + by, 44 - by, 20, 25)))
    moved = [there[i] - here[i] for i in range(4)]
    assert moved == pytest.approx([by, -by, by, -by], abs=0.1)


def test_a_region_that_is_nearly_empty_has_the_whole_picture_and_the_change_is_continuous() -> None:
    region, whole = ellipse(48, 48, 20, 30), torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    torch.testing.assert_close(box_of(torch.zeros_like(region)), whole)
    torch.testing.assert_close(box_of(0.01 * region), whole)
    boxes = torch.cat([box_of(region * strength) for strength in torch.linspace(0, 0.2, 200)])
    assert (boxes[1:] - boxes[:-1]).abs().max() < 0.01


def test_crop_of_the_whole_picture_is_the_picture() -> None:
    x = torch.rand(2, 3, SIDE, SIDE)
    torch.testing.assert_close(crop(x, torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 2)), x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("box", [[0.2, 0.3, 0.8, 0.7], [-0.1, 0.4, 0.6, 1.2]])
def test_paste_lays_a_crop_back_where_it_was_and_zeros_around(box: list[float]) -> None:
    x, ends = waves(), torch.tensor([box])
    back = paste(crop(x, ends)[:, 0], ends, (SIDE, SIDE))[0]
    at = (torch.arange(SIDE) + 0.5) / SIDE
    far = 1.5 / SIDE
    rows, columns = (at > box[0] + far) & (at < box[2] - far), (at > box[1] + far) & (at < box[3] - far)
    torch.testing.assert_close(back[rows][:, columns], x[0, 0][rows][:, columns], rtol=0, atol=2e-3)
    outside = (at < box[0] - far) | (at > box[2] + far)
    assert (back[outside] == 0).all()


def test_paste_of_a_coarse_map_keeps_places() -> None:
    maps = torch.zeros(1, 8, 8)
    maps[0, 2, 5] = 1
    full = paste(maps, torch.tensor([[0.25, 0.5, 0.75, 1.0]]), (SIDE, SIDE))[0]
    y, x = divmod(int(full.argmax()), SIDE)
    assert (y + 0.5) / SIDE == pytest.approx(0.25 + 0.5 * 2.5 / 8, abs=0.02)
    assert (x + 0.5) / SIDE == pytest.approx(0.5 + 0.5 * 5.5 / 8, abs=0.02)
