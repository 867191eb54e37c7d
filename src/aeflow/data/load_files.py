"""Images of files whose content is not known yet: each file of one image is opened, read and decoded once."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from aeflow._types import Axis
from aeflow.data.loader import Decoded, ahead_of, decoded, in_colour, load_content
from aeflow.data.records import Record
from aeflow.data.slices import listed_records, slice_records
from aeflow.imageio import dicom
from aeflow.imageio.content import FileState, read_with_state
from aeflow.imageio.decoder_pool import decoders
from aeflow.imageio.errors import FileError, ImageError
from aeflow.imageio.image import Header
from aeflow.imageio.limits import LIMITS
from aeflow.imageio.reader import decode_header, kind_of_content


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """Result of opening a file: the files that a DICOMDIR lists, or the header and the one image of a file."""

    state: FileState
    listed: tuple[Path, ...] = ()
    header: Header | None = None
    image: Decoded | ImageError | None = None


def load_files(
    files: Iterable[Record],
    size: int,
    axis: Axis,
    *,
    known: Container[Path],
    ahead: int = 16,
    original: bool = False,
    more: Callable[[int], None] = lambda n: None,
    listed: Callable[[list[Path]], None] = lambda paths: None,
    passed_over: Callable[[Record], bool] = lambda record: False,
) -> Iterator[tuple[Record, Decoded | ImageError]]:
    """Yield the records that ``unfold`` would give of ``files``, in its order, each with its image or the refusal.

    At most ``ahead`` files or slices wait decoded at a time; with ``original`` also at their own size. Of the files
    that a DICOMDIR lists those come that are not ``known``; ``listed`` is called with them. ``more`` is called with the
    number of images beyond one that a file turned out to hold. ``passed_over`` says of a record, with the state that
    its file was opened in, if nothing of it is wanted.
    """
    seen: set[Path] = set()
    pool = decoders()

    def opened(records: Iterable[Record]) -> Iterator[tuple[Record, Decoded | ImageError]]:
        for record, file in ahead_of(
            records, lambda record: pool.submit(open_file, record.path, size, axis, original), ahead
        ):
            if isinstance(file, ImageError):
                yield record, file
                continue
            record = replace(record, state=file.state)
            if passed_over(record):
                more(-1)
            elif file.listed:
                new = [one for one in listed_records(record, file.listed, seen) if one.path not in known]
                seen.update(file.path for file in new)
                listed([file.path for file in new])
                more(len(new) - 1)
                yield from opened(new)
            else:
                images = slice_records(record, file.header, axis)
                if file.image is None:
                    more(len(images) - 1)
                    yield from whole_file(images)
                else:
                    yield images[0], file.image if isinstance(file.image, ImageError) else in_colour(file.image)

    def whole_file(images: list[Record]) -> Iterator[tuple[Record, Decoded | ImageError]]:
        for number, (record, image) in enumerate(decoded(images, size, ahead, original), 1):
            yield record, image
            if isinstance(image, FileError):  # once, and not for each of its images
                more(number - len(images))
                return

    yield from opened(files)


def open_file(path: Path, size: int, axis: Axis, original: bool = False) -> OpenedFile:
    """Open a file once: list it, or read its header and decode the image if there is one alone; raises ImageError."""
    content, state = read_with_state(path, LIMITS)
    header = None
    match kind_of_content(content):
        case "directory":
            with suppress(ImageError):  # reading it as an image says why
                return OpenedFile(state, tuple(dicom.directory(content, path, LIMITS)))
        case "headed":
            with suppress(ImageError):  # likewise
                header = decode_header(content, path, axis)
    if header is not None and (header.frames > 1 or header.format == "NIfTI"):
        return OpenedFile(state, header=header)
    try:
        return OpenedFile(state, header=header, image=load_content(content, path, size, original=original))
    except ImageError as error:
        return OpenedFile(state, header=header, image=error)
