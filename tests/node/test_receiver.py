"""What comes in: acknowledged only when it is on the disk; strangers, liars and giants are refused with the reason."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest

from aeflow.node.admin import status
from aeflow.node.queue import Queue
from aeflow.node.store import OBJECTS, Store
from helpers.dicom_peers import CR, SMALL, answer, associate_request, data_pdu, image, listening, send, store_command
from helpers.dicom_sources import MADE, PATIENT, texture, write
from helpers.orthanc import needed, storescu

ASSOCIATED, REJECTED, ABORTED = 2, 3, 7  # types of PDUs


def test_what_is_acknowledged_is_on_the_disk_bit_for_bit(tmp_path: Path) -> None:
    files = [image(tmp_path, number) for number in range(3)]
    with listening(tmp_path / "store") as node:
        assert send(node.port, *files) == [0, 0, 0]
        assert node.came == 3
    queue = Queue(tmp_path / "store")  # as after a restart
    study = wait_due(queue)
    assert study.uid == "1.2.3.1"
    assert {one.source for one in study.objects} == {"MODALITY"}
    store = Store(tmp_path / "store")
    kept = [pydicom.dcmread(store.path_of(one.name)) for one in study.objects]
    sent = [pydicom.dcmread(file) for file in files]
    assert kept == sent  # both in the order of their UIDs


def test_the_queue_knows_no_patient(tmp_path: Path) -> None:
    """His name is in the objects alone, as they were sent, and in no name of a file."""
    with listening(tmp_path / "store") as node:
        assert send(node.port, image(tmp_path)) == [0]
        written = {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()}
        told = json.dumps(status(node.queue))
    names = [b"Canary", *(PATIENT[keyword].encode() for keyword in ("PatientID", "PatientBirthDate"))]
    telling = [path for path, content in written.items() if any(name in content for name in names)]
    assert [path.parent.parent.name for path in telling] == [OBJECTS]
    assert "1.2.3.1" not in told
    for path in written:
        assert not any(name.decode() in str(path) for name in names)


def wait_due(queue: Queue):
    queue.restart(quiet=0)
    return queue.next_study()


def test_sending_again_changes_nothing_and_another_content_replaces(tmp_path: Path) -> None:
    file = image(tmp_path)
    with listening(tmp_path / "store") as node:
        send(node.port, file)
        before = node.queue.all("SELECT revision, name FROM studies JOIN objects ON study = studies.id")
        send(node.port, file)
        assert node.queue.all("SELECT revision, name FROM studies JOIN objects ON study = studies.id") == before
        send(node.port, image(tmp_path, PatientComments="corrected"))
        [[revision, name]] = node.queue.all("SELECT revision, name FROM studies JOIN objects ON study = studies.id")
    assert revision == 2
    assert name != before[0]["name"]


@pytest.mark.parametrize(
    ("calling", "called", "reason"), [("STRANGER", "AEFLOW", 3), ("MODALITY", "OTHER", 7)], ids=["calling", "called"]
)
def test_unknown_titles_are_refused_with_the_reason_of_the_standard(
    tmp_path: Path, calling: str, called: str, reason: int
) -> None:
    with listening(tmp_path, peer=[{"aet": "MODALITY"}]) as node:
        found = answer(node.port, associate_request(calling, called))
        assert found[0] == REJECTED
        assert (found[7], found[8], found[9]) == (1, 1, reason)
        assert answer(node.port, associate_request())[0] == ASSOCIATED


def test_a_known_title_from_another_address_is_refused(tmp_path: Path) -> None:
    with listening(tmp_path, peer=[{"aet": "MODALITY", "addresses": ["192.0.2.0/24"]}]) as node:
        found = answer(node.port, associate_request())
    assert (found[0], found[9]) == (REJECTED, 3)


def test_a_disk_without_the_reserve_lets_nobody_in(tmp_path: Path) -> None:
    there = Store(tmp_path / "store").free
    with listening(tmp_path / "store", limits={**SMALL, "free_bytes": there * 2}) as node:
        found = answer(node.port, associate_request())
        assert (found[0], found[7], found[8], found[9]) == (REJECTED, 2, 3, 2)  # transient, local limit exceeded


def test_a_disk_that_fails_while_it_writes_is_out_of_resources(tmp_path: Path) -> None:
    file = image(tmp_path)
    with listening(tmp_path / "store") as node:
        (node.store.folder / "scratch").rmdir()
        assert send(node.port, file) == [0xA700]
        (node.store.folder / "scratch").mkdir()
        assert send(node.port, file) == [0]


def test_data_that_contradicts_its_command_is_refused(tmp_path: Path) -> None:
    file = image(tmp_path)
    body = file.read_bytes()
    start = 144 + struct.unpack("<I", body[140:144])[0]
    with listening(tmp_path / "store") as node:
        for instance, expected in (("1.2.3.1.0", 0), ("1.2.3.1.9", 0xA900)):
            assert status_of(node.port, instance, body[start:]) == expected
        assert status_of(node.port, "1.2.3.1.0", body[start : start + 30]) == 0xC000
        assert status_of(node.port, "1.2.3.1.0", b"\xff" * 200) == 0xC000


def status_of(port: int, instance: str, data: bytes) -> int:
    """Send one data set as it is; return the status of the answer."""
    with socket.create_connection(("127.0.0.1", port), 10) as peer:
        peer.sendall(associate_request())
        assert peer.recv(65536)[0] == ASSOCIATED
        peer.sendall(data_pdu(store_command(instance), 3) + data_pdu(data, 2))
        found = peer.recv(65536)
    at = found.index(struct.pack("<HHI", 0, 0x0900, 2)) + 8
    return int(struct.unpack("<H", found[at : at + 2])[0])


@pytest.mark.parametrize("uid", ["../../etc/passwd", "1.2.3/../4", "1..2", "1.2.3.", "x", "1" * 65, ""])
def test_a_uid_that_is_none_is_refused_and_becomes_no_path(tmp_path: Path, uid: str) -> None:
    file = image(tmp_path, StudyInstanceUID=uid)
    with listening(tmp_path / "store") as node:
        before = sorted(path.name for path in tmp_path.rglob("*"))
        assert send(node.port, file) == [0xC000]
        assert sorted(path.name for path in tmp_path.rglob("*") if "queue.db-" not in path.name) == [
            name for name in before if "queue.db-" not in name
        ]


def test_a_pdu_or_an_object_beyond_the_limits_ends_the_association_at_once(tmp_path: Path) -> None:
    limits = {**SMALL, "pdu_bytes": 2**14, "object_bytes": 2**16}
    with listening(tmp_path / "store", limits=limits) as node:
        started = time.monotonic()
        assert answer(node.port, b"\x01\x00\xff\xff\xff\xff" + bytes(100)) == b""
        for content in (struct.pack(">BBI", 4, 0, 2**31), data_pdu(bytes(2**13), 0) * 16):
            with socket.create_connection(("127.0.0.1", node.port), 10) as peer:
                peer.sendall(associate_request())
                assert peer.recv(65536)[0] == ASSOCIATED
                try:
                    peer.sendall(data_pdu(store_command("1.2.3"), 3) + content)
                    found = peer.recv(65536)
                except ConnectionError:
                    found = b""
                assert found[:1] in (b"", bytes([ABORTED]))
        assert time.monotonic() - started < 10
        assert node.receiver._server is not None
        assert send(node.port, image(tmp_path)) == [0]
        assert node.receiver._server.memory._held < 2**16


def test_connections_that_say_nothing_keep_nobody_out(tmp_path: Path) -> None:
    with listening(tmp_path / "store", limits={**SMALL, "associations": 4}) as node:
        idle = [socket.create_connection(("127.0.0.1", node.port), 5) for _ in range(3)]
        assert send(node.port, image(tmp_path)) == [0]
        more = [socket.create_connection(("127.0.0.1", node.port), 5) for _ in range(30)]
        time.sleep(7)  # the limit of idleness
        assert send(node.port, image(tmp_path, 1)) == [0]
        for one in idle + more:
            one.close()


def test_our_own_results_and_what_a_rule_skips_are_acknowledged_and_not_kept(tmp_path: Path) -> None:
    own = write(
        tmp_path / "own.dcm", "CR", (255 * texture(64, 64)).astype(np.uint8), Manufacturer="aeflow",
        SOPClassUID="1.2.840.10008.5.1.4.1.1.7",
    )  # fmt: skip
    rules = [{"modality": ["MR"], "action": "skip"}, {}]
    with listening(tmp_path / "store", rule=rules) as node:
        assert send(node.port, own, MADE["MR"](tmp_path / "mr.dcm")) == [0, 0]
        assert node.queue.all("SELECT * FROM objects") == []
        assert send(node.port, MADE["CT"](tmp_path / "ct.dcm")) == [0]
        assert len(node.queue.all("SELECT * FROM objects")) == 1


SYNTAXES = {
    "implicit": (["dcmconv", "+ti"], "-xi", "1.2.840.10008.1.2"),
    "big-endian": (["dcmconv", "+tb"], "-xb", "1.2.840.10008.1.2.2"),
    "deflated": (["dcmconv", "+td"], "-xd", "1.2.840.10008.1.2.1.99"),
    "JPEG baseline": (["dcmcjpeg", "+eb"], "-xy", "1.2.840.10008.1.2.4.50"),
    "JPEG lossless": (["dcmcjpeg", "+e1"], "-xs", "1.2.840.10008.1.2.4.70"),
    "JPEG-LS": (["dcmcjpls", "+el"], "-xt", "1.2.840.10008.1.2.4.80"),
    "RLE": (["dcmcrle"], "-xr", "1.2.840.10008.1.2.5"),
}


@pytest.mark.parametrize("name", SYNTAXES)
def test_dcmtk_sends_each_common_syntax_as_it_is(tmp_path: Path, name: str) -> None:
    needed("storescu", "dcmcjpeg", "dcmcjpls", "dcmcrle", "dcmconv")
    command, option, syntax = SYNTAXES[name]
    sent = tmp_path / "sent.dcm"
    subprocess.run([*command, str(image(tmp_path)), str(sent)], check=True)
    with listening(tmp_path / "store") as node:
        done = storescu(node.port, sent, options=(option,))
        assert done.returncode == 0, done.stderr
        assert "Success" in done.stdout + done.stderr
        [[name]] = node.queue.all("SELECT name FROM objects")
        kept = pydicom.dcmread(node.store.path_of(name))
    assert kept.file_meta.TransferSyntaxUID == syntax
    assert kept.file_meta.MediaStorageSOPClassUID == CR
    np.testing.assert_allclose(kept.pixel_array, pydicom.dcmread(image(tmp_path)).pixel_array, atol=16)


def test_dcmtk_hears_an_echo(tmp_path: Path) -> None:
    needed("echoscu")
    with listening(tmp_path / "store") as node:
        subprocess.run(["echoscu", "-aec", "AEFLOW", "127.0.0.1", str(node.port)], check=True, timeout=20)
