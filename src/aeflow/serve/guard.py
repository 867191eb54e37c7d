"""Guard before every request: who it is, where it comes from, how large it is; and the headers of every answer.

It stands before anything parses a body. Without any credential the service is for this machine alone: then a foreign
name in ``Host`` is refused, too, so that no page elsewhere can reach it by a name that leads here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urlsplit

from anyio import to_thread
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aeflow.serve.accounts import LOCAL, Who
from aeflow.serve.service import Service

COOKIE = "aeflow-session"
OPEN = ("/static/", "/health", "/sign-in")  # what those who are not known may ask for
HERE = ("127.0.0.1", "localhost", "[::1]")
UPLOADS = "/api/score"  # what takes files; anything else is told in a few words
MOST_BYTES = 2**16  # of the body of any other request; a sign-in is read before it is known who sends it
SAFE = ("GET", "HEAD", "OPTIONS")
ASKED_AGAIN = 5.0  # seconds after which it is asked anew if anybody needs a credential
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
PRIVATE = {"cache-control": "no-store"}  # unless an answer says otherwise


class _TooLargeError(Exception):
    """Error of a body that is longer than allowed."""


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service
        self._needed, self._asked = True, -ASKED_AGAIN

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on with its sender in ``request.state.who``."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        answer = _Answer(self.service, scope, send)
        most = self.service.options.most_bytes if scope["path"] == UPLOADS else MOST_BYTES
        if (refusal := await self._refusal(scope, headers)) is not None:
            await answer.refuse(*refusal)
            return
        remedy = "send fewer files at a time, or start with a larger --max-upload" if scope["path"] == UPLOADS else ""
        if _length(headers) > most:
            await answer.refuse(413, _too_large(most, remedy))
            return
        body = _Body(receive, most)
        answer.body = body
        with suppress(_TooLargeError):  # what was made of it below is not sent
            await self.app(scope, body.receive, answer.send)
        if body.too_large:
            await answer.refuse(413, _too_large(most, remedy))

    async def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Return why a request is refused, with the status; None, and its sender in its state, if it is not."""
        needed = await self._is_needed()
        host = headers.get("host", "")
        if not needed and _name_of(host) not in HERE:
            return 421, "this service is for this machine alone: ask for 127.0.0.1 or localhost"
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return 403, "a page elsewhere may lead here, and ask for nothing"
        who, by_cookie = await self._who(headers, needed)
        if scope["method"] not in SAFE:
            origin = headers.get("origin")
            if origin is None and by_cookie:
                return 403, "a change needs the header Origin"
            if origin is not None and urlsplit(origin).netloc != host:
                return 403, "a change must come from a page of this service"
            if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
                return 403, "a change must come from a page of this service"
        if who is None:
            if not scope["path"].startswith(OPEN):
                return 401, "sign in, or send a token: Authorization: Bearer TOKEN"
            who = Who("nobody", "")
        scope.setdefault("state", {})["who"] = who
        return None

    async def _who(self, headers: Mapping[str, str], needed: bool) -> tuple[Who | None, bool]:
        """Return who sends a request, None if that is not known, and if a cookie says so."""
        if not needed:
            return LOCAL, False
        accounts = self.service.accounts
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return accounts.by_token(token.strip()), False
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return None, False
        return (None, False) if cookie is None else (await to_thread.run_sync(accounts.by_cookie, cookie.value), True)

    async def _is_needed(self) -> bool:
        """Return if anybody needs a credential; users may be added while the service runs."""
        if time.monotonic() - self._asked > ASKED_AGAIN:
            self._needed = await to_thread.run_sync(self.service.accounts.needed)
            self._asked = time.monotonic()
        return self._needed


class _Answer:
    """The answer to one request, with the headers that every answer has."""

    def __init__(self, service: Service, scope: Scope, send: Send) -> None:
        self._service, self._scope, self._send = service, scope, send
        self._begun = False
        self.body: _Body | None = None

    async def send(self, message: Message) -> None:
        """Send a part of the answer; nothing once the body was too large."""
        if self.body is None or not self.body.too_large:
            await self._send_part(message)

    async def _send_part(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun = True
            given = {name.lower() for name, _ in message["headers"]}
            more = {**HEADERS, **PRIVATE}
            if self._service.options.secure:
                more["strict-transport-security"] = "max-age=31536000"
            message["headers"] = [
                *message["headers"],
                *((name.encode(), value.encode()) for name, value in more.items() if name.encode() not in given),
            ]
            route = getattr(self._scope.get("route"), "path", "other")
            self._service.measures.request(self._scope["method"], route, message["status"])
        await self._send(message)

    async def refuse(self, status: int, why: str) -> None:
        """Send a refusal: to a page that needs a sign-in the way there, else the reason as JSON."""
        if self._begun:
            return
        path, method = self._scope["path"], self._scope["method"]
        if status == 401 and method in ("GET", "HEAD") and not path.startswith(("/api/", "/metrics", "/openapi")):
            query = self._scope["query_string"].decode("latin-1")
            there = quote(f"{path}?{query}" if query else path, safe="")
            await self._whole(303, b"", [(b"location", f"/sign-in?next={there}".encode())])
            return
        more = [(b"www-authenticate", b"Bearer")] if status == 401 else []
        if status == 413:  # what is still being sent is not read
            more.append((b"connection", b"close"))
        body = json.dumps({"detail": why}).encode()
        await self._whole(status, body, [(b"content-type", b"application/json"), *more])

    async def _whole(self, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        length = (b"content-length", str(len(body)).encode())
        await self._send_part({"type": "http.response.start", "status": status, "headers": [length, *headers]})
        await self._send_part({"type": "http.response.body", "body": body})


class _Body:
    """The body of a request, which raises once it is longer than ``most`` bytes."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._most, self._seen = receive, most, 0

    @property
    def too_large(self) -> bool:
        """If more came than is taken."""
        return self._seen > self._most

    async def receive(self) -> Message:
        """Return the next part; raises _TooLargeError."""
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self.too_large:
            raise _TooLargeError
        return message


def _length(headers: Mapping[str, str]) -> int:
    """Return the length that a request says its body has."""
    text = headers.get("content-length", "0")
    return int(text) if text.isascii() and text.isdigit() else 0


def _name_of(host: str) -> str:
    """Return the name in a Host header, without its port.

    >>> _name_of("[::1]:8765"), _name_of("localhost")
    ('[::1]', 'localhost')
    """
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


def _too_large(most: int, remedy: str) -> str:
    return f"more than {most:,} bytes" + (f"; {remedy}" if remedy else "")
