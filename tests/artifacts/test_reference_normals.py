"""Reference normals: distances, and what a run folder keeps of its train normals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from aeflow.artifacts.reference_normals import NORMALS, SIDE, ReferenceNormals
from aeflow.data.loader import stream
from aeflow.data.records import of_label, read_records
from aeflow.data.splits import hold_out
from aeflow.errors import ArtifactError
from aeflow.model.pooling import pool
from aeflow.training.train import Trained
from helpers.data import SIZE


def test_nearest_is_oneself_then_by_standardised_distance() -> None:
    x, features = torch.rand(7, 3, 32, 32), [torch.randn(7, 5, 3, 3)]
    table = ReferenceNormals.of(features, x)
    [first, second, *rest] = table.nearest(table.vectors[3], 20)
    assert (first.number, first.distance, len(rest)) == (3, 0, 5)
    z = (table.vectors - table.vectors.mean(0)) / table.vectors.std(0, correction=0)
    distances = (z - z[3]).norm(dim=1)
    assert second.number == int(distances.argsort()[1])
    assert second.distance == pytest.approx(float(distances.sort().values[1]), rel=1e-4)
    scaled = ReferenceNormals(table.vectors * 7, table.pictures)
    torch.testing.assert_close(scaled.distances(scaled.vectors), table.distances(table.vectors))
    assert first.picture.shape == (SIDE, SIDE)
    assert first.picture.mean() == pytest.approx(float(x[3].mean()), abs=0.01)


def test_a_run_holds_its_train_normals_without_names(trained: Trained, run: Path, data: Path, tmp_path: Path) -> None:
    settings = trained.artifact.settings
    kept, _ = hold_out(of_label(read_records(data, "train"), 0), settings.held_out, settings.seed)
    x = torch.from_numpy(np.stack([x for _, x in stream(kept, SIZE)]))
    net = trained.artifact.net
    vectors = pool(net.flow_features(net.seen(x)))
    found = ReferenceNormals.load(run, vectors.shape[1])
    assert found is not None
    torch.testing.assert_close(found.vectors, vectors, rtol=1e-3, atol=1e-3)  # of features in half precision
    with safe_open(run / NORMALS, "pt") as file:
        assert set(file.keys()) == {"vectors", "pictures"}
        assert set(file.metadata()) == {"sha256"}
    assert ReferenceNormals.load(tmp_path, vectors.shape[1]) is None
    with pytest.raises(ArtifactError, match="belongs to another model; delete it"):
        ReferenceNormals.load(run, 1 + vectors.shape[1])
    (tmp_path / NORMALS).write_bytes((run / NORMALS).read_bytes()[:5000])
    with pytest.raises(ArtifactError, match="damaged"):
        ReferenceNormals.load(tmp_path, vectors.shape[1])
