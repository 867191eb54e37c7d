"""Intake of objects, whichever way they came: filed, chosen by the rules, and on the disk before anybody is told."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from aeflow.node.header import OUT_OF_RESOURCES, FullError, ObjectError, facts_of
from aeflow.node.queue import Queue
from aeflow.node.rules import rule_for
from aeflow.node.settings import NodeSettings
from aeflow.node.store import Store, digest_of
from aeflow.privacy import shown


class Intake:
    """Way into the queue; ``came`` is called after each object that was added to it."""

    def __init__(self, settings: NodeSettings, queue: Queue, store: Store, came: Callable[[], None]) -> None:
        self.settings, self.queue, self.store, self.came = settings, queue, store, came

    def has_room(self, size: int = 0) -> bool:
        """Return if the disk can take so many bytes and keep what is never used."""
        return self.store.free - size >= self.settings.limits.free_bytes

    def wants(self, modality: str, body_part: str, source: str, sop_class: str) -> bool:
        """Return if the rules let such an object be scored."""
        rule = rule_for(self.settings.rule, modality, body_part, source, sop_class)
        return rule is not None and rule.action == "score"

    def take(self, data: bytes, syntax: str, named: tuple[str, str], source: str, file: Callable[[], bytes]) -> None:
        """Put an object's file and its row in the queue on the disk, if a rule wants it.

        ``data`` is its encoded data set, ``named`` the SOP class and instance that it should be, and ``file`` gives
        its DICOM file. ObjectError if it is refused; OSError and sqlite3.OperationalError are the disk's.
        """
        limits = self.settings.limits
        if not self.has_room(len(data)):
            raise FullError
        facts = facts_of(data, syntax, *named)
        if facts.own or not self.wants(facts.modality, facts.body_part, source, facts.sop_class):
            return
        if self.queue.count_of(facts.study) >= limits.objects:
            raise ObjectError(
                f"{shown(facts.study, 'study')} has {limits.objects} objects, the limit", OUT_OF_RESOURCES
            )
        digest = digest_of(data, syntax)
        if not self.queue.holds(facts, digest):
            name = self.store.keep(file(), digest)
            try:
                self.queue.add(facts, source, name, self.settings.quiet_seconds)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY):  # else it may count after all
                    self.store.forget([name], ())  # or each try of its sender would take the last of the disk
                raise
            self.came()
