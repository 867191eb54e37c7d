"""Frozen encoder as a graph of OpenVINO: half the time of torch, used only once its features are proven equal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Self

import numpy as np

from aeflow._types import Floats32
from aeflow.backends.graph_file import graph_files
from aeflow.backends.openvino import OpenVINOBackend, openvino
from aeflow.model.encoder import Encoder
from aeflow.model.front import Front, Pooled
from aeflow.runtime.files import digest
from aeflow.runtime.kept_files import keep, read_kept
from aeflow.runtime.terminal import print

GRAPH_VERSION = 1  # of what is frozen, as code: another number makes graphs that are kept unused

# Largest difference that counts as equal, in root mean squares of a stage's features: four roundings of float16, in
# which the cache keeps them, for a feature of that size. Float32 in another order differs by a hundredth of it; behind
# a region and its box, which follow every pixel, by up to a third.
TOLERANCE = 2.0**-9


class EncoderGraph:
    """Function from images (B, 3, size, size) in [0, 1] to features (B, d), all stages of an image in one row."""

    def __init__(self, backend: OpenVINOBackend, outputs: Sequence[str]) -> None:
        self._backend, self._outputs = backend, tuple(outputs)

    def __call__(self, x: Floats32) -> Floats32:
        stages = self._backend.outputs(x, self._outputs).values()
        return np.concatenate([z.reshape(len(x), -1) for z in stages], axis=1)

    @classmethod
    def proven(
        cls, encoder: Encoder | Front | Pooled, widths: Sequence[int], x: Floats32, features: Floats32
    ) -> Self | None:
        """Return the graph of an encoder that gave ``features`` of ``x``, ``widths`` of them a stage, or None.

        None comes with a note on stderr: OpenVINO cannot run the encoder, or gives other features. The graph is kept in
        the cache for the next training.
        """
        outputs = [f"features {stage}" for stage in range(len(widths))]
        failures, size = openvino().frontend, x.shape[-1]
        name = f"{encoder.name} {','.join(map(str, encoder.stages))}"
        versions = [GRAPH_VERSION, version("openvino"), version("torch")]
        key = digest([versions, type(encoder).__name__, name, encoder.fingerprint(), size])
        try:
            kept = read_kept(key, *OpenVINOBackend.files())
            files = kept or graph_files(encoder, outputs, size, OpenVINOBackend.graph_file)
            graph = cls(OpenVINOBackend(files, size, outputs), outputs)
            away = difference(graph(x), features, widths)
        # torch's tracer and OpenVINO's runtime; no room for the graph; OpenVINO's converter
        except (RuntimeError, OSError, failures.OpConversionFailure, failures.OpValidationFailure) as error:
            print(f"note: features by torch: OpenVINO cannot run the encoder ({type(error).__name__})", file=sys.stderr)
            return None
        if not away <= TOLERANCE:  # true for NaN, too
            found = f"off by {away:.2g} of their size where {TOLERANCE:.2g} is allowed"
            print(f"note: features by torch: those by OpenVINO are {found}", file=sys.stderr)
            return None
        if kept is None:
            keep(key, files, f"the graph of {name}, {size} px")
        return graph


def difference(got: Floats32, want: Floats32, widths: Sequence[int]) -> float:
    """Return the largest difference of two sets of features (B, d), in root mean squares of its stage."""
    ends = np.cumsum(widths)[:-1]
    stages = zip(np.split(got, ends, axis=1), np.split(want, ends, axis=1), strict=True)
    return max(float(np.abs(a - b).max() / np.sqrt(np.square(b).mean())) for a, b in stages)
