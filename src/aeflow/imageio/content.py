"""Content of files that a user names, within the limits; the last are kept: all images of a file cost one reading."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from aeflow.imageio.errors import FileError, ImageLimitError
from aeflow.imageio.last import Last
from aeflow.imageio.limits import Limits
from aeflow.runtime.files import NotRegularError, opened


@dataclass(frozen=True, slots=True)
class FileState:
    """State of a file in which it was read: two files of one SHA-256 hold the same."""

    sha256: str  # of its bytes, in hex
    bytes: int
    modified: int  # nanoseconds since 1970, by the clock of whoever wrote it


def read_content(path: Path, limits: Limits) -> bytes:
    """Return all bytes of a regular file; FileError if it cannot be opened, ImageLimitError if it is too long."""
    return _content_and_status(path, limits)[0]


def read_with_state(path: Path, limits: Limits) -> tuple[bytes, FileState]:
    """Return all bytes of a regular file as ``read_content`` does, with the state that they are of."""
    content, status = _content_and_status(path, limits)
    return content, FileState(hashlib.sha256(content).hexdigest(), len(content), status.st_mtime_ns)


def _content_and_status(path: Path, limits: Limits) -> tuple[bytes, os.stat_result]:
    with _opened(path) as (file, status):
        if status.st_size == 0:
            raise FileError(path, "an empty file", "export the image again")
        if status.st_size > limits.max_bytes:
            raise _too_long(path, status.st_size, limits)
        return _contents.of(_signature(path, status), lambda: _read(file, path, limits)), status


def start_of(path: Path, length: int) -> bytes:
    """Return the first bytes of a regular file; FileError if it cannot be opened."""
    with _opened(path) as (file, _):
        return file.read(length)


def signature(path: Path) -> tuple[object, ...]:
    """Return what tells a file, in the state it is in, from all others; of one that is not there, its path."""
    try:
        return _signature(path, path.stat())
    except (OSError, ValueError):  # ValueError: a null byte in the name
        return (str(path),)


_contents: Last[bytes] = Last()


def _signature(path: Path, status: os.stat_result) -> tuple[object, ...]:
    """Return the signature of a file of this status."""
    return str(path), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read(file: BinaryIO, path: Path, limits: Limits) -> bytes:
    """Return all bytes of an open file; ImageLimitError if it grew beyond the limit."""
    content = file.read(limits.max_bytes + 1)
    if len(content) > limits.max_bytes:
        raise _too_long(path, len(content), limits)
    return content


def _too_long(path: Path, size: int, limits: Limits) -> ImageLimitError:
    """Return the error for a file that is too long."""
    found = f"{size} bytes where the limit is {limits.max_bytes}"
    return ImageLimitError(path, found, "shrink the image or raise max_bytes")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """Open a regular file, with its status; FileError for anything else."""
    try:
        with opened(path) as file:
            yield file
    except IsADirectoryError as error:
        raise FileError(path, "a folder", "name an image file") from error
    except NotRegularError as error:
        raise FileError(path, "not a file", "name an image file") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise FileError(path, f"cannot be opened ({reason})", "check the path and its permissions") from error
