"""Upgrade of runs of earlier versions (schemas 5 and 6) to the present one; scores stay equal to the last bit."""

from __future__ import annotations

from typing import Any

SCHEMA, OLD_SCHEMAS = 7, (5, 6)


def upgraded(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a ``model.json`` in today's names; its checksum stays that of the file.

    Raises KeyError or TypeError if it lacks what its schema holds.
    """
    if metadata["schema"] not in OLD_SCHEMAS:
        return metadata
    return _of_the_whole_image(_in_terms(metadata) if metadata["schema"] == 5 else metadata)


def _of_the_whole_image(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return schema 7: the score of schema 6 was AE-FLOW's two terms on the whole image."""
    settings = metadata["settings"] | {"region": "none", "terms": ["flow", "reconstruction"]}
    settings |= {"decoder_type": "transposed"}
    return metadata | {"schema": SCHEMA, "settings": settings, "intended": metadata["intended"] | {"region": None}}


def _in_terms(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return schema 6."""
    new = {**metadata, "schema": 6, "settings": dict(metadata["settings"]), "labelled_set": metadata["lesson"]}
    del new["lesson"]
    # The former prior "gmm" is a classifier on pooled features; the flow's own prior was the standard normal all along.
    new["settings"] |= {"prior": "normal", "classifier": {"normal": "none", "gmm": "mixture"}[new["settings"]["prior"]]}
    new["calibration"] = _calibration(metadata["calibration"])
    return new


def upgraded_names(tensors: dict[str, Any]) -> dict[str, Any]:
    """Return the tensors of a ``model.safetensors`` of any schema by today's names."""
    renamed = {
        "usual": "terms.reconstruction.mean_image",
        "mean_image": "terms.reconstruction.mean_image",
        "decoder.usual": "decoder.mean_image",
    }
    tensors = {renamed.get(name, name.replace("whole.", "latent_pca.", 1)): tensor for name, tensor in tensors.items()}
    for name in ("map_mean", "map_std"):
        if name in tensors:
            both = tensors.pop(name)
            tensors |= {f"terms.flow.{name}": both[0], f"terms.reconstruction.{name}": both[1]}
    return tensors


def _calibration(old: dict[str, Any]) -> dict[str, Any]:
    """Return a calibration whose two terms were fields of its own."""
    terms = ("beta", "two_sided", "stages", "flow", "reconstruction")
    beta, scores = old["beta"], old["scores"]
    # The score's mean over held-out normals is the sum of the terms' means; a posterior keeps that of its part.
    mean = sum(scores) / len(scores) if old["posterior"] is None else old["posterior"]["normals_only"][0]
    flow_mean = 0.0 if old["standardise"] else sum(stage[0] for stage in old["stages"]) / len(old["stages"])
    flow = {"weight": beta, "two_sided": False, "columns": old["stages"], "spread": old["flow"], "mean": flow_mean}
    reconstruction = {
        "weight": 1 - beta,
        "two_sided": old["two_sided"],
        "columns": None,
        "spread": old["reconstruction"],
        "mean": (mean - beta * flow_mean) / (1 - beta) if beta < 1 else 0.0,
    }
    kept = {name: value for name, value in old.items() if name not in terms}
    return kept | {"term_scales": {"flow": flow, "reconstruction": reconstruction}}
