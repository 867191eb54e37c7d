"""A reader labels in a real browser, and loses nothing: to no slip, other tab, link or silent service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from helpers.browser import needs_browser, opened
from helpers.service import Running

pytestmark = needs_browser
ONE_REGION = ("d", "Enter", "Shift+ArrowRight", "Shift+ArrowDown", "Enter")


def begin(page, ids: list[str], at: int = 0) -> None:
    """Open a study from the list."""
    page.locator("a.open").nth(at).click()
    opened(page, ids[at])


def press(page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def warned(page, words: str) -> None:
    page.wait_for_selector(f"#said.warned:has-text('{words}')")


def last_label(service: Running, image: str) -> dict:
    """The label that the service has, as somebody is told who has not seen it."""
    with service.client() as client:
        given = {"label": "abnormal", "kind": "never said", "follows": 2**50}
        answer = client.post(f"/api/images/{image}/label", json=given)
        assert answer.status_code == 409
        return answer.json()["now"]


def abnormal(service: Running, image: str) -> dict:
    with service.client() as client:
        given = {"label": "abnormal", "kind": "pneumonia", "regions": [[0.1, 0.1, 0.5, 0.5]]}
        return client.post(f"/api/images/{image}/label", json=given).raise_for_status().json()


def test_a_label_of_another_tab_is_not_replaced_without_a_word(page, service: Running, three) -> None:
    _, ids = three
    begin(page, ids)
    there = abnormal(service, ids[0])
    press(page, "n")
    warned(page, "Changed meanwhile: abnormal (pneumonia), 1 region")
    assert page.input_value("#kind") == "pneumonia"
    assert last_label(service, ids[0]) == there
    press(page, "n")
    opened(page, ids[1])
    assert last_label(service, ids[0])["label"] == "normal"


def test_what_was_drawn_here_stays_beside_what_came_from_another_tab(page, service: Running, three) -> None:
    _, ids = three
    begin(page, ids)
    there = abnormal(service, ids[0])
    press(page, *ONE_REGION)
    page.wait_for_selector("#said:has-text('Press a to label it abnormal')")
    press(page, "a")
    warned(page, "Changed meanwhile")
    page.wait_for_selector("#drawn:has-text('2 regions drawn')")
    press(page, "a")
    opened(page, ids[1])
    found = last_label(service, ids[0])
    assert (found["kind"], found["regions"][0], len(found["regions"])) == ("pneumonia", there["regions"][0], 2)


def test_taking_back_and_removing_what_is_kept_needs_a_second_press(page, service: Running, three) -> None:
    _, ids = three
    there = abnormal(service, ids[0])
    page.reload()
    begin(page, ids)
    press(page, "x")
    warned(page, "This loses the region and the kind")
    press(page, "m", "x")  # another key between: it is asked again
    warned(page, "This loses the region and the kind")
    press(page, "m", "Backspace")
    warned(page, "This loses a region that is kept")
    assert last_label(service, ids[0]) == there
    press(page, "Backspace")
    page.wait_for_selector("#said:has-text('kept: abnormal')")
    assert last_label(service, ids[0])["regions"] == []
    press(page, *ONE_REGION)
    page.wait_for_selector("#said:has-text('kept: abnormal')")
    press(page, "x")
    warned(page, "This loses")
    press(page, "x")
    page.wait_for_selector("#said:has-text('taken back')")
    assert last_label(service, ids[0]) is None


@contextmanager
def dialogs(page) -> Iterator[list[str]]:
    """The kinds of dialogs that the browser shows; each is answered with staying."""
    shown: list[str] = []

    def stay(dialog) -> None:
        shown.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", stay)
    yield shown
    page.remove_listener("dialog", stay)


def test_a_region_that_is_not_kept_is_not_lost_by_any_way_out(page, service: Running, three) -> None:
    _, ids = three
    begin(page, ids)
    press(page, *ONE_REGION)
    page.wait_for_selector("#drawn:has-text('1 region drawn')")
    with dialogs(page) as shown:
        page.evaluate("setTimeout(() => location.reload())")
        page.wait_for_timeout(300)
        page.click("header a:has-text('Over time')", no_wait_after=True)
        page.wait_for_timeout(300)
        assert shown == ["beforeunload"] * 2
        page.click("#next")  # a link of the page asks as the key does
        warned(page, "This loses the region")
        page.click("#next")
        opened(page, ids[1])
        assert shown == ["beforeunload"] * 2


def test_nothing_leads_to_a_service_that_does_not_answer(page, service: Running, three) -> None:
    _, ids = three
    begin(page, ids)
    page.route("**/*", lambda route: route.abort())
    press(page, "j")
    warned(page, "The service does not answer")
    page.click("#up")
    warned(page, "The service does not answer")
    assert page.locator("#canvas[data-shown]").count() == 1
    page.unroute("**/*")
    press(page, "j")
    opened(page, ids[1])
    page.complaints.clear()  # the browser's own, of what was not answered


def test_what_is_not_seen_is_not_labelled(page, service: Running, three) -> None:
    _, ids = three
    page.route("**/pixels", lambda route: route.abort())
    page.locator("a.open").first.click()
    page.wait_for_selector("#wait:has-text('cannot be shown')")
    for key in ("n", "a", "u"):
        press(page, key)
        warned(page, "the image is not shown")
    page.click("[data-label=normal]")
    assert last_label(service, ids[0]) is None
    page.unroute("**/pixels")
    page.complaints.clear()


def test_a_slip_is_corrected_and_does_not_label_the_next_study(page, service: Running, three) -> None:
    _, ids = three
    begin(page, ids)
    press(page, "u")
    page.wait_for_timeout(100)
    press(page, "n")  # before the next study is there, or just after
    opened(page, ids[1])
    assert (last_label(service, ids[0])["label"], last_label(service, ids[1])) == ("unsure", None)
    page.wait_for_timeout(600)
    press(page, "n")
    opened(page, ids[2])
    assert (last_label(service, ids[0])["label"], last_label(service, ids[1])["label"]) == ("unsure", "normal")


def test_a_key_that_comes_too_soon_is_told_so(page, service: Running, three) -> None:
    _, ids = three
    soon = (
        "sessionStorage.setItem('aeflow-last', JSON.stringify({address: '/', label: 'unsure', at: Date.now() + 9e5}))"
    )
    page.evaluate(soon)  # just after a label, however slow this machine is
    begin(page, ids)
    press(page, "n")
    warned(page, "too soon after the last label. To correct that one: z")
    assert last_label(service, ids[0]) is None


def test_the_image_alone_fills_the_window_study_after_study_and_says_what_was_kept(page, service, three) -> None:
    _, ids = three
    begin(page, ids)
    narrow = page.locator("#canvas").bounding_box()
    press(page, "f")
    page.wait_for_selector("body.filled")
    wide = page.locator("#canvas").bounding_box()
    assert wide["height"] > narrow["height"]
    assert wide["width"] >= narrow["width"]
    page.wait_for_timeout(600)
    press(page, "n")
    opened(page, ids[1])
    assert page.locator("body.filled").count() == 1
    press(page, *ONE_REGION, "j")
    assert page.locator("#said.warned").is_visible()
    press(page, "f")
    page.wait_for_selector("body:not(.filled)")
    assert page.locator("#last").is_visible()


def test_the_view_as_at_first_is_that_of_the_map_too(page, service: Running, three) -> None:
    begin(page, three[1])
    first = page.input_value("#opacity")
    press(page, "[", "[", "m", "b")
    assert page.input_value("#opacity") != first
    press(page, "0")
    assert page.input_value("#opacity") == first
    assert page.get_attribute("#mapped", "aria-pressed") == "true"


def test_caps_lock_changes_no_key_and_shift_n_says_what_it_is_for(page, service: Running, three) -> None:
    _, ids = three
    begin(page, ids)
    press(page, "N")
    warned(page, "This study has one image: press n")
    page.evaluate(
        "document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'N', modifierCapsLock: true, bubbles: true}))"
    )
    opened(page, ids[1])
    assert last_label(service, ids[0])["label"] == "normal"


def test_an_image_stands_beside_its_mirror_image_as_large(page, service: Running, three) -> None:
    """The service serves an export, which holds no train normals: the mirror image needs none."""
    begin(page, three[1])
    press(page, "c")
    page.wait_for_selector("#beside-words:has-text('Mirror image')")
    page.wait_for_function("() => document.querySelector('#mirror').width === document.querySelector('#canvas').width")
    image, other = page.locator("#canvas").bounding_box(), page.locator("#mirror").bounding_box()
    assert other["width"] == pytest.approx(image["width"], abs=4)
    assert other["height"] == pytest.approx(image["height"], abs=4)
    press(page, "c")
    page.wait_for_selector("#beside", state="hidden")


@pytest.mark.sizes
def test_nothing_of_the_panel_is_cut(page, service: Running, three) -> None:
    begin(page, three[1])
    assert page.evaluate("(one => one.scrollWidth - one.clientWidth)(document.querySelector('aside'))") <= 0
