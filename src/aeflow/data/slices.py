"""Records of single images, made from files that hold several images or name their patient in a header.

A DICOMDIR becomes the files it lists, a NIfTI volume its slices across an axis, a multi-frame DICOM file its frames;
every DICOM file gets its patient and study from the header. All other records stay as they are, and so does a file
whose header cannot be read: reading its pixels will say why.
"""

from __future__ import annotations

import sys
from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from aeflow._types import Axis
from aeflow.data.loader import ahead_of
from aeflow.data.records import Record, find_images
from aeflow.errors import count
from aeflow.imageio.decoder_pool import decoders
from aeflow.imageio.errors import EmptyImageError, FileError, ImageError
from aeflow.imageio.image import Header, Slice
from aeflow.imageio.masks import read_mask_of
from aeflow.imageio.reader import Kind, kind_of, read_directory, read_header, read_mask
from aeflow.runtime.terminal import print

HEADERS_AHEAD = 64  # headers that are read ahead


def unfold(records: Sequence[Record], axis: Axis = "axial") -> list[Record]:
    """Return the records of all images, in order.

    Of an abnormal volume with a mask, only the slices that the mask marks keep the label; the others have none.
    """
    kinds = {record.path: kind_of(record.path) for record in records}
    files = [file for record in records for file in _listed(record, kinds)]
    return [image for record, header in _headers(files, kinds, axis) for image in slice_records(record, header, axis)]


def one_image(path: Path | str, axis: Axis = "axial", slice_number: int | None = None) -> Record:
    """Return the record of a one-image file, or of one slice (from 1) of a file with several; ImageError otherwise."""
    refuse_folder(path)
    records = unfold(find_images([path]), axis)
    if slice_number is None and len(records) > 1:
        raise ImageError(path, f"{count(len(records), 'image')} in one file", "name a slice, or score them all")
    number = 1 if slice_number is None else slice_number
    if not 1 <= number <= len(records):
        raise ImageError(path, f"no slice {number} in {len(records)}", "slices count from 1")
    return records[number - 1]


def refuse_folder(path: Path | str) -> None:
    """Raise ImageError for a folder where one image is to be named."""
    if Path(path).is_dir():
        raise ImageError(path, "a folder", "name an image file")


def _listed(record: Record, kinds: dict[Path, Kind]) -> list[Record]:
    """Return the record itself; for a DICOMDIR, the records of the files it lists that are not in ``kinds`` yet."""
    if kinds[record.path] != "directory":
        return [record]
    try:
        listed = decoders().submit(read_directory, record.path).result()
    except ImageError:  # raised again when it is read as an image
        return [record]
    new = listed_records(record, listed, kinds)
    kinds |= {file.path: kind_of(file.path) for file in new}
    return new


def listed_records(record: Record, listed: Sequence[Path], known: Container[Path]) -> list[Record]:
    """Return the records of the files that a DICOMDIR lists, but for those that are ``known`` already."""
    folder = record.path.parent
    new = [path for path in listed if path not in known]
    names = [(Path(record.name).parent / path.relative_to(folder)).as_posix() for path in new]
    return [
        replace(record, path=path, name=name, patient=name, state=None) for path, name in zip(new, names, strict=True)
    ]


def _headers(records: Sequence[Record], kinds: dict[Path, Kind], axis: Axis) -> Iterator[tuple[Record, Header | None]]:
    """Yield each record with its header, in order; None if the format has none or it cannot be read."""
    headed = (record for record in records if kinds[record.path] == "headed")
    pool = decoders()
    headers = ahead_of(headed, lambda record: pool.submit(read_header, record.path, axis), HEADERS_AHEAD)
    for record in records:
        header = next(headers)[1] if kinds[record.path] == "headed" else None
        yield record, None if isinstance(header, ImageError) else header  # the error comes back when the image is read


def slice_records(record: Record, header: Header | None, axis: Axis) -> list[Record]:
    """Return the records of a file's images, with the patient and study that its header names."""
    if header is None:
        return [record]
    for element in header.unread:
        found = f"its {element} cannot be read: patients or studies may be taken for others"
        print(
            f"note: {ImageError(record.path, found, 'correct it, or name patients in manifest.csv')}", file=sys.stderr
        )
    named = record.patient if record.patient != record.name else None  # from a manifest or a public set's file name
    patient = named or header.patient or header.study or record.patient
    study = header.study or (record.name if header.frames > 1 else None)
    record = replace(record, patient=patient, study=study, header=header)
    if record.at is not None or (header.frames == 1 and header.format != "NIfTI"):  # a slice that is known as one
        return [record]
    across = axis if header.format == "NIfTI" else None
    places = [Slice(index, across) for index in range(header.frames)]
    slices = [replace(record, at=at) for at in places]
    if record.label != 1 or record.mask is None:
        return slices
    try:
        marked = decoders().submit(marked_slices, record.path, record.mask, places).result()
    except ImageError:  # raised again when the mask of each slice is read; until then no slice is known to be abnormal
        return [replace(cut, label=None) for cut in slices]
    return [cut if there else replace(cut, label=None, mask=None) for cut, there in zip(slices, marked, strict=True)]


def refusals_among(pairs: Sequence[tuple[Record, ImageError]]) -> list[tuple[Record, ImageError]]:
    """Return the pairs that count: a whole file is refused once, and above a head there is air.

    Empty slices of volumes are therefore none, and of the slices of a file that was refused as a whole only the first.
    """
    kept: dict[object, tuple[Record, ImageError]] = {}
    for record, error in pairs:
        if record.at is None or not isinstance(error, EmptyImageError):
            kept.setdefault(record.path if isinstance(error, FileError) else (record.path, record.at), (record, error))
    return list(kept.values())


def marked_slices(image: Path, mask: Path, slices: Sequence[Slice]) -> list[bool]:
    """Return for each slice of a volume if its mask volume marks anything in it; ImageError as ``read_mask_of``."""
    first, *rest = slices
    whole = [read_mask_of(image, mask, at=first)]  # checks the whole mask, which is then the reader's last
    return [bool(np.any(found)) for found in [*whole, *(read_mask(mask, at=at) for at in rest)]]
