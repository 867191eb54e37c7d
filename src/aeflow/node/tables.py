"""Tables of a node's queue, and its rows as the workers see them."""

from __future__ import annotations

from dataclasses import dataclass

VERSION = 1  # of the tables, in the data base itself
DIGEST = 64  # characters with which the name of an object's file begins: SHA-256 of its content
TABLES = """
CREATE TABLE studies (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    revision INTEGER NOT NULL DEFAULT 0,
    scored INTEGER NOT NULL DEFAULT 0,             -- the revision that was last scored
    state TEXT NOT NULL DEFAULT 'waiting',         -- waiting, scored, withheld, skipped, dead
    due REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,           -- begun, and never ended: the process was killed
    failures INTEGER NOT NULL DEFAULT 0,           -- ended by an error that may pass
    reason TEXT NOT NULL DEFAULT '',
    changed REAL NOT NULL
) STRICT;
CREATE INDEX studies_due ON studies (state, attempts, due);
CREATE TABLE objects (
    id INTEGER PRIMARY KEY,
    study INTEGER NOT NULL REFERENCES studies ON DELETE CASCADE,
    instance TEXT NOT NULL,
    series TEXT NOT NULL,
    sop_class TEXT NOT NULL,
    modality TEXT NOT NULL,
    body_part TEXT NOT NULL,
    source TEXT NOT NULL,                          -- AE title of the sender
    name TEXT NOT NULL,                            -- of its file
    received REAL NOT NULL,
    UNIQUE (study, instance)
) STRICT;
CREATE TABLE results (
    id INTEGER PRIMARY KEY,
    study INTEGER NOT NULL REFERENCES studies ON DELETE CASCADE,
    revision INTEGER NOT NULL,
    model TEXT NOT NULL,                           -- fingerprint, and digest of the rule
    kind TEXT NOT NULL,
    instance TEXT NOT NULL UNIQUE,
    series TEXT NOT NULL,
    sop_class TEXT NOT NULL,
    name TEXT NOT NULL,                            -- of its file
    made REAL NOT NULL
) STRICT;
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY,
    result INTEGER NOT NULL REFERENCES results ON DELETE CASCADE,
    destination TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting',         -- waiting, sent, dead
    due REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    UNIQUE (result, destination)
) STRICT;
CREATE INDEX deliveries_due ON deliveries (state, destination, due);
CREATE TABLE feeds (
    address TEXT PRIMARY KEY,
    last INTEGER NOT NULL                          -- number of the last change that was dealt with
) STRICT;
CREATE TABLE fetched (
    address TEXT NOT NULL,
    series TEXT NOT NULL,                          -- Orthanc's number for it
    updated TEXT NOT NULL,                         -- when Orthanc had last changed it
    at REAL NOT NULL,
    PRIMARY KEY (address, series)
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class QueuedObject:
    """One object of a study."""

    instance: str
    series: str
    sop_class: str
    modality: str
    body_part: str
    source: str
    name: str


@dataclass(frozen=True, slots=True)
class QueuedStudy:
    """A study that is due, at one revision."""

    id: int
    uid: str
    revision: int
    attempts: int
    objects: list[QueuedObject]


@dataclass(frozen=True, slots=True)
class NewResult:
    """A result that was made: where its file is, where it goes, and its UIDs."""

    model: str
    kind: str
    instance: str
    series: str
    sop_class: str
    name: str
    destinations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A result on its way to one destination."""

    id: int
    study: int
    instance: str
    sop_class: str
    name: str
    attempts: int
    made: float
