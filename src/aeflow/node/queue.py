"""Durable queue of a node in SQLite: a write-ahead log, and every transaction on the disk before it counts.

A study waits until it is quiet, is scored at a *revision* (the number of changes to its objects), and waits again if
more comes. A result has a UID of its own and is delivered to each destination once. Times are seconds since 1970.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aeflow.errors import ArtifactError
from aeflow.node.header import ObjectFacts
from aeflow.node.tables import DIGEST, TABLES, VERSION, Delivery, NewResult, QueuedObject, QueuedStudy

FILE = "queue.db"
BUSY_SECONDS = 20.0  # that a writer waits for one in another process
MAX_DUE = 86400.0  # seconds ahead; what is due later is due now, since the clock was set back
MAX_BACK_OFF = 300.0  # seconds between two attempts


class Queue:
    """The queue; one connection, which threads use one after another."""

    def __init__(self, folder: Path) -> None:
        """Open the queue in a folder, which is made if it is missing; ArtifactError if it is of another version."""
        self.where = folder / FILE
        if not self.where.exists():
            os.close(os.open(self.where, os.O_CREAT | os.O_WRONLY, 0o600))  # for its owner alone
        self._one = threading.RLock()
        try:
            self._connection = sqlite3.connect(
                self.where, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._connection.row_factory = sqlite3.Row
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
                self._connection.execute(f"PRAGMA {pragma}")
            with self.writing():
                self._make_tables()
        except sqlite3.DatabaseError as error:
            found = f"cannot be opened as a queue ({error})"
            raise ArtifactError(self.where, found, "name another --store, or restore a backup") from error

    def _make_tables(self) -> None:
        version = self.all("PRAGMA user_version")[0][0]
        if version == 0:
            for statement in TABLES.split(";\n"):
                self._connection.execute(statement)
            self._connection.execute(f"PRAGMA user_version = {VERSION}")
        elif version != VERSION:
            found = f"a queue of version {version} where this aeflow knows {VERSION}"
            raise ArtifactError(self.where, found, "take the aeflow that wrote it")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection; its changes are all on the disk when the context ends, or none of them."""
        with self._one:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def all(self, query: str, *values: Any) -> list[sqlite3.Row]:
        """Return the rows of a query."""
        with self._one:
            return self._connection.execute(query, values).fetchall()

    def close(self) -> None:
        """Close the connection; SQLite then puts its log into the file."""
        with self._one:
            self._connection.close()

    # What comes in.

    def restart(self, quiet: float) -> None:
        """Begin every quiet time anew: while the node was down nobody could send the rest of a study."""
        with self.writing() as db:
            db.execute("UPDATE studies SET due = ? WHERE state = 'waiting'", (time.time() + quiet,))
            db.execute("UPDATE deliveries SET due = 0 WHERE state = 'waiting'")

    def holds(self, facts: ObjectFacts, digest: str) -> bool:
        """Return if an object is there already, with the same content."""
        query = "SELECT name FROM objects JOIN studies ON studies.id = study WHERE uid = ? AND instance = ?"
        return any(row["name"][:DIGEST] == digest for row in self.all(query, facts.study, facts.instance))

    def count_of(self, study: str) -> int:
        """Return how many objects of a study there are."""
        query = "SELECT count(*) FROM objects JOIN studies ON studies.id = study WHERE uid = ?"
        return int(self.all(query, study)[0][0])

    def add(self, facts: ObjectFacts, source: str, name: str, quiet: float) -> None:
        """Add an object whose file is on the disk; one with the same UID and another content takes its place."""
        now = time.time()
        with self.writing() as db:
            db.execute(
                "INSERT INTO studies (uid, due, changed) VALUES (?, ?, ?) ON CONFLICT (uid) DO NOTHING",
                (facts.study, now, now),
            )
            [study] = db.execute("SELECT id FROM studies WHERE uid = ?", (facts.study,)).fetchone()
            added = db.execute(
                "INSERT INTO objects (study, instance, series, sop_class, modality, body_part, source, name, received)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (study, instance) DO UPDATE SET"
                " series = excluded.series, sop_class = excluded.sop_class, modality = excluded.modality,"
                " body_part = excluded.body_part, source = excluded.source, name = excluded.name,"
                f" received = excluded.received WHERE substr(name, 1, {DIGEST}) != substr(excluded.name, 1, {DIGEST})",
                (
                    study,
                    facts.instance,
                    facts.series,
                    facts.sop_class,
                    facts.modality,
                    facts.body_part,
                    source,
                    name,
                    now,
                ),
            )
            if added.rowcount:
                db.execute(
                    "UPDATE studies SET revision = revision + 1, state = 'waiting', due = ?, attempts = 0,"
                    " failures = 0, reason = '', changed = ? WHERE id = ?",
                    (now + quiet, now, study),
                )

    def complete(self, study: str) -> None:
        """Let a study that waits be scored at once: its source says that no more of it comes."""
        with self.writing() as db:
            db.execute("UPDATE studies SET due = ? WHERE uid = ? AND state = 'waiting'", (time.time(), study))

    # What is scored.

    def next_study(self) -> QueuedStudy | None:
        """Return the study to score now, counted as begun; None if none is due. What failed before comes last."""
        now = time.time()
        with self.writing() as db:
            row = db.execute(
                "SELECT id, uid, revision, attempts FROM studies WHERE state = 'waiting' AND (due <= ? OR due > ?)"
                " ORDER BY attempts, due LIMIT 1",
                (now, now + MAX_DUE),
            ).fetchone()
            if row is None:
                return None
            db.execute("UPDATE studies SET attempts = attempts + 1 WHERE id = ?", (row["id"],))
            columns = "instance, series, sop_class, modality, body_part, source, name"
            query = f"SELECT {columns} FROM objects WHERE study = ? ORDER BY series, instance"
            objects = [QueuedObject(*one) for one in db.execute(query, (row["id"],))]
        return QueuedStudy(row["id"], row["uid"], row["revision"], row["attempts"], objects)

    def seconds_to_next(self, most: float) -> float:
        """Return the time until a study is due, at most ``most``."""
        [[due]] = self.all("SELECT min(due) FROM studies WHERE state = 'waiting'")
        return most if due is None else min(most, max(0.0, due - time.time()))

    def report_of(self, study: int, model: str) -> sqlite3.Row | None:
        """Return the last report of a model on a study, which a new one replaces."""
        query = "SELECT * FROM results WHERE study = ? AND model = ? AND kind = 'report' ORDER BY id DESC LIMIT 1"
        found = self.all(query, study, model)
        return found[0] if found else None

    def finish(self, study: QueuedStudy, state: str, reason: str, results: Sequence[NewResult] = ()) -> list[str]:
        """Note how a study ended, with its results, all or nothing; return the names of files that are not needed.

        If objects came meanwhile the study goes on waiting; the results on those that were there count all the same.
        """
        now, known = time.time(), []
        with self.writing() as db:
            if db.execute("SELECT 1 FROM studies WHERE id = ?", (study.id,)).fetchone() is None:  # it was dropped
                return [one.name for one in results]
            for one in results:
                added = db.execute(
                    "INSERT INTO results (study, revision, model, kind, instance, series, sop_class, name, made)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (instance) DO NOTHING",
                    (
                        study.id,
                        study.revision,
                        one.model,
                        one.kind,
                        one.instance,
                        one.series,
                        one.sop_class,
                        one.name,
                        now,
                    ),
                )
                if not added.rowcount:
                    known.append(one.name)
                    continue
                db.executemany(
                    "INSERT INTO deliveries (result, destination, due) VALUES (?, ?, 0)",
                    [(added.lastrowid, destination) for destination in one.destinations],
                )
            db.execute(
                "UPDATE studies SET scored = ?, changed = ?, reason = CASE revision WHEN ? THEN ? ELSE reason END,"
                " state = CASE revision WHEN ? THEN ? ELSE state END WHERE id = ?",
                (study.revision, now, study.revision, reason, study.revision, state, study.id),
            )
        return known

    def postpone_study(self, study: QueuedStudy, reason: str, give_up: float) -> None:
        """Let a study wait before it is tried again; dead if it has waited for more than ``give_up`` seconds."""
        now = time.time()
        with self.writing() as db:
            row = db.execute("SELECT failures, changed FROM studies WHERE id = ?", (study.id,)).fetchone()
            if row is None:  # it was dropped
                return
            failures, changed = row
            state = "dead" if now - changed > give_up else "waiting"
            db.execute(
                "UPDATE studies SET due = ?, reason = ?, state = ?, attempts = 0, failures = failures + 1"
                " WHERE id = ? AND revision = ? AND state = 'waiting'",
                (now + back_off(failures), reason, state, study.id, study.revision),
            )

    # What goes out.

    def deliveries(self, destination: str, most: int) -> list[Delivery]:
        """Return what is to be sent to a destination now, in the order in which it was made."""
        now = time.time()
        query = (
            "SELECT deliveries.id, study, instance, sop_class, name, attempts, made FROM deliveries"
            " JOIN results ON results.id = result WHERE state = 'waiting' AND destination = ?"
            " AND (due <= ? OR due > ?) ORDER BY deliveries.id LIMIT ?"
        )
        return [Delivery(*row) for row in self.all(query, destination, now, now + MAX_DUE, most)]

    def sent(self, delivery: Delivery) -> None:
        """Note that a destination has a result."""
        with self.writing() as db:
            db.execute("UPDATE deliveries SET state = 'sent', reason = '' WHERE id = ?", (delivery.id,))

    def unneeded(self, delivery: Delivery) -> list[str]:
        """Return the file of a result that all its destinations have, if this was the last."""
        query = (
            "SELECT name FROM results WHERE name = ? AND id NOT IN"
            " (SELECT result FROM deliveries WHERE state != 'sent')"
        )
        return [row[0] for row in self.all(query, delivery.name)]

    def refused(self, delivery: Delivery, reason: str) -> None:
        """Make a delivery a dead letter."""
        with self.writing() as db:
            db.execute(
                "UPDATE deliveries SET state = 'dead', attempts = attempts + 1, reason = ? WHERE id = ?",
                (reason, delivery.id),
            )

    def postpone(self, deliveries: Sequence[Delivery], reason: str, give_up: float) -> None:
        """Let deliveries wait before they are tried again; those that are older than ``give_up`` seconds are dead."""
        now = time.time()
        with self.writing() as db:
            db.executemany(
                "UPDATE deliveries SET attempts = attempts + 1, due = ?, reason = ?, state = ? WHERE id = ?",
                [
                    (now + back_off(one.attempts), reason, "dead" if now - one.made > give_up else "waiting", one.id)
                    for one in deliveries
                ],
            )

    # What is kept.

    def names(self) -> tuple[set[str], set[str]]:
        """Return the names of the files of all objects and all results."""
        objects = {row[0] for row in self.all("SELECT name FROM objects")}
        unsent = "SELECT name FROM results WHERE id IN (SELECT result FROM deliveries WHERE state != 'sent')"
        return objects, {row[0] for row in self.all(unsent)}

    def forget(self, before: float) -> int:
        """Forget studies that ended before a time and of which nothing is waiting or dead; return how many."""
        with self.writing() as db:
            done = db.execute(
                "DELETE FROM studies WHERE state NOT IN ('waiting', 'dead') AND changed < ? AND id NOT IN"
                " (SELECT study FROM results JOIN deliveries ON results.id = result WHERE state != 'sent')",
                (before,),
            )
        return done.rowcount


def back_off(attempts: int) -> float:
    """Return the seconds to wait after so many failures before this one.

    >>> [back_off(n) for n in (0, 1, 2, 20)]
    [1.0, 2.0, 4.0, 300.0]
    """
    return min(MAX_BACK_OFF, 2.0 ** min(attempts, 30))
