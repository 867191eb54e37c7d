"""Train normals that the test split also holds: figures measured with them are not worth reporting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from aeflow.data.records import Record
from aeflow.data.splits import shared_patients
from aeflow.errors import DataError, count
from aeflow.imageio.limits import LIMITS
from aeflow.privacy import pseudonym
from aeflow.runtime.files import content


@dataclass(frozen=True, slots=True)
class Leakage:
    """Train normals that leak into the test split."""

    of_patients: tuple[Record, ...]  # whose patient has images in the test split
    copies: tuple[Record, ...]  # whose file is in the test split, byte for byte

    @property
    def images(self) -> int:
        """Number of train normals that leak, each counted once."""
        return len({(record.path, record.at) for record in (*self.of_patients, *self.copies)})

    def __str__(self) -> str:
        patients = len({record.patient for record in self.of_patients})
        parts = [f"{len(self.of_patients)} of {count(patients, 'patient')} of the test split"] if patients else []
        parts += [f"{len(self.copies)} whose file is in the test split, too"] if self.copies else []
        return f"{count(self.images, 'train normal')} in the test split: {' and '.join(parts)}"


def leakage(train_normals: Sequence[Record], test: Sequence[Record]) -> Leakage:
    """Return the train normals whose patient or whose file is in the test split.

    Only files that have the size of one on the other side are opened.
    """
    patients = shared_patients(train_normals, test)
    return Leakage(
        tuple(record for record in train_normals if record.patient in patients), tuple(copies(train_normals, test))
    )


def copies(records: Sequence[Record], others: Sequence[Record]) -> list[Record]:
    """Return the records whose file is one of the others', byte for byte; see ``leakage``."""
    ours, theirs = _by_size(records), _by_size(others)
    both = ours.keys() & theirs.keys()
    digests = {content(path, LIMITS.max_bytes) for size in both for path in theirs[size]} - {None}
    found = {path for size in both for path in ours[size] if content(path, LIMITS.max_bytes) in digests}
    return [record for record in records if record.path in found]


def refuse_leakage(data: object, found: Leakage) -> None:
    """Raise DataError if there is any leakage."""
    if found.images:
        remedy = "take them out of one split (aeflow audit lists them), or go on with --allow-leakage"
        raise DataError(data, str(found), remedy)


def among(records: Sequence[Record], contents: Collection[str]) -> list[Record]:
    """Return the records whose file's SHA-256 has one of the pseudonyms ``contents``."""
    digests = {path: content(path, LIMITS.max_bytes) for path in {record.path for record in records}}
    known = {path for path, digest in digests.items() if digest is not None and pseudonym(digest) in contents}
    return [record for record in records if record.path in known]


def _by_size(records: Sequence[Record]) -> dict[int, set[Path]]:
    """Return the files of the records by their size in bytes."""
    sizes: dict[int, set[Path]] = defaultdict(set)
    for path in {record.path for record in records}:
        try:
            sizes[path.stat().st_size].add(path)
        except (OSError, ValueError):  # the reader will report it; ValueError: a null byte in the name
            continue
    return sizes
