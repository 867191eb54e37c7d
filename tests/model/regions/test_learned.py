"""A learned region: soft, of any size, for encoders with its strides alone, and the same in a graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aeflow.backends.graph_file import graph_files
from aeflow.backends.openvino import OpenVINOBackend
from aeflow.errors import SettingsError
from aeflow.model.box import box_of, crop
from aeflow.model.encoder import Encoder
from aeflow.model.regions import REGIONS, Region
from aeflow.model.regions.body import Body
from aeflow.model.regions.learned import LearnedRegion
from aeflow.model.regions.plausibility import STATISTICS, region_statistics
from helpers.data import SIZE, TINY

OUTPUTS = ("region", "box", "crop", "statistics")


class SeenInBox(nn.Module):
    """Images to their region, its box, what the box shows, and the region's statistics."""

    def __init__(self, region: Region, encoder: Encoder) -> None:
        super().__init__()
        self.region, self.encoder = region, encoder

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        region = self.region(x, self.encoder)
        box = box_of(region)
        return region, box, crop(x, box), region_statistics(region)


@pytest.fixture
def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(TINY, (1, 2, 3))


@pytest.mark.parametrize("size", [(64, 64), (96, 80)])
def test_a_region_has_the_size_of_its_images(encoder: Encoder, size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *size)
    for region in (REGIONS["none"](encoder), REGIONS["body"](encoder), LearnedRegion(encoder)):
        found = region(x, encoder).detach()
        assert found.shape == (2, 1, *size)
        assert 0 <= float(found.min()) <= float(found.max()) <= 1


def test_an_encoder_without_the_stages_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"region: stages of .* at strides \[16\] where \[4, 8, 16\] are needed"):
        LearnedRegion(Encoder(TINY, (3,)))


def test_an_organ_that_is_not_learnt_for_an_encoder_is_refused_with_the_remedy(encoder: Encoder) -> None:
    with pytest.raises(SettingsError, match="paint the lungs of 20 normals and give the FOLDER"):
        REGIONS["lungs"](encoder)


@pytest.mark.parametrize("kind", [LearnedRegion, lambda encoder: Body()], ids=["learned", "body"])
def test_region_box_and_crop_are_the_same_in_a_graph(encoder: Encoder, kind: type[LearnedRegion]) -> None:
    net = SeenInBox(kind(encoder), encoder).eval()
    files = graph_files(net, OUTPUTS, SIZE, OpenVINOBackend.graph_file)
    x = torch.rand(2, 3, SIZE // 4, SIZE // 4)
    x = nn.functional.interpolate(x, size=SIZE, mode="bicubic").clamp(0, 1)
    found = OpenVINOBackend(files, SIZE, OUTPUTS).outputs(x.numpy(), OUTPUTS)
    with torch.no_grad():
        expected = dict(zip(OUTPUTS, net(x), strict=True))
    for name in OUTPUTS:
        tolerance = {"rtol": 1e-3, "atol": 1e-3} if name == "statistics" else {"atol": 1e-4}
        np.testing.assert_allclose(found[name], expected[name].numpy(), **tolerance)


def test_statistics_follow_a_region_that_moves_grows_and_turns() -> None:
    at = torch.arange(SIZE)
    two = (((at > 10) & (at < 25)) | ((at > 38) & (at < 53))).float()
    lungs = ((at > 15) & (at < 50)).float()[:, None] * two[None]
    regions = torch.stack([lungs, lungs.roll(6, 0), lungs.T, torch.zeros_like(lungs), 0.5 * torch.ones_like(lungs)])
    plain, moved, turned, empty, unsure = (
        dict(zip(STATISTICS, row, strict=True)) for row in region_statistics(regions[:, None]).tolist()
    )
    assert moved["height of the centre"] - plain["height of the centre"] == pytest.approx(6 / SIZE, abs=1e-3)
    assert moved["side of the centre"] == pytest.approx(plain["side of the centre"], abs=1e-4)
    assert plain["balance of left and right"] == pytest.approx(0, abs=0.01)
    assert plain["gap in the middle"] < 1.5 < turned["gap in the middle"]  # a uniform strip has 1.8
    assert empty["area"] < plain["area"] < unsure["area"] + 1
    assert unsure["certainty"] > plain["certainty"]
    assert all(np.isfinite(list(empty.values())))
