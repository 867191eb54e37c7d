"""Files written as a whole or not at all, and digests of files and values."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from aeflow.errors import REPLACE, OutputError
from aeflow.runtime.locks import exclusive


class NotRegularError(OSError):
    """Error of a pipe, a socket or a device where a file is needed."""


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """Open a file that a user names, with its status; OSError if it is none, ValueError for a null byte in its name.

    Only regular files are ever opened: a pipe would wait for ever, and a device may never end.
    """
    _check_regular(path, path.stat())
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # it may have become a pipe by now
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        _check_regular(path, status)
        yield file, status


def _check_regular(path: Path, status: os.stat_result) -> None:
    """Raise OSError unless this is the status of a regular file."""
    if stat.S_ISDIR(status.st_mode):
        os.scandir(path).close()  # one that cannot be listed says why
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise NotRegularError(errno.EINVAL, "not a file", str(path))


def content(path: Path, at_most: int | None = None) -> str | None:
    """Return the SHA-256 of a file in hex; None if it cannot be opened or is longer, which its reader then reports."""
    digest, left = hashlib.sha256(), math.inf if at_most is None else at_most
    try:
        with opened(path) as (file, status):
            if status.st_size > left:
                return None
            while left >= 0 and (piece := file.read(PIECE_BYTES)):  # it may grow meanwhile
                digest.update(piece)
                left -= len(piece)
    except (OSError, ValueError):
        return None
    return digest.hexdigest() if left >= 0 else None


PIECE_BYTES = 2**20  # bytes read at a time


# How text is written that UTF-8 cannot hold: bytes of a file's name that are none stand as escapes, as \udce9.
UNENCODABLE = "backslashreplace"
PART = ".part"  # ending of the name of a file that is not complete
BEGINNING = 4096  # bytes in which a file of ours says so


def write_text(path: Path, text: str) -> None:
    """Write a file as a whole or not at all; see UNENCODABLE."""
    write_bytes(path, text.encode(errors=UNENCODABLE))


def encodable(text: str) -> str:
    """Return text as ``write_text`` writes it, for formats that write by themselves."""
    return text.encode(errors=UNENCODABLE).decode()


def write_bytes(path: Path, content: bytes | memoryview, *, sync_name: bool = True) -> None:
    """Write a file as a whole or not at all; see ``replacing``."""
    with replacing(path, sync_name=sync_name) as file:
        file.write(content)


@contextmanager
def replacing(path: Path, *, keep: bool = False, sync_name: bool = True) -> Iterator[BinaryIO]:
    """Yield a file for the content of ``path``, which gets it as a whole if the context ends without an error.

    Until then the file is ``part_of(path)``; after an error it is deleted, unless it is to be kept. A link stays one, a
    pipe or a device is written into as it is. Without ``sync_name`` the folder is left to ``sync_folder``, once for
    many files. Raises OutputError if another process is writing the same.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    place, part = Path(os.path.realpath(path)), part_of(path)
    with exclusive(part, path) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(part, place)
        except BaseException as error:
            if isinstance(error, OSError) and error.filename is None:  # a disk that is full says no name
                error.filename = str(path)
            if not keep:
                part.unlink(missing_ok=True)
            raise
    if sync_name:
        sync_folder(place.parent)


def refuse_former(place: Path, overwrite: bool) -> None:
    """Raise OutputError if a result is in a place already, unless it is to be replaced; an empty file is none."""
    if not overwrite and place.is_file() and place.stat().st_size:
        raise OutputError(place, "is there already", f"name another place, or {REPLACE}")


def part_of(path: Path) -> Path:
    """Return the name of a file until it is complete."""
    place = Path(os.path.realpath(path))
    return place.with_name(place.name + PART)


def sync_folder(folder: Path) -> None:
    """Wait until the disk holds the names in a folder."""
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:  # one may write into it, but not list it
        return
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems of a network have no such thing
            raise
    finally:
        os.close(opened)


def beginning(path: Path) -> bytes:
    """Return the first bytes of a file; none if it is no regular file."""
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(BEGINNING)


def digest(values: Any) -> str:
    """Return the SHA-256 of plain values, in hex."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, allow_nan=False).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
