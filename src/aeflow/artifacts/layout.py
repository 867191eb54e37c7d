"""What lies on disk beside a model's weights: its checked JSON, files written whole or not at all, and the cache.

Knows no network, so that a graph can be found and run without torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aeflow.errors import ArtifactError
from aeflow.runtime.files import digest, write_text

SCHEMA = 5
WEIGHTS, MODEL_JSON = "model.safetensors", "model.json"
HISTORY, EPOCH_SCORES = "history.csv", "epoch_scores.json"
EXPORT_SCHEMA = 3
EXPORT = "export.json"  # in the folder of an exported graph; holds the model's own metadata under "model"
# What ``artifact.save`` writes into the metadata by itself; the rest is told by whoever trained the model.
WRITTEN_BY_SAVE = (
    "schema",
    "settings",
    "encoder",
    "classes",
    "calibration",
    "intended",
    "weights_sha256",
    "self_test",
    "versions",
    "sha256",
)
REMEDY_TRAIN = "restore it, or train again"


def is_export(folder: Path) -> bool:
    """Whether a folder holds an exported graph and no run."""
    return (folder / EXPORT).is_file() and not (folder / MODEL_JSON).exists()


def run_of(export: Path, sha256: str) -> str:
    """Which run an export came from, as a person finds it: the folder around it, or else the checksum of its metadata."""
    try:
        if read_metadata(export.resolve().parent)["sha256"] == sha256:
            return str(export.resolve().parent)
    except ArtifactError:  # it was taken elsewhere
        pass
    return f"the one whose {MODEL_JSON} has the sha256 {sha256[:16]}..."


def read_metadata(folder: Path) -> dict[str, Any]:
    """The checked content of a run's ``model.json``, which an export carries along."""
    if is_export(folder):
        metadata: dict[str, Any] = read_export(folder)["model"]
        return metadata
    return read_checked(folder, MODEL_JSON, SCHEMA, "give the folder that `aeflow train --out` wrote", REMEDY_TRAIN)


def read_export(folder: Path) -> dict[str, Any]:
    """The checked content of an exported graph's ``export.json``."""
    return read_checked(folder, EXPORT, EXPORT_SCHEMA, "give the folder that `aeflow export` wrote", "export it again")


def read_checked(folder: Path, name: str, schema: int, give: str, remedy: str) -> dict[str, Any]:
    """A JSON file that ``write_checked`` wrote; ArtifactError says how it is missing, damaged or of another version."""
    path = folder / name
    if not path.is_file():
        raise ArtifactError(folder, "no such folder" if not folder.is_dir() else f"holds no {name}", give)
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(path, "not valid JSON: truncated or damaged", remedy) from error
    if not isinstance(metadata, dict) or "schema" not in metadata or "sha256" not in metadata:
        raise ArtifactError(path, "not written by aeflow", give)
    if metadata["schema"] != schema:
        found = f"has schema {metadata['schema']!r} where this version reads {schema}"
        raise ArtifactError(path, found, f"use the version of aeflow that wrote it, or {remedy.split(', or ')[-1]}")
    if digest({key: value for key, value in metadata.items() if key != "sha256"}) != metadata["sha256"]:
        raise ArtifactError(path, "damaged or edited by hand (checksum differs)", remedy)
    return metadata


def write_checked(path: Path, metadata: dict[str, Any]) -> None:
    """Plain values as JSON, with a checksum over all of them."""
    write_text(path, json.dumps({**metadata, "sha256": digest(metadata)}, indent=1, allow_nan=False))
