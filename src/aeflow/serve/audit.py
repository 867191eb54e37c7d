"""Audit: who saw, scored or labelled what, as a chain in which no event can be changed or taken out unnoticed.

``hash_n = SHA-256(hash_(n-1), n, at, who, what, subject, detail)``. An event is written in the transaction of what it
tells of: neither is there without the other. Whoever can write the file could write the whole chain anew, or cut off
its end, so its head belongs somewhere else, too: ``aeflow serve --verify-audit`` prints it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from aeflow.errors import DataError
from aeflow.serve.tables import audit, now

START = "0" * 64  # what stands before the first event


@dataclass(frozen=True, slots=True)
class Verified:
    """Result of a check of the whole chain."""

    events: int
    head: str


def record(connection: Connection, who: str, what: str, subject: str, **detail: Any) -> None:
    """Add an event at the end of the chain, within a transaction that writes."""
    last = connection.execute(select(audit.c.number, audit.c.hash).order_by(audit.c.number.desc()).limit(1)).first()
    number, before = (1, START) if last is None else (last.number + 1, last.hash)
    event = {"number": number, "at": now(), "who": who, "what": what, "subject": subject, "detail": detail}
    connection.execute(insert(audit).values(**event, hash=_hash(before, event)))


def verify(connection: Connection) -> Verified:
    """Return the length and the head of the chain; DataError at the first event that is not as it was written."""
    before, number = START, 0
    found = connection.execution_options(yield_per=1000).execute(select(audit).order_by(audit.c.number))
    for number, row in enumerate(found.mappings(), 1):
        event = {key: row[key] for key in ("number", "at", "who", "what", "subject", "detail")}
        if row["number"] != number:
            raise DataError("audit", f"event {number:,} is missing", "restore a backup, and ask who had the file")
        if _hash(before, event) != row["hash"]:
            wrong = f"event {number:,} of {row['at']} is not as it was written"
            raise DataError("audit", wrong, "restore a backup, and ask who had the file")
        before = row["hash"]
    return Verified(number, before)


def _hash(before: str, event: dict[str, Any]) -> str:
    text = json.dumps([before, event], sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
