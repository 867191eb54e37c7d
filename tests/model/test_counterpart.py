"""The healthy counterpart: the image where it is healthy, else the other side, else what is normal."""

from __future__ import annotations

import torch
from torch import Tensor

from aeflow.model.counterpart import healthy_counterpart, shares


def features(seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, c, side, side, generator=generator) for c, side in ((3, 16), (5, 8))]


def nothing(side: int = 8) -> Tensor:
    return torch.zeros(2, side, side)


def hot(rows: slice, columns: slice, side: int = 16) -> Tensor:
    """An anomaly map that is 5 in a rectangle, and 0 elsewhere."""
    deviations = nothing(side)
    deviations[:, rows, columns] = 5
    return deviations


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.allclose(a, b.expand_as(a), atol=1e-5) for a, b in zip(first, second, strict=True))


def test_shares_of_nothing_change_nothing() -> None:
    z = features()
    assert all(map(torch.equal, healthy_counterpart(z, features(1), features(2), nothing(), nothing()), z))


def test_a_symmetric_image_stays_however_hot_one_side_is() -> None:
    symmetric = [z + z.flip(-1) for z in features()]
    a, b = shares(hot(slice(2, 9), slice(2, 6)), 1, 2)
    assert float(a.max()) == 1
    assert same(healthy_counterpart(symmetric, [z.flip(-1) for z in symmetric], features(2), a, b), symmetric)


def test_both_sides_hot_gives_what_is_normal() -> None:
    normal = [z[:1] for z in features(2)]
    a, b = shares(hot(slice(None), slice(None)), 1, 2)
    assert same(healthy_counterpart(features(), features(1), normal, a, b), normal)


def test_a_blob_on_one_side_gives_way_to_the_other_side() -> None:
    """A symmetric image with something painted into its left half: the counterpart is the image before that."""
    clean = [z + z.flip(-1) for z in features()]
    painted = [z.clone() for z in clean]
    painted[0][:, :, 4:8, 3:5] += 5
    painted[1][:, :, 2:4, 1:2] += 5
    a, b = shares(hot(slice(1, 11), slice(1, 5)), 1, 2)
    assert same(healthy_counterpart(painted, [z.flip(-1) for z in painted], features(2), a, b), clean)


def test_of_two_hot_sides_the_hotter_one_gives_way_and_the_other_stays() -> None:
    """A difference between the sides is hot on both: 2 on the healthy side, 5 on the other."""
    deviations = nothing(16)
    deviations[:, 4:12, :5], deviations[:, 4:12, -5:] = 5, 2
    a, b = shares(deviations, 1, 2)
    assert bool((a[:, 5:11, :4] == 1).all())
    assert float(a[:, :, 8:].max()) == 0
    assert float(b.max()) == 0


def test_an_anomaly_across_the_midline_is_not_copied_to_the_other_side() -> None:
    """What grows over the midline meets the anomaly's mirror image there, and gives way to the normal instead."""
    a, b = shares(hot(slice(4, 12), slice(3, 8)), 1, 2)
    beyond = a[0, 6, 8:]
    assert float(beyond[:2].max()) < 1e-6
    assert float(b[0, 6, 8]) > 0.5


def test_shares_of_the_flipped_map_are_the_flipped_shares() -> None:
    deviations = 3 * torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(3))
    for share, flipped in zip(shares(deviations, 1, 2), shares(deviations.flip(-1), 1, 2), strict=True):
        assert torch.allclose(share.flip(-1), flipped, atol=1e-6)


def test_counterpart_lies_between_what_it_blends() -> None:
    z, m, n = features(), features(1), features(2)
    a, b = shares(3 * torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(3)), 1, 2)
    assert bool((a + b <= 1 + 1e-6).all())
    assert float(torch.minimum(a, b).max()) > 0
    for h, *parts in zip(healthy_counterpart(z, m, n, a, b), z, m, n, strict=True):
        assert bool((h >= torch.stack(parts).amin(0) - 1e-5).all())
        assert bool((h <= torch.stack(parts).amax(0) + 1e-5).all())


def test_one_hot_cell_reaches_its_neighbours_and_fades() -> None:
    deviations = nothing(9)
    deviations[:, 4, 4] = 9  # on the axis, so that it is its own mirror position
    row = shares(deviations, 1, 2)[1][0, 4]
    assert row[4] == 1
    assert 0 < row[6] < row[5] < 1
    assert row[7] == 0
    assert torch.equal(row, row.flip(0))
