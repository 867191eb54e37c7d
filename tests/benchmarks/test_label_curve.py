"""End-to-end row of the label curve: the flow term is the model's own, and the base stays the normals-only model."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from aeflow.calibration.calibration import fit_calibration
from aeflow.data.records import of_label, read_records
from aeflow.features.cache import FeatureCache
from aeflow.model.aeflow import AEFlow
from aeflow.model.encoder import Encoder
from aeflow.model.front import Pooled
from benchmarks.inputs import features_of, measures_of
from benchmarks.studies.label_curve.draws import NONE
from benchmarks.studies.label_curve.end_to_end import NAME, learn_end_to_end
from benchmarks.studies.label_curve.report import table
from benchmarks.studies.label_curve.world import Base, Plan, World, rows_of
from helpers.data import SIZE, TINY, small_settings, write_data


@pytest.fixture(scope="module")
def world_and_base(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Base]:
    """A small data set, and an untrained network as its normals-only model."""
    records = read_records(write_data(tmp_path_factory.mktemp("data")))
    train, test = ([r for r in records if r.split == split] for split in ("train", "test"))
    torch.manual_seed(0)
    net = AEFlow(small_settings(preset="aeflow-1"), Encoder(TINY, (3,))).eval()
    net.initialise(net.encoded(*features_of(FeatureCache(net.encoder, SIZE), of_label(train, 0)).batch(range(32))))
    normals, abnormal, tested = (rows_of(part, records) for part in (of_label(train, 0), of_label(train, 1), test))
    nothing = np.zeros((len(records), 0))
    plan = Plan(net.settings, net.settings)
    world = World(plan, records, Pooled(net.front, (3,)), nothing, nothing, normals, abnormal, tested)
    cache = FeatureCache(net.front, SIZE)

    def measures(rows: np.ndarray) -> dict[str, np.ndarray]:
        return measures_of(net, features_of(cache, [records[row] for row in rows]))[0]

    calibration = fit_calibration(net.settings, measures(normals[30:]), {})
    return world, Base(net, normals[:30], normals[30:], measures, calibration)


def test_measures_are_the_models_own(world_and_base: tuple[World, Base]) -> None:
    world, base = world_and_base
    features = features_of(FeatureCache(base.net.front, SIZE), [world.records[row] for row in world.test])
    _, x = features.batch(range(len(features)))
    with torch.no_grad():
        expected = base.net(x).terms
    found, ratios = measures_of(base.net, features)
    assert ratios.shape == (len(features), 0)
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values.numpy(), rtol=1e-3)


def test_without_labels_it_is_the_normals_only_score(world_and_base: tuple[World, Base]) -> None:
    world, base = world_and_base
    np.testing.assert_array_equal(learn_end_to_end(world, base, NONE, NONE), base.score(world.test))


def test_labels_give_a_score_and_leave_the_base_as_it_was(world_and_base: tuple[World, Base]) -> None:
    world, base = world_and_base
    before = copy.deepcopy(base.net.state_dict())
    scores = learn_end_to_end(world, base, world.abnormal, NONE)
    assert np.isfinite(scores).all()
    assert len(scores) == len(world.test)
    assert all(torch.equal(value, before[name]) for name, value in base.net.state_dict().items())


def test_the_column_is_in_the_table_once_it_was_measured() -> None:
    row = {"k": 5, "draw": 0, "auroc": 0.9}
    results = {"set": "some", "draws": 1, "machine": "none", "labels": [row], "pools": [], "kinds": []}
    assert NAME not in table(results)
    results["labels"] = [row | {NAME: 0.8}]
    assert f"Gaussians | {NAME} |" in table(results)
    assert "| 5 | 0.900 | - | - | 0.800 |" in table(results)
