"""Trained models on disk: ``model.safetensors`` (every tensor, the encoder's too) and ``model.json`` (all the rest).

Both carry a SHA-256, so a damaged file is refused before it gives a number. Nothing in a run is a pickle.
"""

from __future__ import annotations

import hashlib
import platform
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from aeflow.artifacts.layout import (
    MAX_HEADER,
    MODEL_JSON,
    REMEDY_TRAIN,
    REMEDY_VERSION,
    WEIGHTS,
    WRITTEN_BY_SAVE,
    check_weights,
    is_export,
    member,
    read_metadata,
    run_of,
    with_short_header,
    write_checked,
)
from aeflow.artifacts.upgrade import SCHEMA, upgraded_names
from aeflow.backends.torch import TorchBackend
from aeflow.calibration.calibration import Calibration
from aeflow.calibration.input_guard import InputGuard
from aeflow.config import Settings
from aeflow.errors import AeflowError, ArtifactError
from aeflow.model.aeflow import AEFlow
from aeflow.model.class_mixture import ClassMixture
from aeflow.model.encoder import Encoder
from aeflow.model.priors.flowgmm import FlowGMMPrior
from aeflow.runtime.files import write_bytes
from aeflow.runtime.process import prepare
from aeflow.scoring.scorer import Scorer, check_guard, value_of

INTENDED = "intended."  # prefix of the names of the input guard's tensors
SELF_TEST_IMAGES = 4


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model that is ready to score."""

    net: AEFlow
    settings: Settings
    calibration: Calibration
    input_guard: InputGuard
    metadata: dict[str, Any] = field(default_factory=dict)  # on training data and versions; see docs/design.md
    fingerprint: str = ""  # SHA-256 of its model.json, empty until it was saved

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    @property
    def scorer(self) -> Scorer:
        """Scorer that runs this very network."""
        return Scorer(
            self.settings, self.calibration, self.input_guard, TorchBackend(self.net), self.metadata, self.fingerprint
        )


def save_run(artifact: Artifact, run: Path) -> None:
    """Write both files of a run, each whole or not at all, the one that describes it last."""
    run.mkdir(parents=True, exist_ok=True)
    tensors = {
        **artifact.net.state_dict(),
        **{INTENDED + name: torch.from_numpy(value) for name, value in artifact.input_guard.arrays().items()},
    }
    weights = save({key: value.contiguous().cpu() for key, value in tensors.items()})
    metadata = {
        "schema": SCHEMA,
        "settings": artifact.settings.model_dump(mode="json"),
        "encoder": {"name": artifact.net.encoder.name, "sha256": artifact.net.encoder.fingerprint()},
        "classes": _shape(artifact.net.classes),
        "prior": artifact.net.prior.sizes if isinstance(artifact.net.prior, FlowGMMPrior) else None,
        "calibration": artifact.calibration.to_json(),
        "intended": artifact.input_guard.to_json(),
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "self_test": self_test(artifact),
        "versions": {name: version(name) for name in ("aeflow", "torch", "timm", "numpy")}
        | {"python": platform.python_version()},
        **artifact.metadata,
    }
    write_bytes(run / WEIGHTS, weights)
    write_checked(run / MODEL_JSON, metadata)


def load_run(run: Path, device: torch.device | str = "cpu", metadata: dict[str, Any] | None = None) -> Artifact:
    """Load the model of a run folder.

    ``metadata`` is the content of its ``model.json``, if it was read already. Raises ArtifactError, naming the file, if
    one is missing, damaged or of another version.
    """
    prepare()
    metadata = read_metadata(run) if metadata is None else metadata
    if is_export(run):
        remedy = f"give the run that it came from: {run_of(run, metadata['sha256'])}"
        raise ArtifactError(run, "an exported graph, and this needs the network itself", remedy)
    settings = Settings(**metadata["settings"])
    try:
        wanted = laid_out(settings, metadata)
        weights = member(run, WEIGHTS, "restore it from a backup, or train again", limit=_bytes(wanted))
        check_weights(run, metadata)
        tensors = upgraded_names(load_file(with_short_header(weights, REMEDY_TRAIN)))
        arrays = {  # copies: the tensors are the file itself, which may be written over while the model scores
            key.removeprefix(INTENDED): tensors.pop(key).numpy().copy()
            for key in list(tensors)
            if key.startswith(INTENDED)
        }
        _check_tensors(tensors, wanted, weights)
        net = build(settings, metadata)
        net.load_state_dict(tensors)
        guard = InputGuard.of(arrays, metadata["intended"])
        calibration = Calibration.from_json(metadata["calibration"])
    except ArtifactError:
        raise
    except (AeflowError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise _misfit(run, error) from error
    artifact = Artifact(
        net.to(device).eval(),
        settings,
        calibration,
        guard,
        {key: value for key, value in metadata.items() if key not in WRITTEN_BY_SAVE},
        metadata["sha256"],
    )
    try:
        _check_self_test(artifact, metadata["self_test"], run)
    except (KeyError, ValueError) as error:  # numbers that do not fit those of the network
        raise _misfit(run, error) from error
    return artifact


def _misfit(run: Path, error: Exception) -> ArtifactError:
    found = f"does not describe a model of this version ({type(error).__name__})"
    return ArtifactError(run / MODEL_JSON, found, REMEDY_VERSION)


def build(settings: Settings, metadata: dict[str, Any]) -> AEFlow:
    """Return the network that a checked ``model.json`` describes, without its weights."""
    classes = None if metadata["classes"] is None else ClassMixture.empty(**metadata["classes"])
    prior = FlowGMMPrior(**sizes) if (sizes := metadata.get("prior")) else None  # those written before have none
    return AEFlow(settings, Encoder(metadata["encoder"]["name"], settings.encoder_stages), classes, prior=prior)


def laid_out(settings: Settings, metadata: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return the tensors of that network by name with their shapes and types, and no memory behind them.

    So a stranger's model takes no more memory than its file does: names of networks are short, and some are giants.
    """
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that weights which come with the package have no effect
        return build(settings, metadata).state_dict()


