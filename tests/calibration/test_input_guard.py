"""The intended input: laws of the fit, and what is said of a photo, an inverted, an empty and a normal image."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_sample_image

from aeflow.artifacts.run import load_run
from aeflow.backends.torch import TorchBackend
from aeflow.calibration import input_guard as intended
from aeflow.calibration.input_guard import PLAIN, SIDE, InputGuard, SeenInputs, bounds_of, fit_guard
from aeflow.cli import main
from aeflow.config import make_settings
from aeflow.data.records import find_images, of_label, read_records
from aeflow.features.cache import FeatureCache
from aeflow.imageio import image
from aeflow.imageio.image import Acquisition
from aeflow.model.aeflow import AEFlow
from aeflow.model.encoder_weights import pretrained
from aeflow.model.input_statistics import measure_input_statistics
from aeflow.model.pooling import pool
from aeflow.reporting.panels import panel
from aeflow.scoring.scorer import Score, measure, score
from aeflow.training import train as training
from aeflow.training.fit_input_guard import learn_input_guard
from aeflow.training.train import Trained
from helpers.data import SAMPLE, SIZE, small_settings, texture, write_data

D = 30  # pooled features of the synthetic traits


def traits(n: int, seed: int) -> np.ndarray:
    """Gaussian traits (n, T): correlated features, and pictures that vary around a common one."""
    rng, common = np.random.default_rng(seed), np.random.default_rng(99)
    picture, mixing = common.standard_normal(SIDE * SIDE), common.standard_normal((D, D))
    pictures = picture + 0.5 * rng.standard_normal((n, SIDE * SIDE))
    return np.concatenate([rng.standard_normal((n, len(PLAIN))), pictures, rng.standard_normal((n, D)) @ mixing], 1)


# Laws


def test_neither_shift_nor_scale_of_a_feature_changes_the_distance() -> None:
    rng = np.random.default_rng(0)
    shift, scale = 100 * rng.standard_normal(D), np.exp(rng.standard_normal(D))

    def changed(rows: np.ndarray) -> np.ndarray:
        return np.concatenate([rows[:, :-D], shift + scale * rows[:, -D:]], axis=1)

    a, b, fresh = traits(500, 1), traits(200, 2), traits(50, 3)
    plain, other = fit_guard(a, b), fit_guard(changed(a), changed(b))
    np.testing.assert_allclose(
        plain.values(fresh)["features"], other.values(changed(fresh))["features"], rtol=1e-3, atol=1e-3
    )
    assert plain.bounds["features"][1] == pytest.approx(other.bounds["features"][1], abs=1e-3)


def test_distance_is_about_one_for_normals_and_grows_with_what_is_away() -> None:
    model, fresh = fit_guard(traits(3000, 1), traits(200, 2)), traits(1000, 3)
    assert np.exp(2 * model.values(fresh)["features"]).mean() == pytest.approx(1, abs=0.1)
    further = [fresh * np.r_[np.ones(len(PLAIN) + SIDE * SIDE), np.full(D, factor)] for factor in (1, 2, 4)]
    distances = [model.values(rows)["features"].mean() for rows in further]
    assert np.diff(distances) == pytest.approx(np.log(2), abs=0.05)


def test_fresh_normals_are_outside_as_rarely_as_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the margin 0.27 % of the five plain traits, 0.13 % of the two others; with it hardly any."""
    train, held, fresh = traits(2000, 1), traits(2000, 2), traits(4000, 3)
    shipped = fit_guard(train, held)
    assert np.mean([bool(shipped.outside(row)) for row in fresh]) < 0.01
    monkeypatch.setattr(intended, "MARGIN", 0.0)
    strict = fit_guard(train, held)
    assert 0.008 < np.mean([bool(strict.outside(row)) for row in fresh]) < 0.025
    for name in PLAIN:
        low, high = strict.bounds[name]
        assert (low, high) == (pytest.approx(-3, abs=0.2), pytest.approx(3, abs=0.2))


def test_bounds_move_with_the_values() -> None:
    values = np.random.default_rng(0).standard_normal(100)
    low, high = bounds_of(values, 0.5)
    assert low < values.min() < values.max() < high
    assert bounds_of(values + 7, 0.5) == (pytest.approx(low + 7), pytest.approx(high + 7))
    assert high - low == pytest.approx(2 * (intended.SPREADS * values.std(ddof=1) + 0.5))


def test_each_reason_is_named_once_and_what_is_no_number_is_outside() -> None:
    model, row = fit_guard(traits(500, 1), traits(200, 2)), traits(1, 3)[0]
    assert model.outside(row) == ()
    for index, reason in enumerate(PLAIN.values()):
        for odd in (-40.0, 40.0, np.nan):
            changed = row.copy()
            changed[index] = odd
            assert model.outside(changed) == (reason,)
    both = row.copy()
    both[:2] = 40
    assert model.outside(both) == ("brightness",)
    inverted = row.copy()
    inverted[len(PLAIN) : -D] *= -1
    assert model.outside(inverted) == ("layout",)


