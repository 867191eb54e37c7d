"""Recipes of public data sets: the layout of a download on disk, its published counts, and its terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aeflow.data.records import Record

Key = tuple[str, str]  # split, "" if there is none; and ``normal``, ``abnormal`` or a kind
Splits = dict[str, list[Record]]


@dataclass(frozen=True, slots=True)
class Release:
    """Published counts of one release of a data set."""

    name: str
    counts: Mapping[Key, int]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Layout of a data set as data; ``records`` reads it, with paths and names below the download's root."""

    title: str
    modality: str
    url: str
    licence: str
    citation: str
    split: str  # the origin of the split, as a sentence
    needs: Sequence[str]  # patterns that must each match something in the download's root
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
    """Return the record of a file below ``root``; without ``patient`` the image is its own patient."""
    name = path.relative_to(root).as_posix()
    return Record(path, name, split, label, name if patient is None else patient, kind, mask, position=position)


def summary(name: str, recipe: Recipe) -> str:
    """Return a recipe in three lines: title, published numbers of images, terms and page."""
    published = "; ".join(f"{release.name}: {sum(release.counts.values()):,}" for release in recipe.releases)
    counts = published or "not checked, no source confirms them"
    return (
        f"{name:16} {recipe.title}\n{'':16} {recipe.modality}; counts: {counts}\n{'':16} {recipe.licence}; {recipe.url}"
    )
