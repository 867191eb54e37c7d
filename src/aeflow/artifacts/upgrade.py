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
    """Return a calibration of schema 5, where each term had fields of its own, with today's term scales."""
    terms = ("beta", "two_sided", "stages", "flow", "reconstruction")
    flow = {"weight": old["beta"], "two_sided": False, "columns": old["stages"], "spread": old["flow"]}
    reconstruction = {
        "weight": 1 - old["beta"],
        "two_sided": old["two_sided"],
        "columns": None,
        "spread": old["reconstruction"],
    }
    kept = {name: value for name, value in old.items() if name not in terms}
    return kept | {"term_scales": {"flow": flow, "reconstruction": reconstruction}}
