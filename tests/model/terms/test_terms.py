"""Terms of the score: what they cannot see, what their maps add up to, and what they are fitted on."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from aeflow.config import Settings, make_settings
from aeflow.model.described import INTENSITIES, Described
from aeflow.model.latent import Latent
from aeflow.model.priors.standard_normal import StandardNormal
from aeflow.model.terms import TERMS
from aeflow.model.terms.base import Layout, TermModule
from aeflow.model.terms.examples import Examples, lesion_directions
from aeflow.model.terms.region_means import region_means, view_weights
from aeflow.model.terms.scored_batch import ScoredBatch
from aeflow.model.terms.top_mean import top_mean
from aeflow.model.terms.weighed_positions import PRIOR_NORMALS, WeighedPositions, relative_variance

SIDE, NORMALS = 8, 60
LAYOUT = Layout(channels=(4, 12, 12), side=SIDE, cell=16)
D = LAYOUT.shape[0]
DESCRIBED = ("pooled_filter", "pooled_energy", "lesion_residual", "mirror_difference", "mirror_filter")
MIRROR = ("mirror_difference", "mirror_filter")
POSITIONS = ("lesion_residual", *MIRROR)
ATOL = 1e-3


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def settings(**changes: object) -> Settings:
    return make_settings(image_size=16 * SIDE, log_det_weight=0.5, **changes)


def region(n: int) -> Tensor:
    """A disc, soft at its edge, the same from all sides; the corners do not count."""
    from_middle = (torch.arange(SIDE) - (SIDE - 1) / 2).square()
    weight = (4.2 - (from_middle[:, None] + from_middle).sqrt()).clamp(0, 1)
    return weight.expand(n, SIDE, SIDE).clone()


def of(z: Tensor, weight: Tensor | None = None) -> Described:
    return Described(z, region(len(z)) if weight is None else weight)


def normals(n: int, seed: int) -> Tensor:
    """Descriptions of one smooth common image and noise."""
    common = random(1, D, 1, 1, seed=99) * torch.linspace(-1, 1, SIDE)[:, None].expand(SIDE, SIDE)
    return common + 0.3 * random(n, D, SIDE, SIDE, seed=seed)


def lesion(seed: int) -> Tensor:
    """A change of four positions on the left of each image, along a common direction and one of its own."""
    place = torch.zeros(NORMALS, 1, SIDE, SIDE)
    for i, (y, x) in enumerate(torch.randint(1, 3, (NORMALS, 2), generator=torch.Generator().manual_seed(seed))):
        place[i, 0, 1 + y : 3 + y, x : x + 2] = 1
    return 2 * place * (random(1, D, 1, 1, seed=98).abs() + 0.3 * random(NORMALS, D, 1, 1, seed=seed))


def examples() -> Examples:
    z, change = normals(NORMALS, 1), lesion(2)
    again = z + 0.2 * random(NORMALS, 1, 1, 1, seed=3) * random(1, D, 1, 1, seed=4)
    rows = torch.arange(NORMALS)
    return Examples(of(z), of(z + change), rows, (change != 0).any(dim=1).float(), of(again), rows)


def fitted(name: str) -> TermModule:
    term = TERMS[name].module(settings(), LAYOUT)
    term.fit(examples())
    return term


@pytest.fixture(scope="module")
def terms() -> dict[str, TermModule]:
    return {name: fitted(name) for name in DESCRIBED}


def batch(described: Described | None, latent: Latent | None = None, **changes: object) -> ScoredBatch:
    x = torch.zeros(1)
    return ScoredBatch(settings(**changes), StandardNormal(), x, x, latent, described)


def images(n: int = 5, seed: int = 50) -> Described:
    return of(normals(n, seed))


@pytest.mark.parametrize("name", DESCRIBED)
def test_positions_outside_the_region_never_matter(terms: dict[str, TermModule], name: str) -> None:
    seen = images()
    outside = (seen.weight == 0)[:, None]
    assert outside.any()
    changed = of(torch.where(outside, 100 * random(*seen.z.shape, seed=7), seen.z))
    torch.testing.assert_close(terms[name](batch(changed)), terms[name](batch(seen)))
    moved = of(seen.z + (~outside).float() * random(*seen.z.shape, seed=7))
    assert not torch.allclose(terms[name](batch(moved)), terms[name](batch(seen)), atol=ATOL)


def test_nor_do_they_for_the_flow() -> None:
    term = TERMS["flow"].module(settings(), LAYOUT)
    u, log_det, seen = random(5, 6, SIDE, SIDE), random(5, SIDE, SIDE, seed=1), images()
    outside = seen.weight == 0
    other = Latent([torch.where(outside[:, None], 50 + u, u)], [torch.where(outside, 9 * log_det, log_det)])
    torch.testing.assert_close(term(batch(seen, other)), term(batch(seen, Latent([u], [log_det]))))
    whole = term(batch(None, other))
    assert not torch.allclose(whole, term(batch(None, Latent([u], [log_det]))))


@pytest.mark.parametrize("name", POSITIONS)
def test_the_measure_is_the_mean_over_the_hottest_positions_of_the_map(terms: dict[str, TermModule], name: str) -> None:
    seen, share = images(), settings().top_share
    if name == "mirror_filter":  # sides as alike as those of any normal
        seen = of((seen.z + seen.mirrored) / 2 + 0.1 * (seen.z - seen.mirrored))
    expected = top_mean(terms[name].map(batch(seen)), share, seen.weight)
    torch.testing.assert_close(terms[name](batch(seen)), expected)


def test_the_mirror_filter_trusts_an_image_less_whose_sides_differ_everywhere(terms: dict[str, TermModule]) -> None:
    """Another contrast or noise multiplies all differences; a lesion adds to a few of them."""
    term, seen = terms["mirror_filter"], images()
    half = (seen.z - seen.mirrored) / 2
    unlike, more = of(seen.z + 2 * half), of(seen.z + 4 * half)
    shown, shown_more = (top_mean(term.map(batch(one)), settings().top_share, one.weight) for one in (unlike, more))
    assert (term(batch(unlike)) < shown).all()
    grown, grown_as_shown = term(batch(more)) - term(batch(unlike)), shown_more - shown
    assert (grown < 0.5 * grown_as_shown).all()
    place = torch.zeros(1, 1, SIDE, SIDE)
    place[..., 3:5, 2:4] = 1
    spot = 4 * place * random(1, D, 1, 1, seed=98).abs()
    assert (term(batch(of(seen.z + spot))) > term(batch(seen))).all()


@pytest.mark.parametrize("name", POSITIONS)
def test_where_normals_vary_more_the_same_change_says_less(name: str) -> None:
    """As where a side marker or an arm comes and goes: here, below the middle."""
    known, term = examples(), TERMS[name].module(settings(), LAYOUT)
    restless = (torch.arange(SIDE) >= SIDE // 2).float()[:, None]
    now_and_then = (torch.arange(NORMALS) % 4 == 0).float()[:, None, None, None]
    strange = 4 * now_and_then * restless * random(NORMALS, D, SIDE, SIDE, seed=12)
    term.fit(replace(known, clean=of(known.clean.z + strange)))
    assert isinstance(term, WeighedPositions)
    inside, quiet = region(1)[0] > 0.5, term.variance[:2].mean()
    assert term.variance[-2:].mean() > 1.5 * quiet
    seen = images()
    expected = (term.raw(seen) - term.level) / term.variance
    torch.testing.assert_close(term.map(batch(seen))[:, inside], expected[:, inside])


def test_relative_variance_is_1_where_positions_are_alike_and_the_ratio_where_they_differ() -> None:
    values, weight = random(40_000, SIDE, SIDE), torch.ones(40_000, SIDE, SIDE)
    torch.testing.assert_close(relative_variance(values, weight), torch.ones(SIDE, SIDE), rtol=0.05, atol=0)
    values[:, :, SIDE // 2 :] *= 3
    found = relative_variance(values, weight)
    torch.testing.assert_close(found[:, -2] / found[:, 1], torch.full((SIDE,), 9.0), rtol=0.05, atol=0)


def test_few_normals_say_little_of_a_position_and_none_say_nothing() -> None:
    """Each position's variance is pulled towards that of all, which is 1 here."""
    weight = torch.ones(10, SIDE, SIDE)
    weight[:, :, :3] = 0
    values = random(10, SIDE, SIDE) * torch.linspace(0.1, 2, SIDE)
    found, alone = relative_variance(values, weight), values[:, :, 3:].var(dim=0, correction=0)
    torch.testing.assert_close(found[:, :2], torch.ones(SIDE, 2))
    overall = ((values - values[:, :, 3:].mean())[:, :, 3:]).square().mean()
    share = 10 / (10 + PRIOR_NORMALS)
    assert (found[:, 5] < 1 + share * alone.amax() / overall).all()
    assert found[:, -1].mean() > found[:, 4].mean()


