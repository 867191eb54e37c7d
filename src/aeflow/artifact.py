"""A trained model on disk: ``model.safetensors`` (every tensor, the encoder's too) and ``model.json`` (all the rest).

Both carry a SHA-256, so a damaged file is refused before it gives a number. Nothing in a run is a pickle.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from aeflow.calibrate import Calibration
from aeflow.config import Settings
from aeflow.errors import AeflowError, ArtifactError
from aeflow.intended import Intended
from aeflow.model.aeflow import AEFlow
from aeflow.model.classes import ClassMixture
from aeflow.model.encoder import Encoder

SCHEMA = 3
WEIGHTS, FACTS = "model.safetensors", "model.json"
INTENDED = "intended."  # what the names of its tensors begin with
SELF_TEST_IMAGES = 4


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model that is ready to score."""

    net: AEFlow
    settings: Settings
    calibration: Calibration
    intended: Intended
    facts: dict[str, Any] = field(default_factory=dict)  # training data, versions, self-test; see docs/design.md

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device


def save(artifact: Artifact, run: Path) -> None:
    """Write both files of a run, each whole or not at all."""
    run.mkdir(parents=True, exist_ok=True)
    temporary = run / f"{WEIGHTS}.part"
    tensors = {
        **artifact.net.state_dict(),
        **{INTENDED + name: value for name, value in artifact.intended.tensors().items()},
    }
    save_file({key: value.contiguous().cpu() for key, value in tensors.items()}, temporary)
    facts = {
        "schema": SCHEMA,
        "settings": artifact.settings.model_dump(mode="json"),
        "encoder": {"name": artifact.net.encoder.name, "sha256": artifact.net.encoder.fingerprint()},
        "classes": _shape(artifact.net.classes),
        "calibration": artifact.calibration.to_json(),
        "intended": artifact.intended.to_json(),
        "weights_sha256": _file_digest(temporary),
        "self_test": self_test(artifact),
        "versions": {name: version(name) for name in ("aeflow", "torch", "timm", "numpy")}
        | {"python": platform.python_version()},
        **artifact.facts,
    }
    os.replace(temporary, run / WEIGHTS)
    write_text(run / FACTS, json.dumps({**facts, "sha256": _digest(facts)}, indent=1, allow_nan=False))


def load(run: Path, device: torch.device | str = "cpu") -> Artifact:
    """The model of a run folder; ArtifactError says which file is missing, damaged or of another kind."""
    facts = read_facts(run)
    weights = run / WEIGHTS
    if not weights.is_file():
        raise ArtifactError(weights, "no such file", "restore it from a backup, or train again")
    if _file_digest(weights) != facts["weights_sha256"]:
        raise ArtifactError(weights, "damaged, or of another run (checksum differs)", "restore it, or train again")
    try:
        settings = Settings(**facts["settings"])
        calibration = Calibration.from_json(facts["calibration"])
        classes = None if facts["classes"] is None else ClassMixture.empty(**facts["classes"])
        net = AEFlow(settings, Encoder(facts["encoder"]["name"], settings.encoder_stages), classes)
        tensors = load_file(weights)
        own = {key.removeprefix(INTENDED): tensors.pop(key) for key in list(tensors) if key.startswith(INTENDED)}
        intended = Intended.of(own, facts["intended"])
        net.load_state_dict(tensors)
    except (AeflowError, ValidationError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        found = f"does not describe a model of this version ({type(error).__name__})"
        raise ArtifactError(run / FACTS, found, "load it with the version that wrote it, or train again") from error
    written_here = (
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
    artifact = Artifact(
        net.to(device).eval(),
        settings,
        calibration,
        intended,
        {key: value for key, value in facts.items() if key not in written_here},
    )
    _check_self_test(artifact, facts["self_test"], run)
    return artifact


def read_facts(run: Path) -> dict[str, Any]:
    """The checked content of ``model.json``."""
    path = run / FACTS
    if not path.is_file():
        found = "no such folder" if not run.is_dir() else f"holds no {FACTS}"
        raise ArtifactError(run, found, "give the folder that `aeflow train --out` wrote")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(path, "not valid JSON: truncated or damaged", "restore it, or train again") from error
    if not isinstance(facts, dict) or "schema" not in facts or "sha256" not in facts:
        raise ArtifactError(path, "not written by aeflow", "give the folder that `aeflow train --out` wrote")
    if facts["schema"] != SCHEMA:
        found = f"has schema {facts['schema']!r} where this version reads {SCHEMA}"
        raise ArtifactError(path, found, "use the version of aeflow that wrote it, or train again")
    if _digest({key: value for key, value in facts.items() if key != "sha256"}) != facts["sha256"]:
        raise ArtifactError(path, "damaged or edited by hand (checksum differs)", "restore it, or train again")
    return facts


def self_test(artifact: Artifact) -> list[float]:
    """The scores of fixed synthetic images: the same numbers must come out wherever the model runs."""
    size = artifact.settings.image_size
    coarse = torch.rand(SELF_TEST_IMAGES, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    x = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear").expand(-1, 3, -1, -1)
    with torch.no_grad():
        measures = artifact.net(x.contiguous().to(artifact.device))
    terms = artifact.calibration.terms(
        measures.flow.double().cpu().numpy(),
        measures.reconstruction.double().cpu().numpy(),
        None if measures.log_ratios is None else measures.log_ratios.double().cpu().numpy(),
    )
    return [float(value) for value in artifact.calibration.value(terms)]


def _shape(classes: ClassMixture | None) -> dict[str, int] | None:
    if classes is None:
        return None
    directions, width = classes.whitening.shape
    return {"width": width, "directions": directions, "components": len(classes.prior.means)}


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _check_self_test(artifact: Artifact, expected: list[float], run: Path) -> None:
    got, want = np.array(self_test(artifact)), np.array(expected)
    spread = float(np.std(artifact.calibration.scores))
    # Synthetic images may score far from normal ones, where rounding is larger: relative beside absolute.
    if not np.all(np.abs(got - want) <= 1e-2 * spread + 1e-4 * np.abs(want)):
        found = f"this machine gives other scores than the one that trained it (off by {np.abs(got - want).max():.2g})"
        raise ArtifactError(run, found, "install the versions named in model.json, or train again here")


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
