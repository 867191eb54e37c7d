"""Plan of the score: which terms count, from what the user says and what the train normals show.

Two things decide. The user knows if disease is diffuse (it changes much of the region) or focal (a spot); the train
normals show if left and right mirror each other. Nothing is set by hand for a set of images, and no abnormal image is
looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from aeflow.config import Settings
from aeflow.model.described import INTENSITIES, Described

SYMMETRIC = 0.9  # energy of differences from the own mirror image over those from another's; above, there is no mirror
DIFFUSE = ("pooled_filter", "pooled_energy")
FOCAL = ("lesion_residual", "mirror_difference", "mirror_filter")
MIRRORED = ("mirror_difference", "mirror_filter")
COMPARED = ("pooled_filter",)  # terms that compare the region with tissue beside it


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What train normals show of themselves."""

    asymmetry: float  # see ``asymmetry_of``; 1 if left and right have no more in common than two patients' have
    beside: bool  # if there is tissue beside the region

    @property
    def symmetric(self) -> bool:
        """If left and right mirror each other."""
        return self.asymmetry < SYMMETRIC


@dataclass(frozen=True, slots=True)
class Plan:
    """Terms that the score sums, and why, in words."""

    terms: tuple[str, ...]
    words: tuple[str, ...]


def fingerprint(normals: Described, beside: bool) -> Fingerprint:
    """Return the fingerprint of described train normals."""
    return Fingerprint(asymmetry_of(normals), beside)


def asymmetry_of(normals: Described) -> float:
    """Return ``E |z_p - z'_p|^2 / E |z_p - z'_p of the next image|^2`` over the positions that count.

    z' are mirrored descriptions; each of the encoder's channels is centred at each position, so that what all images
    share says nothing.
    """
    appearance = slice(0, -INTENSITIES)
    z, mirrored = normals.z[:, appearance], normals.mirrored[:, appearance]
    z, mirrored = z - z.mean(dim=0), mirrored - mirrored.mean(dim=0)
    weight = normals.weight * normals.weight.flip(2)
    own = _energy(z - mirrored, weight)
    of_another = _energy(z - mirrored.roll(1, dims=0), weight * weight.roll(1, dims=0))
    return own / max(of_another, 1e-12)


def _energy(difference: Tensor, weight: Tensor) -> float:
    squares = difference.square().sum(dim=1)
    return float((squares * weight).sum() / weight.sum().clamp_min(1e-6))


def plan_terms(settings: Settings, found: Fingerprint) -> Plan:
    """Return the terms for a kind of disease and a fingerprint of the normals."""
    asked = {"diffuse": DIFFUSE, "focal": FOCAL, "unknown": ("flow", *DIFFUSE, *FOCAL)}[settings.looks_for]
    left_out = {name for name in MIRRORED if not found.symmetric} | {name for name in COMPARED if not found.beside}
    terms = tuple(name for name in asked if name not in left_out)
    mirror = (
        f"left-right symmetric ({found.asymmetry:.2f}): the mirror image counts"
        if found.symmetric
        else f"not left-right symmetric ({found.asymmetry:.2f}): no mirror image counts"
    )
    beside = (
        "there is tissue beside the region: its brightness is the reference"
        if found.beside
        else "nothing lies beside the region to compare its brightness with"
    )
    sought = {
        "diffuse": "looks for diffuse change",
        "focal": "looks for focal change",
        "unknown": "looks for any change, focal or diffuse",
    }[settings.looks_for]
    return Plan(terms, (f"{sought}: {', '.join(terms)}", mirror, beside))
