"""Notes of an evaluation: what a reader of its figures should know."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aeflow.data.masks import MASK, REGION
from aeflow.data.records import Record, stray_masks
from aeflow.errors import count
from aeflow.privacy import SALT_OF, pseudonym

UNCHECKED = (
    "The model was recalibrated under another salt, or by an earlier version: whether its threshold was set on some of "
    "these images cannot be told here."
)


def can_be_told(recalibration: dict[str, Any]) -> bool:
    """Return if images can be told to be among those of a recalibration: it hashed them with this user's salt."""
    return bool(recalibration.get("salt") == pseudonym(SALT_OF))


def notes_on(
    metadata: dict[str, Any], metrics: dict[str, Any], data: Path | str, listed: Sequence[Record]
) -> list[str]:
    """Return the notes on a model and the images ``listed`` in a data folder, given their metrics."""
    notes = [_outside(metrics)] if any(metrics["outside"].values()) else []
    if "recalibration" in metadata and not can_be_told(metadata["recalibration"]):
        notes.append(UNCHECKED)
    return [*notes, *stray_masks(data, listed), *_without_masks(listed)]


def _outside(metrics: dict[str, Any]) -> str:
    """Return the note about images outside the intended input."""
    parts = [f"{number:,} of {metrics[f'n_{side}']:,} {side}" for side, number in metrics["outside"].items() if number]
    return f"{' and '.join(parts)} images are outside the model's intended input: do not rely on their scores."


def _without_masks(listed: Sequence[Record]) -> list[str]:
    """Return notes on the images that lack a mask where others have one."""
    notes = []
    for kind, of, images in (
        (MASK, "abnormal image", [record for record in listed if record.label == 1]),
        (REGION, "labelled image", [record for record in listed if record.label is not None]),
    ):
        bare = sum(getattr(record, kind) is None for record in images)
        if 0 < bare < len(images):
            have = "has" if bare == 1 else "have"
            notes.append(f"{bare:,} of {count(len(images), of)} {have} no {kind}: figures of maps leave these out.")
    return notes
