"""The choice of a backend: the fastest that is proven, and no torch where none is needed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import aeflow
from aeflow.artifacts import run as artifacts
from aeflow.backends.registry import GRAPH_BACKENDS
from aeflow.cli import main
from aeflow.deploy import open_model as choose
from aeflow.deploy.open_model import open_model
from aeflow.errors import ArtifactError, SettingsError

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
    assert scorer.backend.name == "openvino"
    assert "making a graph for openvino" in capsys.readouterr().err
    [place] = (path.parent for path in own_cache.glob("graphs/*/export.json"))
    before = (place / "export.json").stat().st_mtime_ns
    assert open_model(tiny_run, device="cpu").backend.name == "openvino"  # the next time, for one image too
    assert (place / "export.json").stat().st_mtime_ns == before
    assert capsys.readouterr().err == ""
    (place / "graph.bin").write_bytes(b"damaged")
    assert open_model(tiny_run, device="cpu").backend.name == "openvino"  # it was there, so it is made anew
    noted, made, proven = capsys.readouterr().err.splitlines()
    assert noted.startswith("note: a part of the cache is damaged, and made anew: ")
    assert made == "note: making a graph for openvino, once for this model, about a minute"
    assert proven == "note: proving that it scores as the network does"
    assert (place / "graph.bin").stat().st_size > len(b"damaged")


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


@pytest.mark.parametrize("part", ["weights alone", "weights and graph"])
def test_of_a_damaged_run_the_error_alone_is_said(
    part: str, run_with_graph: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ["model.safetensors", *(["openvino/graph.bin"] if part != "weights alone" else [])]:
        file = run_with_graph / name
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    if part == "weights alone":
        shutil.rmtree(run_with_graph / "openvino")
    with pytest.raises(ArtifactError, match=r"model.safetensors: damaged, or of another run"):
        open_model(run_with_graph, device="cpu", images=choose.GRAPH_FROM_IMAGES)
    assert capsys.readouterr().err == ""


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


@pytest.mark.parametrize("kind", ["a run with a graph", *GRAPH_BACKENDS])
def test_a_graph_is_scored_without_torch_and_without_a_trace(
    kind: str, run_with_graph: Path, exports: Callable[[str], Path], data: Path, tmp_path: Path
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
    folder = exports(kind) if kind in GRAPH_BACKENDS else run_with_graph
    arguments = ["score", str(folder), str(data / "test" / "normal"), "--out", str(tmp_path / "scores.csv")]
    done = subprocess.run([sys.executable, "-c", program, *arguments], env=environment, capture_output=True, text=True)
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