def test_what_is_measured_of_the_pixels() -> None:
    x, pooled = torch.rand(3, 1, 32, 48).expand(-1, 3, -1, -1), torch.randn(3, 4)
    rows = measure_input_statistics(x, pooled)
    torch.testing.assert_close(rows[:, -4:], pooled)
    torch.testing.assert_close(
        measure_input_statistics(x[1:2], pooled[1:2]), rows[1:2]
    )  # no image's traits depend on another
    mirrored, inverted = measure_input_statistics(x.flip(3), pooled), measure_input_statistics(1 - x, pooled)
    torch.testing.assert_close(mirrored[:, : len(PLAIN)], rows[:, : len(PLAIN)])
    torch.testing.assert_close(inverted[:, 0], -rows[:, 0], atol=1e-4, rtol=0)
    assert torch.equal(rows[:, list(PLAIN).index("colour")], torch.full((3,), 0.02).log())
    tinted = measure_input_statistics(x * torch.tensor([1, 0.8, 0.6]).view(3, 1, 1), pooled)
    assert (tinted[:, list(PLAIN).index("colour")] > rows[:, list(PLAIN).index("colour")] + 1).all()


def test_facts_are_compared_only_where_known() -> None:
    seen = SeenInputs.of(
        [Acquisition("DX", "monochrome", (900, 800)), Acquisition("CR", "monochrome", (1200, 700)), Acquisition()]
    )
    assert seen == SeenInputs(("CR", "DX"), ("monochrome",), 700)
    assert seen.outside(Acquisition()) == ()
    assert seen.outside(Acquisition("DX", "monochrome", (3000, 350))) == ()
    assert seen.outside(Acquisition("MR", "colour", (900, 349))) == ("modality", "photometric interpretation", "size")
    assert SeenInputs().outside(Acquisition("MR", "colour", (1, 1))) == ()
    pixels = np.zeros((40, 50), np.float32)
    told = Acquisition.of(image.Image(pixels, None, None, "file", modality="DOE JANE", photometric="DOE JANE"))
    assert told == Acquisition("other", "colour", (40, 50))  # a header's free text stays outside
    turned = Acquisition.of(image.Image(pixels, None, None, "file", modality="DX", photometric="MONOCHROME1"))
    assert turned == Acquisition("DX", "monochrome", (40, 50))  # the reader has turned it
    assert Acquisition.of(image.Image(pixels, None, None, "file")) == Acquisition(size=(40, 50))
    model, row = replace(fit_guard(traits(500, 1), traits(200, 2)), seen=seen), traits(1, 3)[0]
    assert model.outside(row, Acquisition("MR")) == ("modality",)
    again = InputGuard.of(model.arrays(), json.loads(json.dumps(model.to_json())))
    assert (again.seen, again.bounds) == (model.seen, model.bounds)


# In a model


def test_saved_and_loaded_says_the_same(trained: Trained, run: Path) -> None:
    ours, theirs = trained.artifact.input_guard, load_run(run).input_guard
    assert ours.bounds == theirs.bounds
    for name in intended.ARRAYS:
        assert np.array_equal(getattr(ours, name), getattr(theirs, name))


def test_scores_are_those_of_the_net_whatever_is_said_of_the_input(trained: Trained, data: Path) -> None:
    artifact, records = trained.artifact, read_records(data, "test")
    strict = replace(artifact.input_guard, bounds=dict.fromkeys(artifact.input_guard.bounds, (0.0, 0.0)))
    plain, flagged = (
        [r for _, r in score(a.scorer, records)] for a in (artifact, replace(artifact, input_guard=strict))
    )
    assert all(len(result.outside) > 1 for result in flagged)
    one, other = ([(r.value, r.p_value, r.verdict, r.terms) for r in results] for results in (flagged, plain))
    assert one == other
    for result, (_, raw) in zip(plain, measure(TorchBackend(artifact.net), records), strict=True):
        terms = artifact.calibration.terms({name: measure[None] for name, measure in raw.measures.items()})
        assert result.value == float(artifact.calibration.value(terms)[0])


