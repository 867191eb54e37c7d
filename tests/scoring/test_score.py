"""A score as an object: shown in a notebook, compared, pickled, and light where nobody asked for its map."""

from __future__ import annotations

import base64
import io
import pickle
import re
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import aeflow
from helpers.data import SAMPLE, SIZE

GREY = sorted((SAMPLE / "test" / "normal").iterdir())[0]
HOSTILE = '<script>alert("1")</script>'


@pytest.fixture(scope="module")
def model(tiny_run: Path) -> aeflow.Model:
    return aeflow.load(tiny_run, backend="torch")


@pytest.fixture(scope="module")
def score(model: aeflow.Model) -> aeflow.Score:
    return model.score(GREY)


@pytest.fixture(scope="module")
def bare(model: aeflow.Model) -> aeflow.Score:
    [(_, found)] = model.score_all(GREY)
    assert isinstance(found, aeflow.Score)
    return found


class Page(HTMLParser):
    """Elements and text of a page, as a browser reads it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_notebook_shows_the_picture_and_every_figure(score: aeflow.Score) -> None:
    page = Page(score._repr_html_())
    [source] = [attributes["src"] for tag, attributes in page.elements if tag == "img"]
    kind, _, data = source.partition(";base64,")
    assert kind == "data:image/png"
    with Image.open(io.BytesIO(base64.b64decode(data))) as shown:
        np.testing.assert_array_equal(np.asarray(shown), np.asarray(score.plot()))
    for said in (
        f"{score.value:.3g}",
        f"p ≤ {score.smallest_p:.2g}",
        score.verdict,
        f"threshold {score.threshold:.3g}",
    ):
        assert said in page.text
    assert "Research use, not a medical device." in page.text
    for kind, share in score.posterior.items():
        assert f"p({kind}) = {share:.2g}" in page.text


def test_no_text_of_a_model_becomes_part_of_the_page(score: aeflow.Score) -> None:
    """Kinds are names of folders, and an exported model comes from elsewhere."""
    plain = Page(score._repr_html_())
    evil = replace(score, posterior={"normal": 0.25, HOSTILE: 0.75}, outside=(HOSTILE,), verdict=HOSTILE)
    page = Page(evil._repr_html_())
    assert [tag for tag, _ in page.elements if tag != "br"] == [tag for tag, _ in plain.elements if tag != "br"]
    assert page.text.count(HOSTILE) == 3
    assert HOSTILE in (next(attributes["alt"] for tag, attributes in page.elements if tag == "img") or "")


def test_a_picture_shows_the_image_and_colours_it_where_the_map_is_high(score: aeflow.Score) -> None:
    low, high = score.map_limits["anomaly"]
    clear, full = (np.full_like(score.map, value) for value in (low, high))
    full[: SIZE // 2] = low
    pixels = [np.asarray(replace(score, maps={"anomaly": one}).plot(), int) for one in (clear, full)]
    changed = np.argwhere((pixels[0] != pixels[1]).any(axis=-1))
    height, width, _ = pixels[0].shape
    assert changed[:, 1].min() > width / 2 - 1  # right of the image
    coloured = np.ptp(pixels[1][changed[:, 0], changed[:, 1]], axis=1)
    assert coloured.max() > 50
    assert np.ptp(pixels[0][changed[:, 0], changed[:, 1]], axis=1).max() == 0  # a grey image, without colour
    assert len(changed) < 0.25 * height * width


def test_a_picture_goes_into_a_figure_and_shows_colours_as_they_are(model: aeflow.Model, score: aeflow.Score) -> None:
    axes = Figure().add_subplot()
    assert axes.imshow(score.plot()).get_array().shape[2] == 3
    assert score.image.shape == score.map.shape
    coloured = np.zeros((SIZE, SIZE, 3), np.uint8)
    coloured[..., 0], coloured[: SIZE // 2, :, 1] = 200, 60
    seen = model.score(coloured)
    assert seen.image.dtype == np.uint8
    np.testing.assert_allclose(seen.image[SIZE // 4, SIZE // 4].astype(int), (200, 60, 0), atol=1)
    assert (np.asarray(seen.plot(), int)[..., 0] - np.asarray(seen.plot(), int)[..., 2] > 150).any()


def test_a_score_without_a_map_says_so(bare: aeflow.Score, score: aeflow.Score) -> None:
    assert repr(bare).endswith(", no map)")
    assert "map" not in repr(score)
    with pytest.raises(aeflow.SettingsError, match=re.escape("score_all(images, maps=True)")) as raised:
        bare.plot()
    assert "\n" not in str(raised.value)
    page = Page(bare._repr_html_())
    assert not [tag for tag, _ in page.elements if tag == "img"]
    assert "made without its map" in page.text
    assert f"{bare.value:.3g}" in page.text


def test_without_maps_a_score_holds_no_pixel(bare: aeflow.Score, score: aeflow.Score) -> None:
    held = [getattr(bare, one.name) for one in fields(bare)]
    assert not [one for one in held if isinstance(one, np.ndarray)]
    assert not bare.maps
    assert not bare.pictures
    assert len(pickle.dumps(bare)) < 2000
    assert score.image.nbytes == score.map.nbytes / 4  # a byte a pixel, beside the map's four


def test_scores_are_equal_if_all_they_hold_is(model: aeflow.Model, score: aeflow.Score, bare: aeflow.Score) -> None:
    again = model.score(GREY)
    assert again is not score
    assert again == score
    assert len({again, score}) == 1
    assert score != bare
    assert score != score.value
    moved = score.map.copy()
    moved[0, 0] = np.nextafter(moved[0, 0], np.float32(np.inf))
    for other in (
        replace(score, value=np.nextafter(score.value, np.inf)),
        replace(score, terms={**score.terms, "flow": 0.0}),
        replace(score, maps={**score.maps, "anomaly": moved}),
        replace(score, maps={**score.maps, "anomaly": score.map.astype(np.float64)}),
        replace(score, image=255 - score.image),
        replace(score, threshold=score.threshold + 1),
    ):
        assert other != score


def test_a_score_that_was_pickled_is_the_same_score(score: aeflow.Score, bare: aeflow.Score) -> None:
    for one in (score, bare):
        back = pickle.loads(pickle.dumps(one))
        assert back == one
        assert hash(back) == hash(one)
        assert back._repr_html_() == one._repr_html_()
