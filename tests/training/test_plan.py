"""Plan of the score: sides are compared where normals mirror each other, and the kind of disease chooses the terms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from aeflow.config import make_settings
from aeflow.model.described import AXES, INTENSITIES, Described
from aeflow.training.plan import COMPARED, MIRRORED, SYMMETRIC, Fingerprint, fingerprint, plan_terms, symmetry_of

SIDE, D = 12, 4 + INTENSITIES
SYMMETRICAL, NOT_AT_ALL = {"left-right": 0.9, "up-down": 0.2}, {"left-right": 0.1, "up-down": 0.0}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def described(common: Tensor, noise: float = 0.5, n: int = 60, weight: Tensor | None = None) -> Described:
    """Normals with one common brightness (h, w) and noise."""
    z = common + noise * random(n, D, SIDE, SIDE, seed=1)
    return Described(z, torch.ones(n, SIDE, SIDE) if weight is None else weight.expand(n, SIDE, SIDE))


def left_right() -> Tensor:
    """A picture equal to its mirror image across left and right, and not across up and down."""
    picture = random(SIDE, SIDE)
    return picture + picture.flip(1)


def test_symmetric_normals_are_symmetric_whatever_noise_each_has() -> None:
    assert symmetry_of(described(left_right(), 0.0), AXES["left-right"]) == pytest.approx(1)
    found = fingerprint(described(left_right()), beside=True)
    assert found.axis == "left-right"
    assert found.symmetry > 0.9
    assert found.symmetries["up-down"] < SYMMETRIC


def test_symmetry_is_that_of_the_picture_in_any_unit_and_turned_the_other_way() -> None:
    plain = described(left_right())
    scaled = Described(3 * plain.z + 7, plain.weight)
    for dim in AXES.values():
        assert symmetry_of(scaled, dim) == pytest.approx(symmetry_of(plain, dim), abs=1e-4)
    turned = Described(plain.z.rot90(1, (2, 3)), plain.weight)
    assert symmetry_of(turned, AXES["up-down"]) == pytest.approx(symmetry_of(plain, AXES["left-right"]), abs=1e-4)


def test_what_does_not_count_has_no_say() -> None:
    weight = torch.ones(SIDE, SIDE)
    weight[:, :3] = weight[:, -3:] = 0
    plain = described(left_right(), weight=weight)
    other = Described(torch.where(weight > 0, plain.z, 50 * random(*plain.z.shape, seed=9)), plain.weight)
    for dim in AXES.values():
        assert symmetry_of(other, dim) == pytest.approx(symmetry_of(plain, dim), abs=1e-4)


def test_normals_turned_by_a_right_angle_are_compared_across_the_other_axis() -> None:
    settings = make_settings()
    upright = plan_terms(settings, fingerprint(described(left_right()), beside=True))
    lying = plan_terms(settings, fingerprint(described(left_right().rot90()), beside=True))
    assert (upright.mirror_axis, lying.mirror_axis) == ("left-right", "up-down")
    assert upright.terms == lying.terms
    assert "mirror_difference" in upright.terms


@pytest.mark.parametrize("common", [torch.zeros(SIDE, SIDE), random(SIDE, SIDE, seed=3)])
def test_noise_and_pictures_without_symmetry_have_no_mirror(common: Tensor) -> None:
    found = fingerprint(described(common), beside=True)
    assert found.symmetry < SYMMETRIC
    for kind in ("diffuse", "focal", "unknown"):
        plan = plan_terms(make_settings(looks_for=kind), found)
        assert not {*plan.terms} & {*MIRRORED}
        assert any("no mirror image counts" in line for line in plan.words)


@pytest.mark.parametrize(
    ("kind", "terms"),
    [
        ("diffuse", ("pooled_filter", "pooled_energy")),
        ("focal", ("lesion_residual", "mirror_difference", "mirror_filter")),
        ("unknown", ("flow", "pooled_filter", "pooled_energy", "lesion_residual", "mirror_difference")),
    ],
)
def test_the_kind_of_disease_chooses_the_terms(kind: str, terms: tuple[str, ...]) -> None:
    settings = make_settings(looks_for=kind)
    whole = plan_terms(settings, Fingerprint(SYMMETRICAL, beside=True))
    assert whole.terms == terms
    alone = plan_terms(settings, Fingerprint(SYMMETRICAL, beside=False))  # as the body is: only air beside it
    assert alone.terms == tuple(name for name in terms if name not in COMPARED)
    assert "pooled_filter" not in alone.terms
    least = plan_terms(settings, Fingerprint(NOT_AT_ALL, beside=False))
    assert least.terms == tuple(name for name in terms if name not in (*COMPARED, *MIRRORED))
    assert least.terms  # something is left to look at
    assert all(", ".join(plan.terms) in plan.words[0] for plan in (whole, alone, least))
    for plan in (whole, alone, least):  # it is said only where it is so
        assert ("the mirror image counts" in plan.words[1]) == any(name in MIRRORED for name in plan.terms)
