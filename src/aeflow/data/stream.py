"""Records -> preprocessed images, decoded ahead while the caller computes."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from aeflow.data.preprocess import preprocess
from aeflow.data.read import read_image
from aeflow.data.records import Record
from aeflow.errors import ImageError

Pixels = NDArray[np.float32]

WORKERS = 2

S = TypeVar("S")
T = TypeVar("T")


def stream(records: Sequence[Record], size: int, ahead: int = 32) -> Iterator[tuple[Record, Pixels | ImageError]]:
    """Each record with its pixels (3, size, size) in [0, 1], or with the error that refuses it; in input order.

    At most ``ahead`` images wait at a time, so memory does not grow with the data.
    """

    def load(record: Record) -> Pixels | ImageError:
        try:
            return preprocess(read_image(record.path), size)
        except ImageError as error:
            return error

    return ahead_of(records, load, ahead)


def ahead_of(items: Iterable[S], load: Callable[[S], T], ahead: int = 32) -> Iterator[tuple[S, T]]:
    """Each item with what ``load`` makes of it, in input order; at most ``ahead`` results wait at a time."""
    with ThreadPoolExecutor(WORKERS) as pool:
        rest = iter(items)
        waiting: deque[tuple[S, Future[T]]] = deque(
            (item, pool.submit(load, item)) for item in itertools.islice(rest, ahead)
        )
        while waiting:
            item, future = waiting.popleft()
            for following in itertools.islice(rest, 1):
                waiting.append((following, pool.submit(load, following)))
            yield item, future.result()


def batches(
    records: Sequence[Record], size: int, batch_size: int
) -> Iterator[list[tuple[Record, Pixels | ImageError]]]:
    """The stream in lists of ``batch_size``; refused images count, so each list keeps the input's order."""
    images = stream(records, size, ahead=2 * batch_size)
    while batch := list(itertools.islice(images, batch_size)):
        yield batch
