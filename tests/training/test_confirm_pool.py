"""What classes found in a pool stays only if the model of normals sees it, too."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from aeflow.data.records import Record, read_records
from aeflow.features.cache import FeatureCache
from aeflow.features.cached_features import Features
from aeflow.model.aeflow import AEFlow
from aeflow.training import train as training
from aeflow.training.class_mixture_em import MixtureFit, Pool
from aeflow.training.confirm_pool import SEEN_AT, confirm_classes, confirmed, separation
from aeflow.training.learn_classes import LabelledSet, LearntClasses
from helpers.data import lesion, small_settings, texture, write_data

POOL = Pool(20, 0.25, 30.0, True, "about 25% of the unlabelled images look abnormal")


def test_separation_is_of_the_weighted_mean_in_deviations_of_the_normals() -> None:
    normals = np.array([-1.0, 0.0, 1.0])
    assert separation(normals, np.array([3.0, 1.0]), np.array([1.0, 1.0])) == pytest.approx(2.0)
    assert separation(normals, np.array([3.0, 1.0]), np.array([1.0, 0.0])) == pytest.approx(3.0)
    assert separation(10 * normals + 7, 10 * np.array([3.0, 1.0]) + 7, np.ones(2)) == pytest.approx(2.0)
    assert separation(normals, np.zeros(0), np.zeros(0)) == 0.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[AEFlow, FeatureCache, Features, list[Record]]:
    """A normals-only network, its held-out normals, and a pool: 15 normal images, then 5 with a lesion."""
    root = tmp_path_factory.mktemp("pool")
    (write_data(root / "data") / "manifest.csv").unlink()
    folder = root / "data" / "train" / "unlabelled"
    folder.mkdir()
    for i in range(20):
        Image.fromarray(texture(3000 + i) if i < 15 else lesion(3000 + i)[0]).save(folder / f"{i:03}.png")
    net = training.train(root / "data", root / "run", small_settings(epochs=1), device="cpu").artifact.net
    records = read_records(root / "data", "train")
    cache = FeatureCache.of(net.front, net.settings)
    held_out, _ = cache.features([record for record in records if record.label == 0])
    return net, cache, held_out, [record for record in records if record.label is None]


def fit(found: range, pool: int = 20) -> MixtureFit:
    abnormal = np.zeros(pool)
    abnormal[found] = 0.9
    return MixtureFit(None, ["abnormal"], np.zeros(pool), abnormal)  # type: ignore[arg-type]


@pytest.mark.parametrize(("found", "stays"), [(range(15, 20), True), (range(5), False), (range(0), False)])
def test_only_what_the_model_of_normals_sees_is_used(
    model: tuple[AEFlow, FeatureCache, Features, list[Record]], found: range, stays: bool
) -> None:
    net, cache, held_out, pool = model
    unlabelled = LabelledSet(pool, [-1] * 20, ["abnormal"], 0)
    after = confirmed(net, cache, held_out, unlabelled, fit(found), POOL)
    assert after.used == stays
    assert ("does not look abnormal to the model of the normals" in after.finding) != stays


def test_labels_are_a_witness_of_their_own(model: tuple[AEFlow, FeatureCache, Features, list[Record]]) -> None:
    net, cache, held_out, pool = model
    labelled = LabelledSet(pool, [-1] * 19 + [1], ["abnormal"], 0)
    assert confirmed(net, cache, held_out, labelled, fit(range(5)), POOL) is POOL


def test_doubted_classes_leave_a_normals_only_model(
    model: tuple[AEFlow, FeatureCache, Features, list[Record]],
) -> None:
    net, cache, held_out, pool = model
    unlabelled = LabelledSet(pool, [-1] * 20, ["abnormal"], 0)
    after = confirm_classes(net, cache, held_out, LearntClasses(unlabelled, fit(range(5)), POOL))
    assert (after.classes, net.classes, net.settings.classifier) == (None, None, "none")
    assert "the normals-only model" in after.notes()[-1]
    assert after.to_json()["unlabelled"]["used"] is False
    assert SEEN_AT == 2.5  # as docs/labels.md says
