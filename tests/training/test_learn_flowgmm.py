"""Prior ``flowgmm`` from the folder to the model: what it changes, what it leaves, and what a user sees of it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import aeflow
from aeflow.artifacts.run import load_run
from aeflow.backends.torch import TorchBackend
from aeflow.config import Settings, make_settings
from aeflow.data.records import read_records
from aeflow.deploy.export import export
from aeflow.errors import SettingsError
from aeflow.metrics.image import auroc
from aeflow.model.aeflow import AEFlow
from aeflow.model.encoder import Encoder
from aeflow.model.priors.flowgmm import FlowGMMPrior
from aeflow.model.terms import TERMS
from aeflow.training.plan import Fingerprint, plan_terms
from aeflow.training.train import Trained, train
from helpers.command import error_of
from helpers.data import SIZE, TINY, small_settings
from helpers.same_scores import assert_same_scores, scores

TINY_SETTINGS = {"encoder": TINY, "epochs": 1, "view_reach": 1.0}


def settings_of(**changes: object) -> Settings:
    return small_settings(**{**TINY_SETTINGS, "prior": "flowgmm", **changes})


@pytest.fixture(scope="module")
def taught(data: Path, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trained]:
    """A run whose flow has learnt from five labels, and what its training returned."""
    run = tmp_path_factory.mktemp("flowgmm") / "run"
    return run, train(data, run, settings_of(labels=5), encoder_weights=tiny_weights, device="cpu")


def test_a_prior_that_knows_nothing_scores_as_the_standard_normal() -> None:
    settings, encoder = small_settings(encoder=TINY, terms=("flow",)), Encoder(TINY, (1, 2, 3))
    torch.manual_seed(0)
    plain = AEFlow(settings, encoder).eval()
    blank = FlowGMMPrior(4 * plain.latent_shape[0], directions=3, kinds=2)
    torch.manual_seed(0)
    other = AEFlow(settings.model_copy(update={"prior": "flowgmm"}), encoder, prior=blank).eval()
    other.load_state_dict(plain.state_dict(), strict=False)
    x = torch.rand(2, 3, SIZE, SIZE)
    with torch.no_grad():
        before, after = plain(x), other(x)
    torch.testing.assert_close(after.terms["flow"], before.terms["flow"], rtol=1e-5, atol=1e-5)
    assert before.log_ratios is None
    assert after.log_ratios is not None
    torch.testing.assert_close(after.log_ratios.logsumexp(dim=1), torch.zeros(2), atol=1e-4, rtol=0)


def test_the_score_knows_the_kinds(data: Path, taught: tuple[Path, Trained]) -> None:
    artifact = taught[1].artifact
    assert artifact.settings.prior == "flowgmm"
    assert artifact.settings.classifier == "none"
    assert "flow" in artifact.settings.chosen_terms
    assert artifact.metadata["labelled_set"]["labelled_images"] == {"abnormal": 5}
    assert [note.split(" ")[-3:] for note in taught[1].notes[1:]] == [["its", "rule", "says"]]
    assert "held-out normals cannot set" in taught[1].notes[0]
    records = read_records(data, "test")
    found = scores(artifact.scorer, records)
    assert all(set(one.terms) == {*artifact.settings.chosen_terms, "posterior"} for one in found)
    assert all(set(one.posterior) == {"normal", "abnormal"} for one in found)
    labels = [record.label for record in records]
    assert auroc([one.posterior["abnormal"] for one in found], labels) > 0.7  # of an encoder with random weights


def test_the_flow_term_is_of_what_is_normal(taught: tuple[Path, Trained]) -> None:
    """It does not fall as an image is explained by a kind of abnormality."""
    net = taught[1].artifact.net
    u = net.prior.sample(16, net.latent_shape, 1, torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert (net.prior.log_prob_normal(u).sum(dim=(1, 2)) < net.prior.log_prob(u).sum(dim=(1, 2))).all()


def test_a_loaded_run_scores_the_same(data: Path, taught: tuple[Path, Trained]) -> None:
    run, trained = taught
    loaded, records = load_run(run), read_records(data, "test")
    assert loaded.net.prior.sizes == trained.artifact.net.prior.sizes
    assert loaded.calibration == trained.artifact.calibration
    here, there = (scores(artifact.scorer, records) for artifact in (loaded, trained.artifact))
    assert [one.value for one in here] == [one.value for one in there]


def test_its_graph_is_proven_and_gives_its_scores(data: Path, taught: tuple[Path, Trained], tmp_path: Path) -> None:
    folder, parity = export(taught[0], "openvino", tmp_path / "graph")
    assert parity.flips == 0
    graph, artifact, records = aeflow.load(folder).scorer, taught[1].artifact, read_records(data, "test")
    assert_same_scores(scores(graph, records), scores(artifact.scorer, records), artifact.scorer)


def test_without_labels_and_pool_it_is_the_normals_only_model(data: Path, tiny_weights: Path, tmp_path: Path) -> None:
    options = {"encoder_weights": tiny_weights, "device": "cpu"}
    result = train(data, tmp_path / "a", settings_of(labels=0, terms=("flow",)), **options)
    plain = train(data, tmp_path / "b", settings_of(prior="normal", terms=("flow",)), **options)
    assert result.notes[2:] == ["nothing to learn classes from; this is the normals-only model"]
    assert result.artifact.settings == plain.artifact.settings.model_copy(update={"labels": 0})
    same, weights = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert same.keys() == weights.keys()
    assert all(torch.equal(same[name], weights[name]) for name in weights)


def test_images_of_each_kind_are_drawn(taught: tuple[Path, Trained]) -> None:
    run, trained = taught
    model = aeflow.Model(trained.artifact.scorer, run, trained.artifact)
    drawn = {kind: model.sample(3, kind) for kind in (None, "normal", "abnormal")}
    for images in drawn.values():
        assert images.shape == (3, 3, SIZE, SIZE)
        assert 0 <= images.min() < images.max() <= 1
    np.testing.assert_array_equal(drawn["normal"], model.sample(3, "normal"))
    assert not np.array_equal(drawn["normal"], drawn["abnormal"])
    with pytest.raises(SettingsError, match="no kind named 'tumour'; this model knows normal, abnormal"):
        model.sample(1, "tumour")


def test_what_is_drawn_is_of_its_kind_to_the_model(taught: tuple[Path, Trained]) -> None:
    net = taught[1].artifact.net
    ratios = [
        net.prior.log_ratios(net.prior.sample(64, net.latent_shape, kind, torch.Generator().manual_seed(kind)))
        for kind in (0, 1)
    ]
    assert auroc(torch.cat(ratios).logsumexp(dim=1).detach().numpy(), [0] * 64 + [1] * 64) > 0.9


def test_a_decoder_of_latents_reads_the_draw_itself(data: Path, tiny_weights: Path, tmp_path: Path) -> None:
    settings = make_settings(
        "aeflow-1", **TINY_SETTINGS, prior="flowgmm", labels=5, image_size=SIZE, hidden=16, flow_steps=2, batch_size=8
    )
    trained = train(data, tmp_path / "run", settings, encoder_weights=tiny_weights, device="cpu")
    net = trained.artifact.net
    model = aeflow.Model(trained.artifact.scorer, tmp_path / "run", trained.artifact)
    u = net.prior.sample(2, net.latent_shape, 1, torch.Generator().manual_seed(0))
    with torch.no_grad():
        np.testing.assert_array_equal(model.sample(2, "abnormal"), net.decode([u]).numpy())
    assert TorchBackend(net).run(np.zeros((1, 3, SIZE, SIZE), np.float32)).log_ratios.shape == (1, 1)


def test_the_plan_has_the_flow_in_it() -> None:
    found = Fingerprint({"left-right": 0.0, "up-down": 0.0}, beside=True)
    for aim in ("diffuse", "focal", "unknown"):
        terms = plan_terms(make_settings(prior="flowgmm", looks_for=aim), found).terms
        assert terms.count("flow") == 1
        assert set(terms) <= TERMS.keys()
    assert "flow" not in plan_terms(make_settings(looks_for="diffuse"), found).terms


def test_who_asks_for_the_prior_gets_no_classifier_beside_it() -> None:
    assert make_settings(prior="flowgmm", labels=5).classifier == "none"
    assert make_settings(prior="normal", labels=5).classifier == "mixture"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--classifier", "mixture"], "prior: .*both learn from the labels; ask for one of them"),
        (["--set", "terms=pooled_energy"], "terms: pooled_energy: without flow .*; add flow"),
        (["--set", "stages=2,3"], "stages: 2, 3: prior flowgmm lies over the latent of one stage"),
        (["--set", "decoder_stages=1,2"], "decoder_stages: 1, 2: the flow's stage 3 is not read"),
        (["--labels", "999"], "6 labelled abnormal images .* 999 asked for; ask for fewer"),
        (["--set", "image_size=80"], "image_size: a latent of 5 x 5 positions has no equal quarters"),
    ],
)
def test_what_does_not_fit_is_one_line(
    arguments: list[str], words: str, data: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    tiny = ["--encoder", TINY, "--encoder-weights", tiny_weights, "--set", f"image_size={SIZE}", "--device", "cpu"]
    message = error_of("train", data, "--out", tmp_path / "run", "--prior", "flowgmm", *tiny, *arguments)
    assert re.search(words, message), message
