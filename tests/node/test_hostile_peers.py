"""Peers that break every rule, from seeds: nothing crashes or hangs, and the next study is taken."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from helpers.dicom_peers import (
    SMALL,
    Listening,
    associate_request,
    data_pdu,
    image,
    listening,
    send,
    store_command,
)

SECONDS = 2.0  # until a hostile connection must have an answer, or is closed by its peer


def hostile(seed: int, data: bytes) -> tuple[list[bytes], list[bytes]]:
    """Return what one peer sends: first to ask for an association, then within it."""
    rng = np.random.default_rng(seed)

    def damaged(content: bytes) -> bytes:
        """Change, cut, repeat or lengthen some bytes."""
        found = bytearray(content)
        for _ in range(rng.integers(1, 8)):
            at = int(rng.integers(0, max(1, min(len(found), 400))))
            match rng.integers(0, 5):
                case 0:
                    found[at : at + 1] = rng.bytes(1)
                case 1:
                    del found[at : at + int(rng.integers(1, 40))]
                case 2:
                    found[at:at] = rng.bytes(int(rng.integers(1, 40)))
                case 3:
                    found[at : at + 4] = struct.pack(">I", int(rng.choice([0, 1, 2**16, 2**31, 2**32 - 1])))
                case _:
                    found[at:at] = found[at : at + 50] * int(rng.integers(1, 20))
        return bytes(found)

    asked = associate_request()
    match seed % 6:
        case 0:
            return [rng.bytes(int(rng.integers(0, 300)))], []
        case 1:
            return [damaged(asked)], []
        case 2:
            return [asked], [damaged(data_pdu(store_command("1.2.3.1.0"), 3)), data_pdu(data, 2)]
        case 3:
            return [asked], [data_pdu(damaged(store_command("1.2.3.1.0")), 3), data_pdu(data, 2)]
        case 4:
            return [asked], [data_pdu(store_command("1.2.3.1.0"), 3), data_pdu(damaged(data), 2)]
        case _:
            parts = [data_pdu(store_command("1.2.3.1.0"), 3), data_pdu(data, 2), asked, data_pdu(data, 0), b"\x05\x00"]
            return [asked], [parts[int(rng.integers(0, len(parts)))] for _ in range(int(rng.integers(1, 9)))]


def attack(port: int, seed: int, data: bytes) -> None:
    """Be one hostile peer; a connection that the node ends is what it should do."""
    first, then = hostile(seed, data)
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as peer:
            peer.settimeout(SECONDS)
            peer.sendall(b"".join(first))
            if then and peer.recv(65536)[:1] == b"\x02":
                peer.sendall(b"".join(then))
                peer.recv(65536)
    except (ConnectionError, TimeoutError):
        pass


def attacked(node: Listening, folder: Path, seeds: range) -> None:
    """Attack a node by eight peers at a time, then send it a study as a good peer does."""
    data = image(folder).read_bytes()
    body = data[144 + struct.unpack("<I", data[140:144])[0] :]
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(attack, node.port, seed, body) for seed in seeds]:
            done.result(timeout=60)
    started = time.monotonic()
    while send(node.port, image(folder, 7, StudyInstanceUID="1.2.3.7")) != [0]:  # once there is room again
        assert time.monotonic() - started < 20, "nobody is let in any more"
    assert len(node.queue.all("SELECT * FROM studies WHERE uid = '1.2.3.7'")) == 1
    for row in node.queue.all("SELECT uid, instance, name FROM studies JOIN objects ON study = studies.id"):
        assert node.store.path_of(row["name"]).is_file()
    inside = {path for path in node.store.folder.rglob("*") if path.is_file()}
    assert {path.parent.name[:2] == path.name[:2] for path in inside if path.suffix == ".dcm"} == {True}


def test_hostile_peers_end_and_the_next_study_is_taken(tmp_path: Path) -> None:
    with listening(tmp_path / "store", limits={**SMALL, "idle_seconds": 3.0}) as node:
        attacked(node, tmp_path, range(60))
        deadline = time.monotonic() + 15
        while len([one for one in threading.enumerate() if "Acceptor" in one.name]) > 1:
            assert time.monotonic() < deadline, "threads of hostile peers stay"
            time.sleep(0.1)
        assert node.receiver._server is not None


@pytest.mark.torture
def test_two_thousand_hostile_peers(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    with listening(tmp_path / "store", limits={**SMALL, "idle_seconds": 3.0}) as node:
        for start in range(1000, 3000, 200):
            attacked(node, tmp_path, range(start, start + 200))
            record_property("node: hostile associations and objects", 200)
