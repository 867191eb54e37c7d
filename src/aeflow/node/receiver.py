"""Receiver: associations of known peers, and objects that are on the disk before they are acknowledged."""

from __future__ import annotations

import sqlite3
import sys
import time
from typing import Any

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from aeflow.imageio.dicom.sop_classes import not_an_image
from aeflow.node.header import OUT_OF_RESOURCES, ObjectError
from aeflow.node.intake import Intake
from aeflow.node.server import LimitedMessages, LimitedServer, make_server
from aeflow.node.settings import NodeSettings
from aeflow.node.tls import server_context
from aeflow.runtime.addresses import address_of, is_loopback
from aeflow.runtime.terminal import print

# Transfer syntaxes that the decoders read, the plain ones first: of several that a peer offers for one context, the
# first of these is taken.
SYNTAXES = [
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    JPEGLosslessSV1,
    JPEGLossless,
    JPEGLSLossless,
    JPEG2000Lossless,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    RLELossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    JPEG2000,
    HTJ2K,
]
# Answers of C-STORE (PS3.4 table B.2-1) and reasons of a refused association (PS3.8 table 9-21).
SUCCESS, FAILED = 0x0000, 0x0110
CALLING_UNKNOWN, CALLED_UNKNOWN, LIMIT_EXCEEDED = (1, 1, 3), (1, 1, 7), (2, 3, 2)
END_SECONDS = 3.0  # that open associations have when the node ends
SAY_EVERY = 10.0  # seconds between two lines about the same trouble


class Receiver:
    """Storage SCP of a node."""

    def __init__(self, settings: NodeSettings, intake: Intake) -> None:
        self.settings, self.intake = settings, intake
        self._said: dict[str, float] = {}
        self.entity = AE(settings.aet)
        self.entity.add_supported_context(Verification)
        for context in AllStoragePresentationContexts:
            if context.abstract_syntax is not None and not_an_image(context.abstract_syntax) is None:
                self.entity.add_supported_context(context.abstract_syntax, SYNTAXES)
        self._server: LimitedServer | None = None

    def start(self) -> int:
        """Listen; return the port, which the system chose if it was 0. OSError if it is taken."""
        handlers = [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_C_ECHO, self._echo),
            (evt.EVT_C_STORE, self._store),
        ]
        address = (self.settings.host, self.settings.port)
        secure = None if self.settings.tls is None else server_context(self.settings.tls)
        self._server = make_server(self.entity, address, handlers, self.settings.limits, secure)
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Take no more connections, and let those that there are end; what is not acknowledged is sent again."""
        if self._server is not None:
            self._server.shutdown()
            until = time.monotonic() + END_SECONDS
            while self._server.active_associations and time.monotonic() < until:
                time.sleep(0.05)

    def _requested(self, event: Any) -> None:
        """Refuse an association with the reason that the standard has for it."""
        try:
            found = self._refusal(event)
        except Exception as error:  # pynetdicom would let the peer in
            found = LIMIT_EXCEEDED, f"{type(error).__name__} while it was asked for"
        if found is not None:
            reason, why = found
            self._say(f"association refused: {why}")
            event.assoc.acse.send_reject(*reason)
            event.assoc.kill()

    def _refusal(self, event: Any) -> tuple[tuple[int, int, int], str] | None:
        """Return the reason to refuse an association, and its words; None if there is none."""
        request, address = event.assoc.requestor.primitive, event.assoc.requestor.address
        calling, called = request.calling_ae_title.strip(), request.called_ae_title.strip()
        if not self._knows(calling, address):
            return CALLING_UNKNOWN, f"{calling} at {address} is not known"
        if called != self.settings.aet:
            return CALLED_UNKNOWN, f"{calling} calls {called}, which is not the title here"
        if not self.intake.has_room():
            return LIMIT_EXCEEDED, "the disk is full"
        return None

    def _knows(self, title: str, address: str) -> bool:
        """Return if a peer is known; without any in the settings, whoever is on this machine is."""
        if not self.settings.peer:
            return is_loopback(address)
        found = address_of(address)
        return found is not None and any(
            peer.aet == title and any(found in network for network in peer.addresses) for peer in self.settings.peer
        )

    def _echo(self, event: Any) -> int:
        _handled(event)
        return SUCCESS

    def _store(self, event: Any) -> int:
        """Answer C-STORE: success once the object's file and its row in the queue are on the disk."""
        try:
            return self._taken(event)
        except ObjectError as error:
            self._say(f"object refused: {error.found}")
            return error.status
        except (OSError, sqlite3.OperationalError) as error:  # a disk that is full or fails, or a data base on it
            self._say(f"object refused: it cannot be written ({type(error).__name__})")
            return OUT_OF_RESOURCES
        except Exception as error:  # a fault here must not end the association without an answer
            self._say(f"object refused: {type(error).__name__} while it was taken")
            return FAILED
        finally:
            _handled(event)

    def _taken(self, event: Any) -> int:
        request = event.request
        named = str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
        source = event.assoc.requestor.ae_title.strip()
        data, syntax = request.DataSet.getvalue(), event.context.transfer_syntax
        self.intake.take(data, syntax, named, source, event.encoded_dataset)
        return SUCCESS  # of what no rule wants, too: its sender need not send it again

    def _say(self, line: str) -> None:
        """Print a line on stderr, the same one once in a while."""
        now = time.monotonic()
        if now - self._said.get(line, -SAY_EVERY) >= SAY_EVERY:
            if len(self._said) > 1000:
                self._said.clear()
            self._said[line] = now
            print(line, file=sys.stderr, flush=True)


def _handled(event: Any) -> None:
    """Give back the memory of a message."""
    if isinstance(event.assoc.dimse, LimitedMessages):
        event.assoc.dimse.handled()
