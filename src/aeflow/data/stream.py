"""Records -> preprocessed images, decoded ahead while the caller computes."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from aeflow.data.preprocess import preprocess
from aeflow.data.read import read_image
from aeflow.data.records import Record
from aeflow.errors import ImageError

Pixels = NDArray[np.float32]

WORKERS = 2


def stream(records: Sequence[Record], size: int, ahead: int = 32) -> Iterator[tuple[Record, Pixels | ImageError]]:
    """Each record with its pixels (3, size, size) in [0, 1], or with the error that refuses it; in input order.

    At most ``ahead`` images wait at a time, so memory does not grow with the data.
    """

    def load(record: Record) -> Pixels | ImageError:
        try:
            return preprocess(read_image(record.path), size)
        except ImageError as error:
            return error

    with ThreadPoolExecutor(WORKERS) as pool:
        rest = iter(records)
        waiting: deque[tuple[Record, Future[Pixels | ImageError]]] = deque(
            (record, pool.submit(load, record)) for record in itertools.islice(rest, ahead)
        )
        while waiting:
            record, future = waiting.popleft()
            for following in itertools.islice(rest, 1):
                waiting.append((following, pool.submit(load, following)))
            yield record, future.result()


def batches(
    records: Sequence[Record], size: int, batch_size: int
) -> Iterator[list[tuple[Record, Pixels | ImageError]]]:
    """The stream in lists of ``batch_size``; refused images count, so each list keeps the input's order."""
    images = stream(records, size, ahead=2 * batch_size)
    while batch := list(itertools.islice(images, batch_size)):
        yield batch
