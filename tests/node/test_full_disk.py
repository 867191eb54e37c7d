"""A disk that is really full: a file system of a few megabytes, filled up while the node works on it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pydicom
import pytest

from aeflow.deploy.open_model import open_model
from aeflow.node.queue import Queue
from aeflow.node.score import MAX_ATTEMPTS, StudyScorer
from aeflow.node.settings import NodeSettings
from aeflow.node.store import Store
from helpers.dicom_peers import SMALL, Listening, answer, associate_request, image, listening, send

REJECTED, ACCEPTED = 3, 2  # types of PDUs
MEGABYTES = 4


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes; needs a user who may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "none", str(place)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this user may not mount a small file system")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def filled(disk: Path, leave: int = 0) -> Iterator[None]:
    """Fill a disk up to its last bytes but some; they are free again when the context ends."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        free = os.statvfs(disk)
        size = free.f_bavail * free.f_frsize - leave
        while size > 0 and (written := file.write(bytes(min(size, 2**16)))):
            size -= written
    try:
        yield
    finally:
        ballast.unlink()


def acknowledged(node: Listening, status: dict[int, int]) -> None:
    """Assert that what was acknowledged is whole and in the queue, and nothing else is."""
    rows = node.queue.all("SELECT instance, name FROM objects")
    assert {row["instance"] for row in rows} == {f"1.2.3.1.{number}" for number, of in status.items() if of == 0}
    for row in rows:
        assert pydicom.dcmread(node.store.path_of(row["name"])).SOPInstanceUID == row["instance"]
    kept = {path.stem for path in (node.store.folder / "objects").rglob("*.dcm")}
    assert kept == {row["name"] for row in rows}, "files that nobody knows take room that nobody has"


def test_the_reserve_is_kept_and_the_rest_is_refused_until_there_is_room(disk: Path, tmp_path: Path) -> None:
    files = [image(tmp_path, number) for number in range(3)]
    with listening(disk / "store", limits={**SMALL, "free_bytes": 2**20}) as node:
        with filled(disk, leave=2**20 + files[0].stat().st_size + 2**14):
            statuses = dict(enumerate(send(node.port, *files)))  # one association, in which it fills up
            assert statuses[0] == 0
            assert statuses[2] == 0xA700
            acknowledged(node, statuses)
            found = answer(node.port, associate_request())
            assert (found[0], found[7], found[8], found[9]) == (REJECTED, 2, 3, 2)  # transient, local limit exceeded
        assert answer(node.port, associate_request())[0] == ACCEPTED
        assert send(node.port, *files) == [0, 0, 0]
        acknowledged(node, dict.fromkeys(range(3), 0))


def test_without_a_byte_left_nothing_is_acknowledged_that_is_not_there(disk: Path, tmp_path: Path) -> None:
    files = [image(tmp_path, number) for number in range(12)]
    size = files[0].stat().st_size
    statuses: dict[int, int] = {}
    with listening(disk / "store") as node:
        for number, file in enumerate(files):
            with filled(disk, leave=number % 4 * (size // 2) * 2):  # none, or enough for the file and not for its row
                [statuses[number]] = send(node.port, file)
                acknowledged(node, statuses)
        assert set(statuses.values()) <= {0, 0xA700}
        assert 0xA700 in statuses.values()
        assert send(node.port, *files) == [0] * len(files)
        acknowledged(node, dict.fromkeys(range(len(files)), 0))


def test_a_study_that_cannot_be_written_waits_for_room_however_often(
    disk: Path, tmp_path: Path, openvino_export: Path
) -> None:
    settings = NodeSettings(
        limits=SMALL, quiet_seconds=0, rule=[{"outside": "send"}], destination=[{"name": "a", "address": "b:104:C"}]
    )
    store = Store(disk)
    with listening(disk, **dict(settings)) as node:
        assert send(node.port, image(tmp_path)) == [0]
    with closing(Queue(disk)) as queue:
        scorer = StudyScorer(settings, queue, store, {None: open_model(openvino_export)})
        for _ in range(2 * MAX_ATTEMPTS):
            with filled(disk), suppress(sqlite3.OperationalError):  # which the node waits for, too
                assert scorer.score_next()
            with queue.writing() as db:
                db.execute("UPDATE studies SET due = 0")
        assert scorer.score_next()
        assert [row["state"] for row in queue.all("SELECT state FROM studies")] == ["scored"]
        assert {one.sop_class for one in queue.deliveries("a", 10)} != set()
        assert all(store.result(one.name).is_file() for one in queue.deliveries("a", 10))
