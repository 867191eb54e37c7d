"""CONTRIBUTING is true: its very lines add a reader, a metric, a backend, an encoder, a data set and a setting."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from sklearn.metrics import confusion_matrix

from aeflow import config
from aeflow.artifacts.exported_graph import load_export
from aeflow.backends import base, registry
from aeflow.config import Settings, make_settings
from aeflow.datasets import catalog
from aeflow.datasets.prepare import prepare
from aeflow.deploy.export import export
from aeflow.errors import DataError, SettingsError
from aeflow.evaluation import terminal
from aeflow.imageio import formats, raster
from aeflow.imageio.errors import ImageError, ImageLimitError
from aeflow.imageio.limits import Limits
from aeflow.imageio.reader import read_image
from aeflow.metrics import image as metrics
from aeflow.model import encoder_weights
from aeflow.training.train import Trained
from helpers.data import SIZE, TINY, texture

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
SECTION = re.compile(r"^## Add an? (.*?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = {name: BLOCK.findall(text) for name, text in SECTION.findall(TEXT)}
PATH = re.compile(r"(?<![\w/.])(?:src|tests|benchmarks|scripts|examples|docs|\.github)/[\w./-]*\w")


def defined(block: str, where: Any, **names: Any) -> dict[str, Any]:
    """The names of a module, and what a block defines if it stands there."""
    known = {**vars(where), **names}
    exec(compile("from __future__ import annotations\n" + block, "CONTRIBUTING.md", "exec"), known)
    return known


def entries(line: str, known: dict[str, Any]) -> dict[str, Any]:
    """The entries of a registry that a line adds."""
    return eval(f"{{{line}}}", known)


def test_every_section_is_tested() -> None:
    assert set(BLOCKS) == {"reader", "metric", "backend", "encoder", "public data set", "setting"}
    assert all(BLOCKS.values())


@pytest.mark.parametrize(
    "page", [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name
)
def test_the_paths_that_a_page_names_exist(page: Path) -> None:
    named = set(PATH.findall(page.read_text()))
    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    definition, line = BLOCKS["reader"]
    known = defined(definition, raster, re=re, Slice=formats.Slice)
    added = eval(line, {**vars(formats), "read": known["read"]})
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, added))
    pixels, file = texture(0), tmp_path / "image"
    file.write_bytes(b"P5\n64 64\n255\n" + pixels.tobytes())
    np.testing.assert_array_equal(read_image(file).pixels, pixels.astype(np.float32) / np.float32(255))
    with pytest.raises(ImageLimitError, match="64 x 64 pixels"):
        read_image(file, Limits(max_pixels=1000))
    for content in (file.read_bytes()[:-1], b"P5\n64 64\n65535\n" + bytes(8192)):
        file.write_bytes(content)
        with pytest.raises(ImageError):
            read_image(file)


def test_a_metric(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    definition, line = BLOCKS["metric"]
    for name, metric in entries(line, defined(definition, metrics)).items():
        monkeypatch.setitem(metrics.AT_THRESHOLD, name, metric)
        monkeypatch.setitem(terminal.NAMES, name, "negative predictive value")
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], 50)
    scores = generator.normal(size=100) + labels
    threshold = SimpleNamespace(value=0.5, rule="a rule", source="somewhere")
    found = metrics.image_metrics(scores, labels, [str(i) for i in range(100)], threshold)
    (true_normal, _), (missed, _) = confusion_matrix(labels, scores > 0.5)
    assert found["npv"]["value"] == pytest.approx(true_normal / (true_normal + missed))
    assert found["npv"]["low"] < found["npv"]["value"] < found["npv"]["high"]
    assert metrics.image_metrics(scores + 9, labels, [str(i) for i in range(100)], threshold)["npv"] is None
    terminal.print_table({**found, "split": "test", "pixel": None, "study": None, "localisation": None})
    assert f"negative predictive value  {found['npv']['value']:.3f}" in capsys.readouterr().out


@pytest.mark.torture
def test_a_backend(aeflow_1: tuple[Path, Trained], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of aeflow-1: the reference evaluator cannot pool in windows that are not square, as the region body does."""
    exported_run = tmp_path / "onnx"
    export(aeflow_1[0], "onnx", exported_run)
    evaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator
    definition, line = BLOCKS["backend"]
    known = defined(definition, base, ReferenceEvaluator=evaluator)
    for name, backend in entries(line, known).items():
        monkeypatch.setitem(registry.GRAPH_BACKENDS, name, backend)
    x = np.stack([texture(i) for i in range(2)]).astype(np.float32)[:, None].repeat(3, axis=1) / 255
    ours, theirs = load_export(exported_run, "reference"), load_export(exported_run, "onnx")
    assert (ours.backend.name, ours.backend.size) == ("reference", SIZE)
    got, want = (scorer.backend.run(x, maps=True, pictures=True) for scorer in (ours, theirs))
    for name, measure in want.measures.items():
        np.testing.assert_allclose(got.measures[name], measure, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(got.x_hat, want.x_hat, atol=1e-3)


def test_an_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [line] = BLOCKS["encoder"]
    torch.manual_seed(0)
    net = timm.create_model(TINY).eval()
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    package = SimpleNamespace(get_model_file_path=lambda: str(tmp_path / "weights.pth"))
    [(name, place)] = entries(line, {"TestEfficientnetModelFile": package}).items()
    monkeypatch.setitem(encoder_weights.WEIGHTS, name, place)
    encoder = encoder_weights.pretrained(name, (3,))
    state = encoder.net.state_dict()
    assert len(state) > 20
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in state.items())


def test_a_public_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import PIL.Image

    [line] = BLOCKS["public data set"]
    for name, recipe in entries(line, vars(catalog)).items():
        monkeypatch.setitem(catalog.RECIPES, name, recipe)
    for i, folder in enumerate(["train/good"] * 3 + ["test/good"] * 2 + ["test/bad"] * 2):
        (tmp_path / "download" / folder).mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(texture(i)).save(tmp_path / "download" / folder / f"{i}.png")
    prepared = prepare(catalog.RECIPES["toy"], tmp_path / "download", tmp_path / "out")
    assert {split: len(records) for split, records in prepared.splits.items()} == {"train": 3, "test": 4}
    assert [record.kind for record in prepared.splits["test"] if record.label] == ["broken bone"] * 2
    (tmp_path / "download/train/good/0.png").unlink()
    with pytest.raises(DataError):
        prepare(catalog.RECIPES["toy"], tmp_path / "download", tmp_path / "again")


def test_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    [line] = BLOCKS["setting"]
    wider = defined(f"class Wider(Settings):\n{textwrap.indent(line, '    ')}", config)["Wider"]
    assert "grain" not in Settings.model_fields
    monkeypatch.setattr(config, "Settings", wider)
    assert make_settings().grain == 0
    assert make_settings(**config.parse_changes(["grain=0.02"])).grain == 0.02
    with pytest.raises(SettingsError, match=r"grain: 0\.2 is not allowed; give at most 0\.1"):
        make_settings(grain=0.2)
