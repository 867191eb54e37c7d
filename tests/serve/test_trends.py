"""Images over time on the page are those of `aeflow drift`: the same alarms, in words with what to do, by source."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from aeflow.artifacts.layout import read_metadata
from aeflow.drift.drift import drift
from aeflow.serve.database import Database
from aeflow.serve.tables import now
from aeflow.serve.trends import trends
from helpers.data import texture
from helpers.service import Running, serving

Row = dict[str, object]
BEFORE, AFTER, OTHERS = 60, 90, 40  # images of a room before and after its scanner is another, and of another room


def sent(client: httpx.Client, source: str, images: list[np.ndarray]) -> list[Row]:
    files = []
    for number, pixels in enumerate(images):
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "png")
        files.append(("files", (f"{number}.png", content.getvalue())))
    rows: list[Row] = client.post("/api/score", files=files, data={"source": source}).json()["results"]
    return rows


@pytest.fixture(scope="module")
def changed(recalibrated_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, list[Row]]]:
    """A service with images of two rooms, the last of them of the one whose scanner changed, and their rows."""
    with serving(recalibrated_run, tmp_path_factory.mktemp("trends") / "kept") as running:
        with running.client() as client:
            rows = sent(client, "room 1", [texture(60_000 + i) for i in range(BEFORE)])
            rows += sent(client, "room 2", [texture(61_000 + i) for i in range(OTHERS)])
            pale = [(texture(62_000 + i) * 0.8 + 50).clip(0, 255).astype(np.uint8) for i in range(AFTER)]
            rows += sent(client, "room 1", pale)
        yield running, rows


def test_the_page_sees_what_the_command_sees(changed, recalibrated_run: Path, tmp_path: Path) -> None:
    running, scored = changed
    database = Database(running.folder / "worklist.db")
    try:
        found = trends(database, 1, read_metadata(recalibrated_run))
    finally:
        database.close()
    with running.client() as client:
        studies = client.get("/api/studies", params={"limit": 500}).json()["studies"]
    of = {study["id"]: {"source": study["source"], "received": study["at"]} for study in studies}
    rows = [{**row, "path": row["id"], **of[row["study_id"]]} for row in scored]
    with (tmp_path / "scores.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(sorted(rows, key=lambda row: row["received"]))
    same = drift(recalibrated_run, [tmp_path / "scores.csv"], by="source")
    assert [(one.name, one.images) for one in found.drift.sources] == [(one.name, one.images) for one in same.sources]
    for one, other in zip(found.drift.sources, same.sources, strict=True):
        assert one.other_images.values == other.other_images.values
        assert one.other_images.alarms == other.other_images.alarms
    alarmed = [one.name for one in found.drift.sources if one.other_images.alarms]
    assert "source room 1" in alarmed
    assert "source room 2" not in alarmed


def test_the_page_says_what_to_do_and_leads_there(changed) -> None:
    running, scored = changed
    day = now()[:10]
    with running.client() as client:
        page = client.get("/trends").text
        assert "room 1: normal images do not look as they did" in page
        called = sum(row["verdict"] == "abnormal" for row in scored)
        assert f"Called abnormal: {100 * called / len(scored):.0f} % of them" in page
        assert f", no. {len(scored)}<" in page  # images of one minute are told apart
        assert f'href="/?since={day}&amp;source=room+1&amp;label=none"' in page
        assert f'href="/recalibrate?since={day}&amp;source=room+1"' in page
        for row in scored[-20:]:
            client.post(f"/api/images/{row['id']}/label", json={"label": "normal"}).raise_for_status()
        there = {"since": day, "source": "room 1"}
        page = client.get("/recalibrate", params=there).text
        assert f"20 images of room 1 received since {day} confirmed as normal" in page
        assert "<button>Write a recalibrated run" in page
        for other in ({"source": "room 2"}, {"until": "2020-01-01"}):
            assert "0 images" in client.get("/recalibrate", params=other).text
            assert "0 images are confirmed as normal" in client.post("/recalibrate", params=other).text


def test_an_empty_worklist_has_no_trend(changed, recalibrated_run: Path, tmp_path: Path) -> None:
    database = Database(tmp_path / "worklist.db")
    assert trends(database, 1, read_metadata(recalibrated_run)) is None
    database.close()
