"""Explanations: what the moves to health and the shares of a score keep, and what a user gets to see."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import aeflow
from aeflow.artifacts.reference_normals import NORMALS
from aeflow.calibration import calibration as calibrate
from aeflow.data.loader import stream
from aeflow.data.records import of_label, read_records
from aeflow.data.splits import hold_out
from aeflow.errors import SettingsError
from aeflow.model.aeflow import AEFlow
from aeflow.model.class_mixture import ClassMixture
from aeflow.model.generate import healthy, pulled_into_ball, with_class_statistics
from aeflow.model.maps import anomaly_map, laid_into
from aeflow.model.pooling import pool
from aeflow.results.explanation import contributions, words_of
from aeflow.results.network_explanation import LEAST_SHOWN
from aeflow.scoring.scorer import Score, score
from aeflow.training.train import Trained
from helpers.command import error_of, within
from helpers.data import SIZE, small_settings


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def model(taught: tuple[Path, Trained]) -> aeflow.Model:
    return aeflow.load(taught[0], "cpu")


@pytest.fixture(scope="module")
def of_latents(aeflow_1: tuple[Path, Trained]) -> aeflow.Model:
    """A model with classes whose decoder reads the flow's latent."""
    return aeflow.load(aeflow_1[0], "cpu")


@pytest.fixture(scope="module")
def images(data: Path) -> Tensor:
    """Test images, normal and abnormal."""
    return torch.from_numpy(np.stack([x for _, x in stream(read_records(data, "test"), SIZE)]))


def latents(net: AEFlow, x: Tensor) -> tuple[Tensor, Tensor]:
    """Prepared features of the deepest flow stage, and pooled vectors of the class stages."""
    return net.of_flows(net.seen(x))[-1], pool(net.encoder_features(x, net.settings.class_stages))


def limits(model: aeflow.Model) -> tuple[float, float]:
    return model.artifact.calibration.map_limits["anomaly"]


@pytest.mark.parametrize("kinds", [1, 2, 4])
def test_nothing_of_any_kind_is_left(kinds: int) -> None:
    whitening = random(5, 9)
    parts = random(9, seed=1), whitening, torch.linalg.pinv(whitening), random(1 + kinds, 5, seed=2)
    classes = ClassMixture(*parts, random(1 + kinds, seed=3)).double()
    s = 2 * random(200, 9, seed=4).double()
    before, average = classes.evidence(classes.latent_of(s)), classes.evidence(classes.prior.means[:1])
    moved = classes.moved_to_normal(s)
    assert (classes.evidence(classes.latent_of(moved)) <= average + 1e-3).all()
    stay = before <= average
    assert 0 < stay.sum() < len(s)
    assert torch.equal(moved[stay], s[stay])


def test_own_statistics_change_nothing_and_others_arrive(of_latents: aeflow.Model, images: Tensor) -> None:
    net = of_latents.artifact.net
    z, s = latents(net, images)
    torch.testing.assert_close(with_class_statistics(net, z, s), z, rtol=1e-4, atol=1e-4)
    theirs = s + 0.3 * (s.roll(1, dims=0) - s)
    moved = with_class_statistics(net, z, theirs)
    torch.testing.assert_close(moved.norm(dim=1), z.norm(dim=1))
    width = 2 * z.shape[1]
    left = (pool([moved]) - theirs[:, :width]).norm(dim=1) / (s - theirs)[:, :width].norm(dim=1)
    assert left.max() < 0.5  # equal lengths pull a little back
    assert left.mean() < 0.3


def test_healthy_latent_keeps_its_statistics(of_latents: aeflow.Model, images: Tensor) -> None:
    net = of_latents.artifact.net
    assert net.classes is not None
    z, s = latents(net, images)
    evidence = net.classes.evidence(net.classes.latent_of(s))
    already = evidence <= net.classes.evidence(net.classes.prior.means[:1])
    assert 0 < already.sum() < len(images)
    moved = with_class_statistics(net, z, net.classes.moved_to_normal(s))
    torch.testing.assert_close(moved[already], z[already], rtol=1e-4, atol=1e-4)
    assert (moved - z).abs().amax((1, 2, 3))[~already].median() > 0.1
    only_pulled = net.decoder([pulled_into_ball(net.flows[-1](z)[0])])
    counterparts = healthy(net, images, limits(of_latents))
    torch.testing.assert_close(counterparts[already], only_pulled[already], rtol=1e-3, atol=1e-4)


