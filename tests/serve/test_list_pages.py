"""Worklist and what to label next: by keys, back to where one was, with what readers said; no file is abandoned."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from aeflow.privacy import pseudonym
from helpers.browser import needs_browser, opened
from helpers.data import texture
from helpers.service import Running

pytestmark = needs_browser


def test_the_list_has_its_focus_on_the_study_that_was_reached(page, service: Running, three) -> None:
    _, ids = three
    page.locator("a.open").first.click()
    opened(page, ids[0])
    page.keyboard.press("j")
    opened(page, ids[1])
    page.keyboard.press("l")
    page.wait_for_function("() => document.activeElement === document.querySelectorAll('a.open')[1]")
    assert "#" not in page.url
    page.keyboard.press("Enter")
    opened(page, ids[1])
    page.keyboard.press("j")
    opened(page, ids[2])
    page.go_back()
    page.go_back()
    page.wait_for_selector("h1:has-text('Worklist')")
    page.goto(service.address)  # afresh: from the top
    page.wait_for_selector("a.open")
    assert page.evaluate("document.activeElement === document.body && scrollY === 0")


def test_the_list_says_what_readers_said_and_how_a_file_is_named(page, service: Running, three) -> None:
    source, ids = three
    with service.client() as client:
        given = {"label": "abnormal", "kind": "pneumonia", "regions": [[0.1, 0.1, 0.5, 0.5], [0.6, 0.6, 0.9, 0.9]]}
        client.post(f"/api/images/{ids[0]}/label", json=given).raise_for_status()
    page.reload()
    first = page.locator("tbody tr").first
    assert "pneumonia, 2 regions" in first.inner_text()
    names = {pseudonym(f"{number}.png") for number in range(3)}
    shown = {row.strip() for row in page.locator("tbody code").all_inner_texts()}
    assert shown == names
    page.goto(f"{service.address}/?source={source}&label=none")
    page.locator("a.open").first.click()
    opened(page, ids[1])
    assert "2 not labelled" in page.inner_text("#last")
    assert page.inner_text("#file") in names


def test_proposals_are_passed_over_and_come_back(page, service: Running, three) -> None:
    page.goto(f"{service.address}/next")
    every = [one.partition("image=")[2][:16] for one in page.evaluate("[...document.links].map(a => a.href)")]
    proposed = [one for one in every if one]
    page.keyboard.press("?")
    page.wait_for_selector("#help[open]")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    opened(page, proposed[0])
    for image in proposed[1:4]:
        page.keyboard.press("j")
        opened(page, image)
    for image in proposed[2::-1]:
        page.keyboard.press("k")
        opened(page, image)
    page.keyboard.press("j")
    opened(page, proposed[1])
    page.keyboard.press("u")  # its label takes it off: what follows is what followed
    opened(page, proposed[2])
    page.keyboard.press("k")
    opened(page, proposed[0])


def test_files_that_wait_are_not_abandoned_without_a_word(page, service: Running, tmp_path: Path) -> None:
    seed = 20_000 + page.viewport_size["width"]
    Image.fromarray(texture(seed)).save(tmp_path / "waits.png")
    page.goto(service.address)
    held = []
    page.route("**/api/score", lambda route: held.append(route))
    dialogs: list[str] = []

    def stay(dialog) -> None:
        dialogs.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", stay)
    page.click("h1")
    page.set_input_files("#files", [tmp_path / "waits.png"])
    page.wait_for_selector("#sent li:has-text('being scored')")
    page.evaluate("setTimeout(() => location.reload())")
    page.wait_for_timeout(500)
    assert dialogs == ["beforeunload"]
    page.remove_listener("dialog", stay)
    for route in held:
        route.continue_()
    page.wait_for_selector("#sent li:has-text('called')")
    page.unroute("**/api/score")
    page.reload()


def test_commands_on_the_page_name_the_folder(service: Running) -> None:
    with service.client() as client:
        assert f"aeflow serve --data {service.folder} --verify-audit" in client.get("/next").text
