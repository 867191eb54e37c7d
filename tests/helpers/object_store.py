"""An S3 on this machine: moto's, or as much of the protocol as reading needs; either can be told to fail."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
GONE = b"<Error><Code>NoSuchKey</Code><Message>There is no such key.</Message></Error>"


@dataclass
class Store:
    """Objects by bucket and key, and how their reading fails."""

    objects: dict[str, bytes] = field(default_factory=dict)
    failing: dict[str, int] = field(default_factory=dict)  # answers of 503 that an object still gives
    slow: dict[str, float] = field(default_factory=dict)  # seconds until an object is answered
    asked: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(store: Store) -> Iterator[Store]:
    """Serve a store on the loopback until the context ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            key = unquote(asked.path).strip("/")
            query = parse_qs(asked.query, keep_blank_values=True)
            if "list-type" in query:
                return self.answer(200, listing(store, key, query).encode(), {"Content-Type": "application/xml"})
            store.asked.append(key)
            time.sleep(store.slow.get(key, 0.0))
            if store.failing.get(key, 0) > 0:
                store.failing[key] -= 1
                return self.answer(503, BUSY, {"Content-Type": "application/xml"})
            if key not in store.objects:
                return self.answer(404, GONE, {"Content-Type": "application/xml"})
            content, code, more = store.objects[key], 200, {}
            if wanted := self.headers.get("Range"):
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                whole = len(content)
                content = content[int(first) : int(last) + 1]
                code, more = 206, {"Content-Range": f"bytes {first}-{int(first) + len(content) - 1}/{whole}"}
            return self.answer(code, content, more)

        def answer(self, code: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(code)
            headers = {"ETag": '"e"', "Last-Modified": "Fri, 27 Nov 2026 12:00:00 GMT", **headers}
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    store.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def listing(store: Store, bucket: str, query: dict[str, list[str]]) -> str:
    """Return the answer to ListObjectsV2: keys of a prefix, and the folders among them if there is a delimiter."""
    prefix, delimiter = (query.get(name, [""])[0] for name in ("prefix", "delimiter"))
    keys = [key.removeprefix(f"{bucket}/") for key in sorted(store.objects) if key.startswith(f"{bucket}/{prefix}")]
    below = {
        prefix + key.removeprefix(prefix).partition(delimiter)[0] + delimiter
        for key in keys
        if delimiter and delimiter in key.removeprefix(prefix)
    }
    here = [key for key in keys if not (delimiter and delimiter in key.removeprefix(prefix))]
    contents = "".join(
        f"<Contents><Key>{html.escape(key)}</Key><LastModified>2026-11-27T12:00:00.000Z</LastModified>"
        f"<ETag>e</ETag><Size>{len(store.objects[f'{bucket}/{key}'])}</Size></Contents>"
        for key in here
    )
    folders = "".join(f"<CommonPrefixes><Prefix>{html.escape(one)}</Prefix></CommonPrefixes>" for one in sorted(below))
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{bucket}</Name><Prefix>{html.escape(prefix)}</Prefix><KeyCount>{len(here) + len(below)}</KeyCount>"
        f"<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{contents}{folders}</ListBucketResult>"
    )
