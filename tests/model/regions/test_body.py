"""The body: background and burned-in strokes go, all else stays, and nothing jumps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from aeflow.model.regions.body import Body
from helpers.data import SAMPLE

SIDE = 224


def region(grey: Tensor) -> Tensor:
    """Return the region (H, W) of a picture (H, W)."""
    return Body()(grey.expand(1, 3, -1, -1), nn.Identity())[0, 0]


def body() -> Tensor:
    """Return a grey disc of a brighter rim in the dark."""
    at = torch.arange(SIDE) - SIDE / 2
    radius = (at[:, None] ** 2 + at[None] ** 2).sqrt()
    return 0.4 * (radius < 90).float() + 0.55 * ((radius > 82) & (radius < 90)).float()


def with_text(grey: Tensor, place: tuple[int, int]) -> Tensor:
    image = Image.fromarray((grey.numpy() * 255).astype(np.uint8))
    ImageDraw.Draw(image).text(place, "R", fill=255, font=ImageFont.load_default(16))
    return torch.from_numpy(np.array(image)).float() / 255


def test_the_body_counts_and_the_background_does_not() -> None:
    found = region(body())
    assert found[SIDE // 2, SIDE // 2] > 0.99
    assert found[:10].max() < 0.01
    assert found[SIDE // 2, SIDE // 2 - 86] > 0.99  # the rim


@pytest.mark.parametrize("place", [(100, 100), (8, 8), (60, 120)])
def test_a_letter_is_left_out_wherever_it_is(place: tuple[int, int]) -> None:
    grey = body()
    marked = with_text(grey, place)
    letter = marked > grey + 0.3
    assert letter.any()
    assert region(marked)[letter].mean() < 0.2
    x, y = place
    away = torch.ones(SIDE, SIDE, dtype=torch.bool)
    away[max(0, y - 12) : y + 32, max(0, x - 12) : x + 28] = False
    torch.testing.assert_close(region(marked)[away], region(grey)[away], rtol=0, atol=0.02)


def test_a_bright_lesion_and_a_dark_cyst_stay() -> None:
    grey = body()
    grey[90:108, 90:108] = 0.95
    grey[120:134, 110:124] = 0.0
    assert region(grey)[90:134, 90:124].min() > 0.95


def test_little_noise_changes_little() -> None:
    torch.manual_seed(0)
    grey = with_text(body(), (100, 100))
    noisy = (grey + 1e-4 * torch.randn_like(grey)).clamp(0, 1)
    assert (region(noisy) - region(grey)).abs().max() < 0.05


def test_in_real_x_rays_markers_are_few_pixels() -> None:
    shares = []
    for path in sorted((SAMPLE / "train/normal").iterdir())[:12]:
        grey = torch.from_numpy(np.array(Image.open(path).convert("L"))).float() / 255
        found = region(grey)
        assert 0.5 < float(found.mean()) <= 1
        shares.append(float((found[60:180, 50:170] > 0.5).float().mean()))  # ribs and lungs
    assert min(shares) > 0.98
