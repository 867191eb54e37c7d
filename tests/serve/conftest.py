"""Services that the tests of this folder share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from helpers.browser import BROWSER
from helpers.data import texture
from helpers.postgres import cluster
from helpers.service import Running, send, serving

TABLET, DESKTOP = {"width": 820, "height": 1180}, {"width": 1280, "height": 800}
LOCAL = ("http://127.0.0.1", "blob:", "data:")
NUMBERS = itertools.count()


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the tablet to the long tests but for what its size may change: keys are the same on both."""
    for item in items:
        if "[tablet" in item.name and item.get_closest_marker("sizes") is None:
            item.add_marker(pytest.mark.torture)


@pytest.fixture
def client(service: Running) -> Iterator[httpx.Client]:
    with service.client() as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    reason = "playwright is not installed: no page is opened"
    playwright = pytest.importorskip("playwright.sync_api", reason=reason)
    with playwright.sync_playwright() as started:
        options = ["--headless", "--no-sandbox", "--disable-gpu"]
        opened = started.chromium.launch(executable_path=BROWSER, args=options)
        yield opened
        opened.close()


@pytest.fixture(scope="module", params=[DESKTOP, TABLET], ids=["desktop", "tablet"])
def page(browser, request: pytest.FixtureRequest) -> Iterator[object]:
    """A page that may ask nothing of anybody else, and complain of nothing."""
    opened = browser.new_page(viewport=request.param)
    opened.set_default_timeout(60_000)
    opened.complaints = []
    opened.on("console", lambda said: opened.complaints.append(said.text) if said.type == "error" else None)
    refused = ("status of 422", "status of 409")  # the browser notes a refused upload or label, too
    opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.foreign = []
    opened.on("request", lambda one: opened.foreign.append(one.url) if not one.url.startswith(LOCAL) else None)
    yield opened
    assert [said for said in opened.complaints if not any(one in said for one in refused)] == []
    assert opened.foreign == []
    opened.close()


@pytest.fixture
def three(page, service: Running, tmp_path: Path) -> tuple[str, list[str]]:
    """The source of three new studies, and their images from the most abnormal down."""
    seed = 9000 + page.viewport_size["width"] + 10 * next(NUMBERS)
    source = f"three {seed}"
    with service.client() as client:
        rows = []
        for number in range(3):
            place = tmp_path / f"{number}.png"
            Image.fromarray(texture(seed + number)).save(place)
            rows += send(client, place, source=source).json()["results"]
    page.goto(f"{service.address}/?source={source}")
    rows.sort(key=lambda row: (row["p_value"], -row["score"]))
    page.evaluate("localStorage.clear(); sessionStorage.clear()")
    return source, [row["id"] for row in rows]