def test_learning_what_is_intended_changes_nothing_else(trained: Trained, data: Path) -> None:
    net = trained.artifact.net
    cache = FeatureCache(net.front, SIZE)
    features, _ = cache.features(of_label(read_records(data, "train"), 0))
    before, state = {key: value.clone() for key, value in net.state_dict().items()}, torch.get_rng_state()
    first, second = learn_input_guard(net, [features], features), learn_input_guard(net, [features], features)
    assert first.bounds == second.bounds
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_no_abnormal_image_enters_the_fit(run: Path, trained: Trained, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    shutil.rmtree(data / "train" / "abnormal")
    lines = (data / "manifest.csv").read_text().splitlines()
    (data / "manifest.csv").write_text("\n".join(line for line in lines if "train/abnormal" not in line))
    training.train(data, tmp_path / "without", small_settings(), device="cpu")
    a, b = (json.loads((folder / "model.json").read_text())["intended"] for folder in (run, tmp_path / "without"))
    assert a == b
    a, b = (load_file(folder / "model.safetensors") for folder in (run, tmp_path / "without"))
    assert all(torch.equal(a[f"intended.{name}"], b[f"intended.{name}"]) for name in intended.ARRAYS)


# What a user sees


def photo() -> np.ndarray:
    return load_sample_image("china.jpg")


def dot() -> np.ndarray:
    empty = np.zeros((SIZE, SIZE), np.uint8)
    empty[30:34, 30:34] = 255
    return empty


ODD: dict[str, tuple[Callable[[], np.ndarray], str]] = {
    "photo": (photo, "colour"),
    "inverted checks": (lambda: np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((8, 8))).astype(np.uint8) * 255, "feat"),
    "noise": (lambda: np.random.default_rng(0).integers(0, 256, (SIZE, SIZE), np.uint8), "sharpness"),
    "black with a dot": (dot, "brightness"),
    "nearly empty": (lambda: (128 + texture(5) // 64).astype(np.uint8), "contrast"),
    "overexposed": (lambda: np.clip(texture(5) * 3.0, 0, 255).astype(np.uint8), "brightness"),
}


def write(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("name", ODD)
def test_something_else_is_said_to_be_outside(trained: Trained, tmp_path: Path, name: str) -> None:
    make, reason = ODD[name]
    [(_, result)] = score(
        trained.artifact.scorer, find_images([write(tmp_path / "x.png", make())]), maps=True, pictures=True
    )
    assert isinstance(result, Score)
    assert np.isfinite(result.value)
    assert reason in " ".join(result.outside)
    assert f"OUTSIDE INTENDED INPUT: {', '.join(result.outside)}" in panel(result).title


def test_normal_and_abnormal_images_are_inside(trained: Trained, data: Path) -> None:
    found = [(record.label, result) for record, result in score(trained.artifact.scorer, read_records(data, "test"))]
    assert [result.outside for label, result in found if label == 0] == [()] * 12
    assert "OUTSIDE" not in str([result for _, result in found])


def test_command_line_says_it_everywhere(
    trained: Trained, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd, usual = write(tmp_path / "a.png", photo()), write(tmp_path / "b.png", texture(1234))
    table = tmp_path / "t.parquet"
    main_ok("score", run, odd, usual, "--out", table, "--json")
    out, err = capsys.readouterr()
    first, second = map(json.loads, out.splitlines())
    assert "colour" in first["outside"]
    assert second["outside"] == ""
    assert first["score"] is not None
    assert first["verdict"]
    assert pq.read_table(table)["outside"].to_pylist() == [first["outside"], ""]
    assert f"1 of 2 images is outside the intended input (1 by {first['outside']})" in err
    main_ok("score", run, usual)
    out, err = capsys.readouterr()
    assert "outside" not in out + err
    main_ok("score", run, odd)
    assert f"outside intended input: {first['outside']}" in capsys.readouterr().out
    main_ok("explain", run, odd, "--out", tmp_path / "why")
    assert "do not rely on this score" in capsys.readouterr().out
    assert ", ".join(json.loads((tmp_path / "why" / "explain.json").read_text())["outside"]) == first["outside"]


def test_evaluation_counts_it(trained: Trained, run: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", train=0, test=3)
    write(data / "test" / "normal" / "000.png", photo())
    main_ok("evaluate", run, data, "--out", tmp_path / "out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["outside"]["normal"] == 1
    [note] = [note for note in metrics["notes"] if "intended input" in note]
    assert note.startswith("1 of 3 normal ")
    assert note in (tmp_path / "out" / "report.html").read_text().replace("&#39;", "'")


def main_ok(*arguments: object) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code == 0


def test_real_xrays() -> None:
    """Fitted on bundled normals: pneumonia is intended input, inverted and turned X-rays and photos are not."""
    settings = make_settings(image_size=128, hidden=16, flow_steps=1)
    net = AEFlow(settings, pretrained(settings.encoder, settings.encoder_stages))
    cache = FeatureCache(net.front, settings.image_size)
    normals = of_label(read_records(SAMPLE, "train"), 0)
    (kept, _), (held, _) = cache.features(normals[:60]), cache.features(normals[60:85])
    model = learn_input_guard(net, [kept], held)

    def outside(x: torch.Tensor) -> list[tuple[str, ...]]:
        with torch.no_grad():
            seen = net.seen(x)
            rows = measure_input_statistics(seen.x, pool(net.flow_features(seen))).double().numpy()
        return [model.outside(row) for row in rows]

    groups = (normals[85:97], of_label(read_records(SAMPLE, "test"), 1)[:12])
    normal, abnormal = (torch.cat([x for _, x in cache.features(group)[0].batches(12)]) for group in groups)
    assert sum(map(bool, outside(torch.cat([normal, abnormal])))) <= 2
    assert all("layout" in reasons for reasons in outside(1 - normal))
    assert all(outside(normal.rot90(1, (2, 3))))
    pixels = np.asarray(Image.fromarray(photo()).resize((128, 128)), np.float32) / 255
    colour = torch.from_numpy(pixels.transpose(2, 0, 1))[None]
    assert all(outside(torch.cat([colour, colour.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)])))
