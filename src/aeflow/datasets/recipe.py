"""What a recipe says about a public data set: how its download lies on disk, what was published, and its terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aeflow.data.records import Record

Key = tuple[str, str]  # split, "" where there is none; and ``normal``, ``abnormal`` or a kind
Splits = dict[str, list[Record]]


@dataclass(frozen=True, slots=True)
class Release:
    """What one release of a data set holds, as published."""

    name: str
    counts: Mapping[Key, int]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A data set's layout as data; ``records`` reads it, with paths and names below the download's root."""

    title: str
    modality: str
    url: str
    licence: str
    citation: str
    split: str  # a sentence: whose split it is
    needs: Sequence[str]  # patterns that the root of the download holds a match of, each
    records: Callable[[Path], list[Record]]
    releases: Sequence[Release] = ()  # none: counts that no source confirms are not checked
    write: Callable[[Splits, Path], Splits] | None = None  # volumes -> images written below the data folder
    note: str = ""


def entry(
    root: Path,
    path: Path,
    split: str | None,
    label: int | None,
    kind: str | None = None,
    patient: str | None = None,
    mask: Path | None = None,
    position: float | None = None,
) -> Record:
    """The record of a file below ``root``; without ``patient`` it is its own."""
    name = path.relative_to(root).as_posix()
    return Record(path, name, split, label, name if patient is None else patient, kind, mask, position=position)


def summary(name: str, recipe: Recipe) -> str:
    """A recipe in three lines: what it is, how many images were published, its terms and page."""
    published = "; ".join(f"{one.name}: {sum(one.counts.values()):,}" for one in recipe.releases)
    counts = published or "not checked, no source confirms them"
    return (
        f"{name:16} {recipe.title}\n{'':16} {recipe.modality}; counts: {counts}\n{'':16} {recipe.licence}; {recipe.url}"
    )
