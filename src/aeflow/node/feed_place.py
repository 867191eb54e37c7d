"""Place in a change feed, in the queue's database: a kill at any moment passes over no change."""

from __future__ import annotations

import time

from aeflow.node.queue import Queue


class FeedPlace:
    """Number of the last change that was dealt with, and which series were fetched as they were then."""

    def __init__(self, queue: Queue, address: str) -> None:
        self.queue, self.address = queue, address

    def get(self) -> int | None:
        """Return the number of the last change; None if this feed was never read."""
        found = self.queue.all("SELECT last FROM feeds WHERE address = ?", self.address)
        return int(found[0]["last"]) if found else None

    def set(self, last: int) -> None:
        """Note the last change that was dealt with."""
        with self.queue.writing() as db:
            query = "INSERT INTO feeds VALUES (?, ?) ON CONFLICT (address) DO UPDATE SET last = excluded.last"
            db.execute(query, (self.address, last))

    def has(self, series: str, updated: str) -> bool:
        """Return if a series was fetched since it was last updated."""
        query = "SELECT 1 FROM fetched WHERE address = ? AND series = ? AND updated = ?"
        return bool(self.queue.all(query, self.address, series, updated))

    def fetched(self, series: str, updated: str) -> None:
        """Note that all of a series is here."""
        with self.queue.writing() as db:
            db.execute(
                "INSERT INTO fetched VALUES (?, ?, ?, ?) ON CONFLICT (address, series) DO UPDATE SET"
                " updated = excluded.updated, at = excluded.at",
                (self.address, series, updated, time.time()),
            )

    def forget(self, before: float) -> None:
        """Forget which series were fetched before a time, as their images are."""
        with self.queue.writing() as db:
            db.execute("DELETE FROM fetched WHERE address = ? AND at < ?", (self.address, before))
