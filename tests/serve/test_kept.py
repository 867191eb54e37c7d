"""What was answered is kept, in SQLite and in PostgreSQL: by many threads, after a kill, in one chain of the audit."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from PIL import Image

import aeflow
from aeflow.serve.database import Database
from aeflow.serve.intake import BusyError, Intake
from aeflow.serve.labels import Labels
from aeflow.serve.worklist import Worklist
from helpers.command import within
from helpers.data import texture
from helpers.service import serving

IMAGES, LABELS = 6, 40


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest) -> str | None:
    """Address of the database; None: the file in the service's folder."""
    if request.param == "sqlite":
        return None
    new: Callable[[], str] = request.getfixturevalue("new_postgresql")
    return new()


def put(client: httpx.Client, number: int) -> dict[str, object]:
    content = io.BytesIO()
    Image.fromarray(texture(70_000 + number)).save(content, "png")
    [row] = client.post("/api/score", files={"files": ("a.png", content.getvalue())}).json()["results"]
    return row


def test_what_was_answered_outlives_a_kill(openvino_export: Path, address: str | None, tmp_path: Path) -> None:
    folder, at = tmp_path / "kept", [] if address is None else ["--database", address]
    kept: list[dict[str, object]] = []
    with serving(openvino_export, folder, *at) as running:
        with running.client() as client, ThreadPoolExecutor(6) as threads:
            sent = list(threads.map(lambda number: put(client, number % IMAGES), range(2 * IMAGES)))
        ids = [str(row["id"]) for row in sent]
        assert ids[:IMAGES] == ids[IMAGES:]  # of each image twice at a time, one is kept
        assert len(set(ids)) == IMAGES

        def labels(number: int) -> None:
            with running.client() as client, suppress(httpx.TransportError):  # killed meanwhile
                for turn in range(LABELS):
                    given = {"label": ("normal", "abnormal")[turn % 2]}
                    kept.append(client.post(f"/api/images/{ids[number]}/label", json=given).json())

        with ThreadPoolExecutor(IMAGES) as threads:
            busy = [threads.submit(labels, number) for number in range(IMAGES)]
            while len(kept) < 2 * LABELS and not all(one.done() for one in busy):
                within("serve", "--data", folder, *at, "--verify-audit")  # while it is written
            running.kill()
    out, _ = within("serve", "--data", folder, *at, "--verify-audit")
    assert int(out.split()[0].replace(",", "")) >= len(sent) + len(kept)
    database = Database(folder / "worklist.db" if address is None else address)
    of = {image: Labels(database).of(image) for image in ids}
    database.close()
    for image in ids:
        answered = [one["id"] for one in kept if one["image"] == image]
        assert max(answered) <= of[image][-1].id
    with serving(openvino_export, folder, *at) as again, again.client() as client:
        assert put(client, 0)["id"] == ids[0]
        listed = client.get("/api/studies").json()["studies"]
        keys = [(study["p_value"], -study["score"], study["id"]) for study in listed]
        assert len(keys) == IMAGES
        assert keys == sorted(keys)
        assert client.get("/trends").status_code == client.get("/next").status_code == 200


def test_those_who_wait_are_few_and_not_too_large_together(openvino_export: Path, tmp_path: Path) -> None:
    database = Database(tmp_path / "worklist.db")
    scorer = aeflow.load(openvino_export).scorer
    intake = Intake(scorer, Worklist(database, scorer), tmp_path, most=3, most_bytes=100)
    try:
        with intake.place(1000), pytest.raises(BusyError), intake.place(1):  # alone the first has its place
            pass
        with intake.place(40), intake.place(60):
            with pytest.raises(BusyError), intake.place(1):
                pass
            with intake.place(0), pytest.raises(BusyError), intake.place(0):
                pass
        with intake.place(100):
            assert intake.waiting == 1
    finally:
        intake.close()
        database.close()
