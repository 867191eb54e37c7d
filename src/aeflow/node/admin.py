"""Status, retry and drop: what an administrator asks of the queue, from any process, whether the node runs or not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aeflow.errors import ArtifactError, SettingsError
from aeflow.node.queue import FILE, Queue
from aeflow.node.store import Store
from aeflow.privacy import shown_key


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A study that was not scored, or a result that was not delivered, and why."""

    study: int  # number in the queue
    pseudonym: str
    what: str  # "scoring", or the destination
    kind: str  # of the result, empty for a study
    reason: str


def open_queue(folder: Path) -> Queue:
    """Open the queue of a store; ArtifactError if there is none."""
    if not (folder / FILE).is_file():
        raise ArtifactError(folder, "no queue of a node", "name the folder that aeflow node was given with --store")
    return Queue(folder)


def status(queue: Queue) -> dict[str, Any]:
    """Return what a node has, by state: studies, and deliveries of each destination; and the dead letters."""
    now = time.time()
    studies = {row["state"]: row["n"] for row in queue.all("SELECT state, count(*) AS n FROM studies GROUP BY state")}
    destinations: dict[str, dict[str, Any]] = {}
    query = "SELECT destination, state, count(*) AS n FROM deliveries GROUP BY destination, state"
    for row in queue.all(query):
        destinations.setdefault(row["destination"], {})[row["state"]] = row["n"]
    query = "SELECT destination, reason FROM deliveries WHERE state = 'waiting' AND reason != '' GROUP BY destination"
    for row in queue.all(query):
        destinations[row["destination"]]["trouble"] = row["reason"]
    [[objects]] = queue.all("SELECT count(*) FROM objects")
    [[oldest]] = queue.all("SELECT min(changed) FROM studies WHERE state = 'waiting'")
    return {
        "studies": studies,
        "objects": objects,
        "oldest_waiting_seconds": None if oldest is None else round(now - oldest, 1),
        "destinations": destinations,
        "dead_letters": [vars_of(one) for one in dead_letters(queue)],
    }


def vars_of(letter: DeadLetter) -> dict[str, Any]:
    """Return a dead letter as plain values."""
    return {name: getattr(letter, name) for name in DeadLetter.__slots__}


def dead_letters(queue: Queue) -> list[DeadLetter]:
    """Return all dead letters, by study."""
    query = (
        "SELECT id, uid, 'scoring' AS what, '' AS kind, reason FROM studies WHERE state = 'dead' UNION ALL"
        " SELECT studies.id, uid, destination, kind, deliveries.reason FROM deliveries"
        " JOIN results ON results.id = result JOIN studies ON studies.id = study WHERE deliveries.state = 'dead'"
        " ORDER BY 1, 3, 4"
    )
    return [DeadLetter(row[0], shown_key(row[1]), *row[2:]) for row in queue.all(query)]


def retry(queue: Queue, studies: Sequence[int]) -> int:
    """Let dead letters of these studies, or of all, be tried again at once; return how many there were."""
    _check(queue, studies)
    chosen, numbers = _chosen("id", studies)
    of_study, _ = _chosen("study", studies)
    with queue.writing() as db:
        scored = db.execute(
            "UPDATE studies SET state = 'waiting', due = 0, attempts = 0, failures = 0, reason = '', changed = ?"
            f" WHERE state = 'dead' AND {chosen}",
            (time.time(), *numbers),
        )
        sent = db.execute(
            "UPDATE deliveries SET state = 'waiting', due = 0, attempts = 0, reason = '' WHERE state = 'dead'"
            f" AND result IN (SELECT id FROM results WHERE {of_study})",
            numbers,
        )
        db.execute(  # they count from now on, or the age of the result would end them again
            f"UPDATE results SET made = ? WHERE {of_study} AND id IN"
            " (SELECT result FROM deliveries WHERE state = 'waiting')",
            (time.time(), *numbers),
        )
    return scored.rowcount + sent.rowcount


def drop(queue: Queue, store: Store, studies: Sequence[int]) -> int:
    """Delete studies with their images and results that were not sent; return how many objects there were.

    What was sent stays where it is. If more of such a study comes, it is a new one.
    """
    _check(queue, studies)
    chosen, numbers = _chosen("study", studies)
    objects = [row[0] for row in queue.all(f"SELECT name FROM objects WHERE {chosen}", *numbers)]
    results = [row[0] for row in queue.all(f"SELECT name FROM results WHERE {chosen}", *numbers)]
    with queue.writing() as db:
        db.execute(f"DELETE FROM studies WHERE {_chosen('id', studies)[0]}", numbers)
    store.forget(objects, results)
    return len(objects)


def _check(queue: Queue, studies: Sequence[int]) -> None:
    """Raise SettingsError for a number that no study has."""
    known = {row[0] for row in queue.all("SELECT id FROM studies")}
    for number in studies:
        if number not in known:
            raise SettingsError("STUDY", f"there is no study {number}", "aeflow node status lists the dead letters")


def _chosen(column: str, studies: Sequence[int]) -> tuple[str, tuple[int, ...]]:
    """Return a condition on a column, and its values; without studies all fit."""
    if not studies:
        return "1", ()
    return f"{column} IN ({', '.join('?' * len(studies))})", tuple(studies)
