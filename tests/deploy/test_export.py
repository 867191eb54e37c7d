"""Exports: one graph from pixels to scores, equal to torch's or not written, and refused where it is damaged."""

from __future__ import annotations

import json
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

import aeflow
from aeflow.artifacts import layout as store
from aeflow.artifacts import run as artifacts
from aeflow.artifacts.exported_graph import load_export
from aeflow.backends.score_graph import ScoreGraph
from aeflow.backends.torch import TorchBackend
from aeflow.calibration.calibration import Calibration
from aeflow.calibration.map_scale import MapScale
from aeflow.calibration.posterior import Posterior
from aeflow.calibration.term_scale import TermScale
from aeflow.cli import main
from aeflow.config import Settings, make_settings
from aeflow.data.records import find_images, read_records
from aeflow.deploy import export as exporting
from aeflow.deploy.export import export
from aeflow.errors import ArtifactError, SettingsError
from aeflow.model.aeflow import AEFlow
from aeflow.model.class_mixture import ClassMixture
from aeflow.model.described import INTENSITIES
from aeflow.model.encoder import Encoder
from aeflow.model.terms import TERMS
from aeflow.runtime.files import file_digest
from aeflow.scoring.scorer import value_of
from aeflow.training.train import Trained
from helpers.data import SAMPLE, SIZE, TINY, small_settings
from helpers.same_scores import assert_same_scores, scores

CLASSIFIERS = ["none", "mixture"]
SETTINGS = {
    "default": small_settings(terms=tuple(name for name in TERMS if name != "reconstruction")),
    "aeflow-1": small_settings(preset="aeflow-1"),
    "paper": make_settings("paper", image_size=SIZE, hidden=16, flow_steps=2, decoder=(16, 16, 16)),
}
COLUMNS = {"flow": [(1.5, 0.3)], "pooled_energy": [(1.0, 2.0), (0.5, 1.0), (-1.0, 3.0)]}


def calibration_of(settings: Settings, posterior: Posterior | None) -> Calibration:
    """One of round numbers, with the switches of the settings."""
    return Calibration(
        standardise=settings.standardise,
        term_scales={
            name: TermScale(
                TERMS[name].weight(settings), TERMS[name].two_sided(settings), COLUMNS.get(name), (0.4, 0.9)
            )
            for name in settings.chosen_terms
        },
        scores=np.linspace(-3, 60, 41).tolist(),
        threshold=1.7,
        rule="",
        maps={name: MapScale(0.1, 2.0, 1.0) for name in ("residual", "anomaly")},
        posterior=posterior,
    )


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("preset", SETTINGS)
def test_the_graph_calibrates_as_calibration_does(preset: str, classifier: str) -> None:
    torch.manual_seed(1)
    settings = SETTINGS[preset].model_copy(update={"encoder": TINY, "classifier": classifier, "class_stages": (2, 3)})
    encoder = Encoder(TINY, settings.encoder_stages)
    classes, posterior = None, None
    if classifier == "mixture":
        widths = [encoder.channels[encoder.stages.index(stage)] for stage in settings.class_stages]
        width = 2 * sum([*widths, *([INTENSITIES] if settings.describes else [])])
        means = 0.3 * torch.randn(3, 5)
        whitening = 0.1 * torch.randn(5, width)
        classes = ClassMixture(torch.zeros(width), whitening, torch.linalg.pinv(whitening), means, torch.zeros(3))
        posterior = Posterior(["a", "b"], (0.1, 1.2), (0.3, 0.8), 0.6, 2.0, 1.1, 0.3)
    net = AEFlow(settings, encoder, classes).eval()
    for name, values in net.terms.named_buffers():
        if "precision" in name:
            values.copy_(torch.eye(len(values)))
        elif name.split(".")[-1] in ("mean", "directions", "weights"):
            values.normal_()
    graph = ScoreGraph(net, calibration_of(settings, posterior)).eval()
    x = torch.rand(5, 3, SIZE, SIZE)
    with torch.no_grad():
        found = dict(zip(graph.outputs, graph(x), strict=True))
    raw = TorchBackend(net).run(x.numpy(), maps=True, pictures=True)
    calibration = calibration_of(settings, posterior)
    terms = calibration.terms(raw.measures, raw.log_ratios)
    want = value_of(calibration, raw)
    np.testing.assert_allclose(found["score"], want, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["p_value"], [calibration.p_value(value) for value in want], rtol=1e-6)
    assert set(terms) == {*settings.chosen_terms, *(["posterior"] if classifier == "mixture" else [])}
    for name, term in terms.items():
        np.testing.assert_allclose(found[name], term, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found["anomaly_map"], raw.maps["anomaly"])
    np.testing.assert_array_equal(found["residual_map"], raw.maps["residual"])
    np.testing.assert_array_equal(found["x_hat"], raw.x_hat)
    assert ("region" in found) == (raw.region is not None) == (preset == "default")
    if raw.region is not None:
        np.testing.assert_array_equal(found["region"], raw.region)