@pytest.mark.parametrize("name", DESCRIBED)
def test_neighbours_in_a_batch_do_not_matter(terms: dict[str, TermModule], name: str) -> None:
    seen = images()
    alone = torch.cat([terms[name](batch(seen.at(torch.tensor([i])))) for i in range(len(seen))])
    torch.testing.assert_close(terms[name](batch(seen)), alone, rtol=1e-4, atol=1e-4)


def test_the_map_of_the_pooled_filter_adds_up_to_its_measure(terms: dict[str, TermModule]) -> None:
    term, seen = terms["pooled_filter"], images()
    expected = term(batch(seen)) + term.get_buffer("centre")
    torch.testing.assert_close(term.map(batch(seen)).sum(dim=(1, 2)), expected, rtol=1e-4, atol=1e-4)


def test_the_map_of_the_pooled_energy_adds_up_to_the_regions_energy(terms: dict[str, TermModule]) -> None:
    term, seen = terms["pooled_energy"], images()
    measure = term(batch(seen))
    assert measure.shape == (len(seen), 3)
    torch.testing.assert_close(term.map(batch(seen)).sum(dim=(1, 2)), measure[:, 0].exp(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", MIRROR)
def test_what_moves_both_sides_alike_is_not_seen_by_mirror_terms(terms: dict[str, TermModule], name: str) -> None:
    """Another exposure or age: all that is added to every position."""
    seen, change = images(), random(5, D, 1, 1, seed=8)
    both = of(seen.z + change)
    torch.testing.assert_close(terms[name](batch(both)), terms[name](batch(seen)), rtol=1e-3, atol=ATOL)
    torch.testing.assert_close(terms[name].map(batch(both)), terms[name].map(batch(seen)), rtol=1e-3, atol=ATOL)
    one = of(seen.z + change * (torch.arange(SIDE) < SIDE // 2))
    assert not torch.allclose(terms[name](batch(one)), terms[name](batch(seen)), atol=0.1)


def test_a_symmetric_change_is_not_seen_by_the_mirror_difference(terms: dict[str, TermModule]) -> None:
    """Not even a lesion: all that is equal to its own mirror image."""
    term, seen, change = terms["mirror_difference"], images(), random(5, D, SIDE, SIDE, seed=8)
    both = of(seen.z + change + change.flip(3))
    torch.testing.assert_close(term(batch(both)), term(batch(seen)), rtol=1e-3, atol=ATOL)
    torch.testing.assert_close(term.map(batch(both)), term.map(batch(seen)), rtol=1e-3, atol=ATOL)
    assert not torch.allclose(term(batch(of(seen.z + change))), term(batch(seen)), atol=0.1)


def test_a_symmetric_image_is_as_far_as_the_normals_mean_difference(terms: dict[str, TermModule]) -> None:
    """Whatever it shows."""
    term, half = terms["mirror_difference"], random(2, D, SIDE, SIDE, seed=9)
    first, second = term.map(batch(of(half + half.flip(3))))
    torch.testing.assert_close(first, second, rtol=1e-3, atol=ATOL)


@pytest.mark.parametrize("name", MIRROR)
def test_an_image_that_differs_from_its_mirror_image_as_normals_do_is_at_distance_0(
    terms: dict[str, TermModule], name: str
) -> None:
    """The filter takes the least of some positions, so it is there or below."""
    term, away = terms[name], Described(torch.zeros(1, D, SIDE, SIDE), region(1))
    channels = slice(-len(term.get_buffer("mean")[0]), None) if name == "mirror_filter" else LAYOUT.deep
    away.z[:, channels] = term.get_buffer("mean") / 2  # less its own mirror image, which is its negative: the mean
    assert isinstance(term, WeighedPositions)
    at_normals = term.raw(away)
    assert (at_normals <= (ATOL if name == "mirror_filter" else math.log(1e-2) + ATOL)).all()


@pytest.mark.parametrize("moved", [(0, 0), (0, 1), (1, -1)])
def test_tissue_whose_like_lies_within_a_position_of_its_mirror_image_passes_the_mirror_filter(
    terms: dict[str, TermModule], moved: tuple[int, int]
) -> None:
    """Of normals whose sides are alike on average: no registration of the sides is perfect."""
    left = random(2, D, SIDE, SIDE, seed=9)
    of_alike = deepcopy(terms["mirror_filter"])
    of_alike.get_buffer("mean").zero_()
    right = left.flip(3).roll(moved, (2, 3))
    asymmetric = of(torch.where(torch.arange(SIDE) < SIDE // 2, left, right))
    inside = region(2)[:, 2:-2, [2, 5]] > 0.5  # away from the midline, where a side meets what was moved
    assert isinstance(of_alike, WeighedPositions)
    found = of_alike.raw(asymmetric)[:, 2:-2, [2, 5]][inside]
    assert (found <= ATOL).all()
    far = of_alike.raw(of(random(2, D, SIDE, SIDE, seed=10)))[:, 2:-2, [2, 5]][inside]
    assert far.amax() > 0.1


@pytest.mark.parametrize("name", DESCRIBED)
def test_anomalies_as_those_that_it_was_fitted_on_are_above_normals(terms: dict[str, TermModule], name: str) -> None:
    z = normals(NORMALS, 51)
    plain, changed = (terms[name](batch(of(part))).reshape(NORMALS, -1).mean(dim=1) for part in (z, z + lesion(52)))
    assert (changed > plain).float().mean() > 0.9


@pytest.mark.parametrize("name", DESCRIBED)
def test_channels_units_do_not_matter(name: str) -> None:
    """Measures are the same if each channel is measured in another unit, and the term is fitted so, too."""
    unit = random(1, D, 1, 1, seed=11).exp()

    def scaled(described: Described) -> Described:
        return Described(unit * described.z, described.weight)

    known, term = examples(), TERMS[name].module(settings(), LAYOUT)
    term.fit(
        replace(
            known,
            clean=scaled(known.clean),
            changed=scaled(known.changed),
            recaptured=scaled(known.recaptured),
        )
    )
    torch.testing.assert_close(term(batch(scaled(images()))), fitted(name)(batch(images())), rtol=1e-2, atol=1e-2)


def test_directions_have_spread_1_over_normals() -> None:
    normal, deltas = random(4000, 6) @ random(6, 6, seed=1), 3 * random(200, 6, seed=2)
    directions = lesion_directions(normal, torch.zeros(10, 6), deltas, 3)
    along = normal @ directions.T
    assert (along.std(dim=0) < 1.05).all()  # less than 1: the covariance is pulled towards the identity
    assert (along.std(dim=0) > 0.5).all()


def test_what_another_capture_changes_is_no_direction_of_lesions() -> None:
    """Nor is it where anomalies change the same, if they change something else as well."""
    normal, capture, lesions = random(4000, 6), torch.zeros(6), torch.zeros(6)
    capture[0], lesions[0], lesions[1] = 30.0, 5.0, 3.0
    deltas = lesions * (1 + 0.1 * random(200, 6, seed=2))
    recapture = capture * random(100, 6, seed=3)
    plain = lesion_directions(normal, torch.zeros(10, 6), deltas, 1)[0]
    robust = lesion_directions(normal, recapture, deltas, 1)[0]
    assert plain[0].abs() > plain[1].abs()
    assert robust[0].abs() < 0.05 * robust[1].abs()


@pytest.mark.parametrize("name", [*DESCRIBED, "flow"])
def test_a_standardised_map_has_mean_0_and_spread_1(terms: dict[str, TermModule], name: str) -> None:
    term = terms.get(name) or TERMS[name].module(settings(), LAYOUT)
    seen = batch(images(), Latent([random(5, 6, SIDE, SIDE)], [random(5, SIDE, SIDE, seed=1)]))
    values = term.map(seen)
    before = term.map_mean.clone(), term.map_std.clone()
    term.map_mean.copy_(values.mean())
    term.map_std.copy_(values.std())
    standard = term.standardised_map(seen)
    for buffer, value in zip((term.map_mean, term.map_std), before, strict=True):
        buffer.copy_(value)
    assert float(standard.mean()) == pytest.approx(0, abs=1e-4)
    assert float(standard.std()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("name", DESCRIBED)
def test_loaded_weights_give_the_same_measures(terms: dict[str, TermModule], name: str) -> None:
    other = TERMS[name].module(settings(), LAYOUT)
    assert not torch.equal(other(batch(images())), terms[name](batch(images())))
    other.load_state_dict(terms[name].state_dict())
    assert torch.equal(other(batch(images())), terms[name](batch(images())))
    assert torch.equal(other.map(batch(images())), terms[name].map(batch(images())))


VIEWS: dict[str, Callable[[Tensor, Tensor], list[Tensor]]] = {
    "region": lambda z, w: [(z * w).sum(dim=(2, 3)) / w.sum(dim=(2, 3))],
    "quarters": lambda z, w: [
        (z * w)[:, :, a, b].sum(dim=(2, 3)) / w[:, :, a, b].sum(dim=(2, 3))
        for a in (slice(4), slice(4, None))
        for b in (slice(4), slice(4, None))
    ],
    "sides": lambda z, w: [
        (z * w)[..., :4].sum(dim=(2, 3)) / w[..., :4].sum(dim=(2, 3))
        - (z * w)[..., 4:].sum(dim=(2, 3)) / w[..., 4:].sum(dim=(2, 3))
    ],
}


@pytest.mark.parametrize("view", VIEWS)
def test_region_means_are_weighted_means(view: str) -> None:
    z, weight = random(3, 5, SIDE, SIDE), torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    expected = torch.cat(VIEWS[view](z, weight[:, None]), dim=1)
    torch.testing.assert_close(region_means(z, view_weights(view, weight)), expected, rtol=1e-4, atol=1e-5)


def test_the_weights_of_flow_and_reconstruction_share_1_and_alone_the_flow_has_all() -> None:
    both = make_settings("aeflow-1", beta=0.7)
    assert [TERMS[name].weight(both) for name in ("flow", "reconstruction")] == pytest.approx([0.7, 0.3])
    assert TERMS["flow"].weight(settings(terms=("flow", "pooled_energy"))) == 1
    assert all(TERMS[name].weight(settings()) == 1 for name in DESCRIBED)


def test_intensities_are_the_last_channels() -> None:
    assert len(range(*LAYOUT.appearance.indices(D))) == D - INTENSITIES == 28
    assert range(*LAYOUT.deep.indices(D)).start == 4
