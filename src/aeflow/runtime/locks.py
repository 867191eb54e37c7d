"""Locks on files: one writer at a time, and what a killed one left is known to be left."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from aeflow.errors import OutputError

# What a file system without locks answers, as Lustre often is mounted: better to write there than not to.
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


@contextmanager
def exclusive(
    path: Path, what: Path, *, surely: bool = False, remedy: str = "wait for it, or name another"
) -> Iterator[BinaryIO]:
    """Yield a new empty file that no other process can open so until it is closed, renamed or removed.

    The system ends the lock with the process, however it ends; the file of such a process is replaced. Raises
    OutputError, naming ``what`` and the ``remedy``, if another process holds it, OSError, naming it, too, if no file
    can be there. Where there are no locks that is not noticed, and an OSError if it must be known ``surely``.
    """
    while True:
        # opened without following links or cutting short: what is there may be another name of something else
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError as error:  # of a name that nobody typed
            raise OSError(error.errno, error.strerror, str(what)) from error
        with os.fdopen(descriptor, "wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OutputError(what, "another process is writing there", remedy) from error
            except OSError as error:
                if surely or error.errno not in WITHOUT_LOCKS:
                    raise
            found = os.fstat(file.fileno())
            if not _names(path, found):  # its owner has just renamed or removed it
                continue
            if found.st_size or found.st_nlink > 1:
                path.unlink()
                continue
            yield file
            return


def _names(path: Path, file: os.stat_result) -> bool:
    """Return if a path still leads to an open file."""
    try:
        return os.path.samestat(os.lstat(path), file)
    except FileNotFoundError:
        return False
