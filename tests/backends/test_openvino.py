"""OpenVINO: what bfloat16 leaves exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aeflow.artifacts.layout import read_export
from aeflow.backends.openvino import OpenVINOBackend
from helpers.data import SIZE


@pytest.mark.skipif("bf16" not in OpenVINOBackend.native_precisions(), reason="this CPU has no bfloat16")
def test_in_bfloat16_the_encoder_stays_exact(openvino_export: Path) -> None:
    graph, outputs = openvino_export / OpenVINOBackend.graph_file, read_export(openvino_export)["outputs"]
    exact, coarse = (OpenVINOBackend(graph, SIZE, outputs, precision) for precision in ("fp32", "bf16"))
    x = np.random.default_rng(0).random((3, 3, SIZE, SIZE), np.float32)
    one, other = exact.run(x), coarse.run(x)
    np.testing.assert_allclose(other.input_statistics, one.input_statistics, rtol=1e-5, atol=1e-5)
    assert (other.measures["reconstruction"] != one.measures["reconstruction"]).any()
    np.testing.assert_allclose(other.measures["flow"], one.measures["flow"], rtol=0.02)
