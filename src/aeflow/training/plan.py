"""Plan of the score: which terms count, from what the user says and what the train normals show.

Two things decide. The user knows if disease is diffuse (it changes much of the region) or focal (a spot); the train
normals show if left and right mirror each other. Nothing is set by hand for a set of images, and no abnormal image is
looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

from aeflow.config import Settings
from aeflow.model.described import AXES, INTENSITIES, Described

SYMMETRIC = 0.5  # least symmetry of the mean normal image with which sides are compared
DIFFUSE = ("pooled_filter", "pooled_energy")
FOCAL = ("lesion_residual", "mirror_difference", "mirror_filter")
UNKNOWN = ("flow", *DIFFUSE, "lesion_residual", "mirror_difference")
MIRRORED = ("mirror_difference", "mirror_filter")
BRIGHTNESS = 1 - INTENSITIES  # channel of the middle scale of brightness
COMPARED = ("pooled_filter",)  # terms that compare the region with tissue beside it


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What train normals show of themselves."""

    symmetries: dict[str, float]  # by axis, see ``symmetry_of``
    beside: bool  # if there is tissue beside the region

    @property
    def axis(self) -> str:
        """The axis across which normals are most symmetric; left-right if both are alike."""
        return max(self.symmetries, key=lambda axis: self.symmetries[axis])

    @property
    def symmetry(self) -> float:
        """Symmetry across that axis."""
        return self.symmetries[self.axis]


@dataclass(frozen=True, slots=True)
class Plan:
    """Terms that the score sums, and why, in words."""

    terms: tuple[str, ...]
    mirror_axis: str
    words: tuple[str, ...]


def fingerprint(normals: Described, beside: bool) -> Fingerprint:
    """Return the fingerprint of described train normals."""
    return Fingerprint({axis: symmetry_of(normals, dim) for axis, dim in AXES.items()}, beside)


def symmetry_of(normals: Described, dim: int) -> float:
    """Return ``1 - E (m_p - m'_p)^2 / (2 E (m_p - m)^2)`` of the mean normal image, m' its mirror image along ``dim``.

    m_p is the mean brightness at position p over the positions that count, m that of all. 1 if the two sides are
    alike; near 0 if positions mean nothing, or if the sides have nothing in common.
    """
    brightness = normals.z[:, [BRIGHTNESS]]
    weight = normals.weight[:, None]
    share = weight.mean(dim=0, keepdim=True)
    mean = (brightness * weight).sum(dim=0, keepdim=True) / weight.sum(dim=0, keepdim=True).clamp_min(1e-3)
    centre = (mean * share).sum() / share.sum().clamp_min(1e-6)
    both = share * share.flip(dim)
    across = ((mean - mean.flip(dim)).square() * both).sum() / both.sum().clamp_min(1e-6)
    spread = ((mean - centre).square() * share).sum() / share.sum().clamp_min(1e-6)
    return float(1 - across / (2 * spread).clamp_min(1e-9))


def plan_terms(settings: Settings, found: Fingerprint) -> Plan:
    """Return the terms for a kind of disease and a fingerprint of the normals."""
    asked = {"diffuse": DIFFUSE, "focal": FOCAL, "unknown": UNKNOWN}[settings.looks_for]
    left_out = {name for name in MIRRORED if found.symmetry < SYMMETRIC} | {
        name for name in COMPARED if not found.beside
    }
    if settings.prior != "normal" and "flow" not in asked:  # what was asked for counts
        asked = ("flow", *asked)
    terms = tuple(name for name in asked if name not in left_out)
    symmetric = f"{found.axis} symmetric ({found.symmetry:.2f})"
    if found.symmetry < SYMMETRIC:
        mirror = f"normals are not {symmetric}: no mirror image counts"
    elif any(name in terms for name in MIRRORED):
        mirror = f"normals are {symmetric}: the mirror image counts"
    else:
        mirror = f"normals are {symmetric}, but diffuse change is often on both sides: no mirror image counts"
    beside = (
        "brightness is compared with the tissue beside the region"
        if found.beside
        else "brightness is not compared with anything beside the region, which fills the picture"
    )
    sought = {
        "diffuse": "looks for diffuse change",
        "focal": "looks for focal change",
        "unknown": "looks for any change, focal or diffuse",
    }[settings.looks_for]
    return Plan(terms, found.axis, (f"{sought}: {', '.join(terms)}", mirror, beside))