def test_what_is_not_anomalous_is_reconstructed_as_it_is(model: aeflow.Model, images: Tensor) -> None:
    """A decoder of features repairs what lies above the limits and nothing else."""
    net, (low, high) = model.artifact.net, limits(model)
    with torch.no_grad():
        measures = net(images)
        plain = laid_into(net, images, measures.x_hat, measures.encoded)
        top = float(anomaly_map(net, measures).max())
    torch.testing.assert_close(healthy(net, images, (top + 1, top + 2)), plain, rtol=1e-4, atol=1e-4)
    repaired = healthy(net, images, (low, high))
    moved = (repaired - plain).abs().mean(dim=(1, 2, 3))
    normal, abnormal = moved[::2], moved[1::2]  # in the order of the manifest
    assert abnormal.median() > normal.median()
    assert 0 <= repaired.min() <= repaired.max() <= 1


def test_pulling_keeps_the_ball_and_every_direction() -> None:
    u = 1.2 * random(3, 40, 4, 5)
    inside = u.norm(dim=1) <= math.sqrt(40)
    v = pulled_into_ball(u)
    assert 0 < inside.sum() < inside.numel()
    assert torch.equal(v.movedim(1, -1)[inside], u.movedim(1, -1)[inside])
    torch.testing.assert_close(v.norm(dim=1), u.norm(dim=1).clamp(max=math.sqrt(40)))
    torch.testing.assert_close(torch.cosine_similarity(u, v, dim=1), torch.ones(3, 4, 5))
    torch.testing.assert_close(pulled_into_ball(v), v)


@pytest.mark.parametrize("standardise", [True, False])
def test_contributions_add_up_and_vanish_on_average(standardise: bool) -> None:
    rng = np.random.default_rng(0)
    measures = {"flow": rng.normal(3, 2, (40, 2)), "reconstruction": rng.normal(0.5, 0.1, 40)}
    fitted = calibrate.fit_calibration(
        small_settings(preset="aeflow-1", standardise=standardise, beta=0.6), measures, {}
    )
    found = []
    for i in range(40):
        terms = fitted.terms({name: measure[i : i + 1] for name, measure in measures.items()})
        value = float(fitted.value(terms)[0])
        parts = contributions(
            fitted, Score(value, 0.5, "", 0.0, {k: float(v[0]) for k, v in terms.items()}, {}, {}, ())
        )
        assert sum(parts.values()) == pytest.approx(value - np.mean(fitted.scores))
        found.append(list(parts.values()))
    np.testing.assert_allclose(np.mean(found, axis=0), 0, atol=1e-9)


def test_contributions_of_classes_vanish_on_average(model: aeflow.Model, data: Path) -> None:
    settings, calibration = model.artifact.settings, model.artifact.calibration
    _, held = hold_out(of_label(read_records(data, "train"), 0), settings.held_out, settings.seed)
    found = [contributions(calibration, result) for _, result in score(model.scorer, held)]
    assert set(found[0]) == {*settings.chosen_terms, "posterior"}
    for name in found[0]:
        assert np.mean([parts[name] for parts in found]) == pytest.approx(0, abs=1e-3), name


@pytest.mark.parametrize("kind_of_decoder", ["model", "of_latents"])
def test_sample(kind_of_decoder: str, request: pytest.FixtureRequest, trained: Trained, run: Path) -> None:
    model: aeflow.Model = request.getfixturevalue(kind_of_decoder)
    plain = model.sample(20)
    assert plain.shape == (20, 3, SIZE, SIZE)
    assert plain.dtype == np.float32
    assert 0 <= plain.min() < plain.max() <= 1
    assert len({image.tobytes() for image in plain}) == 20
    draws = {kind: model.sample(2, kind) for kind in ("normal", "abnormal")}
    np.testing.assert_array_equal(draws["normal"], model.sample(2, "normal"))
    assert not np.array_equal(model.sample(2, seed=1), model.sample(2))
    assert not np.array_equal(draws["normal"], draws["abnormal"])
    np.testing.assert_array_equal(draws["normal"], model.sample(2))  # the kind moves a normal draw, nothing else
    with pytest.raises(SettingsError, match="no kind named 'tumour'; this model knows normal, abnormal"):
        model.sample(1, "tumour")
    normals_only = aeflow.Model(trained.artifact, run)
    np.testing.assert_array_equal(normals_only.sample(2, "normal"), normals_only.sample(2))
    with pytest.raises(SettingsError, match=r"this model knows normal$"):
        normals_only.sample(1, "abnormal")
    with pytest.raises(SettingsError, match="ask for at least one"):
        normals_only.sample(0)


