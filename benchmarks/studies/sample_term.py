"""Distance to normals that the model makes up, as a term of the score: measured, not built in.

    python -m benchmarks.studies.sample_term RUN --data FOLDER [--out benchmarks/results]

RUN is a model whose decoder reads the latent, as one of the preset aeflow-1.
Held-out train normals against train abnormals, at most 200 each; none of a patient who is in the test split or whose
labels the model learnt from. The term is the distance to the nearest of 64 made-up normals over pooled features in
standard deviations of the train normals. Three ways of making them up or replacing them:

- ``flow prior``: the latent is drawn at each position by itself.
- ``whole latents``: images of `Model.sample`; neighbours belong together.
- ``train normals``: 64 real ones, evenly chosen, as a control.

Each is compared with the image and, where it came out of the decoder, with the image's reconstruction. ``combined`` is
the AUROC of ``score + weight * term``, both in standard deviations of the held-out normals.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import aeflow
from aeflow._types import Floats
from aeflow.artifacts.reference_normals import ReferenceNormals
from aeflow.data.records import Record, of_label, read_records
from aeflow.data.splits import evenly, hold_out, leave_out_patients, shared_patients
from aeflow.features.cache import FeatureCache
from aeflow.metrics.image import auroc
from aeflow.model.aeflow import AEFlow
from aeflow.model.generate import BATCH, sample
from aeflow.model.pooling import pool
from aeflow.training.learn_classes import choose_labelled_set
from benchmarks.common import write_results
from benchmarks.inputs import labels_of, scores_of
from benchmarks.options import Parser

MAX_IMAGES, DRAWN = 200, 64
WEIGHTS = (0.1, 0.25, 0.5, 1.0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one model, and write the results."""
    parser = Parser("studies.sample_term", __doc__)
    parser.add_argument("run", type=Path)
    parser.share("--data", help="one data set", required=True)
    parser.share("--out")
    options = parser.parse_args(arguments)
    result = measure(aeflow.load(options.run, "cpu"), options.data)
    write_results(options.out / "sample_term.json", result)
    print(json.dumps(result, indent=1))


@torch.no_grad()
def measure(model: aeflow.Model, data: Path) -> dict[str, Any]:
    """Return the AUROC of score and terms, alone and combined."""
    started = time.perf_counter()
    net, settings = model.artifact.net, model.artifact.settings
    if net.decoder.reads_features:
        raise SystemExit(f"{model.run}: its decoder reads no latent; give a model of the preset aeflow-1")
    train = read_records(data, "train")
    kept, held = hold_out(of_label(train, 0), settings.held_out, settings.seed)
    abnormal, test = of_label(train, 1), read_records(data, "test")
    abnormal = leave_out_patients(abnormal, shared_patients(abnormal, test))
    if settings.classifier == "mixture":
        labelled = choose_labelled_set(data, train, test, kept, settings).records
        abnormal = leave_out_patients(abnormal, shared_patients(abnormal, labelled))
    records = evenly(held, MAX_IMAGES) + evenly(abnormal, MAX_IMAGES)
    labels = np.array(labels_of(records))

    values, of_image, of_reconstruction = scored(model, records)
    normals, _ = FeatureCache(net.front, settings.image_size).features(kept)
    table = ReferenceNormals.of_training(net, normals)
    std, mean = torch.std_mean(table.vectors, dim=0, correction=0)

    def nearest(s: Tensor, candidates: Tensor) -> Floats:
        return np.asarray(torch.cdist((s - mean) / std, (candidates - mean) / std).amin(dim=1).double().numpy())

    from_prior = pooled(net, of_flow_prior(net))
    from_latents = pooled(net, sample(net, DRAWN))
    terms = {
        "flow prior, image": nearest(of_image, from_prior),
        "flow prior, reconstruction": nearest(of_reconstruction, from_prior),
        "whole latents, image": nearest(of_image, from_latents),
        "whole latents, reconstruction": nearest(of_reconstruction, from_latents),
        "train normals, image": nearest(of_image, table.vectors[evenly(range(len(table.vectors)), DRAWN)]),
    }

    def standardised(v: Floats) -> Floats:
        return np.asarray((v - v[labels == 0].mean()) / v[labels == 0].std())

    return {
        "normals": int((labels == 0).sum()),
        "abnormal": int((labels == 1).sum()),
        "score": round(auroc(values, labels), 4),
        "terms": {
            name: {
                "alone": round(auroc(term, labels), 4),
                "combined": {
                    str(weight): round(auroc(standardised(values) + weight * standardised(term), labels), 4)
                    for weight in WEIGHTS
                },
            }
            for name, term in terms.items()
        },
        "seconds": round(time.perf_counter() - started, 1),
    }


def scored(model: aeflow.Model, records: list[Record]) -> tuple[Floats, Tensor, Tensor]:
    """Return scores (n,), and pooled features (n, D) of the images and of their reconstructions."""
    values, vectors = [], []
    for _, result in scores_of(model.scorer, records, pictures=True):
        values.append(result.value)
        vectors.append(pooled(model.artifact.net, torch.from_numpy(np.stack(result.pictures))))
    of_images, of_reconstructions = torch.stack(vectors, dim=1)
    return np.array(values), of_images, of_reconstructions


def pooled(net: AEFlow, x: Tensor) -> Tensor:
    """Return pooled features (n, D) of images at the stages of the flow."""
    return torch.cat([pool(net.flow_features(net.seen(part))) for part in torch.split(x, BATCH)])


def of_flow_prior(net: AEFlow) -> Tensor:
    """Return images of latents drawn at each position by itself, as the flow's prior has them."""
    prior: Any = net.prior
    noise = prior.sample(DRAWN, tuple(net.latent_pca.mean.shape), torch.Generator().manual_seed(0))
    return torch.cat([net.decode([u]) for u in torch.split(noise, BATCH)])


if __name__ == "__main__":
    main()