def test_an_exported_graph_scores_real_images_as_torch_does(exported_run: Path, tiny_run: Path) -> None:
    files = [*sorted((SAMPLE / "test" / "normal").iterdir())[:5], *sorted((SAMPLE / "test" / "abnormal").iterdir())[:6]]
    records = find_images(files)
    torch_scorer = artifacts.load_run(tiny_run).scorer
    graph = load_export(exported_run)
    options = {"maps": True, "pictures": True, "batch_size": 4}  # 11 images: the last batch is ragged
    a, b = scores(graph, records, **options), scores(torch_scorer, records, **options)
    assert_same_scores(a, b, torch_scorer)
    for one, other in zip(a, b, strict=True):
        for picture, theirs in zip(one.pictures, other.pictures, strict=True):
            np.testing.assert_allclose(picture, theirs, atol=1e-3)


def test_the_default_network_passes(trained: Trained, run: Path, data: Path, tmp_path: Path) -> None:
    folder, parity = export(run, "openvino", tmp_path / "graph")
    assert parity.passes
    assert (parity.flips, parity.images) == (0, 48)
    assert parity.own_score < 1e-3
    assert 0 < parity.abnormal < parity.images  # both verdicts were there to flip
    records = read_records(data, "test")
    assert_same_scores(
        scores(load_export(folder), records), scores(trained.artifact.scorer, records), trained.artifact.scorer
    )


