"""Table of the commands that write: what lies there before, and what must hold whenever one of them ends.

The entries are in ``writers_of_scores``, ``writers_of_pages``, ``writers_of_models`` and ``writers_of_services``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aeflow.runtime.files import PART
from aeflow.runtime.folders import LOCK, alone
from helpers.data import SAMPLE
from helpers.killing import COMMAND, Commands, Ended

OLD = b"old"
IMAGES = sorted((SAMPLE / "test" / "normal").iterdir())
TORCH = ("--backend", "torch")


@dataclass(frozen=True)
class World:
    """What the commands have to write from; ``tmp`` is a folder of the test's own."""

    tmp: Path
    run: Path
    data: Path
    weights: Path
    exports: Callable[[str], Path]

    @property
    def out(self) -> Path:
        """The folder that is written to, and watched."""
        return self.tmp / "out"


@dataclass(frozen=True)
class Case:
    """A command that writes, its folder, what lies there before, and what must hold whenever it ends."""

    arguments: tuple[object, ...]
    under: Path
    before: Callable[[], object]
    check: Callable[[], object]
    at_the_end: Callable[[], object] = lambda: None  # what must hold once the same command has come to its end, too
    codes: Collection[int] = (0,)
    program: str = COMMAND
    typed: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    says_what_it_found: bool = False  # its output depends on what a killed one has done already
    needs_room: bool = True  # False if what happens on a full disk is the matter of a test of its own

    def run(self, warm: Commands, *, at: int = 0, limit: int = -1, terminal: bool = False) -> Ended:
        """Run it once, with what is there."""
        return warm.run(
            *self.arguments,
            under=self.under,
            at=at,
            limit=limit,
            program=self.program,
            typed=self.typed,
            variables=self.variables,
            terminal=terminal,
        )


@dataclass(frozen=True)
class Writer:
    """Maker of a case, and the command that it is of, as one types it."""

    command: str
    make: Callable[[World], Case]
    long: bool = False  # takes longer than the ordinary tests have


WRITERS: dict[str, Writer] = {}
READERS: dict[str, Callable[[World], tuple[object, ...]]] = {  # commands that write nothing, with their words
    "info": lambda world: ("info", world.run),
    "settings": lambda world: ("settings",),
    "cache list": lambda world: ("cache", "list"),
}
# Commands that write through what others of the table write, and take too long, or have nothing to lose.
BY_OTHERS = {"demo": ("train", "score"), "node status": ("node retry",)}


def writer(
    name: str, command: str, *, long: bool = False
) -> Callable[[Callable[[World], Case]], Callable[[World], Case]]:
    """Put a case into the table."""

    def put_in(make: Callable[[World], Case]) -> Callable[[World], Case]:
        WRITERS[name] = Writer(command, make, long)
        return make

    return put_in


def tree(folder: Path) -> dict[str, bytes]:
    """Return the content of all files that are no leftovers."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.suffix != PART
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def put(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make a folder anew, with these files."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def put_copy(folder: Path, of: Path) -> None:
    """Make a folder anew, as another one is."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(of, folder)


def leftovers(folder: Path) -> list[Path]:
    """Return what a killed process left: unfinished files, and hidden ones."""
    return [path for path in folder.rglob("*") if path.suffix == PART or path.name.startswith(".")]


def all_old_or_all_new(folder: Path, old: Mapping[str, bytes], least: set[str], kept: str = "notes.txt") -> None:
    """Assert that no old file stands beside a new one, before and after the next writer; a foreign one is there."""
    seen = tree(folder)
    assert seen.pop(kept) == OLD
    assert all(old.get(name) == content for name, content in seen.items()) or OLD not in seen.values()
    with alone(folder):  # the next writer
        seen = tree(folder)
        assert seen.pop(kept) == OLD
        assert seen == old or (OLD not in seen.values() and least <= set(seen)), sorted(seen)
        assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == [LOCK]


def old_or_new_set(folder: Path, kind: str, old: Mapping[str, bytes], new: Callable[[dict[str, bytes]], bool]) -> None:
    """Assert that the files of one kind are the old ones or, all of them, new ones, once the next writer has come."""
    with alone(folder, kind):
        seen = tree(folder)
    assert seen.pop("notes.txt") == OLD
    assert seen == old or (new(seen) and seen.items().isdisjoint(old.items())), sorted(seen)
