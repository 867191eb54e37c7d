"""Upgrade of runs of the first release (schema 5) to the present one; weights and scores stay equal to the last bit."""

from __future__ import annotations

from typing import Any, TypeVar

SCHEMA, OLD_SCHEMA = 6, 5
T = TypeVar("T")


def upgraded(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a ``model.json`` in today's names; its checksum stays that of the file.

    Raises KeyError or TypeError if it lacks what schema 5 holds.
    """
    if metadata["schema"] != OLD_SCHEMA:
        return metadata
    new = {**metadata, "schema": SCHEMA, "settings": dict(metadata["settings"]), "labelled_set": metadata["lesson"]}
    del new["lesson"]
    # The former prior "gmm" is a classifier on pooled features; the flow's own prior was the standard normal all along.
    new["settings"] |= {"prior": "normal", "classifier": {"normal": "none", "gmm": "mixture"}[new["settings"]["prior"]]}
    new["calibration"] = _calibration(metadata["calibration"])
    return new


def upgraded_names(tensors: dict[str, T]) -> dict[str, T]:
    """Return the tensors of a ``model.safetensors`` of either schema by today's names."""
    renamed = {"usual": "mean_image", "decoder.usual": "decoder.mean_image"}
    return {renamed.get(name, name.replace("whole.", "latent_pca.", 1)): tensor for name, tensor in tensors.items()}


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
