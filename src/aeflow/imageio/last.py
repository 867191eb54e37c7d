"""Memory of what was made of the last files, so that all images of a file cost one making."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

V = TypeVar("V")
HELD = 2  # an image and its mask


class Last(Generic[V]):
    """Values of the last keys; a worker reads in one thread, and with two the worst is that one makes a value again."""

    def __init__(self) -> None:
        self._held: tuple[tuple[object, V], ...] = ()

    def of(self, key: object, make: Callable[[], V]) -> V:
        """Return what was made of ``key``, making it if it is not held."""
        for held, value in self._held:
            if held == key:  # of the same bytes object this compares nothing
                return value
        self._held = self._held[: HELD - 1]  # before the next one takes its memory
        value = make()
        self._held = ((key, value), *self._held[: HELD - 1])
        return value
