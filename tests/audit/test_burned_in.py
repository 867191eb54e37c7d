"""Burned-in text and markers: found where they are drawn, not in tissue, and told with how they go with the label."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from aeflow.audit.audit import audit
from aeflow.audit.burned_in import CELL, SIDE, strokes
from aeflow.model.regions import body
from helpers.data import SAMPLE, texture

FILES = sorted((SAMPLE / "train" / "normal").iterdir())
AT = (20, 190)  # column and row of a marker


def tissue(seed: int, text: str = "") -> Image.Image:
    """Return a smooth dark picture, with a text in its lower left corner."""
    image = Image.fromarray(texture(seed) // 4).resize((SIDE, SIDE))
    ImageDraw.Draw(image).text(AT, text, fill=255)
    return image


def in_grey(image: Image.Image) -> NDArray[np.float32]:
    return np.asarray(image.convert("L"), np.float32) / 255


@pytest.mark.parametrize("text", ["R", "L", "AP"])
def test_letters_are_found_where_they_are_and_nowhere_else(text: str) -> None:
    assert not strokes(in_grey(tissue(1))).any()
    rows, columns = np.nonzero(strokes(in_grey(tissue(1, text))))
    assert len(rows) > 0
    assert (abs(CELL * rows - AT[1]) < 16).all()
    assert ((CELL * columns > AT[0] - 4) & (CELL * columns < AT[0] + 8 * len(text) + 8)).all()


def test_long_and_thick_bright_things_are_no_strokes() -> None:
    picture = np.full((SIDE, SIDE), 0.2, np.float32)
    picture[100:103] = 1.0  # a line from side to side
    picture[20:60, 20:60] = 1.0  # a plate
    picture[:, 150:190] = 0.8  # an arm
    assert not strokes(picture).any()


@pytest.mark.parametrize("size", [(224, 224), (900, 700), (64, 64)])
def test_any_size_is_looked_at_on_the_same_grid(size: tuple[int, int]) -> None:
    assert strokes(np.random.default_rng(0).random(size, np.float32)).shape == (SIDE // CELL, SIDE // CELL)


def test_what_is_found_on_real_x_rays_is_what_the_region_leaves_out() -> None:
    """The region leaves out more, since it does not mind single cells."""
    found = 0
    for path in FILES[:40]:
        grey = in_grey(Image.open(path))
        here = strokes(grey)
        x = torch.from_numpy(np.array(Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BILINEAR)))
        cells = F.max_pool2d(x[None, None], CELL)
        thick = -body._dilated(-body._dilated(-cells, 5), 5)
        left_out = body.strokes(cells, thick)[0, 0].numpy()
        assert (left_out[here] > 0.5).all()
        found += int(here.any())
    assert found >= 10  # side markers of these X-rays


def test_the_audit_tells_markers_and_how_they_go_with_the_label(tmp_path) -> None:
    for label in ("normal", "abnormal"):
        (tmp_path / "train" / label).mkdir(parents=True)
        for i in range(24):
            text = "R" if label == "abnormal" and i else ""
            tissue(100 * (label == "normal") + i, text).save(tmp_path / "train" / label / f"{label}{i}.png")
    findings = {finding.name: finding for finding in audit(tmp_path).findings}
    told = findings["burned-in text or markers"]
    assert told.severity == "note"
    assert told.found.startswith("23 images")
    assert told.found.endswith("0% of normal ones, 96% of abnormal ones")
    assert len(told.images) == 23
    assert "--region body" in told.remedy
    shortcut = findings["shortcut: burned-in strokes"]
    assert shortcut.severity == "stop"
    assert "higher in abnormal images" in shortcut.found
