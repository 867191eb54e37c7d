"""Posterior of the classes: their term, the probability of each, and their part in the score.

``z_f`` is the normals-only score and ``z_c`` the classes' evidence, both in standard deviations of held-out normals.
``value = (1 - w) z_f + w z_c``, and ``logit p(abnormal) = d / v (z_c - d / 2) + logit(share)``: two Gaussians on a
line, ``d`` apart, of mean variance ``v``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from aeflow._types import Floats
from aeflow.errors import DataError

EXPECTED_SEPARATION = 2.0  # of abnormal from normal in standard deviations, before any abnormal image was seen
EXPECTED_COUNTS = 3.0  # images that this expectation counts as
# The normals-only score always counts: it alone finds kinds that nobody labelled. And the evidence of abnormal images
# that were found in the pool is too high, because they were found by it. On train folders 0.5 to 0.8 ranked best.
MAX_WEIGHT = 0.7


@dataclass(frozen=True, slots=True)
class Posterior:
    """Term of the classes, fitted on held-out normals, and abnormal images judged by mixtures fitted without them."""

    kinds: list[str]
    normals_only: tuple[float, float]  # mean and std of the normals-only score of held-out normals
    evidence: tuple[float, float]  # and of the evidence
    weight: float  # w
    separation: float  # d
    variance: float  # v
    abnormal_share: float  # prior probability of an abnormal image

    def term(self, log_ratios: Floats) -> Floats:
        """Return the term ``z_c`` (n,) of log-ratios (n, kinds)."""
        return (evidence_of(log_ratios) - self.evidence[0]) / self.evidence[1]

    def value(self, normals_only: Floats, term: Floats) -> Floats:
        """Return the score (n,), higher for more abnormal; never clamped."""
        base = (normals_only - self.normals_only[0]) / self.normals_only[1]
        return (1 - self.weight) * base + self.weight * term

    def probability(self, term: Floats) -> Floats:
        """Return ``p(abnormal)`` (n,) under ``abnormal_share``, from the classes' evidence alone."""
        slope = self.separation / self.variance
        odds = np.log(self.abnormal_share) - np.log1p(-self.abnormal_share)
        return np.asarray(np.exp(-np.logaddexp(0, -(slope * (term - self.separation / 2) + odds))))

    def probabilities(self, log_ratios: Floats) -> list[dict[str, float]]:
        """Return ``p(class)`` of each image: ``normal`` and every kind."""
        abnormal = self.probability(self.term(log_ratios))
        # In so many directions raw ratios are too extreme; the two Gaussians on the line say by how much.
        tempered = log_ratios * self.separation / self.variance / self.evidence[1]
        among = np.exp(tempered - np.logaddexp.reduce(tempered, axis=1, keepdims=True))
        return [
            {"normal": float(1 - p), **{kind: float(p * a) for kind, a in zip(self.kinds, row, strict=True)}}
            for p, row in zip(abnormal, among, strict=True)
        ]

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Rebuild from plain values; raises KeyError, TypeError or ValueError if they do not fit."""
        pairs = {name: tuple(map(float, values[name])) for name in ("normals_only", "evidence")}
        return cls(**{**values, **pairs})


def evidence_of(log_ratios: Floats) -> Floats:
    """Return ``log p(s | abnormal) - log p(s | normal)`` (n,) of the kinds' log-ratios (n, kinds)."""
    return np.asarray(np.logaddexp.reduce(log_ratios, axis=1))


def fit_posterior(
    kinds: Sequence[str],
    normals: tuple[Floats, Floats],
    abnormal: tuple[Floats, Floats, Floats],
    abnormal_share: float,
) -> Posterior:
    """Fit on held-out normals and on abnormal images.

    ``normals``: normals-only scores (n,) and log-ratios (n, kinds). ``abnormal``: normals-only scores, out-of-fold
    judgements and probabilities of being abnormal, (m,) each.

    ``w`` is Fisher's discriminant in the plane ``(z_f, z_c)`` with the covariance of the normals. Both means start
    ``EXPECTED_SEPARATION`` from normal, so that a handful of images cannot decide alone. Raises DataError if the
    evidence does not vary.
    """
    base, evidence = normals[0], evidence_of(normals[1])
    spreads = [(float(v.mean()), float(v.std(ddof=1))) for v in (base, evidence)]
    if not spreads[1][1] > 0:
        raise DataError("train", "the classes say the same of all held-out normals", "give images that differ")
    correlation = float(np.clip(np.corrcoef(base, evidence)[0, 1], -0.9, 0.9))
    scores, judged, counts = abnormal
    seen = np.stack([(scores - spreads[0][0]) / spreads[0][1], judged])
    total = counts.sum() + EXPECTED_COUNTS
    f, c = (seen @ counts + EXPECTED_COUNTS * EXPECTED_SEPARATION) / total
    spread = (counts @ np.square(judged - c) + EXPECTED_COUNTS) / total
    pull = np.maximum([f - correlation * c, c - correlation * f], 0)
    weight = pull[1] / pull.sum() if pull.sum() > 0 else 0.0
    return Posterior(
        kinds=list(kinds),
        normals_only=spreads[0],
        evidence=spreads[1],
        weight=float(min(weight, MAX_WEIGHT)),
        separation=float(max(c, 0.0)),
        variance=float((1 + spread) / 2),
        abnormal_share=abnormal_share,
    )
