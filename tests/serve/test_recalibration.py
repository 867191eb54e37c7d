"""What a recalibration changes is said where it ends, before anybody serves the new run."""

from __future__ import annotations

import html
import re
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from aeflow.artifacts.layout import read_metadata
from aeflow.serve.before_after import summed
from helpers.data import lesion, texture
from helpers.service import send, serving

NORMALS, LESIONS = 22, 3


def test_a_change_counts_the_same_images_before_and_after() -> None:
    given = [
        ("abnormal", "abnormal", "normal", 0.5),  # missed from now on
        ("abnormal", "normal", "normal", 0.5),
        ("normal", "", "abnormal", 0.05),
        ("abnormal", "abnormal", "abnormal", 0.05),
    ]
    both = [
        (SimpleNamespace(verdict=verdict, label=label), {"verdict": after, "p_value": p})
        for verdict, label, after, p in given
    ]
    found = summed(both, (6.7, 10.2), 1 / 20)
    assert (found.images, found.abnormal, found.missed, found.cleared, found.tied) == (4, (3, 2), 1, 1, 2)


@pytest.mark.torture  # half a minute: the command in a process of its own, and all images scored by both
def test_the_page_says_what_a_recalibration_changes(recalibrated_run: Path, tmp_path: Path) -> None:
    from PIL import Image

    shutil.copytree(recalibrated_run, tmp_path / "runs" / "small")
    paths = []
    for number in range(NORMALS + LESIONS):
        pixels = texture(80_000 + number) if number < NORMALS else lesion(80_000 + number)[0]
        paths.append(tmp_path / f"{number:02}.png")
        Image.fromarray(np.asarray(pixels)).save(paths[-1])
    with serving(tmp_path / "runs" / "small", tmp_path / "kept") as running, running.client() as client:
        rows = send(client, *paths).json()["results"]
        for row, label in zip(rows, ["normal"] * NORMALS + ["abnormal"] * LESIONS, strict=True):
            client.post(f"/api/images/{row['id']}/label", json={"label": label}).raise_for_status()
        assert client.post("/recalibrate").status_code == 200
        for _ in range(600):
            text = client.get("/recalibrate").text
            if "page looks again by itself" not in text:
                break
            time.sleep(0.2)
    text = re.sub(r"\s+", " ", html.unescape(text))
    [made] = [place for place in (tmp_path / "runs").iterdir() if place.name.startswith("small-recalibrated")]
    before, after = (read_metadata(one)["calibration"]["threshold"] for one in (recalibrated_run, made))
    assert f"Threshold {before:.3g} before, {after:.3g} now" in text
    called = sum(row["verdict"] == "abnormal" for row in rows)
    assert re.search(rf"Called abnormal: {called} of {NORMALS + LESIONS} images before, \d+ now", text)
    assert f"No p-value of the new model is below {1 / (NORMALS + 1):.2g}" in text
    assert "stop this service first" in text
    assert not list((tmp_path / "kept").glob("compared-*"))
