"""pynetdicom's server with limits: what a PDU, an object and all of them together may hold, and who holds a thread.

pynetdicom believes the length that a PDU names, collects an object of any size, and waits for a TLS handshake before
it takes the next connection; here each of these has a bound.
"""

from __future__ import annotations

import logging
import select
import socket
import ssl
import threading
import time
from typing import Any

import pynetdicom
from pynetdicom import _config
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from aeflow.node.settings import NodeLimits

MAX_FIRST = 2**16  # bytes of the PDU that asks for an association
PDU_HEAD = 6
HANDSHAKE_SECONDS = 5.0
MAX_WAITING = 4  # messages of a peer that does not wait for answers
WAIT = 0.001  # seconds that a thread waits for the network before it looks for something to send

# Its messages quote what peers send, and its default handlers decode each PDU a second time to write it down.
_config.LOG_HANDLER_LEVEL = "none"
logging.getLogger(pynetdicom.__name__).setLevel(logging.CRITICAL + 1)


class Memory:
    """Bytes of objects that are under way, over all associations."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held, self._one = limit, 0, threading.Lock()

    def take(self, size: int) -> bool:
        """Take some, and return if there were as many left."""
        with self._one:
            if self._held + size > self._limit:
                return False
            self._held += size
            return True

    def give(self, size: int) -> None:
        """Give some back."""
        with self._one:
            self._held -= size


class LimitedSocket(AssociationSocket):
    """Socket that reads no PDU longer than was agreed, and waits for none longer than the limit of idleness."""

    def __init__(self, assoc: Association, client_socket: Any, limits: NodeLimits) -> None:
        super().__init__(assoc, client_socket=client_socket)
        self._limits = limits

    @property
    def ready(self) -> bool:
        """True if there is something to read, after a short wait for it."""
        found = self.socket
        if isinstance(found, ssl.SSLSocket) and found.pending():
            return True
        try:
            select.select([found] if found is not None and self._is_connected else [], [], [], WAIT)
        except (OSError, ValueError):
            time.sleep(WAIT)  # it was closed, which the question below says
        return super().ready

    def recv(self, nr_bytes: int) -> bytearray:
        """Read so many bytes; OSError if there are too many, or they come too slowly."""
        first = not self.assoc.is_established
        if nr_bytes > (MAX_FIRST if first else self._limits.pdu_bytes + PDU_HEAD):
            raise OSError("a PDU longer than agreed")
        assert self.socket is not None, "it is connected"
        content, got = bytearray(nr_bytes), 0
        view, until = memoryview(content), time.monotonic() + self._limits.idle_seconds
        while got < nr_bytes:
            if (left := until - time.monotonic()) <= 0:
                raise TimeoutError("a PDU that comes too slowly")
            self.socket.settimeout(left)
            read = self.socket.recv_into(view[got:])
            if not read:
                break
            got += read
        self.socket.settimeout(self._limits.idle_seconds)  # what is sent must be taken in that time
        return content if got == nr_bytes else content[:got]


class LimitedMessages(DIMSEServiceProvider):
    """Collector of messages that ends the association of an object that is too large."""

    def __init__(self, assoc: Association, limits: NodeLimits, memory: Memory) -> None:
        super().__init__(assoc)
        self._limits, self._memory, self._held = limits, memory, 0

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the next part of a message."""
        size = sum(len(data) for _, data in primitive.presentation_data_value_list)
        crowded = self.msg_queue.qsize() > MAX_WAITING
        if crowded or self._held + size > self._limits.object_bytes or not self._memory.take(size):
            self.message = None
            self.assoc.dul.event_queue.put("Evt19")  # an invalid PDU, which ends the association
            return
        self._held += size
        try:
            super().receive_primitive(primitive)
        except Exception:  # a message that cannot be decoded; pynetdicom's kinds are many
            self.message = None
            self.assoc.dul.event_queue.put("Evt19")

    def handled(self) -> None:
        """Let others have the memory of a message, unless the peer has sent more without waiting for the answer."""
        if self.message is None and self.msg_queue.empty():
            self.give_back()

    def give_back(self) -> None:
        """Let others have the memory: the association has ended."""
        self._memory.give(self._held)
        self._held = 0


class LimitedHandler(RequestHandler):
    """Handler of a connection, with its handshake if there is TLS."""

    server: LimitedServer

    def handle(self) -> None:
        """Shake hands in this connection's own thread, then begin the association."""
        if self.server.secure is not None:
            self.request.settimeout(HANDSHAKE_SECONDS)
            try:
                self.request = self.server.secure.wrap_socket(self.request, server_side=True)
            except (OSError, ValueError):  # ssl's own are among them
                self.server.shutdown_request(self.request)
                return
        super().handle()

    def _create_association(self) -> Association:
        assoc = super()._create_association()
        limits = self.server.limits
        assoc.daemon = assoc.dul.daemon = True
        assoc.dul.socket = LimitedSocket(assoc, self.request, limits)
        assoc.dul.event_queue.get_nowait()  # the first socket told of its connection, too
        assoc.dul._run_loop_delay = 0  # the socket waits
        assoc.dimse = LimitedMessages(assoc, limits, self.server.memory)
        self.server.associations.append(assoc)
        return assoc


class LimitedServer(ThreadedAssociationServer):
    """Server that bounds its connections, associated or not."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        entity: ApplicationEntity,
        address: tuple[str, int],
        handlers: list[Any],
        limits: NodeLimits,
        secure: ssl.SSLContext | None,
    ) -> None:
        self.limits, self.secure, self.memory = limits, secure, Memory(limits.memory_bytes)
        self.associations: list[Association] = []
        self._beginning, self._one = 0, threading.Lock()
        contexts = entity.supported_contexts
        super().__init__(entity, address, entity.ae_title, contexts, None, handlers, LimitedHandler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Return if there is room for one more connection, and count it."""
        for assoc in [one for one in self.associations if one.ident is not None and not one.is_alive()]:
            self.associations.remove(assoc)
            if isinstance(assoc.dimse, LimitedMessages):
                assoc.dimse.give_back()
        with self._one:
            if self._beginning + len(self.associations) > 2 * self.limits.associations:
                return False
            self._beginning += 1
        return True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Handle a connection until its association has a thread of its own."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._one:
                self._beginning -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a connection that fails is its peer's matter."""


def make_server(
    entity: ApplicationEntity,
    address: tuple[str, int],
    handlers: list[Any],
    limits: NodeLimits,
    secure: ssl.SSLContext | None,
) -> LimitedServer:
    """Bind a server to an address, and serve in a thread; OSError if the address is taken."""
    entity.maximum_associations = limits.associations
    entity.maximum_pdu_size = limits.pdu_bytes
    entity.network_timeout = limits.idle_seconds
    entity.acse_timeout = entity.dimse_timeout = limits.idle_seconds
    found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][4]
    server = LimitedServer(entity, (str(found[0]), int(found[1])), handlers, limits, secure)
    entity._servers.append(server)
    threading.Thread(target=server.serve_forever, name="server", args=(0.2,), daemon=True).start()
    return server
