"""Deliveries to one destination: C-STORE over one association for many results, or STOW-RS.

An answer that may change (no connection, out of resources) postpones a delivery; one that will not (the class is
refused, the object is not understood) makes it a dead letter, which ``aeflow node retry`` sends again.
"""

from __future__ import annotations

import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association

from aeflow.errors import SettingsError, count
from aeflow.node.queue import Queue
from aeflow.node.settings import Destination, NodeSettings
from aeflow.node.store import Store
from aeflow.node.tables import Delivery
from aeflow.node.tls import client_context
from aeflow.runtime.terminal import print
from aeflow.runtime.web_session import CREDENTIALS, web_session

MANY = 64  # deliveries in one association
CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 60.0
WARNINGS = (0xB000, 0xB006, 0xB007)  # of C-STORE: it is stored all the same
PASSING = range(0xA700, 0xA800)  # out of resources
HTTP_FINAL = (400, 405, 406, 409, 411, 413, 415)  # of which another try would be answered alike


class PassingError(Exception):
    """Error that another try may not meet."""


class FinalError(Exception):
    """Error that every other try would meet."""


class Sender(ABC):
    """Base of the ways to a destination."""

    @abstractmethod
    def session(self, classes: Sequence[str]) -> Any:
        """Return a context whose value sends one data set; PassingError if the destination cannot be reached.

        What it raises is a PassingError or a FinalError of that data set.
        """


class StoreSender(Sender):
    """Storage SCU."""

    def __init__(self, settings: NodeSettings, destination: Destination) -> None:
        self.title, self.where = settings.aet, destination.host_port_aet
        self.secure = client_context(settings.tls) if destination.tls and settings.tls else None

    @contextmanager
    def session(self, classes: Sequence[str]) -> Iterator[Callable[[Dataset], None]]:
        """Open an association for objects of these classes."""
        entity, (host, port, title) = AE(self.title), self.where
        entity.connection_timeout, entity.acse_timeout = CONNECT_SECONDS, CONNECT_SECONDS
        entity.dimse_timeout = entity.network_timeout = ANSWER_SECONDS
        for one in classes:
            entity.add_requested_context(one, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        tls = None if self.secure is None else (self.secure, host)
        assoc = entity.associate(host, port, ae_title=title, tls_args=tls)
        if not _stands(assoc):
            raise PassingError("the association was refused" if assoc.is_rejected else "no association")
        accepted = {str(context.abstract_syntax) for context in assoc.accepted_contexts}

        def send(data: Dataset) -> None:
            if str(data.SOPClassUID) not in accepted:
                raise FinalError(f"{data.SOPClassUID.name} is not accepted there")
            if not _stands(assoc):
                raise PassingError("the association was lost")
            answer = assoc.send_c_store(data)
            status = answer.get("Status")
            if status is None:
                raise PassingError("no answer")
            if status == 0 or status in WARNINGS:
                return
            kind = PassingError if status in PASSING else FinalError
            raise kind(f"answered 0x{status:04X}")

        try:
            yield send
        finally:
            if _stands(assoc):
                assoc.release()
            else:
                assoc.kill()


def _stands(assoc: Association) -> bool:
    """Return if an association is there still: its peer may end it at any time."""
    return bool(assoc.is_established)


class WebSender(Sender):
    """STOW-RS origin; credentials come from the environment alone."""

    def __init__(self, settings: NodeSettings, destination: Destination) -> None:
        self.address = destination.address
        names = [f"{CREDENTIALS}_{destination.name.upper()}"]
        if sum(one.is_web for one in settings.destination) == 1:  # no other host may see what is meant for one
            names.append(CREDENTIALS)
        self.http = web_session(names)

    @contextmanager
    def session(self, classes: Sequence[str]) -> Iterator[Callable[[Dataset], None]]:
        """Return what posts one data set."""
        client = DICOMwebClient(self.address, session=self.http)
        client.set_http_retry_params(retry=False)

        def send(data: Dataset) -> None:
            try:
                answer = client.store_instances([data])
            except requests.HTTPError as error:
                code = 0 if error.response is None else error.response.status_code
                kind = FinalError if code in HTTP_FINAL else PassingError
                raise kind(f"answered HTTP {code}") from None
            except requests.RequestException as error:
                raise PassingError(f"not reached ({type(error).__name__})") from None
            if answer.get("FailedSOPSequence"):
                raise FinalError(f"answered 0x{answer.FailedSOPSequence[0].get('FailureReason', 0):04X}")

        yield send


def sender_for(settings: NodeSettings, destination: Destination) -> Sender:
    """Return the way to a destination; SettingsError if TLS is asked for without a certificate."""
    if destination.is_web:
        return WebSender(settings, destination)
    if destination.tls and settings.tls is None:
        raise SettingsError(destination.name, "has tls, and there is no certificate", "name one under [tls]")
    return StoreSender(settings, destination)


class Courier:
    """Worker that empties the queue of one destination; ``stop`` ends it between two results."""

    def __init__(
        self, settings: NodeSettings, queue: Queue, store: Store, destination: Destination, stop: threading.Event
    ) -> None:
        self.queue, self.store, self.stop, self.name = queue, store, stop, destination.name
        self.sender = sender_for(settings, destination)
        self.give_up = 3600 * settings.give_up_hours

    def send_due(self) -> bool:
        """Send what is due; return if anything was."""
        due = self.queue.deliveries(self.name, MANY)
        if not due:
            return False
        try:
            with self.sender.session(sorted({one.sop_class for one in due})) as send:
                self._send(due, send)
        except PassingError as error:
            self._postponed(due, str(error))
        return True

    def _send(self, due: Sequence[Delivery], send: Callable[[Dataset], None]) -> None:
        for number, one in enumerate(due):
            if self.stop.is_set():
                return
            try:
                send(dcmread(self.store.result(one.name)))
            except PassingError as error:
                self._postponed(due[number:], str(error))
                return
            except FinalError as error:
                self._refused(one, str(error))
            except (
                OSError,
                ValueError,
            ) as error:  # of pydicom and pynetdicom: an object that cannot be read or encoded
                self._refused(one, f"its file cannot be read or sent ({type(error).__name__})")
            else:
                self.queue.sent(one)
                self.store.forget((), self.queue.unneeded(one))

    def _postponed(self, rest: Sequence[Delivery], reason: str) -> None:
        """Let what is left wait."""
        self.queue.postpone(rest, reason, self.give_up)
        print(f"{self.name}: {reason}; {count(len(rest), 'result')} wait", file=sys.stderr, flush=True)

    def _refused(self, one: Delivery, reason: str) -> None:
        self.queue.refused(one, reason)
        print(f"{self.name}: a result of study {one.study} is a dead letter: {reason}", file=sys.stderr, flush=True)
