"""Models from strangers: whatever a folder holds, a command ends in seconds with one line, and takes little memory."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

from aeflow.artifacts.layout import MAX_HEADER, read_metadata
from aeflow.artifacts.run import laid_out, load_run
from aeflow.config import Settings
from aeflow.deploy.open_model import open_model
from aeflow.errors import ArtifactError
from aeflow.runtime.files import digest, file_digest
from helpers.command import error_of

Tree = dict[str, Any]


@pytest.fixture
def copy(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def rewrite(path: Path, change: Callable[[Tree], object]) -> None:
    """Change a JSON file, with a right checksum, as a stranger does."""
    content = json.loads(path.read_text())
    del content["sha256"]
    change(content)
    path.write_text(json.dumps({**content, "sha256": digest(content)}))


def retensor(run: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change the weights, with a right checksum."""
    tensors = load_file(run / "model.safetensors")
    change(tensors)
    save_file(tensors, run / "model.safetensors")
    rewrite(run / "model.json", lambda content: content.update(weights_sha256=file_digest(run / "model.safetensors")))


def put(*names: str | int, to: object) -> Callable[[Tree], None]:
    """Return the change that puts a value at a place in a tree."""

    def change(tree: Any) -> None:
        for name in names[:-1]:
            tree = tree[name]
        tree[names[-1]] = to

    return change


VALUES = {
    "settings of no kind": put("settings", to=[]),
    "a setting out of range": put("settings", "image_size", to=10**9),
    "a giant network": put("settings", "hidden", to=10**8),
    "layers without end": put("settings", "decoder", to=[1] * 100_000),
    "an unknown term": put("calibration", "term_scales", to={"__init__": {}}),
    "a term without a spread": lambda tree: next(iter(tree["calibration"]["term_scales"].values())).pop("spread"),
    "a threshold in words": put("calibration", "threshold", to="high"),
    "scores of no kind": put("calibration", "scores", to=None),
    "a huge number": put("calibration", "threshold", to=10**400),
    "no maps": put("calibration", "maps", to={}),
    "an encoder of no kind": put("encoder", to="resnet18"),
    "classes without end": put("classes", "width", to=10**12),
    "no bounds": put("intended", "bounds", to={}),
    "another self-test": put("self_test", to=[0.0]),
    "a training of no kind": put("training", to=[1]),
    "versions of no kind": put("versions", to={"aeflow": {"a": 1}}),
    "a recalibration of no kind": put("recalibration", to={"images": 1}),
    "another region": put("intended", "region", to=[[0.0]]),
}


@pytest.mark.parametrize("change", VALUES.values(), ids=VALUES)
def test_values_of_another_kind(copy: Path, change: Callable[[Tree], None]) -> None:
    rewrite(copy / "model.json", change)
    with pytest.raises(ArtifactError, match=r"model\.json|model\.safetensors") as error:
        load_run(copy)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["schema", "settings", "encoder", "calibration", "intended", "self_test", "versions"])
