"""Loading of records as preprocessed images, decoded ahead in worker processes while the caller computes."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from aeflow._types import Floats32
from aeflow.data.masks import MASK, REGION
from aeflow.data.preprocess import preprocess, resize_mask
from aeflow.data.records import Record
from aeflow.imageio.content import read_content
from aeflow.imageio.decoder_pool import decoders
from aeflow.imageio.errors import ImageError
from aeflow.imageio.image import Acquisition, Image, Slice
from aeflow.imageio.limits import LIMITS
from aeflow.imageio.masks import read_mask_of
from aeflow.imageio.reader import decode_image, read_dataset, read_image

if TYPE_CHECKING:
    from pydicom import Dataset

Pixels = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Original:
    """An image at its own size, with the header of its DICOM file: needed for results that refer to it."""

    pixels: Floats32  # (H, W) or (H, W, 3) in [0, 1]
    header: Dataset | ImageError | None  # without pixels; None if the file is not DICOM


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A preprocessed image, and what its file says about its acquisition."""

    pixels: Pixels  # (3, size, size)
    acquisition: Acquisition
    original: Original | None = None  # if asked for


S = TypeVar("S")
T = TypeVar("T")


def stream(records: Sequence[Record], size: int, ahead: int = 32) -> Iterator[tuple[Record, Pixels | ImageError]]:
    """Yield each record with its pixels (3, size, size) in [0, 1], or with the error that refused it, in input order.

    At most ``ahead`` images wait at a time, so memory does not grow with the data.
    """
    for record, x in decoded(records, size, ahead):
        yield record, x if isinstance(x, ImageError) else x.pixels


def decoded(
    records: Sequence[Record], size: int, ahead: int = 32, original: bool = False
) -> Iterator[tuple[Record, Decoded | ImageError]]:
    """Yield each record with its decoded image, or with the error that refused it; otherwise as ``stream``."""
    pool = decoders()
    for record, x in ahead_of(records, lambda record: pool.submit(load, record.path, size, record.at, original), ahead):
        yield record, x if isinstance(x, ImageError) else in_colour(x)


def in_colour(image: Decoded) -> Decoded:
    """Return the image with three channels; of a grey image workers send only one."""
    size = image.pixels.shape[1:]
    return replace(image, pixels=np.broadcast_to(image.pixels, (3, *size)).copy())


def ahead_of(
    items: Iterable[S], submit: Callable[[S], Future[T]], ahead: int = 32
) -> Iterator[tuple[S, T | ImageError]]:
    """Yield each item with the result of its future, or with the error that refused it, in input order.

    At most ``ahead`` futures wait at a time; they are cancelled if the caller stops early.
    """
    futures = ((item, submit(item)) for item in items)
    waiting = deque(itertools.islice(futures, ahead))
    try:
        while waiting:
            item, future = waiting.popleft()
            waiting.extend(itertools.islice(futures, 1))
            try:
                result: T | ImageError = future.result()
            except ImageError as error:
                result = error
            yield item, result
    finally:
        for _, future in waiting:
            future.cancel()


def load(path: Path, size: int, at: Slice | None = None, original: bool = False) -> Decoded:
    """Read and preprocess a file or a slice of it: (3, size, size); (1, size, size) if grey, which is less to send."""
    return load_content(read_content(path, LIMITS), path, size, at, original)


def load_content(content: bytes, path: Path, size: int, at: Slice | None = None, original: bool = False) -> Decoded:
    """Decode and preprocess the content of a file as ``load`` does."""
    image = decode_image(content, path, at=at)
    pixels = preprocess(image, size)
    kept = Original(image.pixels, read_dataset(content, path)) if original else None
    return Decoded(pixels[:1] if image.pixels.ndim == 2 else pixels, Acquisition.of(image), kept)


def image_of(record: Record) -> Image:
    """Return one record's image at its own size, decoded in a worker; ImageError if it cannot be read."""
    return decoders().submit(read_image, record.path, at=record.at).result()


def header_of(path: Path) -> Dataset | ImageError:
    """Return the header of a DICOM file, read in a worker, or why there is none."""
    try:
        found = decoders().submit(load_dataset, path).result()
    except ImageError as error:
        return error
    return (
        ImageError(path, "not DICOM, so no DICOM result can refer to it", "name a DICOM image")
        if found is None
        else found
    )


def load_dataset(path: Path) -> Dataset | ImageError | None:
    """Read the DICOM header of a file; None if it is none."""
    return read_dataset(read_content(path, LIMITS), path)


def mask_of(record: Record, size: int) -> NDArray[np.bool_] | None:
    """Return the lesion's mask (size, size) of a record, None if it has none; ImageError as ``load_mask``."""
    return None if record.mask is None else decoders().submit(load_mask, record.mask, record, MASK, size).result()


def region_of(record: Record, size: int) -> NDArray[np.bool_] | None:
    """Return where disease can be, (size, size), None if that is not known; ImageError as ``load_mask``."""
    return None if record.region is None else decoders().submit(load_mask, record.region, record, REGION, size).result()


def load_mask(path: Path, record: Record, kind: str, size: int) -> NDArray[np.bool_]:
    """Read the mask of a record, of the lesion or of the region, as (size, size).

    ImageError if it cannot be read, does not fit its image, marks nothing, or marks a lesion in a normal image.
    """
    of_normal = kind == MASK and record.label == 0
    mask = read_mask_of(record.path, path, at=record.at, empty=of_normal)
    if of_normal and mask.any():
        found = "a mask that marks a lesion in an image labelled normal"
        raise ImageError(path, found, "correct the label, or leave the mask out")
    return resize_mask(mask, size)


def batches(
    records: Sequence[Record], size: int, batch_size: int
) -> Iterator[list[tuple[Record, Decoded | ImageError]]]:
    """Yield the items of ``decoded`` in lists of ``batch_size``; refused images count, so the lists keep the order."""
    return in_batches(decoded(records, size, ahead=2 * batch_size), batch_size)


def in_batches(images: Iterable[T], batch_size: int) -> Iterator[list[T]]:
    """Yield the items in lists of ``batch_size``, the last of which may be shorter."""
    rest = iter(images)
    while batch := list(itertools.islice(rest, batch_size)):
        yield batch
