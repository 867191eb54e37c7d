"""Services that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from helpers.postgres import cluster
from helpers.service import Running, send, serving


@pytest.fixture(scope="module")
def service(openvino_export: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service for this machine alone, with the test images of the small data set in its worklist."""
    with serving(openvino_export, tmp_path_factory.mktemp("service") / "kept", "--max-upload", 8) as running:
        with running.client() as client:
            for label in ("normal", "abnormal"):
                assert send(client, *sorted((data / "test" / label).iterdir()), source=label).status_code == 200
        yield running


@pytest.fixture(scope="module")
def new_postgresql() -> Iterator[Callable[[], str]]:
    """A function that gives the address of an empty PostgreSQL database."""
    with cluster() as new:
        yield new


@pytest.fixture
def client(service: Running) -> Iterator[httpx.Client]:
    with service.client() as found:
        yield found