def test_missing_values(copy: Path, name: str) -> None:
    rewrite(copy / "model.json", lambda content: content.pop(name))
    with pytest.raises(ArtifactError, match=r"model\.json: (not written by aeflow|does not describe a model)"):
        read_metadata(copy)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"schema": 7, "sha256": "", "a": ' + "[" * 50_000 + "]" * 50_000 + "}",
        '{"schema": 7, "sha256": "", "a": NaN}',
        '{"schema": 7, "sha256": "", "a": 1e999}',
        '{"schema": 7, "sha256": "", "a": ' + "9" * 5000 + "}",
        '{"schema": [7], "sha256": ""}',
        '{"schema": 7, "sha256": "", "a": "\\ud800"}',
    ],
    ids=["deep", "deep and closed", "NaN", "infinite", "huge", "a schema of no kind", "half a character"],
)
def test_json_that_breaks_readers(copy: Path, text: str) -> None:
    (copy / "model.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"model\.json"):
        read_metadata(copy)


TENSORS = {
    "NaN": lambda tensors: next(t for t in tensors.values() if t.is_floating_point()).fill_(float("nan")),
    "an extra one": lambda tensors: tensors.update(more=torch.zeros(1)),
    "a missing one": lambda tensors: tensors.pop(next(iter(tensors))),
    "another shape": lambda tensors: tensors.update({k: t[None] for k, t in list(tensors.items())[:1]}),
    "another type": lambda tensors: tensors.update({k: t.double() for k, t in list(tensors.items())[:1]}),
    "a guard of another size": lambda tensors: tensors.update({"intended.mean": torch.zeros(3)}),
}


@pytest.mark.parametrize("change", TENSORS.values(), ids=TENSORS)
def test_tensors_of_another_kind(copy: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    retensor(copy, change)
    with pytest.raises(ArtifactError, match=r"model\.(safetensors|json)"):
        load_run(copy)


def test_a_header_without_end(copy: Path) -> None:
    with (copy / "model.safetensors").open("r+b") as file:
        file.write(struct.pack("<Q", MAX_HEADER + 1))
    rewrite(copy / "model.json", put("weights_sha256", to=file_digest(copy / "model.safetensors")))
    with pytest.raises(ArtifactError, match=r"a header of 8,388,609 bytes where at most 8,388,608 are read"):
        load_run(copy)


def test_a_file_that_is_mostly_nothing(copy: Path) -> None:
    """A terabyte that takes no place on the disk is never read."""
    os.truncate(copy / "model.safetensors", 2**40)
    for backend in ("torch", "auto"):
        with pytest.raises(ArtifactError, match=r"1,099,511,627,776 bytes where at most"):
            open_model(copy, backend, "cpu")
    os.truncate(copy / "model.json", 2**40)
    with pytest.raises(ArtifactError, match=r"1,099,511,627,776 bytes where at most 67,108,864 are read"):
        read_metadata(copy)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_links_and_pipes(copy: Path, tmp_path: Path, name: str) -> None:
    shutil.move(copy / name, tmp_path / name)
    (copy / name).symlink_to(tmp_path / name)
    with pytest.raises(ArtifactError, match="a link to a file outside of the model's folder"):
        load_run(copy)
    (copy / name).unlink()
    (copy / name).symlink_to(name)
    with pytest.raises(ArtifactError, match=name):
        load_run(copy)
    (copy / name).unlink()
    os.mkfifo(copy / name)
    with pytest.raises(ArtifactError, match="no ordinary file"):
        load_run(copy)
    (copy / name).unlink()
    shutil.move(tmp_path / name, copy / f"real {name}")
    (copy / name).symlink_to(f"real {name}")  # a link within the folder
    load_run(copy)


def test_every_command_says_so_in_one_line(copy: Path, data: Path, tmp_path: Path) -> None:
    """A name that stands for a giant network is not built."""

    def giant(content: Tree) -> None:
        content["encoder"]["name"] = content["settings"]["encoder"] = "vit_gigantic_patch14_224"

    rewrite(copy / "model.json", giant)
    image, normals = next((data / "test" / "normal").iterdir()), data / "train" / "normal"
    for command in (
        ("score", copy, image),
        ("explain", copy, image, "--out", tmp_path / "explained"),
        ("evaluate", copy, data, "--out", tmp_path / "evaluated"),
        ("export", copy, "--to", "onnx", "--out", tmp_path / "exported"),
        ("recalibrate", copy, normals, "--out", tmp_path / "recalibrated"),
    ):
        assert "model.json: does not describe a model of this version" in error_of(*command)
    rewrite(copy / "model.json", put("calibration", to=None))
    assert "calibration" in error_of("info", copy)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_a_giant_takes_no_memory(copy: Path) -> None:
    """A thousand million weights would take five gigabytes."""
    metadata = read_metadata(copy)
    metadata["encoder"]["name"] = "regnety_2560"
    tensors = laid_out(Settings(**metadata["settings"]), metadata)
    assert sum(tensor.nbytes for tensor in tensors.values()) > 2**30
    assert {tensor.device.type for tensor in tensors.values()} == {"meta"}


EXPORTS = {
    "a file elsewhere": lambda export: export["files"].update({"../../secret": "0" * 64}),
    "a file unchecked": lambda export: export["files"].popitem(),
    "no files": put("files", to={}),
    "another format": put("format", to="pickle"),
    "another precision": put("precision", to="int1"),
    "outputs of no kind": put("outputs", to="score"),
    "an output that is not there": put("outputs", to=["nothing"]),
    "another self-test": put("self_test", to=[1.0]),
    "no model": put("model", to=None),
    "a model of another kind": put("model", "calibration", "threshold", to=None),
}


@pytest.mark.parametrize("change", EXPORTS.values(), ids=EXPORTS)
def test_exports_of_another_kind(openvino_export: Path, tmp_path: Path, change: Callable[[Tree], object]) -> None:
    folder = Path(shutil.copytree(openvino_export, tmp_path / "export"))
    rewrite(folder / "export.json", change)
    with pytest.raises(ArtifactError, match=r"export\.json"):
        open_model(folder)


def regraph(folder: Path, change: Callable[[onnx.ModelProto], object]) -> None:
    """Change an ONNX graph, with a right checksum."""
    model = onnx.load(folder / "graph.onnx")
    change(model)
    (folder / "graph.onnx").write_bytes(model.SerializeToString())
    graph = file_digest(folder / "graph.onnx")
    rewrite(folder / "export.json", put("files", "graph.onnx", to=graph))


def elsewhere(model: onnx.ModelProto) -> None:
    """Let the first numbers of a graph lie in a file of the system."""
    first = model.graph.initializer[0]
    first.data_location = onnx.TensorProto.EXTERNAL
    first.external_data.add(key="location", value="../../../../etc/passwd")
    first.ClearField("raw_data")


GRAPHS = {
    "numbers elsewhere": elsewhere,
    "operations of others": lambda model: setattr(model.graph.node[0], "domain", "evil"),
    "unknown operations": lambda model: setattr(model.graph.node[0], "op_type", "Explode"),
    "no operations": lambda model: model.graph.ClearField("node"),
}


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.parametrize("change", GRAPHS.values(), ids=GRAPHS)
def test_graphs_of_another_kind(
    exports: Callable[[str], Path], tmp_path: Path, change: Callable[[onnx.ModelProto], object], backend: str
) -> None:
    folder = Path(shutil.copytree(exports("onnx"), tmp_path / "export"))
    regraph(folder, change)
    with pytest.raises(ArtifactError, match=r"export\.json: does not describe a graph that this version can run"):
        open_model(folder, backend)