def _bytes(wanted: Mapping[str, torch.Tensor]) -> int:
    """Return how many bytes a file of these tensors may have: with room for the guard's arrays beside them."""
    return 4 * sum(tensor.nbytes for tensor in wanted.values()) + MAX_HEADER


def _check_tensors(tensors: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], weights: Path) -> None:
    """Raise ArtifactError unless the tensors of a file are the wanted ones, and finite."""
    for name in sorted(tensors.keys() ^ wanted.keys()):
        raise ArtifactError(weights, f"{name}: {'an unknown' if name in tensors else 'a missing'} tensor", REMEDY_TRAIN)
    for name, tensor in tensors.items():
        if (tensor.shape, tensor.dtype) != (wanted[name].shape, wanted[name].dtype):
            found = f"{name}: a tensor of another shape or type than {MODEL_JSON} describes"
            raise ArtifactError(weights, found, REMEDY_TRAIN)
        if not tensor.isfinite().all():
            raise ArtifactError(weights, f"{name}: a tensor that is not finite", REMEDY_TRAIN)


def self_test(artifact: Artifact) -> list[float]:
    """Score fixed synthetic images: the same numbers must come out wherever the model runs."""
    size = artifact.settings.image_size
    coarse = torch.rand(SELF_TEST_IMAGES, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    x = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear").expand(-1, 3, -1, -1)
    raw = artifact.scorer.backend.run(x.contiguous().numpy())
    check_guard(artifact.input_guard, raw)
    return [float(value) for value in value_of(artifact.calibration, raw)]


def _shape(classes: ClassMixture | None) -> dict[str, int] | None:
    if classes is None:
        return None
    directions, width = classes.whitening.shape
    return {"width": width, "directions": directions, "components": len(classes.prior.means)}


def _check_self_test(artifact: Artifact, expected: list[float], run: Path) -> None:
    got, want = np.array(self_test(artifact)), np.array(expected)
    if got.shape != want.shape:
        raise ValueError("a self-test of other images")
    spread = float(np.std(artifact.calibration.scores))
    # Synthetic images may score far from normal ones, where rounding is larger: so a relative tolerance, too.
    if not np.all(np.abs(got - want) <= 1e-2 * spread + 1e-4 * np.abs(want)):
        found = f"this machine gives other scores than the one that trained it (off by {np.abs(got - want).max():.2g})"
        raise ArtifactError(run, found, "install the versions named in model.json, or train again here")