def test_drawn_latents_depend_on_their_neighbours_as_real_ones_do(of_latents: aeflow.Model, data: Path) -> None:
    net = of_latents.artifact.net
    normals = of_label(read_records(data, "train"), 0)
    x = torch.from_numpy(np.stack([x for _, x in stream(normals, SIZE)]))

    def dependence(u: Tensor) -> float:
        """Correlation of a position with the next one, over images and channels."""
        away = u - u.mean(0)
        pair = torch.stack([away[..., :-1].flatten(), away[..., 1:].flatten()])
        return float(torch.corrcoef(pair)[0, 1])

    with torch.no_grad():
        real = dependence(net.encode(net.seen(x)).u[-1])
        drawn = dependence(*net.latent_pca.sample(200, torch.Generator().manual_seed(0)))
        noise = dependence(net.prior.sample(200, tuple(net.latent_pca.mean.shape), torch.Generator().manual_seed(0)))
    assert abs(noise) < 0.02 < real
    assert drawn == pytest.approx(real, abs=0.3 * real)


def test_explain_with_classes(model: aeflow.Model, taught: tuple[Path, Trained], data: Path, tmp_path: Path) -> None:
    image = data / "test" / "abnormal" / "003.png"
    shown, err = within("explain", taught[0], image, "--out", tmp_path / "new" / "out")
    assert err.startswith(
        "note: no healthy counterpart is drawn, since this model's would mislead: synthetic anomalies are found by it "
        "with an AUROC of "
    )
    picture = np.asarray(Image.open(tmp_path / "new" / "out" / "explain.png").convert("L"))
    assert picture.std() > 5
    facts = json.loads((tmp_path / "new" / "out" / "explain.json").read_text())
    assert facts == model.explain(image).to_json()
    assert (facts["score"], facts["verdict"]) == (model.score(image).value, "abnormal")
    assert sum(facts["posterior"].values()) == pytest.approx(1)
    assert sum(term["share"] for term in facts["terms"].values()) == pytest.approx(1)
    driver = max(facts["terms"], key=lambda name: facts["terms"][name]["contribution"])
    assert facts["finding"].startswith(f"above the average normal image, mostly for: {words_of(driver)} (")
    for name in ("nearest_normals", "nearest_generated"):
        distances = [one["distance"] for one in facts[name]]
        assert len(distances) == 3
        assert 0 < distances[0] <= distances[1] <= distances[2]
    for word in (
        facts["finding"],
        "abnormal  score",
        "posterior: normal",
        "distance from the train normals most like it: ",
        "explain.png",
    ):
        assert word in shown


def test_explain_normals_only(trained: Trained, run: Path, data: Path, tmp_path: Path) -> None:
    """A train image is its own nearest normal; without the file of normals all the rest is still there."""
    settings = trained.artifact.settings
    kept, _ = hold_out(of_label(read_records(data, "train"), 0), settings.held_out, settings.seed)
    own = kept[1].path
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    facts = json.loads(within("explain", copy, own, "--out", tmp_path / "out", "--json")[0])
    assert set(facts["terms"]) == {*settings.chosen_terms}
    assert facts["posterior"] == {}
    drawn = json.loads((copy / "model.json").read_text())["counterpart_auroc"] >= LEAST_SHOWN
    assert [note.partition(",")[0] for note in facts["notes"]] == ([] if drawn else ["no healthy counterpart is drawn"])
    assert facts["nearest_normals"][0] == {"number": 1, "distance": pytest.approx(0, abs=0.1)}
    assert facts["nearest_normals"][1]["distance"] > 5
    (copy / NORMALS).unlink()
    assert "explain.png: is there already" in error_of("explain", copy, own, "--out", tmp_path / "out")
    shown, err = within("explain", copy, own, "--out", tmp_path / "out", "--overwrite")
    assert "the train normals most like it" not in shown
    assert f"note: no train normals to compare with: {copy} holds no {NORMALS}" in err
    without = json.loads((tmp_path / "out" / "explain.json").read_text())
    assert without == {**facts, "nearest_normals": [], "usual_distance": None, "notes": without["notes"]}
    assert 1 < facts["usual_distance"] < facts["nearest_normals"][2]["distance"] * 2


def test_what_cannot_be_explained_is_one_line(trained: Trained, run: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("this is no image")
    image = data / "test" / "normal" / "000.png"
    for path, out, said in (
        (tmp_path / "text.png", tmp_path / "out", "text, not an image"),
        (data, tmp_path / "out", "a folder; name an image file"),
        (tmp_path / "none.png", tmp_path / "out", "there is no such file or folder"),
        (image, tmp_path / "text.png", "is a file; give a folder with --out"),
    ):
        shown, err = within("explain", run, path, "--out", out, ok=2)
        assert shown == ""
        [line] = err.strip().splitlines()
        assert said in line
    assert not (tmp_path / "out").exists()
