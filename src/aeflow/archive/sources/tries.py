"""Tries of what a busy store may answer later, and the copy of an object that comes of them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from typing import IO, TypeVar

from aeflow.archive.sources.fetched import Fetched, nameless
from aeflow.errors import AeflowError
from aeflow.imageio.errors import FileError, ImageLimitError
from aeflow.imageio.limits import LIMITS

T = TypeVar("T")
TRIES = 5
FIRST_WAIT = 0.5  # seconds before the second try; twice as long before each further one, and up to half as long again


class FinalError(Exception):
    """Answer of a store that another try would get again, in words that are aeflow's own."""


class PassingError(Exception):
    """Answer of a store that another try may not get, likewise."""


def tried(work: Callable[[], T]) -> T:
    """Return what ``work`` returns, tried several times; raises at once a FinalError and what is no store's answer."""
    for attempt in range(1, TRIES + 1):
        try:
            return work()
        except (AeflowError, FinalError):
            raise
        except Exception:  # what stores' libraries raise has no base in common
            if attempt == TRIES:
                raise
            time.sleep(FIRST_WAIT * 2 ** (attempt - 1) * random.uniform(1, 1.5))
    raise AssertionError("the last try returns or raises")


def copied(pieces: Callable[[], Iterable[bytes]], name: str) -> Fetched:
    """Return the content of an object as a file; FileError if it cannot be had, ImageLimitError if it is too long.

    ``pieces`` asks for the object anew, and gives its content piece by piece. ``name`` stands in errors.
    """

    def once() -> Fetched:
        fetched, file = nameless()
        try:
            _write(pieces(), file, name)
        except BaseException:
            fetched.close()
            raise
        return fetched

    try:
        return tried(once)
    except AeflowError:
        raise
    except FinalError as final:
        remedy = "check the URL and who may read it"
        raise FileError(name, f"cannot be fetched ({reason(final)})", remedy) from final
    except Exception as error:
        found = f"cannot be fetched in {TRIES} tries ({reason(error)})"
        raise FileError(name, found, "score it with --since once the store answers") from error


def check_length(size: int, name: str) -> None:
    """Raise ImageLimitError for an object that is said to be too long."""
    if size > LIMITS.max_bytes:
        found = f"{size} bytes where the limit is {LIMITS.max_bytes}"
        raise ImageLimitError(name, found, "shrink the image or raise max_bytes")


def reason(error: BaseException) -> str:
    """Return what went wrong, without what a library wrote about it, which may hold names and keys."""
    if isinstance(error, (FinalError, PassingError)):
        return str(error)
    told = getattr(error, "strerror", None)
    return f"{type(error).__name__}: {told}" if told else type(error).__name__


def _write(pieces: Iterable[bytes], file: IO[bytes], name: str) -> None:
    left = LIMITS.max_bytes
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            found = f"more than {LIMITS.max_bytes} bytes, which is the limit"
            raise ImageLimitError(name, found, "shrink the image or raise max_bytes")
        file.write(piece)
    file.flush()
