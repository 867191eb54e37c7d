"""Shared by the tests: isolated caches, a synthetic data set, a small trained model."""

# ruff: noqa: E402 (assertions of the helpers are rewritten before anything imports them)
from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import timm
import torch

pytest.register_assert_rewrite("helpers")

from aeflow.deploy.export import export
from aeflow.privacy import identify
from aeflow.training import train as training
from aeflow.training.train import Trained
from helpers.data import TINY, small_settings, write_data

hypothesis.settings.register_profile("aeflow", deadline=None)  # laws; how long one takes hangs on what runs beside it
hypothesis.settings.load_profile("aeflow")


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
    return export(tiny_run, request.param, tmp_path_factory.mktemp("exports") / request.param)[0]


@pytest.fixture(scope="session")
def openvino_export(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tiny_run, "openvino", tmp_path_factory.mktemp("exports") / "graph")[0]
