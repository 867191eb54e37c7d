"""Splits by patient: no patient is in two splits."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

from aeflow.data.records import Record
from aeflow.errors import DataError, SettingsError, count

T = TypeVar("T")


def hold_out(records: Sequence[Record], fraction: float, seed: int) -> tuple[list[Record], list[Record]]:
    """Return records to keep and records to hold out, about ``fraction`` of them, complete patients, sorted by name.

    Patients come in the order of the hash of seed and patient, so neither the order of the input nor the version of a
    random generator changes the split. Raises DataError for fewer than two patients.

        >>> from pathlib import Path
        >>> def image(name, patient):
        ...     return Record(Path(name), name, None, 0, patient, None, None)
        >>> records = [image("a1", "a"), image("a2", "a"), image("b1", "b"), image("c1", "c")]
        >>> kept, held = hold_out(records, 0.25, seed=0)
        >>> sorted(record.name for record in held)
        ['c1']
        >>> {record.patient for record in kept} & {record.patient for record in held}
        set()
    """
    if not 0 < fraction < 1:
        raise SettingsError("hold_out", f"fraction {fraction}", "give a number between 0 and 1")
    sizes = Counter(record.patient for record in records)
    if len(sizes) < 2:
        found = f"{count(len(records), 'image')} of {count(len(sizes), 'patient')} cannot be split by patient"
        raise DataError("hold_out", found, "add images of other patients, or name the patients in manifest.csv")
    order = sorted(sizes, key=lambda patient: _hash(f"{seed}/{patient}"))
    target, held_images = fraction * len(records), 0
    held: set[str] = set()
    for patient in order[:-1]:
        if abs(held_images + sizes[patient] - target) >= abs(held_images - target):
            break
        held.add(patient)
        held_images += sizes[patient]
    if not held:
        held.add(min(order, key=sizes.__getitem__))
    by_name = sorted(records, key=lambda record: record.name)
    return leave_out_patients(by_name, held), [record for record in by_name if record.patient in held]


def split_by_patient(records: Sequence[Record], fractions: Mapping[str, float], seed: int) -> dict[str, list[Record]]:
    """Return the records of each split, complete patients, about as many images as its fraction; sorted by name.

    Stratified: patients with any abnormal image, by kind, and those without are each spread over all splits. Within a
    stratum patients come in the order of the hash of seed and patient, and each goes to the split that lacks most
    images (error diffusion, carried on from stratum to stratum), so neither the input's order nor a library decides. No
    split is off by more than (splits - 1) times the largest patient. Records that have a split keep it, with all
    images of their patient. Raises SettingsError unless the fractions are positive and sum to 1, DataError if a split
    would get nothing or a patient is in two splits already.
    """
    if not all(0 < share < 1 for share in fractions.values()) or not math.isclose(sum(fractions.values()), 1):
        found = ", ".join(f"{name} {share:g}" for name, share in fractions.items())
        raise SettingsError("split", f"fractions {found}", "give fractions above 0 that sum to 1")
    patients: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        patients[record.patient].append(record)
    strata: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for patient, images in patients.items():
        strata[_stratum(images)].append(patient)
    owed = dict.fromkeys(fractions, 0.0)
    side: dict[str, str] = {}
    for _, members in sorted(strata.items()):
        for patient in sorted(members, key=lambda patient: _hash(f"{seed}/{patient}")):
            images = patients[patient]
            for name, share in fractions.items():
                owed[name] += share * len(images)
            given = {record.split for record in images if record.split}
            if len(given) > 1:
                remedy = "empty the column split of these rows, and split again"
                raise DataError("split", f"a patient with images in {' and '.join(sorted(given))} already", remedy)
            side[patient] = given.pop() if given else max(owed, key=lambda name: (round(owed[name], 9), name))
            if side[patient] in owed:
                owed[side[patient]] -= len(images)
    by_name = sorted(records, key=lambda record: record.name)
    names = dict.fromkeys([*fractions, *sorted(set(side.values()))])
    splits = {name: [record for record in by_name if side[record.patient] == name] for name in names}
    for name, chosen in splits.items():
        if not chosen:
            found = f"{count(len(patients), 'patient')} leave none for {name}"
            raise DataError("split", found, "add images of other patients, name the patients, or ask for fewer splits")
    return splits


def _stratum(images: Sequence[Record]) -> tuple[str, ...]:
    """Return the stratum of a patient: its kinds of abnormality if any image is abnormal, else normal or unlabelled."""
    kinds = {record.kind or "" for record in images if record.label == 1}
    if kinds:
        return ("abnormal", *sorted(kinds))
    return ("normal",) if any(record.label == 0 for record in images) else ("unlabelled",)


def _hash(text: str) -> bytes:
    """Return the SHA-256 of a text that may hold any bytes."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()  # file names may hold any bytes


def shared_patients(a: Sequence[Record], b: Sequence[Record]) -> set[str]:
    """Return the patients with images on both sides."""
    return {record.patient for record in a} & {record.patient for record in b}


def leave_out_patients(records: Sequence[Record], patients: Collection[str]) -> list[Record]:
    """Return the records of all other patients, in their order."""
    left_out = set(patients)
    return [record for record in records if record.patient not in left_out]


def evenly(items: Sequence[T], n: int) -> list[T]:
    """Return at most ``n`` of the items, evenly spaced, in their order."""
    return [items[i * len(items) // n] for i in range(n)] if len(items) > n else list(items)
