"""Ray runs the same function: the rows of the local engine, and the rule for files that kill."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from aeflow.archive.engines.ray import RayEngine
from aeflow.archive.item import Item
from aeflow.archive.plan import Part
from aeflow.errors import ArtifactError
from helpers.command import within
from helpers.part_workers import Toy

pytest.importorskip("ray")
TESTS = Path(__file__).parents[1]


def test_every_file_has_its_row_and_one_that_kills_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = [str(TESTS), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, tests)))  # where Ray's workers find the toy
    parts = [Part(number, [Item(f"{number}/{i}", "") for i in range(4)]) for number in range(3)]
    toy = Toy(str(tmp_path), deadly=("1/2",))
    with RayEngine(2, None) as engine:
        assert engine.facts(toy) == "facts of a toy"
        found = {number: table.to_pylist() for number, table in engine.tables(toy, iter(parts))}
        with pytest.raises(ArtifactError, match="model: damaged; train it again"):
            engine.facts(Toy(str(tmp_path), at_start="refuse"))
    assert {number: [row["name"] for row in rows] for number, rows in found.items()} == {
        part.number: [item.name for item in part.items] for part in parts
    }
    assert [row["name"] for rows in found.values() for row in rows if row["error"]] == ["1/2"]


def test_an_archive_by_ray_is_the_local_one(openvino_export: Path, data: Path, tmp_path: Path) -> None:
    images = data / "test" / "normal"
    within("score", openvino_export, images, "--out", tmp_path / "local")
    within("score", openvino_export, images, "--out", tmp_path / "ray", "--engine", "ray", "--workers", 1)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "ray"), pd.read_parquet(tmp_path / "local"))
