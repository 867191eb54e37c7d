"""Errors that a caller of aeflow can meet, as one tree.

AeflowError
├── SettingsError      a setting is unknown, out of range or contradicts another
├── DataError          a data folder or manifest cannot be used as asked
├── ImageError         one image is refused; a batch goes on without it
│   ├── FileError          a whole file is refused, and none of its images is tried any more
│   │   └── ImageLimitError    the image exceeds a safety limit (pixels, bytes, seconds)
│   └── EmptyImageError    every pixel is the same; a slice of a volume is then passed over
├── WeightsError       the encoder's weights are missing, unreachable or of another network
├── ArtifactError      a run folder is missing, damaged or of another version
├── OutputError        a place to write to is taken by an input, a foreign file or another process
├── NumericalError     training met a value that is not finite
└── PeerError          another process of the same training has ended

Each error says on one line where it happened, what was found and what to do about it.
"""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path

REPLACE = "replace it with --overwrite (in Python overwrite=True)"
# What pydantic demands, and how it is said here.
DEMANDS = (
    (r"Input should be greater than or equal to (.+)", r"give \1 or more"),
    (r"Input should be greater than (.+)", r"give more than \1"),
    (r"Input should be less than or equal to (.+)", r"give at most \1"),
    (r"Input should be less than (.+)", r"give less than \1"),
    (r"Input should be a valid integer", "give a whole number"),
    (r"Input should be a valid number", "give a number"),
    (r"Input should be a valid boolean", "give true or false"),
    (r"Input should be a valid string", "give a text"),
    (r"Input should be ('.*)", r"choose \1"),
    (r"Tuple should have at most (\d+) items", r"give at most \1 values"),
)
NEAR = 0.75  # least likeness (difflib) of a mistyped name and the one that was meant


class AeflowError(Exception):
    """Base of all aeflow errors: ``where: found; remedy`` on one line.

    ``where`` names the file, setting or layer, ``found`` says what is wrong with it, and ``remedy`` what to do.

        >>> print(AeflowError("scan.dcm", "no pixels", "give an image"))
        scan.dcm: no pixels; give an image
    """

    def __init__(self, where: object, found: str, remedy: str) -> None:
        self.where, self.found, self.remedy = str(where), found, remedy
        super().__init__(printable(f"{self._named()}: {' '.join(found.split())}; {' '.join(remedy.split())}"))

    def _named(self) -> str:
        return self.where

    def __reduce__(self) -> tuple[type[AeflowError], tuple[str, str, str]]:
        return type(self), (self.where, self.found, self.remedy)  # pickle would call it with the message alone


class SettingsError(AeflowError):
    """Error of a setting that is unknown, out of range or contradicts another."""


class DataError(AeflowError):
    """Error of a data folder or manifest that cannot be used as asked."""


class WeightsError(AeflowError):
    """Error of an encoder's weights that are missing, unreachable or belong to another network."""


class ArtifactError(AeflowError):
    """Error of a run folder that is missing, damaged or of another version."""


class OutputError(AeflowError):
    """Error of a place to write to that an input, a foreign file or another process has."""


class NumericalError(AeflowError):
    """Error of a training that met a value that is not finite."""


class PeerError(AeflowError):
    """Error of a training of several processes of which another has ended."""


def broken(error: OSError, where: str) -> AeflowError:
    """Return what the system refused as an error of aeflow; ``where`` stands for a file that it does not name.

    >>> print(broken(FileNotFoundError(2, "No such file or directory", "out/scores.csv"), "the system"))
    out/scores.csv: No such file or directory; check the path
    """
    remedies = {
        errno.EIO: "free some space, or name another place",
        errno.EFBIG: "free some space, or name another place",
        errno.ENOSPC: "free some space, or name another place",
        errno.EDQUOT: "free some space, or name another place",
        errno.EACCES: "change its permissions, or name another place",
        errno.EPERM: "change its permissions, or name another place",
        errno.EROFS: "name a place that can be written to",
        errno.ENOTDIR: "name a folder",
        errno.EISDIR: "name a file",
        errno.EEXIST: "name another place",
    }
    place = where if error.filename is None else os.fsdecode(error.filename)
    found = error.strerror or str(error) or type(error).__name__
    return AeflowError(place, found, remedies.get(error.errno or 0, "check the path"))


def nearest(name: str, names: Iterable[str], likeness: float = NEAR) -> str | None:
    """Return the name that is most like a mistyped one; None if none is that much like it.

    >>> nearest("epoch", ["epochs", "seed"]), nearest("colour", ["epochs", "seed"])
    ('epochs', None)
    """
    return next(iter(difflib.get_close_matches(name, names, 1, likeness)), None)


def check_path(folder: str | os.PathLike[str]) -> str:
    """Return the remedy for the path of a folder that is not there, with a folder of nearly that name if there is one.

    Files are never named: their names may be those of patients.
    """
    missing = Path(folder)
    while not os.path.lexists(missing.parent):
        missing = missing.parent
    try:
        beside = [entry.name for entry in os.scandir(missing.parent) if entry.is_dir()]
    except OSError:  # it cannot be listed
        beside = []
    near = nearest(missing.name, beside)
    return "check the path" if near is None else f"check the path: there is {missing.parent / near}"


def printable(text: str) -> str:
    r"""Return text with escapes for all that a terminal would obey or cannot show, as ``\x1b`` and ``\n``.

    Names of files, patients and models come from strangers. In this form they stand in every message, and in tables of
    results, too; a backslash stays as it is.

    >>> printable("scan\x1b[2J.png")
    'scan\\x1b[2J.png'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def in_our_words(message: str) -> str:
    """Return what pydantic demands of a value as a remedy; other messages as they are, without its prefix.

    >>> in_our_words("Input should be 'diffuse', 'focal' or 'unknown'")
    'choose diffuse, focal or unknown'
    >>> in_our_words("Input should be a valid integer, unable to parse string as an integer")
    'give a whole number'
    >>> in_our_words("Input should be greater than or equal to 1")
    'give 1 or more'
    """
    for pattern, words in DEMANDS:
        if found := re.match(pattern, message):
            return found.expand(words).replace("'", "")
    return message.removeprefix("Value error, ")


def count(number: int, what: str, plural: str = "") -> str:
    """Return ``1 image``, ``2 images``, ``1,000 images``.

    >>> count(1, "image"), count(2000, "image"), count(0, "entry", "entries")
    ('1 image', '2,000 images', '0 entries')
    """
    return f"{number:,} {what if number == 1 else plural or what + 's'}"


def sentence(text: str) -> str:
    """Return text that begins with a capital."""
    return text[:1].upper() + text[1:]


def stop_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """Return the Ctrl-C during which an error was raised; libraries pass it on as an error of their own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error
