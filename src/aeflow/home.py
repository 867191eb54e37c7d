"""Folders in a user's home, which not every user has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

NO_HOME = Path("/nonexistent")  # the name that Debian gives the home of users who have none


def in_home(find: Callable[[], Path]) -> Path:
    """Return the folder that ``find`` gives; one that cannot be made, if the user has no home and no entry in passwd.

    So it is in a container that runs under a bare number: what would be kept between runs is not.
    """
    try:
        return find()
    except RuntimeError:
        return NO_HOME
