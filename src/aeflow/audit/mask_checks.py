"""Findings about masks: missing ones, those that fit no image, and those that contradict their image."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from aeflow.audit.findings import Finding
from aeflow.data.loader import ahead_of, load_mask
from aeflow.data.masks import MASK_FOLDERS
from aeflow.data.records import Record, stray_masks
from aeflow.errors import count
from aeflow.imageio.decoder_pool import decoders
from aeflow.imageio.errors import ImageError

SIDE = 32  # pixels of a mask that is read only to be checked


def check_masks(data: Path | str, records: Sequence[Record], readable: Sequence[bool]) -> Iterator[Finding]:
    """Yield all findings of this file; masks of images that are not ``readable`` are not opened."""
    yield from _missing(records)
    for note in stray_masks(data, records):
        found, _, remedy = note.rpartition("; ")
        yield Finding("warn", "masks of no image", found, remedy)
    for kind in MASK_FOLDERS:
        yield from _contradictions(records, readable, kind)


def _missing(records: Sequence[Record]) -> Iterator[Finding]:
    """Yield findings about masks that are missing."""
    ill = [i for i, record in enumerate(records) if record.label == 1 and record.split in ("val", "test")]
    bare = tuple(i for i in ill if records[i].mask is None)
    if ill and len(bare) == len(ill):
        text = f"none of {count(len(ill), 'abnormal image')} outside train has a mask"
        yield Finding("note", "no masks", text, "nothing, unless maps are to be measured pixel by pixel")
    elif bare:
        text = f"{len(bare):,} of {count(len(ill), 'abnormal image')} outside train have no mask"
        remedy = "add them to {split}/mask/ or manifest.csv; pixel metrics pass over these images"
        yield Finding("warn", "masks missing", text, remedy, bare)
    for what in MASK_FOLDERS:
        named = ((i, getattr(record, what)) for i, record in enumerate(records))
        gone = tuple(i for i, mask in named if mask is not None and not os.path.exists(mask))
        if gone:
            text = f"{count(len(gone), what)} that manifest.csv names {'does' if len(gone) == 1 else 'do'} not exist"
            yield Finding("warn", f"{what} files missing", text, f"correct the column {what}", gone)


def _contradictions(records: Sequence[Record], readable: Sequence[bool], kind: str) -> Iterator[Finding]:
    """Yield a finding about masks of a kind that cannot be read or do not fit their image; each file is read once."""
    files: dict[tuple[Path, Path], int] = {}
    for i, (record, well) in enumerate(zip(records, readable, strict=True)):
        mask = getattr(record, kind)
        if well and mask is not None and os.path.exists(mask):
            files.setdefault((record.path, mask), i)
    pool = decoders()
    checked = ahead_of(files, lambda file: pool.submit(load_mask, file[1], records[files[file]], kind, SIDE))
    wrong = [(files[file], result) for file, result in checked if isinstance(result, ImageError)]
    if wrong:
        text = f"{len(wrong):,} of {count(len(files), kind)} cannot be used: {wrong[0][1].found}"
        more = len({error.found for _, error in wrong}) - 1
        text += f", and {count(more, 'other reason')}" if more else ""
        remedy = f"{wrong[0][1].remedy}; images with such masks are refused in an evaluation"
        yield Finding("warn", f"{kind}s that do not fit", text, remedy, tuple(i for i, _ in wrong))
