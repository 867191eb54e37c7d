"""Splits by patient: no patient stands on both sides."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TypeVar

from aeflow.data.records import Record
from aeflow.errors import DataError, SettingsError

T = TypeVar("T")


def hold_out(records: Sequence[Record], fraction: float, seed: int) -> tuple[list[Record], list[Record]]:
    """Records to keep and records to hold out, about ``fraction`` of them, whole patients each; both sorted by name.

    Patients come in the order of the hash of seed and patient, so neither the order of the input nor the version of a
    random generator changes the split. Raises DataError for fewer than two patients.
    """
    if not 0 < fraction < 1:
        raise SettingsError("hold_out", f"fraction {fraction}", "give a number between 0 and 1")
    sizes = Counter(record.patient for record in records)
    if len(sizes) < 2:
        found = f"{len(records)} images of {len(sizes)} patients cannot be split by patient"
        raise DataError("hold_out", found, "add images of other patients, or name the patients in manifest.csv")
    order = sorted(sizes, key=lambda patient: _hash(f"{seed}/{patient}"))
    target, count = fraction * len(records), 0
    held: set[str] = set()
    for patient in order[:-1]:
        if abs(count + sizes[patient] - target) >= abs(count - target):
            break
        held.add(patient)
        count += sizes[patient]
    if not held:
        held.add(min(order, key=sizes.__getitem__))
    by_name = sorted(records, key=lambda record: record.name)
    return leave_out_patients(by_name, held), [record for record in by_name if record.patient in held]


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()  # file names may hold any bytes


def shared_patients(a: Sequence[Record], b: Sequence[Record]) -> set[str]:
    """The patients with images on both sides."""
    return {record.patient for record in a} & {record.patient for record in b}


def leave_out_patients(records: Sequence[Record], patients: Collection[str]) -> list[Record]:
    """The records of all other patients, in their order."""
    left_out = set(patients)
    return [record for record in records if record.patient not in left_out]


def evenly(items: Sequence[T], n: int) -> list[T]:
    """At most ``n`` of the items, evenly spaced, in their order."""
    return [items[i * len(items) // n] for i in range(n)] if len(items) > n else list(items)
