"""What a network shows beside an image: its healthy counterpart, and the normals most like it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aeflow.artifacts.layout import NORMALS
from aeflow.artifacts.reference_normals import ReferenceNormals
from aeflow.artifacts.run import Artifact
from aeflow.errors import SettingsError
from aeflow.model.generate import healthy, sample
from aeflow.model.pooling import pool
from aeflow.results.explanation import Beside, Explanation, explain_score

GENERATED = 32  # normals that are generated, to find the nearest among them
# AUROC with which the counterpart must have shown synthetic anomalies of held-out normals to be drawn.
LEAST_SHOWN = 0.8
SHOWN = 3  # nearest normals of either source


def explain(artifact: Artifact, path: Path | str, run: Path, slice_number: int | None = None) -> Explanation:
    """Explain the score of one image, or of one slice (from 1) of a volume.

    The train normals are looked for in the folder ``run``. Raises ImageError if the image cannot be read.
    """
    explained = explain_score(artifact.scorer, path, slice_number)
    net, pictures = artifact.net, explained.score.pictures
    x, x_hat = (torch.from_numpy(picture[None]).to(artifact.device) for picture in pictures)

    def features(images: Tensor) -> list[Tensor]:
        return net.flow_features(net.seen(images))

    s, s_hat = (pool(features(images))[0].cpu() for images in (x, x_hat))
    table = ReferenceNormals.load(run, len(s))
    generated = sample(net, GENERATED, component_of(artifact, "normal"))
    table_of_generated = ReferenceNormals.of(features(generated), generated)
    counterpart = healthy(net, x, artifact.calibration.map_limits["anomaly"])[0].cpu().numpy()
    shown = artifact.metadata.get("counterpart_auroc") or 1.0
    beside = Beside(
        healthy=counterpart,
        difference=np.abs(pictures[1] - counterpart).mean(axis=0),
        normals=[] if table is None else table.nearest(s, SHOWN),
        generated=table_of_generated.nearest(s_hat, SHOWN),  # both come from the decoder
        shows_counterpart=shown >= LEAST_SHOWN,
        usual_distance=None if table is None else table.usual_distance(),
    )
    notes = [] if table is not None else [f"no train normals to compare with: {run} holds no {NORMALS}"]
    if not beside.shows_counterpart:
        found = f"found by it with an AUROC of {shown:.2f}, where {LEAST_SHOWN:g} is needed"
        notes.append(
            f"no healthy counterpart is drawn, since this model's would mislead: synthetic anomalies are {found}"
        )
    return replace(explained, beside=beside, notes=notes)


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
