"""A reader in a real browser: uploads, looks, labels by key, draws, comes back, signs in; axe finds nothing serious."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aeflow.data.slices import unfold
from aeflow.imageio.masks import read_mask_of
from aeflow.serve.training_labels import labelled_records
from helpers import dicom_files
from helpers.browser import needs_browser, opened
from helpers.data import lesion, texture
from helpers.service import Running, serving

pytestmark = needs_browser

AXE = Path(__file__).parent / "axe-core" / "axe.min.js"
DESKTOP = {"width": 1280, "height": 800}
TOKEN = "a token that is long enough for tests"


def serious(page) -> list[str]:
    """What axe finds that keeps somebody out."""
    found = page.evaluate(AXE.read_text(encoding="utf-8") + ";axe.run()")
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found["violations"] if one["impact"] in BAD]


BAD = ("serious", "critical")


def shown(page) -> str:
    """Wait until an image is on the canvas, and return which."""
    page.wait_for_selector("canvas[data-shown]")
    return page.get_attribute("canvas", "data-shown")


@pytest.mark.sizes
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
    page.select_option("[name=source]", f"room {name}")
    page.wait_for_selector("#words:has-text('1 of')")
    page.keyboard.press("Escape")
    page.focus("a.open")
    page.keyboard.press("Enter")
    image = shown(page)
    # window and level by dragging, map off and on: the picture changes
    before = page.evaluate("document.querySelector('canvas').toDataURL()")
    box = page.locator("#canvas").bounding_box()
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


def labels_of(service: Running, source: str) -> list[str | None]:
    with service.client() as client:
        return [study["label"] for study in client.get("/api/studies", params={"source": source}).json()["studies"]]


def test_a_held_key_labels_one_study(page, service: Running, three) -> None:
    source, ids = three
    page.locator("a.open").first.click()
    opened(page, ids[0])
    page.keyboard.down("u")
    for _ in range(3):
        page.wait_for_timeout(300)
        page.keyboard.down("u")  # as an operating system repeats it
    page.keyboard.up("u")
    opened(page, ids[1])
    assert labels_of(service, source) == ["unsure", None, None]


def test_what_is_typed_while_the_image_fills_the_window_is_a_kind_and_no_command(page, service: Running, three) -> None:
    source, ids = three
    page.locator("a.open").first.click()
    opened(page, ids[0])
    page.keyboard.press("f")
    page.wait_for_selector("body.filled")
    page.keyboard.press("t")
    page.wait_for_function("() => document.activeElement.id === 'kind'")
    page.keyboard.type("banana")
    page.keyboard.press("Enter")
    opened(page, ids[1])
    page.wait_for_selector("body.filled")  # study after study
    assert labels_of(service, source) == ["abnormal", None, None]
    with service.client() as client:
        [study] = client.get("/api/studies", params={"source": source, "label": "abnormal"}).json()["studies"]
        assert client.get(f"/api/studies/{study['id']}").json()["results"][0]["id"] == ids[0]
    page.keyboard.press("z")  # back to the one that was labelled last
    opened(page, ids[0])
    assert page.input_value("#kind") == "banana"
    page.keyboard.press("x")
    page.wait_for_selector("#said.warned:has-text('This loses the kind \"banana\"')")
    page.keyboard.press("x")
    page.wait_for_selector("#said:has-text('taken back')")
    page.keyboard.press("f")
    page.wait_for_selector("aside h1")
    assert labels_of(service, source) == [None, None, None]


def test_a_region_that_is_not_kept_is_not_lost_without_a_word(page, service: Running, three) -> None:
    source, ids = three
    page.locator("a.open").first.click()
    opened(page, ids[0])
    for key in ("d", "Enter", "Shift+ArrowRight", "Shift+ArrowDown", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector("#drawn:has-text('1 region drawn')")
    page.keyboard.press("j")
    page.wait_for_selector("#said.warned:has-text('This loses the region')")
    page.keyboard.press("a")
    opened(page, ids[1])
    page.keyboard.press("k")
    opened(page, ids[0])
    page.wait_for_selector("#drawn:has-text('1 region drawn')")
    page.keyboard.press("n")
    page.wait_for_selector("#said.warned:has-text('This loses the region')")
    assert labels_of(service, source)[0] == "abnormal"
    page.keyboard.press("n")
    opened(page, ids[1])
    assert labels_of(service, source)[0] == "normal"


def test_where_no_other_follows_it_says_what_is_left(page, service: Running, three) -> None:
    _, ids = three
    page.locator("a.open").last.click()
    opened(page, ids[2])
    assert "3 of 3" in page.inner_text("#last")
    page.keyboard.press("m")
    page.keyboard.press("n")
    page.wait_for_selector("#said:has-text('kept: normal. No other follows here') a[href='/?label=none']")
    page.keyboard.press("l")
    page.wait_for_selector("h1:has-text('Worklist')")
    page.wait_for_function("() => document.activeElement.matches('a.open')")
    assert page.evaluate("document.activeElement === [...document.querySelectorAll('a.open')].at(-1)")
    page.keyboard.press("Enter")
    opened(page, ids[2])
    assert page.get_attribute("#mapped", "aria-pressed") == "false"  # as it was left
    page.evaluate("localStorage.clear()")


def test_proposals_follow_one_another(page, service: Running, three) -> None:
    page.goto(f"{service.address}/next")
    proposed = page.locator(".tiles a").count()
    page.locator(".tiles a").first.click()
    first = shown(page)
    page.keyboard.press("u")
    page.wait_for_selector(f"canvas[data-shown]:not([data-shown='{first}'])")
    assert "proposed=yes" in page.url
    page.keyboard.press("l")
    page.wait_for_selector("h1:has-text('Label next')")
    assert proposed > 1


def test_an_address_that_is_none_is_a_page(page, service: Running) -> None:
    for place in ("/nonsense", "/studies/ffff", "/studies/ffffffffffffffff"):
        assert page.goto(service.address + place).status == 404
        assert "There is no such page" in page.inner_text("h1")
    page.complaints.clear()  # the browser's own, of the 404
    with service.client() as client:
        assert client.get("/api/nonsense").headers["content-type"] == "application/json"


def nifti(place: Path, seed: int) -> None:
    import nibabel

    voxels = np.stack([texture(seed + i) for i in range(4)], axis=-1).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1.0, 2.0, 3.0, 1.0])), place)


def dicom(place: Path, seed: int) -> None:
    images = np.stack([texture(seed + i) for i in range(4)])
    place.write_bytes(dicom_files.content(dicom_files.dataset(images, frames=4)))


@pytest.mark.parametrize(("write", "name"), [(nifti, "volume.nii.gz"), (dicom, "frames.dcm")])
def test_a_region_drawn_on_a_slice_goes_all_the_way_to_its_mask(page, service, tmp_path, write, name: str) -> None:
    """A volume is added on the page; the wheel goes through it, two clicks draw, and the mask lies on that slice."""
    write(tmp_path / name, 7500 + page.viewport_size["width"])
    page.goto(service.address)
    page.set_input_files("#files", [tmp_path / name])
    page.wait_for_selector(f"#sent li:has-text('{name}') :text('called')")
    with service.client() as client:
        rows = client.post("/api/score", files={"files": (name, (tmp_path / name).read_bytes())}).json()["results"]
    page.goto(service.address + rows[0]["page"])
    assert shown(page) == rows[0]["id"]
    page.hover("#canvas")
    page.mouse.wheel(0, 100)
    page.wait_for_selector(f"canvas[data-shown='{rows[1]['id']}']")
    page.keyboard.press("PageUp")
    page.wait_for_selector(f"canvas[data-shown='{rows[0]['id']}']")
    page.mouse.wheel(0, 100)
    page.mouse.wheel(0, 100)
    page.wait_for_selector(f"canvas[data-shown='{rows[2]['id']}']")
    page.uncheck("#onwards")
    page.click("#draw")
    box = page.locator("#canvas").bounding_box()
    middle, side = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2), min(box["width"], box["height"])
    page.mouse.click(middle[0] - side / 8, middle[1] - side / 8)
    page.mouse.click(middle[0] + side / 8, middle[1] + side / 8)
    page.wait_for_selector("#drawn:has-text('1 region drawn')")
    page.keyboard.press("a")
    page.wait_for_selector("#said:has-text('kept: abnormal')")
    content = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    records, _ = labelled_records(service.folder, [])
    [record] = [one for one in unfold(records) if one.path.name == content]
    assert record.slice_number == rows[2]["slice"]
    marked = np.argwhere(read_mask_of(record.path, record.mask, at=record.at))
    assert abs(marked.min(axis=0) - 24).max() <= 2  # a quarter of the side, about the middle of 64 pixels
    assert abs(marked.max(axis=0) - 39).max() <= 2


def test_the_bar_says_what_the_colours_mean_while_the_map_is_seen(page, service) -> None:
    with service.client() as client:
        study = client.get("/api/studies").json()["studies"][0]["id"]
    page.goto(f"{service.address}/studies/{study}")
    shown(page)
    ends = page.locator("#scale span").all_inner_texts()  # how rare, and no number: a sum of terms has no unit
    assert ends == ["1 in 1,000 places of normal images, or rarer", "1 in 10; what is more common, clear"]
    page.keyboard.press("m")
    page.wait_for_selector("#scale", state="hidden")
    page.keyboard.press("m")
    page.wait_for_selector("#scale", state="visible")


@pytest.mark.sizes
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
    if place == "study":
        page.keyboard.press("c")
        page.wait_for_selector("#mirror")
        page.keyboard.press("f")
        assert serious(page) == []
        page.keyboard.press("f")


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
