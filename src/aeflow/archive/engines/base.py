"""Interface of every engine: parts of files in, tables of their rows out, in any order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from aeflow.archive.item import Item
from aeflow.archive.plan import Part
from aeflow.imageio.errors import ImageError

if TYPE_CHECKING:
    import pyarrow as pa


class Scores(Protocol):
    """Interface of what a worker has opened."""

    @property
    def facts(self) -> Any:
        """What the worker opened, for the driver."""

    def __call__(self, items: Sequence[Item]) -> pa.Table:
        """Return the rows of files."""

    def refused(self, item: Item, error: ImageError) -> pa.Table:
        """Return the row of a file that could not be scored."""


class Opens(Protocol):
    """Interface of what a worker is told at its start: a picklable object of an importable class."""

    def open(self) -> Scores:
        """Open what scores."""


class Engine(AbstractContextManager["Engine"], ABC):
    """Base of the engines; a context, whose end ends all that it started."""

    def __init__(self, workers: int | None, address: str | None) -> None:
        """Keep how many workers there are to be, None for as many as suit the machine, and where a cluster is."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all workers."""

    @abstractmethod
    def facts(self, opening: Opens) -> Any:
        """Return the facts of what is opened where the scoring will be."""

    @abstractmethod
    def tables(self, opening: Opens, parts: Iterable[Part]) -> Iterator[tuple[int, pa.Table]]:
        """Yield the number and the whole table of each part; parts are taken as workers are free.

        An error of a worker's own, as a model that cannot be opened, is raised here.
        """
