"""Table of the held-out normals behind a calibration, with which later images are compared: see ``drift``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from aeflow._types import Floats
from aeflow.calibration.calibration import Calibration
from aeflow.calibration.input_guard import InputGuard

SCORE = "score"


@dataclass(frozen=True, slots=True)
class HeldOutNormals:
    """Score, terms and input statistics of each held-out normal, by the columns of a table of scores.

    ``patients`` numbers them from 0: it says which images are of one patient, and nothing else.
    """

    columns: dict[str, list[float]]
    patients: list[int]

    def to_json(self) -> dict[str, Any]:
        """Return plain values, from which ``from_json`` rebuilds the table."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild from plain values; raises KeyError if they do not fit."""
        return cls(values["columns"], values["patients"])


@dataclass(frozen=True, slots=True)
class MeasuredNormals:
    """Raw measures of normal images, from which a calibration and its table are made."""

    measures: dict[str, Floats]  # by name, see TERMS; (n,) or (n, columns)
    log_ratios: Floats | None  # (n, kinds) if the model has classes
    input_statistics: Floats  # (n, T) see ``model.input_statistics``
    patients: Sequence[str]

    def table(self, calibration: Calibration, guard: InputGuard) -> HeldOutNormals:
        """Return the table of these normals under a calibration, as their scores would be written."""
        terms = calibration.terms(self.measures, self.log_ratios)
        columns = {SCORE: calibration.value(terms), **terms, **guard.columns(self.input_statistics)}
        _, patients = np.unique(np.asarray(self.patients, str), return_inverse=True)
        return HeldOutNormals({name: values.tolist() for name, values in columns.items()}, patients.tolist())
