"""The study of drift on a small made-up world: its streams hold what they say, and its table every scanner."""

from __future__ import annotations

import json

import numpy as np
import pytest

from aeflow.calibration.calibration import Calibration
from aeflow.calibration.input_guard import INPUT_COLUMNS
from benchmarks.studies.drift import __main__ as study
from benchmarks.studies.drift import streams
from benchmarks.studies.drift.images import ABNORMAL, PLAIN, Measured
from benchmarks.studies.drift.scanners import SCANNERS

COLUMNS = ("score", *INPUT_COLUMNS.values())


@pytest.fixture
def world() -> streams.World:
    rng = np.random.default_rng(0)
    groups = {PLAIN: rng.normal(size=(300, 8)), ABNORMAL: rng.normal(3, 1, (50, 8))}
    groups |= {name: rng.normal([0, 2, *[0] * 6], 1, (50, 8)) for name in SCANNERS}
    normals = dict(zip(COLUMNS, rng.normal(size=(120, 8)).T, strict=True))
    calibration = Calibration(True, {}, sorted(normals["score"].tolist()), 1.6, "", {})
    return streams.World(Measured(COLUMNS, groups), normals, calibration)


def test_a_stream_has_its_share_of_abnormal_images_and_its_scanner(world: streams.World) -> None:
    rng = np.random.default_rng(1)
    rows = list(streams.rows(world, rng, np.arange(50), 2000, 0.2, next(iter(SCANNERS))))
    ill = {tuple(row) for row in world.measured.groups[ABNORMAL].tolist()}
    assert np.mean([tuple(row.values()) in ill for row in rows]) == pytest.approx(0.2, abs=0.03)
    assert np.median([row["input_brightness"] for row in rows]) > 1.5
    some = list(streams.rows(world, rng, np.array([3]), 5, 0.0))
    assert {tuple(row.values()) for row in some} == {tuple(world.measured.groups[PLAIN][3].tolist())}


def test_a_reference_that_is_drawn_is_not_in_the_stream(world: streams.World) -> None:
    normals, members = world.drawn(np.random.default_rng(2))
    assert len(normals["score"]) == 120
    assert not set(world.measured.groups[PLAIN][members][:, 0]) & set(normals["score"])


def test_every_scanner_is_a_row_of_the_table(world: streams.World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LENGTH", 60), ("STREAMS", 1), ("DRAWS", 2), ("AFTER", 250)):
        monkeypatch.setattr(streams, name, value)
    for module in (streams, study):
        monkeypatch.setattr(module, "BEFORE", 100)
    results = json.loads(json.dumps(study.study(world, 0)))
    table = study.table(results)
    for name in SCANNERS:
        assert f"| {name} |" in table
        assert results["delays"][name]["after 100"]["none"]["within"]["value"] == 1
    assert results["false_alarms"]["its own"]["none"]["other images"]["alarms"] == 0
    assert results["delays"]["noisier (3 %)"]["after 100"]["none"]["moved"].keys() == {"input_brightness"}
