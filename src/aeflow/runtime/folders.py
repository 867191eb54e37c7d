"""Folders whose files are replaced together, and folders for what is being made.

::

    FOLDER/.aeflow-lock    held by the process that writes here
    FOLDER/.next.part/     a new set of files that is being made, or was when its process was killed
    FOLDER/.next/          a whole new set that is taking its place; it counts, and what is beside it does not

Sets of several kinds may share a folder; the names above then end in the kind, as ``.next.png``.

A set comes into force by one rename, from ``.next.part`` to ``.next``. Its files then take their places one by one;
where a killed process left some of that undone, the next one that writes here ends it.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from aeflow.errors import OutputError
from aeflow.runtime.files import PART, refuse_former, sync_folder, write_text
from aeflow.runtime.inputs import Inputs
from aeflow.runtime.locks import exclusive

LOCK, NEXT = ".aeflow-lock", ".next"
STAGED = NEXT + PART
GONE = ".gone.json"  # in a set: names of the former files that it takes away
MADE = "made"  # in a folder of ``scratch``: the folder that is being made


def current(folder: Path) -> Path:
    """Return where the files of a folder are read: from a set that is taking its place, if there is one."""
    following = folder / NEXT
    return following if following.is_dir() else folder


def refuse_former_set(folder: Path, names: Collection[str], inputs: Inputs, overwrite: bool) -> None:
    """Raise OutputError if an input is where one of these files goes, or a former one that is not to be replaced."""
    for name in names:
        inputs.spare(folder / name)
        refuse_former(current(folder) / name, overwrite)


def foreign(folder: Path) -> list[str]:
    """Return the names of what a folder holds, without what is there only while something is written."""
    return sorted({entry.name for entry in folder.iterdir()} - {LOCK, STAGED}) if folder.is_dir() else []


@contextmanager
def alone(folder: Path, kind: str = "") -> Iterator[None]:
    """Make a folder if need be, and hold it for this process only; what a killed process left undone is ended first.

    With a ``kind`` it is held for files of that kind. Raises OutputError if another process holds it.
    """
    lock = folder / f"{LOCK}{kind}"
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with exclusive(lock, folder):
            try:
                settle(folder, kind)
                yield
            finally:
                lock.unlink(missing_ok=True)
    finally:
        if made:
            with suppress(OSError):  # unless something was written
                folder.rmdir()


@contextmanager
def together(folder: Path, own: Collection[str], inputs: Inputs, *, gap: bool = True, kind: str = "") -> Iterator[Path]:
    """Yield a new folder whose files take their places in ``folder`` together, if the context ends without an error.

    ``own`` are the names of former files of this kind. They all go before the first new one comes, so that old and new
    are never seen beside one another; without ``gap`` those with a successor stay until it comes. ``folder`` must be
    held (``alone``) for the ``kind``. Raises OutputError if an input is in the way, OSError if any other file is.
    """
    for name in own:
        inputs.spare(folder / name)
    staged = folder / f"{NEXT}{kind}{PART}"
    staged.mkdir()
    try:
        yield staged
        new = _names(staged)
        for name in new:
            _check_place(folder / name, name in own, inputs)
        gone = [name for name in own if gap or name not in new]
        write_text(staged / GONE, json.dumps(gone))
        sync_tree(staged)
        staged.rename(folder / f"{NEXT}{kind}")
    except BaseException as error:
        shutil.rmtree(staged, ignore_errors=True)
        if isinstance(error, OSError):
            _name_place(error, staged, folder)
        raise
    sync_folder(folder)
    settle(folder, kind)


def _name_place(error: OSError, staged: Path, folder: Path) -> None:
    """Let an error name the place of a file in ``folder``, and not where it was made."""
    named = folder if error.filename is None else Path(os.fsdecode(error.filename))
    error.filename = str(folder / named.relative_to(staged) if named.is_relative_to(staged) else named)


def settle(folder: Path, kind: str = "") -> None:
    """Let a whole new set take its place, and delete one that was never finished; ``folder`` must be held."""
    staged, following = folder / f"{NEXT}{kind}{PART}", folder / f"{NEXT}{kind}"
    if following.is_dir():
        _take_place(following, folder)
        following.rename(staged)
    if staged.is_dir():
        shutil.rmtree(staged)


@contextmanager
def scratch(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield a new folder in ``parent`` for what is being made, to be renamed (``publish``) or else deleted at the end.

    Others may do the same at a time. What killed processes left under ``prefix`` is deleted first.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f"{prefix}*"):
        # a living process holds it, or has ended just now; or it is another user's
        with suppress(OutputError, OSError), exclusive(left / LOCK, left, surely=True):
            shutil.rmtree(left, ignore_errors=True)
    with ExitStack() as stack:
        around = _held(parent, prefix, stack)
        try:
            (around / MADE).mkdir()
            yield around / MADE
        finally:
            shutil.rmtree(around, ignore_errors=True)


def publish(folder: Path, place: Path) -> None:
    """Rename a folder that is made to its place, where nothing is, once the disk holds all of it."""
    sync_tree(folder)
    folder.rename(place)
    sync_folder(place.parent)


def sync_tree(folder: Path) -> None:
    """Wait until the disk holds a folder and all that is in it."""
    for path, _, names in os.walk(folder):
        for name in names:
            file = Path(path, name)
            if not file.is_symlink():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
        sync_folder(Path(path))


def _held(parent: Path, prefix: str, stack: ExitStack) -> Path:
    """Make a folder that is held until the stack is closed."""
    while True:
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
        with suppress(OutputError, FileNotFoundError):  # another process took it for one that was left, and deletes it
            stack.enter_context(exclusive(folder / LOCK, folder))
            return folder


def _names(folder: Path) -> list[str]:
    """Return the paths of all files and links below a folder, in sorted order, relative to it."""
    found = []
    for path, folders, files in os.walk(folder):
        links = [name for name in folders if Path(path, name).is_symlink()]
        found += [Path(path, name).relative_to(folder).as_posix() for name in (*files, *links)]
    return sorted(found)


def _check_place(place: Path, own: bool, inputs: Inputs) -> None:
    """Raise OutputError or OSError if a file must not go to its place."""
    inputs.spare(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(place) and (not own or place.is_dir()):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(place))


def _take_place(following: Path, folder: Path) -> None:
    """Remove the former files, and give each new one its place; it stays where it is, too, until all have theirs."""
    new = _names(following)
    if GONE in new:
        placed = {name for name in new if _same(following / name, folder / name)}
        for name in json.loads((following / GONE).read_text(encoding="utf-8")):
            _remove(folder, name, placed)
    for name in new:
        place = folder / name
        if name == GONE or _same(following / name, place):
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(place.name + PART)
        part.unlink(missing_ok=True)
        _link(following / name, part)
        os.replace(part, place)
    for path in {folder, *((folder / name).parent for name in new)}:
        sync_folder(path)


def _remove(folder: Path, name: str, placed: Collection[str]) -> None:
    """Remove one former file, and the folder that it leaves empty."""
    place = folder / name
    if name in placed or place.is_dir() or not os.path.lexists(place):
        return
    place.unlink()
    if place.parent != folder:
        with suppress(OSError):  # it holds something else
            place.parent.rmdir()


def _same(one: Path, other: Path) -> bool:
    return os.path.lexists(other) and os.path.samestat(os.lstat(one), os.lstat(other))


def _link(source: Path, place: Path) -> None:
    """Give a file a second name, or where the file system has no such thing, make a copy of it."""
    try:
        os.link(source, place, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, place, follow_symlinks=False)
        if not place.is_symlink():
            with place.open("rb") as file:
                os.fsync(file.fileno())
