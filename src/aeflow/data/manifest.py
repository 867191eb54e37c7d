"""Manifests: ``manifest.csv`` written from records."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import replace
from pathlib import Path

from aeflow.data.masks import REGION
from aeflow.data.records import Record, patient_of, read_records
from aeflow.data.slices import unfold
from aeflow.data.splits import split_by_patient
from aeflow.errors import DataError
from aeflow.privacy import shown_key
from aeflow.runtime.files import write_bytes

COLUMNS = ("path", "split", "label", "patient", "mask", "region", "kind", "position")


def write_split(data: Path | str, out: Path | str, fractions: dict[str, float], seed: int) -> dict[str, list[Record]]:
    """Split the images of ``data`` that have no split, write the manifest ``out``, and return each split's records.

    Paths start at ``data``, so the manifest works once it is moved there. Patients are pseudonyms unless names were
    asked for. Raises DataError if ``out`` exists or every image has a split already.
    """
    records = read_records(data)
    patients = {image.path: image.patient for image in unfold(records)}  # from headers, if there are any
    records = [replace(record, patient=patients.get(record.path, record.patient)) for record in records]
    if all(record.split for record in records):
        raise DataError(data, "every image has a split already", "nothing to do; see aeflow audit")
    splits = split_by_patient(records, fractions, seed)
    told = {name: [_told(record) for record in members] for name, members in splits.items()}
    write_manifest(out, data, told)
    return splits


def _told(record: Record) -> Record:
    """Return a record with its patient's key as a table may hold it; a file's name stays, since it is the path."""
    own = record.patient in (record.name, patient_of(record.name))
    return record if own else replace(record, patient=shown_key(record.patient))


def write_manifest(out: Path | str, data: Path | str, splits: dict[str, list[Record]]) -> None:
    """Write the records of each split as a manifest; raises DataError if ``out`` exists or cannot be written.

    Without any region the column is left out: regions added later are then found in their folders.
    """
    regions = any(record.region is not None for records in splits.values() for record in records)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(
        text, [name for name in COLUMNS if regions or name != REGION], extrasaction="ignore", lineterminator="\n"
    )
    writer.writeheader()
    for split, records in splits.items():
        rows = (_row(record, split, Path(data)) for record in records)
        writer.writerows(dict(zip(COLUMNS, row, strict=True)) for row in rows)
    try:
        content = text.getvalue().encode()
    except UnicodeEncodeError as error:
        raise DataError(data, "a file name that is not UTF-8, as a manifest must be", "rename the file") from error
    if os.path.lexists(out):
        raise DataError(out, "is there already", "move it away, or name another file with --out")
    try:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(Path(out), content)
    except OSError as error:
        raise DataError(out, f"cannot be written ({error.strerror})", "name another file with --out") from error


def _row(record: Record, split: str, data: Path) -> tuple[str, ...]:
    """Return a record as a row of COLUMNS."""
    return (
        record.name,
        split,
        "" if record.label is None else str(record.label),
        "" if record.patient == patient_of(record.name) else record.patient,  # the name holds it otherwise
        *("" if mask is None else mask.relative_to(data).as_posix() for mask in (record.mask, record.region)),
        record.kind or "",
        "" if record.position is None else repr(record.position),
    )
