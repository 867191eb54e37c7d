"""Shared by the tests: isolated caches, a synthetic data set, a small trained model."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from aeflow.cli import main
from aeflow.config import Settings, make_settings
from aeflow.privacy import identify
from aeflow.training import train as training
from aeflow.training.train import Trained

hypothesis.settings.register_profile("aeflow", deadline=None)  # laws; how long one takes hangs on what runs beside it
hypothesis.settings.load_profile("aeflow")

SIZE = 64
TINY = "test_efficientnet"  # a network of timm, made for tests
SAMPLE = Path(__file__).parent.parent / "sample"


@pytest.fixture(scope="session", autouse=True)
def _isolated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's caches and secrets."""
    patch = pytest.MonkeyPatch()
    patch.setenv("AEFLOW_CACHE", os.environ.get("AEFLOW_TEST_CACHE") or str(tmp_path_factory.mktemp("cache")))
    patch.setenv("AEFLOW_SALT", "salt of the tests")
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def _names_are_hidden() -> Iterator[None]:
    """A test may ask for names; the next one starts without."""
    yield
    identify(False)


def small_settings(**changes: object) -> Settings:
    """The default preset, small enough for a test."""
    small = {"image_size": SIZE, "hidden": 16, "flow_steps": 2, "epochs": 3, "batch_size": 8}
    return make_settings(**{**small, **changes})


def within(*arguments: object, ok: int = 0) -> tuple[str, str]:
    """A command's stdout and stderr, in this process: without the seconds that a start takes."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
        main([*map(str, arguments)])
    assert end.value.code == ok, err.getvalue()
    return out.getvalue(), err.getvalue()


def texture(seed: int) -> np.ndarray:
    """A smooth random image (64, 64) in [0, 255]."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((SIZE, SIZE)), 4)
    return np.clip(110 + 55 * noise / noise.std(), 0, 255).astype(np.uint8)


def lesion(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A texture with a noisy bright square, and the mask of it."""
    image, mask = texture(seed), np.zeros((SIZE, SIZE), bool)
    rng = np.random.default_rng(seed)
    y, x = rng.integers(4, SIZE - 28, 2)
    mask[y : y + 24, x : x + 24] = True
    image[mask] = rng.integers(120, 256, mask.sum())
    return image, mask


def write_data(root: Path, train: int = 40, test: int = 12) -> Path:
    """A data folder with normals, abnormals and masks; two images a patient in train."""
    rows = ["path,split,label,patient,mask"]

    def put(pixels: np.ndarray, name: str) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / name)

    for i in range(train):
        put(texture(i), f"train/normal/{i:03}.png")
        rows.append(f"train/normal/{i:03}.png,train,0,p{i // 2},")
    for i in range(6):
        put(lesion(500 + i)[0], f"train/abnormal/{i:03}.png")
        rows.append(f"train/abnormal/{i:03}.png,train,1,a{i},")
    for i in range(test):
        put(texture(1000 + i), f"test/normal/{i:03}.png")
        rows.append(f"test/normal/{i:03}.png,test,0,t{i},")
        image, mask = lesion(2000 + i)
        put(image, f"test/abnormal/{i:03}.png")
        put(mask.astype(np.uint8) * 255, f"test/mask/{i:03}.png")
        rows.append(f"test/abnormal/{i:03}.png,test,1,u{i},test/mask/{i:03}.png")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs") / "small"


@pytest.fixture(scope="session")
def trained(data: Path, run: Path) -> Trained:
    return training.train(data, run, small_settings(), device="cpu")


@pytest.fixture(scope="session")
def tiny_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a tiny encoder and classes, whose graphs are made in seconds."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    torch.save(timm.create_model(TINY).state_dict(), folder / "weights.pth")
    settings = small_settings(encoder=TINY, stages=(3,), class_stages=(2, 3), labels=5, epochs=1)
    training.train(data, folder / "run", settings, encoder_weights=folder / "weights.pth", device="cpu")
    return folder / "run"


@pytest.fixture(scope="session", params=["openvino", "onnx"])
def exported_run(request: pytest.FixtureRequest, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run as a graph of each format, in a folder of its own."""
    from aeflow.deploy.export import export

    return export(tiny_run, request.param, tmp_path_factory.mktemp("exports") / request.param)[0]


@pytest.fixture(scope="session")
def openvino_export(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from aeflow.deploy.export import export

    return export(tiny_run, "openvino", tmp_path_factory.mktemp("exports") / "graph")[0]
