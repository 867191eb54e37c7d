"""Commands that run for days, and what administrators ask of them, in the table of ``writers``."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pydicom
from PIL import Image

from aeflow.node import admin
from aeflow.node.header import ObjectFacts
from aeflow.node.queue import Queue
from aeflow.node.store import OBJECTS, RESULTS, SCRATCH, Store, digest_of
from aeflow.node.tables import NewResult
from aeflow.serve import audit
from aeflow.serve.database import FILE, Database
from aeflow.serve.intake import COMING, IMAGES
from helpers.data import texture
from helpers.dicom_peers import image
from helpers.steps import HEARD, acknowledged
from helpers.writers import Case, World, put, put_copy, writer

PASSWORD = "twelve characters or more"


def check_worklist(folder: Path) -> None:
    """Assert that the worklist holds all that was acknowledged, the audit is whole, and each image has its file."""
    if not (folder / FILE).exists():
        assert acknowledged(folder) == []
        return
    database = Database(folder / FILE)
    with database.reading() as connection:
        audit.verify(connection)
    database.close()
    with closing(sqlite3.connect(folder / FILE)) as found:
        images = dict(found.execute("SELECT id, content FROM images"))
        labels = {row[0] for row in found.execute("SELECT image FROM labels")}
        pictures = {row[0] for row in found.execute("SELECT image FROM pictures")}
    for line in acknowledged(folder):
        what, _, name = line.partition(" ")
        assert name in (images if what == "image" else labels), line
    assert pictures == images.keys()
    for content in images.values():
        assert hashlib.sha256((folder / IMAGES / content[:2] / content).read_bytes()).hexdigest() == content


@writer("serve", "serve")
def serve(world: World) -> Case:
    """A service that is sent images and labels, in a folder where one was killed before."""
    out = world.out
    images = []
    for number in range(2):
        images.append(world.tmp / f"{number}.png")
        Image.fromarray(texture(8000 + number)).save(images[-1])

    def before() -> None:
        put(out, {f"{COMING}/of a killed process": b"half an image", "recalibration-x/000000": b"a link"})
        out.with_name(HEARD).unlink(missing_ok=True)

    def at_the_end() -> None:
        check_worklist(out)
        assert {path.name for path in out.iterdir()} == {FILE, IMAGES, COMING}
        assert list((out / COMING).iterdir()) == []

    return Case(
        (world.run, out, *images),
        out,
        before,
        lambda: check_worklist(out),
        at_the_end,
        program="helpers.steps:take_uploads",
        needs_room=False,
    )


@writer("serve --add-user", "serve")
def add_user(world: World) -> Case:
    def a_user_or_none() -> None:
        if (world.out / FILE).exists():
            check_worklist(world.out)

    def one_user() -> None:
        with closing(sqlite3.connect(world.out / FILE)) as found:
            assert [name for (name,) in found.execute("SELECT name FROM users")] == ["ada"]

    return Case(
        ("serve", "--data", world.out, "--add-user", "ada"),
        world.out,
        lambda: shutil.rmtree(world.out, ignore_errors=True),
        a_user_or_none,
        one_user,
        typed=f"{PASSWORD}\n",
        says_what_it_found=True,
        needs_room=False,  # SQLite leaves an empty file
    )


def check_node(folder: Path) -> None:
    """Assert that the queue holds all that was acknowledged, and the store the file of each of its rows."""
    if not (folder / "queue.db").exists():
        assert acknowledged(folder) == []
        return
    queue, store = Queue(folder), Store(folder)
    objects = {row["instance"]: row["name"] for row in queue.all("SELECT instance, name FROM objects")}
    for line in acknowledged(folder):
        assert f"1.2.3.1.{line.partition(' ')[2]}" in objects, line
    for name in objects.values():
        data = pydicom.dcmread(store.path_of(name))
        assert digest_of(data_set_of(store.path_of(name)), data.file_meta.TransferSyntaxUID) == name[:64]
    for row in queue.all("SELECT name FROM results"):
        pydicom.dcmread(store.result(row["name"]))
    [[lost]] = queue.all("SELECT count(*) FROM results WHERE id NOT IN (SELECT result FROM deliveries)")
    assert lost == 0
    queue.close()


def data_set_of(file: Path) -> bytes:
    """Return the bytes of a DICOM file that follow its group 2."""
    content = file.read_bytes()
    assert content[132:140] == b"\x02\0\0\0UL\x04\0"
    return content[144 + int.from_bytes(content[140:144], "little") :]


@writer("node", "node start")
def node(world: World) -> Case:
    """A node that receives the objects of a study and scores it."""
    objects = [image(world.tmp, number) for number in range(3)]

    def before() -> None:
        put(world.out, {f"{SCRATCH}/of a killed process": b"half an object"})
        world.out.with_name(HEARD).unlink(missing_ok=True)

    def scored() -> None:
        check_node(world.out)
        queue = Queue(world.out)
        assert [row["state"] for row in queue.all("SELECT state FROM studies")] == ["scored"]
        [[reports]] = queue.all("SELECT count(*) FROM results WHERE kind = 'report' AND revision = 3")
        assert reports == 1
        files = [path for path in world.out.rglob("*") if path.is_file() and path.suffix == ".dcm"]
        names, results = queue.names()
        assert len(files) == len(names) + len(results)
        queue.close()
        assert list((world.out / SCRATCH).iterdir()) == []

    return Case(
        (world.run, world.out, *objects),
        world.out,
        before,
        lambda: check_node(world.out),
        scored,
        program="helpers.steps:take_a_study",
        needs_room=False,
    )


FACTS = ObjectFacts("1.2.1", "1.2.1.0", "1.2.1.0.1", "1.2.840.10008.5.1.4.1.1.1", "CR", "CHEST")
RESULT = NewResult("model", "report", "2.25.1", "2.25.2", "1.2.840.10008.5.1.4.1.1.88.33", "", ("pacs",))


def dead_letters(folder: Path) -> None:
    """Make a store with two studies whose results a PACS has refused."""
    store, queue = Store(folder), Queue(folder)
    for number in range(2):
        facts = replace(FACTS, study=f"1.2.{number}", instance=f"1.2.{number}.0.1")
        queue.add(facts, "MODALITY", store.keep(b"object", f"{number:064}"), quiet=0)
        study = queue.next_study()
        assert study is not None
        name = f"result{number}"
        store.result(name).write_bytes(b"result")
        queue.finish(study, "scored", "", [replace(RESULT, instance=f"2.25.{number}", name=name)])
    for delivery in queue.deliveries("pacs", 10):
        queue.refused(delivery, "answered 0xA900")
    queue.close()


def asked_of_node(world: World, command: str, states: tuple[list[str], ...]) -> Case:
    """The case of a command on dead letters; ``states`` are those that deliveries may have, before and after."""
    old = world.tmp / "old"
    dead_letters(old)

    def old_or_new() -> None:
        queue, store = Queue(world.out), Store(world.out)
        assert [row["state"] for row in queue.all("SELECT state FROM deliveries")] in states
        objects, results = queue.names()
        for place in [*map(store.path_of, objects), *map(store.result, results)]:
            assert place.exists()
        queue.close()

    def new() -> None:
        queue = Queue(world.out)
        assert [row["state"] for row in queue.all("SELECT state FROM deliveries")] == states[-1]
        assert admin.dead_letters(queue) == []
        queue.close()
        if not states[-1]:
            assert list((world.out / OBJECTS).glob("*/*")) == list((world.out / RESULTS).iterdir()) == []

    return Case(
        ("node", command, "--all", "--store", world.out),
        world.out,
        lambda: put_copy(world.out, old),
        old_or_new,
        new,
        says_what_it_found=True,
        needs_room=False,  # SQLite's log has it already
    )


@writer("node retry", "node retry")
def retry(world: World) -> Case:
    return asked_of_node(world, "retry", (["dead"] * 2, ["waiting"] * 2))


@writer("node drop", "node drop")
def drop(world: World) -> Case:
    return asked_of_node(world, "drop", (["dead"] * 2, []))
