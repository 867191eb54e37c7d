"""Explanation of a score: the terms that drove it, the image's healthy counterpart, and the normals most like it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aeflow._types import Floats32
from aeflow.artifacts.layout import NORMALS
from aeflow.artifacts.reference_normals import NearNormal, ReferenceNormals
from aeflow.artifacts.run import Artifact
from aeflow.calibration.calibration import Calibration
from aeflow.data.slices import one_image
from aeflow.errors import SettingsError
from aeflow.imageio.errors import ImageError
from aeflow.model.generate import healthy, sample
from aeflow.model.pooling import pool
from aeflow.model.terms import TERMS
from aeflow.scoring.scorer import Score, score

GENERATED = 32  # normals that are generated, to find the nearest among them
# AUROC with which the counterpart must have shown synthetic anomalies of held-out normals to be drawn.
LEAST_SHOWN = 0.8
SHOWN = 3  # nearest normals of either source


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """A score, and what explains it."""

    score: Score  # with maps and pictures
    threshold: float
    contributions: dict[str, float]  # of each term; they add up to the score less that of the average held-out normal
    healthy: Floats32  # (3, H, W) in [0, 1], the healthy counterpart
    normals: list[NearNormal]  # nearest train normals; empty if the run folder does not hold them
    generated: list[NearNormal]  # of GENERATED generated normals those nearest to the reconstruction
    notes: list[str]
    shows_counterpart: bool = True  # if the counterpart shows anomalies of this model; else it is left out

    @property
    def difference(self) -> Floats32:
        """``|reconstruction - healthy counterpart|``, mean over the colours, (H, W)."""
        found: Floats32 = np.abs(self.score.pictures[1] - self.healthy).mean(axis=0)
        return found

    @property
    def shares(self) -> dict[str, float]:
        """Share of each term in all that moved the score; they add up to one."""
        total = sum(map(abs, self.contributions.values())) or 1.0
        return {name: abs(value) / total for name, value in self.contributions.items()}

    @property
    def finding(self) -> str:
        """What drove the score, in a sentence."""
        side = 1 if sum(self.contributions.values()) > 0 else -1
        driver = max(self.contributions, key=lambda name: side * self.contributions[name])
        than = "above" if side > 0 else "below"
        return f"{than} the average normal image, most by the {words_of(driver)} ({self.shares[driver]:.0%})"

    @property
    def readings(self) -> list[str]:
        """Each term in plain words with its value in standard deviations of held-out normals, the largest first."""
        falling = sorted(self.contributions, key=lambda name: -self.contributions[name])
        return [f"{words_of(name)} {self.score.terms[name]:+.1f}" for name in falling]

    def to_json(self) -> dict[str, Any]:
        """Return plain values; near normals by number."""

        def plain(found: list[NearNormal]) -> list[dict[str, Any]]:
            return [{"number": normal.number, "distance": normal.distance} for normal in found]

        terms = self.score.terms
        return {
            "score": self.score.value,
            "p_value": self.score.p_value,
            "verdict": self.score.verdict,
            "outside": list(self.score.outside),
            "threshold": self.threshold,
            "finding": self.finding,
            "readings": self.readings,
            "terms": {
                name: {"value": terms[name], "contribution": value, "share": self.shares[name]}
                for name, value in self.contributions.items()
            },
            "posterior": self.score.posterior,
            "nearest_normals": plain(self.normals),
            "nearest_generated": plain(self.generated),
            "notes": self.notes,
        }


def explain(artifact: Artifact, path: Path | str, run: Path, slice_number: int | None = None) -> Explanation:
    """Explain the score of one image, or of one slice (from 1) of a volume.

    The train normals are looked for in the folder ``run``. Raises ImageError if the image cannot be read.
    """
    record = one_image(path, artifact.settings.slice_axis, slice_number)
    [(_, result)] = score(artifact.scorer, [record], maps=True, pictures=True)
    if isinstance(result, ImageError):
        raise result
    net = artifact.net
    x, x_hat = (torch.from_numpy(picture[None]).to(artifact.device) for picture in result.pictures)

    def features(images: Tensor) -> list[Tensor]:
        return net.flow_features(net.seen(images))

    s, s_hat = (pool(features(images))[0].cpu() for images in (x, x_hat))
    table = ReferenceNormals.load(run, len(s))
    generated = sample(net, GENERATED, component_of(artifact, "normal"))
    table_of_generated = ReferenceNormals.of(features(generated), generated)
    return Explanation(
        score=result,
        threshold=artifact.calibration.threshold,
        contributions=contributions(artifact.calibration, result),
        healthy=healthy(net, x, artifact.calibration.map_limits["anomaly"])[0].cpu().numpy(),
        normals=[] if table is None else table.nearest(s, SHOWN),
        generated=table_of_generated.nearest(s_hat, SHOWN),  # both come from the decoder
        shows_counterpart=(artifact.metadata.get("counterpart_auroc") or 1.0) >= LEAST_SHOWN,
        notes=[] if table is not None else [f"no train normals to compare with: {run} holds no {NORMALS}"],
    )


def words_of(term: str) -> str:
    """Return what a term measures, in plain words."""
    return TERMS[term].words if term in TERMS else "evidence of the learnt classes"


def contributions(calibration: Calibration, result: Score) -> dict[str, float]:
    """Return ``weight * (term - its mean over held-out normals)`` of each term, weights as in ``Calibration.value``."""

    def value(terms: dict[str, float]) -> float:
        return float(calibration.value({name: np.array([term]) for name, term in terms.items()})[0])

    zero = dict.fromkeys(result.terms, 0.0)
    weights = {name: value({**zero, name: 1.0}) - value(zero) for name in result.terms}
    means = zero | {name: scale.mean for name, scale in calibration.term_scales.items()}  # the posterior's is 0
    return {name: weights[name] * (term - means[name]) for name, term in result.terms.items()}


def kinds_of(artifact: Artifact) -> list[str]:
    """Return ``normal`` and the kinds of abnormality that the model has learnt."""
    posterior = artifact.calibration.posterior
    return ["normal", *([] if posterior is None else posterior.kinds)]


def component_of(artifact: Artifact, kind: str) -> int | None:
    """Return the component of a kind that the model has learnt; None for a model that knows none, whose kind is normal.

    Raises SettingsError for a kind that the model does not know.
    """
    kinds = kinds_of(artifact)
    if kind not in kinds:
        raise SettingsError("kind", f"no kind named {kind!r}", f"this model knows {', '.join(kinds)}")
    return kinds.index(kind) if artifact.net.knows_kinds else None
