"""What was found in a download beside what was published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from aeflow.data.prepare.recipe import Key, Release
from aeflow.data.records import Record, label_name


def tally(records: Sequence[Record]) -> Counter[Key]:
    """How many records each split has of each label, and of each kind."""
    found: Counter[Key] = Counter()
    for record in records:
        names = {label_name(record.label), record.kind} - {None}
        found.update((record.split or "", name) for name in names if name is not None)
    return found


def differences(found: Counter[Key], release: Release) -> list[str]:
    """Each count that is not as published: ``train normal 1340 where 1341 were published``."""
    return [
        f"{' '.join(filter(None, key))} {found[key]} where {n} were published"
        for key, n in release.counts.items()
        if found[key] != n
    ]


def nearest(found: Counter[Key], releases: Sequence[Release]) -> Release:
    """The release whose counts differ least in sum."""
    return min(releases, key=lambda one: sum(abs(found[key] - n) for key, n in one.counts.items()))
