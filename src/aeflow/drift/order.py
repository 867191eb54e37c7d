"""Order of a stream, its groups by a column, and the one image that stands for a patient."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from aeflow.drift.score_rows import ScoreRows
from aeflow.errors import DataError
from aeflow.privacy import shown_key

MOST_GROUPS = 40
DATE = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)(?:[T ]?[\d:.+Z-]*)?")  # ISO 8601, and as in DICOM
KEYS = ("path", "patient", "study", "map", "error", "sop_instance_uid", "study_instance_uid", "series_instance_uid")
NAMES_A_PERSON = re.compile(r"patient|name|birth|mrn|person", re.IGNORECASE)
UNKNOWN = "(empty)"


def ordered(rows: ScoreRows, column: str | None) -> ScoreRows:
    """Return the rows by the values of a column: numbers, or dates written as 2026-04-03; as they are without one.

    Raises DataError for an empty cell or one that is neither.
    """
    if column is None:
        return rows
    cells = rows.words(column)
    keys: list[tuple[float, str]] = []
    for cell, source in zip(cells, rows.sources, strict=True):
        found = DATE.fullmatch(cell)
        if found is not None:
            keys.append((0.0, "".join(c for c in cell if c.isdigit() or c == ".")))
            continue
        try:
            keys.append((float(cell), ""))
        except ValueError as error:
            what = "an empty cell" if not cell else "a cell that is neither a number nor a date"
            remedy = "write dates as 2026-04-03, and one in every row"
            raise DataError(source, f"column '{column}' has {what}", remedy) from error
    if len({bool(text) for _, text in keys}) > 1:
        raise DataError(rows.sources[0], f"column '{column}' has dates and numbers", "write all of them in one way")
    return rows.taken(sorted(range(len(rows)), key=keys.__getitem__))


def groups_of(rows: ScoreRows, column: str) -> list[str]:
    """Return the group of each row by a column, dates by month; a column that names persons is shown as pseudonyms.

    Raises DataError for a column that tells images or patients apart rather than groups of them.
    """
    cells, where = rows.words(column), rows.sources[0]
    remedy = "name a column of scanners, sites or months"
    if column in KEYS:
        raise DataError(where, f"column '{column}' is another one for each patient or image", remedy)
    if len(set(cells)) > MOST_GROUPS and all(DATE.fullmatch(cell) for cell in cells if cell):
        cells = [f"{found[1]}-{found[2]}" if (found := DATE.fullmatch(cell)) else "" for cell in cells]
    different = len(set(cells))
    if different > MOST_GROUPS:
        raise DataError(where, f"column '{column}' has {different:,} different values", remedy)
    patients = patients_of(rows)
    members = {cell: set[str]() for cell in cells}
    for cell, patient in zip(cells, patients, strict=True):
        members[cell].add(patient)
    if different > 1 and len(set(patients)) > different / 2 and Counter(map(len, members.values()))[1] > different / 2:
        raise DataError(where, f"most values of column '{column}' are of one patient alone", remedy)
    if NAMES_A_PERSON.search(column):
        cells = [cell and shown_key(cell) for cell in cells]
    return [cell or UNKNOWN for cell in cells]


def patients_of(rows: ScoreRows) -> list[str]:
    """Return the patient of each row; an image of an unknown one is its own."""
    if "patient" not in rows.columns:
        return rows.words("path")
    return [patient or path for patient, path in zip(rows.words("patient"), rows.words("path"), strict=True)]


def one_a_patient(rows: ScoreRows, groups: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """Return the rows of each group that stand for their patients, in order; their images are alike, and count as one.

    A patient of several groups has one in each of them. It is one of the patient's first study there (of the first row
    if it names none), drawn by a hash: the same one again when rows are added at the end.
    """
    studies = rows.words("study") if "study" in rows.columns else [""] * len(rows)
    slices = rows.words("slice") if "slice" in rows.columns else [""] * len(rows)
    patients, paths = patients_of(rows), rows.words("path")
    found = {}
    for name, members in groups.items():
        first: dict[str, list[int]] = {}
        for row in members:
            chosen = first.setdefault(patients[row], [row])
            if row != chosen[0] and studies[row] and studies[row] == studies[chosen[0]]:
                chosen.append(row)
        found[name] = sorted(min(chosen, key=lambda row: _hash(paths[row], slices[row])) for chosen in first.values())
    return found


def _hash(path: str, at: str) -> bytes:
    return hashlib.sha256(f"{at}/{path}".encode(errors="surrogateescape")).digest()