def test_what_an_export_holds(exported_run: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = json.loads((exported_run / "export.json").read_text())
    assert facts["parity"]["score"] <= 1e-3
    assert facts["parity"]["flips"] == 0
    assert facts["model"] == json.loads((tiny_run / "model.json").read_text())
    form = "xml" if facts["format"] == "openvino" else "onnx"
    assert {path.suffix for path in exported_run.iterdir()} == {".json", ".safetensors", f".{form}"} | (
        {".bin"} if form == "xml" else set()
    )
    with safe_open(exported_run / "arrays.safetensors", "np") as file:
        images = file.get_tensor("test_images")
    assert images.dtype == np.uint8
    assert len(images) == len(facts["self_test"])
    assert str(tiny_run) not in (exported_run / "export.json").read_text()
    here = (str(Path.home()), str(Path.cwd()), sys.prefix, str(tiny_run), platform.node())
    for path in exported_run.iterdir():  # the tracer notes from which lines of whose files each operation comes
        content = path.read_bytes()
        assert not [name for name in here if len(name) > 5 and name.encode() in content], path.name
    main_ok("info", exported_run)
    assert TINY in capsys.readouterr().out


def main_ok(*arguments: object) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code in (0, None)


def test_an_export_stands_alone(exported_run: Path, data: Path, tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(exported_run, tmp_path / "elsewhere"))
    model = aeflow.load(elsewhere)
    image = next((data / "test" / "normal").iterdir())
    result = model.score(image)
    assert result.map is not None
    metrics = model.evaluate(data, out=tmp_path / "evaluated")
    assert metrics["n_normal"] == metrics["n_abnormal"] == 12
    assert (tmp_path / "evaluated" / "report.html").is_file()
    sha = store.read_export(elsewhere)["model"]["sha256"][:16]
    explained = model.explain(image)
    assert explained.score.value == pytest.approx(result.value, abs=1e-6)
    assert explained.beside is None
    assert "shows no healthy counterpart" in explained.notes[0]
    for ask in (lambda: model.sample(1), lambda: model.artifact):
        with pytest.raises(ArtifactError, match=f"an exported graph, and this needs the network itself; .*{sha}"):
            ask()


def test_the_run_around_an_export_is_named(tiny_run: Path, openvino_export: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    shutil.copytree(openvino_export, run / "openvino")
    with pytest.raises(ArtifactError, match=f"needs the network itself; give the run that it came from: {run}$"):
        artifacts.load_run(run / "openvino")


def test_a_graph_that_scores_otherwise_is_not_written(
    tiny_run: Path,
    openvino_export: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def bent(graph: ScoreGraph, outputs: Any, size: int, path: Path, *rest: Any) -> None:
        """Write the run's graph with its weights moved a little."""
        for name in ("graph.xml", "graph.bin"):
            shutil.copy(openvino_export / name, path.parent)
        bend(path.with_suffix(".bin"))

    monkeypatch.setattr(exporting, "write_graph", bent)
    with pytest.raises(SystemExit) as end:
        main(["export", str(tiny_run), "--to", "openvino", "--out", str(tmp_path / "graph")])
    assert end.value.code == 2
    assert "not written: scores differ by up to" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def bend(weights: Path) -> None:
    """Move the weights of a graph by a fiftieth; what is very small or large may be a whole number and stays."""
    values = np.frombuffer(weights.read_bytes(), np.float32).copy()
    values[(np.abs(values) > 1e-3) & (np.abs(values) < 1)] *= 1.02
    weights.write_bytes(values.tobytes())


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_a_damaged_file_is_refused(exported_run: Path, tmp_path: Path, share: float) -> None:
    for name in [path.name for path in exported_run.iterdir()]:
        folder = Path(shutil.copytree(exported_run, tmp_path / f"damaged {name}"))
        content = bytearray((folder / name).read_bytes())
        content[int(share * len(content))] ^= 4
        (folder / name).write_bytes(bytes(content))
        with pytest.raises(ArtifactError, match=r"export it again|give the folder|use the version"):
            load_export(folder)
        (folder / name).unlink()
        with pytest.raises(ArtifactError, match=r"no such file|holds no export\.json"):
            load_export(folder)


def test_a_bent_weight_with_the_right_checksum_is_refused(openvino_export: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(openvino_export, tmp_path / "bent"))
    bend(folder / "graph.bin")
    facts = store.read_export(folder)
    del facts["sha256"]
    facts["files"]["graph.bin"] = file_digest(folder / "graph.bin")
    store.write_checked(folder / "export.json", facts)
    with pytest.raises(ArtifactError, match=r"this machine gives other scores .*; export it again here, or score with"):
        load_export(folder)


def test_wrong_use(tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'tflite' is no format; choose openvino or onnx"):
        export(tiny_run, "tflite")
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="holds something else than an export; choose another --out"):
        export(tiny_run, "openvino", tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_graph_in_bfloat16_of_an_earlier_version_is_refused(openvino_export: Path, tmp_path: Path) -> None:
    """Its scores depend on the processor."""
    folder = Path(shutil.copytree(openvino_export, tmp_path / "coarse"))
    facts = store.read_export(folder)
    del facts["sha256"]
    store.write_checked(folder / "export.json", {**facts, "precision": "fp32"})
    load_export(folder)
    store.write_checked(folder / "export.json", {**facts, "precision": "bf16"})
    with pytest.raises(ArtifactError, match=r"precision.*; export it again"):
        load_export(folder)
