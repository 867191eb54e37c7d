"""Pseudonyms of patient keys and file names, the only form in which they leave the program without ``--identify``.

The one exception is what `aeflow score` answers, whose ``path`` is as the user gave it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import sys
import tempfile
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from platformdirs import user_state_path

from aeflow.errors import SettingsError
from aeflow.home import in_home

SALT_BYTES = 32
SALT_OF = "the salt itself"  # a key whose pseudonym tells one salt from another
NAMES = "AEFLOW_IDENTIFY"  # set if names may be shown, by the command line's --identify
MOST_NAMED = 5  # files that a sentence names
REMEDY_IDENTIFY = "--identify shows names"
_typed: set[str] = set()  # paths as the user typed them
_handed: list[bytes] = []  # the salt, if another process has handed one over


def identify(on: bool = True) -> None:
    """Show names from now on, in this process and those it starts, or hide them again."""
    if on:
        os.environ[NAMES] = "1"
    else:
        os.environ.pop(NAMES, None)


def show_typed(paths: Iterable[object]) -> None:
    """Show these paths from now on, and no others: whoever typed them knows them."""
    _typed.clear()
    _typed.update(str(path) for path in paths)


def shown(key: object, what: str = "image") -> str:
    """Return a file's name or patient's key as it may be printed: ``image 3fa9c1d2e4b5``.

    Itself after ``identify``, or if the user typed it.
    """
    return str(key) if os.environ.get(NAMES) or str(key) in _typed else f"{what} {pseudonym(str(key))}"


def shown_few(paths: Sequence[Path], what: str = "file", more: int = 0) -> str:
    """Return the names of some files, as they may be printed, and how many more of ``more`` or all there are."""
    names = ", ".join(shown(path.name, what) for path in paths[:MOST_NAMED])
    left = max(more, len(paths)) - MOST_NAMED
    return f"{names} and {left:,} more" if left > 0 else names


def unless_shown(remedy: str = REMEDY_IDENTIFY) -> str:
    """Return how to see names, to stand at the end of a sentence that hides some; nothing if names are shown."""
    return "" if os.environ.get(NAMES) else f"; {remedy}"


def shown_key(key: str) -> str:
    """Return the key of a patient, a study or a file as a table may hold it."""
    return key if os.environ.get(NAMES) else pseudonym(key)


def pseudonym(key: str) -> str:
    """Return 12 hex digits of HMAC-SHA256(salt, key); the salt is AEFLOW_SALT, else a secret made once for each user.

    The same key gives the same pseudonym wherever the salt is the same; without the salt nobody can try out keys.
    Where there is no place to keep a secret, as in a container, it is this process's alone, which a note says. Raises
    SettingsError if there is one that cannot be read.

        >>> pseudonym("Jane Doe") == pseudonym("Jane Doe") != pseudonym("John Doe")
        True
        >>> len(pseudonym("Jane Doe"))
        12
    """
    return hmac.new(salt(), key.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:12]


def salt() -> bytes:
    """Return the secret of the pseudonyms, to be handed to processes of the same work and to nobody else."""
    if _handed:
        return _handed[-1]
    given = os.environ.get("AEFLOW_SALT")
    return os.fsencode(given) if given else _secret(_salt_file())


def use_salt(secret: bytes) -> None:
    """Use a secret that another process has handed over, as one on another machine has none or another."""
    _handed.append(secret)


def _salt_file() -> Path:
    return in_home(lambda: user_state_path("aeflow", appauthor=False)) / "salt"


@cache
def _secret(file: Path) -> bytes:
    """Return the secret in the file, which is created, readable by its owner alone, if it is missing."""
    try:
        if not file.exists() and not _made(file):
            return _passing(file)
        secret = file.read_bytes()
    except OSError as error:
        found = f"the salt of the pseudonyms cannot be read ({error.strerror})"
        raise SettingsError(file, found, "set AEFLOW_SALT to a secret") from error
    if len(secret) != SALT_BYTES:
        found = f"{len(secret)} bytes where a salt has {SALT_BYTES}"
        raise SettingsError(file, found, "delete it to have a new one made; pseudonyms will change")
    return secret


def _made(file: Path) -> bool:
    """Make a secret; return if there was a place for it."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _create(file)
    except OSError:
        return False
    return True


def _passing(file: Path) -> bytes:
    """Return a secret of this process and those it starts, and say so."""
    secret = secrets.token_hex(SALT_BYTES)
    os.environ["AEFLOW_SALT"] = secret
    sys.stderr.write(
        f"note: {file} cannot be written, so pseudonyms are other ones in each run; set AEFLOW_SALT to a secret to "
        "keep them\n"
    )
    return os.fsencode(secret)


def _create(file: Path) -> None:
    """Write the whole secret under another name and link it: nobody sees half of it, and the first of several wins."""
    descriptor, name = tempfile.mkstemp(dir=file.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as temporary:
            temporary.write(secrets.token_bytes(SALT_BYTES))
            temporary.flush()
            os.fsync(temporary.fileno())
        os.link(name, file)
    except FileExistsError:  # another process was first; its secret is the one
        pass
    finally:
        os.unlink(name)
