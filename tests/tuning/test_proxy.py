"""The proxy: the scores a user would get, from train images alone, the test split unseen."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aeflow.config import Settings
from aeflow.data.records import Record
from aeflow.errors import DataError
from aeflow.metrics.intervals import delong
from aeflow.model.aeflow import AEFlow
from aeflow.scoring.scorer import Score, score
from aeflow.training.train import Trained
from aeflow.tuning import proxy
from aeflow.tuning.proxy import FIGURES, Proxy, Sides
from helpers.data import small_settings


@pytest.fixture(scope="module")
def net(trained: Trained) -> AEFlow:
    return trained.artifact.net


@pytest.fixture(scope="module")
def settings(trained: Trained) -> Settings:
    return trained.artifact.settings


@pytest.fixture(scope="module")
def found(data: Path, settings: Settings) -> Proxy:
    return Proxy.of(data, settings)


def another(data: Path, folder: Path) -> Path:
    shutil.copytree(data, folder)
    return folder


def test_groups_are_those_of_the_training(found: Proxy, trained: Trained, data: Path) -> None:
    assert found.counts() == {"clean": 8, "shifted": 8, "synthetic": 40, "abnormal": 6}
    assert found.refusals == []
    assert trained.artifact.metadata["training"]["held_out_images"] == 8
    sides = Sides.of(data, trained.artifact.settings)
    assert not {record.patient for record in sides.kept} & {record.patient for record in sides.held}
    assert sides.measured == sum(found.counts().values())
    pixels = {name: group.batch([0])[1] for name, group in found.groups.items()}
    assert not pixels["clean"].equal(pixels["shifted"])
    assert not pixels["clean"].equal(pixels["synthetic"])


def test_figures_are_those_of_the_scores_a_user_gets(found: Proxy, trained: Trained, net: AEFlow) -> None:
    def scores(records: list[Record]) -> list[float]:
        results = [result for _, result in score(trained.artifact.scorer, records)]
        return [result.value for result in results if isinstance(result, Score)]

    normal, abnormal = (scores(found.groups[name].records) for name in ("clean", "abnormal"))
    expected = delong(normal + abnormal, [0] * len(normal) + [1] * len(abnormal))[0]
    assert found.figures(net)["clean, abnormal"] == pytest.approx(expected, abs=0.03)  # the cache holds float16


def test_value_is_the_mean_of_what_there_is(found: Proxy, net: AEFlow) -> None:
    figures = found.figures(net)
    assert list(figures) == list(FIGURES)
    assert all(figure is not None and 0 <= figure <= 1 for figure in figures.values())
    assert proxy.value(figures) == pytest.approx(np.mean(list(figures.values())))
    assert proxy.value({"a": 0.5, "b": None, "c": 0.9}) == pytest.approx(0.7)


def test_repeating_changes_nothing(found: Proxy, data: Path, net: AEFlow, settings: Settings) -> None:
    assert Proxy.of(data, settings).figures(net) == found.figures(net)


def test_the_test_split_is_never_read(
    found: Proxy, data: Path, net: AEFlow, settings: Settings, tmp_path: Path
) -> None:
    broken, without = another(data, tmp_path / "broken"), another(data, tmp_path / "without")
    for path in (broken / "test").rglob("*.png"):
        path.write_bytes(b"not an image")
    shutil.rmtree(without / "test")
    for folder in (broken, without):
        again = Proxy.of(folder, settings)
        assert again.counts() == found.counts()
        assert again.figures(net) == found.figures(net)


def test_patients_of_the_test_split_are_left_out(data: Path, settings: Settings, tmp_path: Path) -> None:
    folder = another(data, tmp_path / "shared")
    rows = list(csv.reader((folder / "manifest.csv").open()))
    with (folder / "manifest.csv").open("w") as file:
        csv.writer(file).writerows([["u3" if field == "a2" else field for field in row] for row in rows])
    assert len(Sides.of(data, settings).abnormal) == 6
    left = Sides.of(folder, settings).abnormal
    assert len(left) == 5
    assert "u3" not in {record.patient for record in left}


def test_without_abnormal_images_the_synthetic_ones_decide(
    data: Path, net: AEFlow, settings: Settings, tmp_path: Path
) -> None:
    folder = another(data, tmp_path / "normals")
    rows = (folder / "manifest.csv").read_text().splitlines()
    (folder / "manifest.csv").write_text("\n".join(row for row in rows if "train/abnormal" not in row))
    figures = Proxy.of(folder, settings).figures(net)
    assert [name for name, figure in figures.items() if figure is None] == ["clean, abnormal", "shifted, abnormal"]
    assert proxy.value(figures) == pytest.approx((figures["clean, synthetic"] + figures["shifted, synthetic"]) / 2)


def test_normals_against_themselves_are_chance(found: Proxy, net: AEFlow) -> None:
    same = replace(found, groups={**found.groups, "abnormal": found.groups["clean"]})
    assert same.figures(net)["clean, abnormal"] == pytest.approx(0.5)


def test_a_reading_is_a_model_of_these_settings(found: Proxy, net: AEFlow, settings: Settings) -> None:
    changes = [{}, {"log_det_weight": 0.0, "top_share": 1.0}, {"beta": 0.5}, {"two_sided": False, "top_share": 0.3}]
    readouts = [settings.model_copy(update=change) for change in changes]
    for one, figures in zip(readouts, found.readings(net, readouts), strict=True):
        other = AEFlow(one, net.encoder)
        other.load_state_dict(net.state_dict())
        assert found.figures(other) == pytest.approx(figures)


def test_features_of_more_stages_serve_as_well(found: Proxy, data: Path, net: AEFlow, settings: Settings) -> None:
    wider = Proxy.of(data, settings.model_copy(update={"stages": (3, 4)}))
    assert wider.stages != found.stages
    assert wider.figures(net) == pytest.approx(found.figures(net), abs=1e-6)


def test_thinning_keeps_a_share_of_each_group(found: Proxy, net: AEFlow) -> None:
    assert found.thinned(7).counts() == {"clean": 7, "shifted": 7, "synthetic": 7, "abnormal": 6}
    assert found.thinned(100).figures(net) == found.figures(net)


def test_too_few_held_out_normals_are_refused(data: Path) -> None:
    with pytest.raises(DataError, match="4 held-out images that can be read; give at least 50 normal images"):
        Proxy.of(data, small_settings(held_out=0.1))
