"""What ``model.json`` and ``export.json`` must hold before anything is made of them: they may come from a stranger.

Types are strict and numbers finite; names that become files or modules come from closed lists. Further values, as a
later version may add, are let through and never read. The tensors are compared with these settings in ``run``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aeflow.backends.registry import GRAPH_BACKENDS
from aeflow.calibration.input_guard import REASONS
from aeflow.config import Settings
from aeflow.errors import ArtifactError
from aeflow.model.output_names import MAPS
from aeflow.model.terms import TERMS

ARRAYS_FILE = "arrays.safetensors"  # in the folder of an exported graph, beside the graph

Finite = Annotated[float, Field(allow_inf_nan=False)]
Spread = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Checksum = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, Field(max_length=1000)]
Size = Annotated[int, Field(ge=1, le=1_000_000)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Scalar = bool | int | Finite | Name | None


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class EncoderEntry(_Part):
    """The frozen encoder."""

    name: Name
    sha256: Checksum


class ClassSizes(_Part):
    """Arguments of ``ClassMixture.empty``."""

    model_config = ConfigDict(extra="forbid")

    width: Size
    directions: Size
    components: Size


class PriorSizes(_Part):
    """Arguments of ``FlowGMMPrior``."""

    model_config = ConfigDict(extra="forbid")

    width: Size
    directions: Size
    kinds: Size


class TermEntry(_Part):
    """Values of a ``TermScale``."""

    weight: Finite
    two_sided: bool
    columns: list[tuple[Finite, Spread]] | None
    spread: tuple[Finite, Spread]
    mean: Finite


class MapEntry(_Part):
    """Values of a ``MapScale``."""

    model_config = ConfigDict(extra="forbid")

    low: Finite
    high: Finite
    threshold: Finite


class PosteriorEntry(_Part):
    """Values of a ``Posterior``."""

    model_config = ConfigDict(extra="forbid")

    kinds: Annotated[list[Name], Field(min_length=1)]
    normals_only: tuple[Finite, Spread]
    evidence: tuple[Finite, Spread]
    weight: Finite
    separation: Finite
    variance: Spread
    abnormal_share: Annotated[float, Field(gt=0, lt=1)]


class CalibrationEntry(_Part):
    """Values of a ``Calibration``."""

    model_config = ConfigDict(extra="forbid")

    standardise: bool
    term_scales: Annotated[dict[str, TermEntry], Field(min_length=1)]
    scores: Annotated[list[Finite], Field(min_length=1)]
    threshold: Finite
    rule: Name
    maps: dict[str, MapEntry]
    posterior: PosteriorEntry | None = None

    @model_validator(mode="after")
    def _known(self) -> Self:
        if not self.term_scales.keys() <= TERMS.keys():
            raise ValueError("an unknown term")
        if self.maps.keys() != set(MAPS):
            raise ValueError("other maps")
        if self.scores != sorted(self.scores):
            raise ValueError("scores that do not rise")
        return self


class SeenEntry(_Part):
    """Values of ``SeenInputs``."""

    modalities: list[Name]
    colours: list[Scalar]
    shortest: Count | None


class GuardEntry(_Part):
    """Values of an ``InputGuard`` beside its arrays."""

    bounds: dict[str, tuple[Finite | None, Finite | None]]
    seen: SeenEntry
    region: list[tuple[Finite, Spread]] | None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not REASONS.keys() <= self.bounds.keys():
            raise ValueError("bounds are missing")
        return self


class OriginalEntry(_Part):
    """The calibration before a recalibration."""

    threshold: Finite
    rule: Name
    images: Count


class RecalibrationEntry(_Part):
    """Facts of a recalibration."""

    images: Count
    patients: Count
    original: OriginalEntry


class NormalsEntry(_Part):
    """Values of ``HeldOutNormals``."""

    columns: dict[Name, list[Finite]]
    patients: list[Count]

    @model_validator(mode="after")
    def _of_one_length(self) -> Self:
        if any(len(values) != len(self.patients) for values in self.columns.values()) or "score" not in self.columns:
            raise ValueError("columns that do not fit together")
        return self


class ModelEntry(_Part):
    """The content of ``model.json``."""

    settings: Settings
    encoder: EncoderEntry
    classes: ClassSizes | None
    prior: PriorSizes | None = None
    calibration: CalibrationEntry
    intended: GuardEntry
    weights_sha256: Checksum
    self_test: Annotated[list[Finite], Field(min_length=1, max_length=100)]
    versions: dict[Name, Name]
    counterpart_auroc: Finite | None = None
    training: dict[Name, Scalar] = Field(default_factory=dict)
    plan: list[Name] = Field(default_factory=list)
    log_det_weights: dict[Name, Finite] = Field(default_factory=dict)
    labelled_set: dict[Name, Any] | None = None
    recalibration: RecalibrationEntry | None = None
    normals: NormalsEntry | None = None  # runs of earlier versions keep none
    files: dict[Name, Checksum] = Field(default_factory=dict)  # further files of the run
    sha256: Checksum

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.encoder.name != self.settings.encoder:
            raise ValueError("two encoders")
        if self.calibration.term_scales.keys() != set(self.settings.chosen_terms):
            raise ValueError("terms that are not calibrated")
        return self


class ExportEntry(_Part):
    """The content of ``export.json``, without the model."""

    format: str
    precision: Literal["fp32"] = "fp32"  # earlier versions could write bf16, whose scores differ
    outputs: Annotated[list[Name], Field(min_length=1, max_length=100)]
    files: dict[str, Checksum]
    self_test: Annotated[list[Finite], Field(min_length=1, max_length=1000)]

    @model_validator(mode="after")
    def _known(self) -> Self:
        kind = GRAPH_BACKENDS.get(self.format)
        if kind is None:
            raise ValueError("an unknown format")
        if self.files.keys() != {*kind.files(), ARRAYS_FILE}:
            raise ValueError(f"other files than {', '.join([*kind.files(), ARRAYS_FILE])}")
        return self


def validate(kind: type[BaseModel], content: dict[str, Any], path: Path, remedy: str) -> None:
    """Raise ArtifactError, naming the first value that is wrong, unless a JSON file's content is of this kind."""
    try:
        kind.model_validate_json(pydantic_core.to_json(content))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        at = ".".join(str(part) for part in first["loc"])
        found = f"does not describe a model of this version ({f'{at}: ' if at else ''}{first['msg']})"
        raise ArtifactError(path, found, remedy) from error
