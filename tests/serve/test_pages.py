"""A reader in a real browser: uploads, looks, labels by key, draws, comes back, signs in; axe finds nothing serious."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from helpers.browser import BROWSER, needs_browser
from helpers.data import lesion, texture
from helpers.service import Running, serving

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no page is opened")
pytestmark = needs_browser

AXE = Path(__file__).parent / "axe-core" / "axe.min.js"
TABLET, DESKTOP = {"width": 820, "height": 1180}, {"width": 1280, "height": 800}
TOKEN = "a token that is long enough for tests"


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
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
    refused = "status of 422"  # the browser notes a refused upload, too
    opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.foreign = []
    opened.on("request", lambda one: opened.foreign.append(one.url) if not one.url.startswith(LOCAL) else None)
    yield opened
    assert [one for one in opened.complaints if refused not in one] == []
    assert opened.foreign == []
    opened.close()


LOCAL = ("http://127.0.0.1", "blob:", "data:")


def serious(page) -> list[str]:
    """What axe finds that keeps somebody out."""
    found = page.evaluate(AXE.read_text(encoding="utf-8") + ";axe.run()")
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found["violations"] if one["impact"] in BAD]


BAD = ("serious", "critical")


def shown(page) -> str:
    """Wait until an image is on the canvas, and return which."""
    page.wait_for_selector("canvas[data-shown]")
    return page.get_attribute("canvas", "data-shown")


def test_a_reader_goes_through_the_day(page, service: Running, tmp_path: Path) -> None:
    name = f"{page.viewport_size['width']}"
    seed = page.viewport_size["width"]
    Image.fromarray(lesion(7000 + seed)[0]).save(tmp_path / "one.png")
    (tmp_path / "two.png").write_text("no image")
    page.goto(service.address)
    page.fill("#source", f"room {name}")
    page.set_input_files("#files", [tmp_path / "one.png", tmp_path / "two.png"])
    page.wait_for_selector("#sent li:has-text('two.png') .warned")
    page.wait_for_selector("#sent li:has-text('one.png') :text('called')")
    page.fill("[name=source]", f"room {name}")
    page.press("[name=source]", "Tab")
    page.wait_for_selector("#words:has-text('1 of')")
    page.keyboard.press("Escape")
    page.focus("a.open")
    page.keyboard.press("Enter")
    image = shown(page)
    # window and level by dragging, map off and on: the picture changes
    before = page.evaluate("document.querySelector('canvas').toDataURL()")
    box = page.locator("canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + 30, steps=3)
    page.mouse.up()
    page.wait_for_function("before => document.querySelector('canvas').toDataURL() !== before", arg=before)
    # a region by keys alone, then the label
    page.keyboard.press("d")
    for key in ("ArrowLeft", "Enter", "Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector("#drawn:has-text('1 region drawn')")
    page.uncheck("#onwards")
    page.fill("#kind", "nodule")
    page.press("#kind", "Enter")
    page.wait_for_selector("#said:has-text('kept: abnormal')")
    page.reload()
    assert shown(page) == image
    assert page.get_attribute("[data-label=abnormal]", "aria-pressed") == "true"
    page.wait_for_selector("#drawn:has-text('1 region drawn')")
    with service.client() as client:
        study = page.url.partition("/studies/")[2][:16]
        assert client.get(f"/api/studies/{study}").json()["label"] == "abnormal"


def test_slices_follow_the_wheel(page, service: Running, tmp_path: Path) -> None:
    import nibabel
    import numpy as np

    voxels = np.stack([texture(7500 + page.viewport_size["width"] + i) for i in range(4)], axis=-1).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "volume.nii.gz")
    with service.client() as client:
        files = {"files": ("volume.nii.gz", (tmp_path / "volume.nii.gz").read_bytes())}
        rows = client.post("/api/score", files=files).json()["results"]
    page.goto(service.address + rows[0]["page"])
    assert shown(page) == rows[0]["id"]
    page.hover("canvas")
    page.mouse.wheel(0, 100)
    page.wait_for_selector(f"canvas[data-shown='{rows[1]['id']}']")
    page.keyboard.press("PageUp")
    page.wait_for_selector(f"canvas[data-shown='{rows[0]['id']}']")


@pytest.mark.parametrize("place", ["/", "/next", "/trends", "/recalibrate", "study"])
def test_nothing_keeps_a_reader_out(page, service: Running, place: str) -> None:
    with service.client() as client:
        study = client.get("/api/studies").json()["studies"][0]["id"]
    page.goto(service.address + (f"/studies/{study}" if place == "study" else place))
    if place == "study":
        shown(page)
    assert serious(page) == []
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0


def test_a_reader_signs_in(browser, openvino_export: Path, tmp_path: Path) -> None:
    with serving(openvino_export, tmp_path / "kept", AEFLOW_SERVE_TOKEN=TOKEN) as running:
        page = browser.new_page(viewport=DESKTOP)
        page.goto(f"{running.address}/next")
        assert serious(page) == []
        page.fill("#name", "token")
        page.fill("#password", "not the token, but as long as it")
        page.click("main button")
        page.wait_for_selector("text=Wrong name or password")
        page.fill("#name", "token")
        page.fill("#password", TOKEN)
        page.click("main button")
        page.wait_for_selector("h1:has-text('Label next')")
        page.click("text=Sign out")
        page.wait_for_selector("h1:has-text('Sign in')")
        assert json.dumps(page.context.cookies()) == "[]"
        page.close()
