"""Loading of records as preprocessed images, decoded ahead in worker processes while the caller computes."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from aeflow.data.preprocess import preprocess, preprocess_mask
from aeflow.data.records import Record
from aeflow.imageio.decoder_pool import decoders
from aeflow.imageio.errors import ImageError
from aeflow.imageio.image import Acquisition, Image, Slice
from aeflow.imageio.reader import read_image

Pixels = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Decoded:
    """A preprocessed image, and what its file says about its acquisition."""

    pixels: Pixels  # (3, size, size)
    acquisition: Acquisition


S = TypeVar("S")
T = TypeVar("T")


def stream(records: Sequence[Record], size: int, ahead: int = 32) -> Iterator[tuple[Record, Pixels | ImageError]]:
    """Yield each record with its pixels (3, size, size) in [0, 1], or with the error that refused it, in input order.

    At most ``ahead`` images wait at a time, so memory does not grow with the data.
    """
    for record, x in decoded(records, size, ahead):
        yield record, x if isinstance(x, ImageError) else x.pixels


def decoded(records: Sequence[Record], size: int, ahead: int = 32) -> Iterator[tuple[Record, Decoded | ImageError]]:
    """Yield each record with its pixels and acquisition, or with the error that refused it; otherwise as ``stream``."""
    pool = decoders()
    for record, x in ahead_of(records, lambda record: pool.submit(load, record.path, size, record.at), ahead):
        if isinstance(x, ImageError):
            yield record, x
        else:
            yield record, Decoded(np.broadcast_to(x.pixels, (3, size, size)).copy(), x.acquisition)


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


def load(path: Path, size: int, at: Slice | None = None) -> Decoded:
    """Read and preprocess a file or a slice of it: (3, size, size); (1, size, size) if grey, which is less to send."""
    image = read_image(path, at=at)
    pixels = preprocess(image, size)
    return Decoded(pixels[:1] if image.pixels.ndim == 2 else pixels, Acquisition.of(image))


def image_of(record: Record) -> Image:
    """Return one record's image at its own size, decoded in a worker; ImageError if it cannot be read."""
    return decoders().submit(read_image, record.path, at=record.at).result()


def mask_of(record: Record, size: int) -> NDArray[np.bool_] | None:
    """Return the mask (size, size) of a record, None if it has none; ImageError if it cannot be read."""
    if record.mask is None:
        return None
    return decoders().submit(preprocess_mask, record.mask, size, at=record.at).result()


def batches(
    records: Sequence[Record], size: int, batch_size: int
) -> Iterator[list[tuple[Record, Decoded | ImageError]]]:
    """Yield the items of ``decoded`` in lists of ``batch_size``; refused images count, so the lists keep the order."""
    images = decoded(records, size, ahead=2 * batch_size)
    while batch := list(itertools.islice(images, batch_size)):
        yield batch
