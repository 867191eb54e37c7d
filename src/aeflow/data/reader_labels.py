"""Images that readers labelled, as train images beside those of a data folder, whose own stay as they are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aeflow.data.leakage import copies
from aeflow.data.plain_folders import ImageSource, PlainFolders, implied_settings, place_of, records_of
from aeflow.data.records import Record
from aeflow.data.slices import unfold
from aeflow.data.splits import shared_patients
from aeflow.errors import count


@dataclass(frozen=True, slots=True)
class WithReaderLabels(ImageSource):
    """Data to train on with labelled images added to its train split."""

    data: Path | PlainFolders
    images: tuple[Record, ...]

    def __fspath__(self) -> str:
        return os.fspath(self.data)

    def __str__(self) -> str:
        return str(self.data)

    def records(self) -> list[Record]:
        """Return the images of the data, then those that readers labelled."""
        return [*records_of(self.data), *self.images]

    def place_of(self, label: int | None) -> Path:
        """Return where train images of a label belong in the data."""
        return place_of(self.data, label)

    @property
    def implied_settings(self) -> dict[str, Any]:
        """Abnormal images teach classes."""
        teaches = any(record.label == 1 for record in self.images)
        return {**implied_settings(self.data), **({"labels": None} if teaches else {})}


def with_reader_labels(data: Path | PlainFolders, images: Sequence[Record]) -> tuple[WithReaderLabels, list[str]]:
    """Return the data with labelled images, and what the user should know.

    An image that the data hold, byte for byte, keeps the label that it has there. Images of patients of the test split
    are left out.
    """
    own = records_of(data)
    both = {record.path for record in copies(images, own)}
    new = [record for record in images if record.path not in both]
    test = unfold([record for record in own if record.split == "test"])
    read = unfold(new)  # headers name patients
    patients = shared_patients(read, test)
    tested = {(record.path, record.at) for record in read if record.patient in patients}
    kept = tuple(record for record in new if (record.path, record.at) not in tested)
    labelled = [sum(record.label == label for record in kept) for label in (0, 1)]
    notes = [f"readers add {count(labelled[0], 'normal image')} and {labelled[1]:,} abnormal"]
    if both:
        notes.append(f"{count(len(both), 'image')} that readers labelled: in {data} already, whose own label stays")
    if tested:
        notes.append(f"{count(len(tested), 'image')} that readers labelled: left out, of patients of the test split")
    return WithReaderLabels(data, kept), notes
