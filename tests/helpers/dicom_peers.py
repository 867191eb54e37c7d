"""A receiver without a model, and peers that keep the rules or break them."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
from pynetdicom.presentation import build_context

from aeflow.node.intake import Intake
from aeflow.node.queue import Queue
from aeflow.node.receiver import Receiver
from aeflow.node.settings import NodeSettings
from aeflow.node.store import Store
from helpers.dicom_sources import texture, write

CR = "1.2.840.10008.5.1.4.1.1.1"
VERIFICATION = "1.2.840.10008.1.1"
SMALL = {"free_bytes": 0, "idle_seconds": 5.0}  # limits of a test, on a disk that may be nearly full


def image(folder: Path, number: int = 0, **attributes: object) -> Path:
    """Write an X-ray of a study, the same for the same number."""
    uids = {"StudyInstanceUID": "1.2.3.1", "SOPInstanceUID": f"1.2.3.1.{number}", **attributes}
    return write(folder / f"{number}.dcm", "CR", (255 * texture(64, 64, seed=number)).astype(np.uint8), **uids)


class Listening:
    """A receiver that listens, with its queue and its store."""

    def __init__(self, folder: Path, settings: NodeSettings) -> None:
        self.store = Store(folder)
        self.queue = Queue(folder)
        self.came = 0
        self.receiver = Receiver(settings, Intake(settings, self.queue, self.store, self._came))
        self.port = self.receiver.start()

    def _came(self) -> None:
        self.came += 1


@contextmanager
def listening(folder: Path, **settings: object) -> Iterator[Listening]:
    """Listen on any port of loopback."""
    values = {"port": 0, "limits": SMALL, **settings}
    found = Listening(folder, NodeSettings(**values))  # type: ignore[arg-type]
    try:
        yield found
    finally:
        found.receiver.stop()
        found.queue.close()


def send(port: int, *files: Path, calling: str = "MODALITY", called: str = "AEFLOW") -> list[int]:
    """Send files as they are over one association; return the status of each, -1 for none."""
    entity = AE(calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
    data = [pydicom.dcmread(file) for file in files]
    for sop_class, syntax in {(one.SOPClassUID, one.file_meta.TransferSyntaxUID) for one in data}:
        entity.add_requested_context(sop_class, syntax)
    assoc = entity.associate("127.0.0.1", port, ae_title=called)
    if not assoc.is_established:
        return [-1] * len(files)
    found = [int(assoc.send_c_store(file).get("Status", -1)) if assoc.is_established else -1 for file in files]
    if assoc.is_established:
        assoc.release()
    return found


def answer(port: int, content: bytes, seconds: float = 5.0) -> bytes:
    """Send bytes to a port, and return what comes back until it closes or falls silent."""
    with socket.create_connection(("127.0.0.1", port), seconds) as peer:
        peer.settimeout(seconds)
        found = b""
        try:
            peer.sendall(content)
            while part := peer.recv(4096):
                found += part
                if found[:1] == b"\x02":  # accepted: it waits for us
                    break
        except (ConnectionError, TimeoutError):
            pass
        return found


def associate_request(calling: str = "MODALITY", called: str = "AEFLOW", *classes: str) -> bytes:
    """Return the PDU that asks for an association."""
    asked = A_ASSOCIATE()
    asked.application_context_name = "1.2.840.10008.3.1.1.1"
    asked.calling_ae_title, asked.called_ae_title = calling, called
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 16384
    implementation.implementation_class_uid = "1.2.3.4"
    asked.user_information = [length, implementation]
    contexts = [build_context(UID(one), [ExplicitVRLittleEndian]) for one in classes or (CR, VERIFICATION)]
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    asked.presentation_context_definition_list = contexts
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(asked)
    return bytes(pdu.encode())


def data_pdu(content: bytes, control: int, context: int = 1) -> bytes:
    """Return a P-DATA-TF with one value: ``control`` 3 is a whole command, 2 the last part of a data set, 0 a part."""
    value = struct.pack(">IBB", len(content) + 2, context, control) + content
    return struct.pack(">BBI", 4, 0, len(value)) + value


def store_command(instance: str, sop_class: str = CR) -> bytes:
    """Return the command set of a C-STORE request."""
    elements = [
        (0x0002, sop_class.encode() + b"\0" * (len(sop_class) % 2)),
        (0x0100, struct.pack("<H", 1)),
        (0x0110, struct.pack("<H", 7)),
        (0x0700, struct.pack("<H", 0)),
        (0x0800, struct.pack("<H", 1)),
        (0x1000, instance.encode() + b"\0" * (len(instance) % 2)),
    ]
    body = b"".join(struct.pack("<HHI", 0, tag, len(value)) + value for tag, value in elements)
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body
