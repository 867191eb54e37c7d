"""The healthy counterpart: the image where it is healthy, else the other side, else what is normal."""

from __future__ import annotations

import torch
from torch import Tensor

from aeflow.model.counterpart import anomaly_weight, healthy_counterpart


def features(seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, c, side, side, generator=generator) for c, side in ((3, 16), (5, 8))]


def left(side: int = 8) -> Tensor:
    """Weight 1 on the left half."""
    weight = torch.zeros(2, side, side)
    weight[:, :, : side // 2] = 1
    return weight


def test_weight_of_nothing_changes_nothing() -> None:
    z = features()
    healthy = healthy_counterpart(z, features(1), features(2), torch.zeros(2, 8, 8))
    assert all(torch.equal(a, b) for a, b in zip(healthy, z, strict=True))


def test_a_symmetric_image_stays_whatever_is_hot_on_one_side() -> None:
    symmetric = [z + z.flip(-1) for z in features()]
    mirrored = [z.flip(-1) for z in symmetric]
    healthy = healthy_counterpart(symmetric[1:], mirrored[1:], features(2)[1:], left())
    assert torch.allclose(healthy[0], symmetric[1], atol=1e-6)


def test_both_sides_hot_gives_what_is_normal() -> None:
    normal = [z[:1] for z in features(2)]
    healthy = healthy_counterpart(features(), features(1), normal, torch.ones(2, 8, 8))
    assert all(torch.allclose(a, n.expand_as(a), atol=1e-6) for a, n in zip(healthy, normal, strict=True))


def test_a_blob_on_one_side_gives_way_to_the_other_side() -> None:
    """A symmetric image with something painted into its left half: the counterpart is the image before the painting."""
    clean = [z + z.flip(-1) for z in features()]
    painted = [z.clone() for z in clean]
    weight = torch.zeros(2, 16, 16)
    weight[:, 2:10, 2:6] = 1
    painted[0][:, :, 4:8, 3:5] += 5
    painted[1][:, :, 2:4, 1:2] += 5
    mirrored = [z.flip(-1) for z in painted]
    healthy = healthy_counterpart(painted, mirrored, features(2), weight)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(healthy, clean, strict=True))


def test_counterpart_lies_between_what_it_blends() -> None:
    z, m, n = features(), features(1), features(2)
    weight = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(3))
    for a, *parts in zip(healthy_counterpart(z, m, n, weight), z, m, n, strict=True):
        assert bool((a >= torch.stack(parts).amin(0) - 1e-5).all())
        assert bool((a <= torch.stack(parts).amax(0) + 1e-5).all())


def test_weight_rises_with_the_deviation_from_0_to_1() -> None:
    low = torch.full((1, 6, 6), 1.0)
    assert torch.equal(anomaly_weight(low, 1, 2), torch.zeros(1, 6, 6))
    assert torch.equal(anomaly_weight(low + 1, 1, 2), torch.ones(1, 6, 6))
    weights = [float(anomaly_weight(low + step / 10, 1, 2)[0, 3, 3]) for step in range(11)]
    assert weights == sorted(weights)


def test_one_hot_cell_reaches_its_neighbours_and_fades() -> None:
    hot = torch.zeros(1, 9, 9)
    hot[0, 4, 4] = 9
    row = anomaly_weight(hot, 1, 2)[0, 4]
    assert row[4] == 1
    assert 0 < row[6] < row[5] < 1
    assert row[7] == 0
    assert torch.equal(row, row.flip(0))
