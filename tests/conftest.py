"""Shared by the tests: isolated caches, a synthetic data set, small trained models and their graphs."""

# ruff: noqa: E402 (assertions of the helpers are rewritten before anything imports them)
from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import timm
import torch
from PIL import Image

pytest.register_assert_rewrite("helpers")

from aeflow.config import Settings
from aeflow.deploy.export import export
from aeflow.privacy import identify
from aeflow.training.recalibrate import recalibrate
from aeflow.training.train import Trained, train
from helpers.data import NORMALS, TINY, small_settings, texture, write_data
from helpers.once import of_session, once

hypothesis.settings.register_profile("aeflow", deadline=None)  # laws; how long one takes hangs on what runs beside it
hypothesis.settings.load_profile("aeflow")

# In an activated environment pynetdicom's scripts hide the programs of dcmtk that have their names.
programs = [folder for folder in os.get_exec_path() if Path(folder) != Path(sys.executable).parent]
os.environ["PATH"] = os.pathsep.join(programs)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes many minutes, whatever else is chosen by -m, unless it is asked for."""
    if "torture" not in config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("torture")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that all processes of this session share; what lies there is made once and never changed."""
    return of_session(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session", autouse=True)
def _isolated(shared: Path) -> Iterator[None]:
    """No test reads or writes the user's caches and secrets."""
    patch = pytest.MonkeyPatch()
    patch.setenv("AEFLOW_CACHE", os.environ.get("AEFLOW_TEST_CACHE") or str(shared / "cache"))
    patch.setenv("AEFLOW_SALT", "salt of the tests")
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def _names_are_hidden() -> Iterator[None]:
    """A test may ask for names; the next one starts without."""
    yield
    identify(False)


@pytest.fixture(scope="session")
def data(shared: Path) -> Path:
    return once(shared / "data", write_data)


@pytest.fixture(scope="session")
def run(shared: Path) -> Path:
    """The folder of the small run, there once ``trained`` was asked for."""
    return shared / "runs" / "small"


@pytest.fixture(scope="session")
def trained(data: Path, run: Path, shared: Path) -> Trained:
    """What a small training returned, as it was in memory: nothing of it went through the run's own files."""
    return trained_once(shared / "small.pickle", data, run, small_settings())


def trained_once(place: Path, data: Path, run: Path, settings: Settings) -> Trained:
    """Train once for all processes of the session; ``place`` keeps what the training returned."""

    def make(place: Path) -> None:
        place.write_bytes(pickle.dumps(train(data, run, settings, device="cpu")))

    found: Trained = pickle.loads(once(place, make).read_bytes())
    return found


@pytest.fixture(scope="session")
def taught(data: Path, shared: Path) -> tuple[Path, Trained]:
    """A small run that has learned classes, and what its training returned, as it was in memory."""
    run = shared / "runs" / "taught"
    return run, trained_once(shared / "taught.pickle", data, run, small_settings(labels=5))


@pytest.fixture(scope="session")
def aeflow_1(data: Path, shared: Path) -> tuple[Path, Trained]:
    """The same with the score of AE-FLOW alone: flow and reconstruction on the whole image."""
    run = shared / "runs" / "aeflow-1"
    return run, trained_once(shared / "aeflow-1.pickle", data, run, small_settings(preset="aeflow-1", labels=5))


@pytest.fixture(scope="session")
def tiny_weights(shared: Path) -> Path:
    """Random weights of the tiny encoder."""

    def make(place: Path) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            torch.save(timm.create_model(TINY).state_dict(), place)

    return once(shared / "tiny.pth", make)


@pytest.fixture(scope="session")
def tiny_run(data: Path, tiny_weights: Path, shared: Path) -> Path:
    """A run with a tiny encoder and classes, whose graphs are made in seconds."""
    settings = small_settings(encoder=TINY, stages=(3,), class_stages=(2, 3), labels=5, epochs=1)
    return once(
        shared / "runs" / "tiny",
        lambda run: train(data, run, settings, encoder_weights=tiny_weights, device="cpu"),
    )


@pytest.fixture(scope="session")
def exports(tiny_run: Path, shared: Path) -> Callable[[str], Path]:
    """A function that gives the folder of the tiny run's graph in a format."""
    return lambda form: once(shared / "exports" / form, lambda folder: export(tiny_run, form, folder))


@pytest.fixture(scope="session", params=["openvino", "onnx"])
def exported_run(request: pytest.FixtureRequest, exports: Callable[[str], Path]) -> Path:
    """The tiny run as a graph of each format, in a folder of its own."""
    return exports(request.param)


@pytest.fixture(scope="session")
def openvino_export(exports: Callable[[str], Path]) -> Path:
    return exports("openvino")


@pytest.fixture(scope="session")
def recalibrated_run(tiny_run: Path, shared: Path) -> Path:
    """The tiny run with as many normals behind it as charts over time need."""

    def make(place: Path) -> None:
        folder = place.with_name("recalibration-normals")
        folder.mkdir()
        for i in range(NORMALS):
            Image.fromarray(texture(20_000 + i)).save(folder / f"{i}.png")
        recalibrate(tiny_run, [folder], place, device="cpu")

    return once(shared / "runs" / "recalibrated", make)
