"""What lies on disk beside a model's weights: its checked JSON, files written whole or not at all, and the cache.

Knows no network, so that a graph can be found and run without torch.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from aeflow.errors import ArtifactError

SCHEMA = 5
WEIGHTS, FACTS = "model.safetensors", "model.json"
HISTORY, EPOCH_SCORES = "history.csv", "epoch_scores.json"
EXPORT_SCHEMA = 3
EXPORT = "export.json"  # in the folder of an exported graph; holds the model's own facts under "model"
# What ``artifact.save`` writes into the facts by itself; the rest is told by whoever trained the model.
OWN = (
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
TRAIN = "restore it, or train again"


def cache_root() -> Path:
    """``$AEFLOW_CACHE``, else ``aeflow`` in the user's cache folder."""
    if "AEFLOW_CACHE" in os.environ:
        return Path(os.environ["AEFLOW_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aeflow"


def is_export(folder: Path) -> bool:
    """Whether a folder holds an exported graph and no run."""
    return (folder / EXPORT).is_file() and not (folder / FACTS).exists()


def run_of(export: Path, sha256: str) -> str:
    """Which run an export came from, as a person finds it: the folder around it, or else the checksum of its facts."""
    try:
        if read_facts(export.resolve().parent)["sha256"] == sha256:
            return str(export.resolve().parent)
    except ArtifactError:  # it was taken elsewhere
        pass
    return f"the one whose {FACTS} has the sha256 {sha256[:16]}..."


def read_facts(folder: Path) -> dict[str, Any]:
    """The checked content of a run's ``model.json``, which an export carries along."""
    if is_export(folder):
        facts: dict[str, Any] = read_export(folder)["model"]
        return facts
    return read_checked(folder, FACTS, SCHEMA, "give the folder that `aeflow train --out` wrote", TRAIN)


def read_export(folder: Path) -> dict[str, Any]:
    """The checked content of an exported graph's ``export.json``."""
    return read_checked(folder, EXPORT, EXPORT_SCHEMA, "give the folder that `aeflow export` wrote", "export it again")


def read_checked(folder: Path, name: str, schema: int, give: str, remedy: str) -> dict[str, Any]:
    """A JSON file that ``write_checked`` wrote; ArtifactError says how it is missing, damaged or of another version."""
    path = folder / name
    if not path.is_file():
        raise ArtifactError(folder, "no such folder" if not folder.is_dir() else f"holds no {name}", give)
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(path, "not valid JSON: truncated or damaged", remedy) from error
    if not isinstance(facts, dict) or "schema" not in facts or "sha256" not in facts:
        raise ArtifactError(path, "not written by aeflow", give)
    if facts["schema"] != schema:
        found = f"has schema {facts['schema']!r} where this version reads {schema}"
        raise ArtifactError(path, found, f"use the version of aeflow that wrote it, or {remedy.split(', or ')[-1]}")
    if digest({key: value for key, value in facts.items() if key != "sha256"}) != facts["sha256"]:
        raise ArtifactError(path, "damaged or edited by hand (checksum differs)", remedy)
    return facts


def write_checked(path: Path, facts: dict[str, Any]) -> None:
    """Plain values as JSON, with a checksum over all of them."""
    write_text(path, json.dumps({**facts, "sha256": digest(facts)}, indent=1, allow_nan=False))


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def digest(values: Any) -> str:
    """SHA-256 of plain values, in hex."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, allow_nan=False).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
