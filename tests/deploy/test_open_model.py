"""Backends: the same scores whoever runs the network, the fastest that is proven, and no torch where none is needed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import aeflow
from aeflow.artifacts import run as artifacts
from aeflow.artifacts.exported_graph import load_export
from aeflow.artifacts.layout import read_export
from aeflow.backends.openvino import OpenVINOBackend
from aeflow.cli import main
from aeflow.data.records import find_images, read_records
from aeflow.deploy import open_model as choose
from aeflow.deploy.open_model import open_model
from aeflow.errors import ArtifactError, SettingsError
from aeflow.imageio.errors import ImageError
from aeflow.scoring.scorer import score
from helpers.data import SIZE
from helpers.same_scores import assert_same_scores, scores

HEAVY = ["torch", "timm", "torchvision", "matplotlib", "sklearn", "pandas", "pyarrow"]


@pytest.fixture
def run_with_graph(tiny_run: Path, openvino_export: Path, tmp_path: Path) -> Path:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    shutil.copytree(openvino_export, run / "openvino")
    return run


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AEFLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("batch_size", [1, 5, 16])
def test_every_backend_gives_the_same(tiny_run: Path, exported_run: Path, data: Path, batch_size: int) -> None:
    torch_scorer, graph = artifacts.load_run(tiny_run).scorer, load_export(exported_run)
    records = read_records(data, "test")
    assert_same_scores(
        scores(graph, records, maps=True, batch_size=batch_size), scores(torch_scorer, records, maps=True), torch_scorer
    )


def test_openvino_reads_onnx(exported_run: Path, tiny_run: Path, data: Path) -> None:
    """So an ONNX export needs nothing that aeflow does not bring."""
    scorer = load_export(exported_run, "openvino")
    assert scorer.backend.name == "openvino"
    records = read_records(data, "test")[:5]
    assert_same_scores(scores(scorer, records), scores(artifacts.load_run(tiny_run).scorer, records), scorer)


def test_order_and_refusals_are_the_same(tiny_run: Path, exported_run: Path, data: Path, tmp_path: Path) -> None:
    good = sorted((data / "test" / "normal").iterdir())[:3]
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"GIF? no")
    records = find_images([bad, good[0], bad, good[1], good[2], bad])
    found = []
    for scorer in (artifacts.load_run(tiny_run).scorer, load_export(exported_run)):
        rows = list(score(scorer, records, batch_size=2))
        assert [record.path for record, _ in rows] == [record.path for record in records]
        found.append([str(result) if isinstance(result, ImageError) else "" for _, result in rows])
    assert found[0] == found[1]


def test_only_what_is_asked_for_comes_back(exported_run: Path) -> None:
    backend = load_export(exported_run).backend
    x = np.random.default_rng(0).random((3, 3, SIZE, SIZE), np.float32)
    plain, whole = backend.run(x), backend.run(x, maps=True, pictures=True)
    assert (plain.maps, plain.x_hat) == ({}, None)
    assert {name: m.shape for name, m in whole.maps.items()} == dict.fromkeys(("residual", "anomaly"), (3, SIZE, SIZE))
    assert whole.x_hat is not None
    assert whole.x_hat.shape == x.shape
    np.testing.assert_allclose(plain.measures["flow"], whole.measures["flow"], rtol=1e-5)
    one_by_one = np.concatenate([backend.run(x[i : i + 1]).measures["flow"] for i in range(3)])
    np.testing.assert_allclose(plain.measures["flow"], one_by_one, rtol=1e-4)
    turned = np.ascontiguousarray(x.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)  # the same images, not as they lie
    np.testing.assert_array_equal(backend.run(turned).measures["flow"], plain.measures["flow"])


@pytest.mark.skipif("bf16" not in OpenVINOBackend.native_precisions(), reason="this CPU has no bfloat16")
def test_in_bfloat16_the_encoder_stays_exact(openvino_export: Path) -> None:
    graph, outputs = openvino_export / OpenVINOBackend.graph_file, read_export(openvino_export)["outputs"]
    exact, coarse = (OpenVINOBackend(graph, SIZE, outputs, precision) for precision in ("fp32", "bf16"))
    x = np.random.default_rng(0).random((3, 3, SIZE, SIZE), np.float32)
    one, other = exact.run(x), coarse.run(x)
    np.testing.assert_allclose(other.input_statistics, one.input_statistics, rtol=1e-5, atol=1e-5)
    assert (other.measures["reconstruction"] != one.measures["reconstruction"]).any()
    np.testing.assert_allclose(other.measures["flow"], one.measures["flow"], rtol=0.02)


def test_auto_takes_torch_for_few_images_and_a_graph_that_is_at_hand(
    tiny_run: Path, run_with_graph: Path, own_cache: Path
) -> None:
    assert open_model(tiny_run, device="cpu", images=choose.GRAPH_FROM_IMAGES - 1).backend.name == "torch"
    assert not own_cache.exists()
    assert open_model(run_with_graph, device="cpu").backend.name == "openvino"
    assert open_model(run_with_graph, "torch", "cpu").backend.name == "torch"


def test_auto_makes_a_graph_for_many_images_once(
    tiny_run: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scorer = open_model(tiny_run, device="cpu", images=choose.GRAPH_FROM_IMAGES)
    assert (scorer.backend.name, scorer.backend.precision in ("fp32", "bf16")) == ("openvino", True)
    assert "making a graph for openvino" in capsys.readouterr().err
    [place] = (own_cache / "graphs").iterdir()
    before = (place / "export.json").stat().st_mtime_ns
    assert open_model(tiny_run, device="cpu").backend.name == "openvino"  # the next time, for one image too
    assert (place / "export.json").stat().st_mtime_ns == before
    assert capsys.readouterr().err == ""
    (place / "graph.bin").write_bytes(b"damaged")
    assert open_model(tiny_run, device="cpu").backend.name == "torch"
    assert "note: a graph is passed over" in capsys.readouterr().err


def test_a_graph_of_another_training_is_never_run(
    run_with_graph: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = artifacts.load_run(run_with_graph)
    artifact.metadata["training"]["seconds"] += 1  # as good as trained again
    artifacts.save_run(artifact, run_with_graph)
    assert open_model(run_with_graph, device="cpu").backend.name == "torch"
    assert "of another training than the run" in capsys.readouterr().err
    with pytest.raises(ArtifactError, match="of another training than the run; export the run again"):
        open_model(run_with_graph, "openvino", "cpu")


def test_wrong_backends(
    tiny_run: Path, openvino_export: Path, data: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    with pytest.raises(SettingsError, match="'jax' is unknown; choose one of auto, torch, openvino, onnx"):
        open_model(tiny_run, "jax")
    with pytest.raises(SettingsError, match="onnx does not run a graph of openvino; take openvino"):
        open_model(openvino_export, "onnx")
    with pytest.raises(SettingsError, match="openvino runs on the CPU here"):
        open_model(tiny_run, "openvino", "cuda")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if it were not installed
    image = next((data / "test" / "normal").iterdir())
    for command in (["score", tiny_run, image], ["evaluate", tiny_run, data]):
        with pytest.raises(SystemExit) as end:
            main([*map(str, command), "--backend", "onnx"])
        assert end.value.code == 2
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert open_model(tiny_run, device="cpu", images=choose.GRAPH_FROM_IMAGES).backend.name == "torch"


def test_a_graph_is_scored_without_torch_and_without_a_trace(
    run_with_graph: Path, exported_run: Path, data: Path, tmp_path: Path
) -> None:
    """In a fresh process, as a user starts it; nothing is written into the home folder."""
    program = (
        "import sys\nfrom aeflow.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        f"finally:\n    print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "AEFLOW_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    environment.pop("CI", None)
    for folder in (run_with_graph, exported_run):
        arguments = ["score", str(folder), str(data / "test" / "normal"), "--out", str(tmp_path / "scores.csv")]
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.strip() == "[]"
    assert list(home.rglob("*")) == []


def test_python_and_the_command_line_take_a_backend(
    run_with_graph: Path, tiny_run: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = next((data / "test" / "abnormal").iterdir())
    values = []
    for backend in ("torch", "openvino"):
        with pytest.raises(SystemExit):
            main(["score", str(run_with_graph), str(image), "--backend", backend, "--json"])
        values.append(json.loads(capsys.readouterr().out)["score"])
        assert aeflow.load(run_with_graph, "cpu", backend).score(image).value == pytest.approx(values[-1], abs=1e-6)
    assert values[0] == pytest.approx(values[1], abs=1e-3)
    model = aeflow.load(run_with_graph, "cpu", "openvino")
    assert model.explain(image).score.value == pytest.approx(values[0])  # the network itself is still there
