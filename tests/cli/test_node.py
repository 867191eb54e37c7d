"""`aeflow node` as an administrator types it: what waits and failed, tried again or dropped; wrong use in one line."""

from __future__ import annotations

import dataclasses
import json
import socket
from pathlib import Path

import pytest

from aeflow.node.header import ObjectFacts
from aeflow.node.queue import Queue
from aeflow.node.store import Store
from aeflow.node.tables import NewResult
from aeflow.runtime.locks import exclusive
from helpers.command import error_of, within

FACTS = ObjectFacts("1.2.840.7.1", "1.2.840.7.1.0", "1.2.840.7.1.0.1", "1.2.840.10008.5.1.4.1.1.1", "CR", "CHEST")
PACS = ("--send-to", "127.0.0.1:104:PACS")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one study that waits, one whose report the PACS refused, and one that cannot be scored."""
    files = Store(tmp_path / "store")
    queue = Queue(files.folder)
    for number in range(3):
        facts = dataclasses.replace(FACTS, study=f"1.2.840.7.{number}")
        files.keep(b"", f"{number:02d}")
        queue.add(facts, "MODALITY", f"{number:02d}", quiet=0 if number else 1000)
    for number in (1, 2):
        study = queue.next_study()
        assert study is not None
        if number == 1:
            queue.finish(study, "dead", "1 refused: truncated")
        else:
            made = NewResult("model", "report", "2.25.1", "2.25.2", "1.2.840.10008.5.1.4.1.1.88.33", "file", ("pacs",))
            queue.finish(study, "scored", "", [made])
            queue.refused(queue.deliveries("pacs", 1)[0], "answered 0xA900")
    queue.close()
    return files.folder


def test_status_counts_and_names_dead_letters_by_pseudonym(store: Path) -> None:
    out, _ = within("node", "status", "--store", store, ok=1)
    assert "1 dead, 1 scored, 1 waiting; 3 images kept" in out
    assert "results to pacs: 1 dead" in out
    assert "scoring: 1 refused: truncated" in out
    assert "report to pacs: answered 0xA900" in out
    assert "1.2.840.7" not in out
    found = json.loads(within("node", "status", "--store", store, "--json", ok=1)[0])
    assert [one["study"] for one in found["dead_letters"]] == [2, 3]
    assert "1.2.840.7.1" in within("node", "status", "--store", store, "--identify", ok=1)[0]


def test_dead_letters_are_tried_again_or_dropped(store: Path) -> None:
    assert within("node", "retry", "2", "--store", store)[0] == "1 dead letter tried again\n"
    assert within("node", "drop", "--all", "--store", store)[0] == "1 study dropped, with 1 image\n"
    out, _ = within("node", "status", "--store", store)
    assert "dead" not in out
    assert "2 waiting; 2 images kept" in out


def test_wrong_use_is_one_line(store: Path, tmp_path: Path, openvino_export: Path) -> None:
    assert "there is no study 9" in error_of("node", "retry", "9", "--store", store)
    assert "name studies by number, or --all" in error_of("node", "drop", "--store", store)
    assert "name studies by number, or --all" in error_of("node", "retry", "2", "--all", "--store", store)
    assert "no queue of a node" in error_of("node", "status", "--store", tmp_path / "nothing")
    start = ("node", openvino_export, "--store", tmp_path / "other")
    assert "results have no place to go" in error_of(*start)
    assert "HOST:PORT:AET" in error_of(*start, "--send-to", "pacs")
    assert "name each as a [[peer]]" in error_of(*start, *PACS, "--host", "0.0.0.0")
    assert "no such folder" in error_of("node", tmp_path / "no", *PACS, "--store", tmp_path / "x")


def test_a_store_or_a_port_that_another_has_is_named(tmp_path: Path, openvino_export: Path) -> None:
    start = ("node", openvino_export, *PACS, "--store", tmp_path)
    with exclusive(tmp_path / ".aeflow-lock", tmp_path):
        assert "another node has this store" in error_of(*start)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port}: Address already in use; name another --port" in error_of(*start, "--port", port)
