"""Laws of files and folders that are written: whole or not at all, by one process at a time, never over an input."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aeflow.errors import OutputError
from aeflow.runtime.files import part_of, replacing, write_text
from aeflow.runtime.folders import NEXT, STAGED, alone, current, foreign, publish, scratch, settle, together
from aeflow.runtime.inputs import Inputs


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def fail(path: Path, content: bytes, keep: bool = False) -> None:
    """Begin to write a file, and fail."""

    def write() -> None:
        with replacing(path, keep=keep) as file:
            file.write(content)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()


def put_together(
    folder: Path, own: tuple[str, ...], inputs: Inputs, files: dict[str, str], error: bool = False
) -> None:
    """Write a set of files, and fail if asked to."""
    with alone(folder), together(folder, own, inputs) as staged:
        for name, text in files.items():
            write_text(staged / name, text)
        if error:
            raise ZeroDivisionError


def test_a_file_is_replaced_as_a_whole_or_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    fail(path, b"new")
    assert path.read_text() == "old"
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert (path.read_text(), part_of(path).read_text()) == ("old", "new")
    assert path.read_text() == "new"
    assert names(tmp_path) == {"a.txt"}


def test_the_rows_so_far_can_be_kept(tmp_path: Path) -> None:
    fail(tmp_path / "a", b"half", keep=True)
    assert (tmp_path / "a.part").read_bytes() == b"half"
    write_text(tmp_path / "a", "new")  # what was left does not hinder
    assert names(tmp_path) == {"a"}


def test_a_second_writer_of_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with replacing(path) as file:
        file.write(b"first")
        with pytest.raises(OutputError, match=r"a: another process is writing there; wait for it, or name another"):
            write_text(path, "second")
    assert path.read_bytes() == b"first"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("there")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there").read_text() == "new"


def test_what_a_left_part_is_linked_to_stays(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    os.link(tmp_path / "precious", tmp_path / "a.part")
    write_text(tmp_path / "a", "new")
    assert (tmp_path / "precious").read_text() == "precious"
    (tmp_path / "b.part").symlink_to("precious")
    with pytest.raises(OSError, match="symbolic links"):
        write_text(tmp_path / "b", "new")
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize("name", ["image.png", "sub/../image.png", "hard.png", "soft.png", "sub/up/image.png"])
def test_an_input_is_known_by_every_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "image.png").write_text("")
    os.link(tmp_path / "image.png", tmp_path / "hard.png")
    (tmp_path / "soft.png").symlink_to("image.png")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "up").symlink_to("..")
    inputs = Inputs([None, tmp_path / "image.png", tmp_path / "missing.png"])
    with pytest.raises(OutputError, match="is one of the inputs; name another place"):
        inputs.spare(tmp_path / name)
    inputs.spare(tmp_path / "missing.png")
    inputs.spare(tmp_path / "other.png")


def test_a_set_takes_its_place_and_leaves_what_is_foreign(tmp_path: Path) -> None:
    for name in ("a", "b", "sub/c", "mine"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("old")
    with alone(tmp_path), together(tmp_path, ("a", "b", "sub/c"), Inputs()) as staged:
        write_text(staged / "a", "new")
        assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == {"a", "mine"}
    assert ((tmp_path / "a").read_text(), (tmp_path / "mine").read_text()) == ("new", "old")


def test_a_set_that_fails_or_meets_a_foreign_file_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(ZeroDivisionError):
        put_together(tmp_path, ("a",), Inputs(), {"a": "new"}, error=True)
    with pytest.raises(FileExistsError):
        put_together(tmp_path, ("a",), Inputs(), {"a": "new", "mine": "new"})
    with pytest.raises(OutputError, match="is one of the inputs"):
        put_together(tmp_path, ("a", "mine"), Inputs([tmp_path / "mine"]), {"a": "new"})
    assert names(tmp_path) == {"a", "mine"}
    assert ((tmp_path / "a").read_text(), (tmp_path / "mine").read_text()) == ("old", "mine")


def test_an_error_names_the_place_of_a_file_and_not_where_it_was_made(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")

    def fill() -> None:
        with together(tmp_path, (), Inputs()) as staged:
            full.filename = str(staged / "00010.png")
            raise full

    with pytest.raises(OSError, match=f"{tmp_path / '00010.png'}'$"):
        fill()


def test_a_whole_set_counts_before_it_has_taken_its_place(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / NEXT).mkdir()
    (tmp_path / NEXT / "a").write_text("new")
    (tmp_path / STAGED).mkdir()
    assert (current(tmp_path) / "a").read_text() == "new"
    with alone(tmp_path):
        assert foreign(tmp_path) == ["a"]
    assert current(tmp_path) == tmp_path
    assert names(tmp_path) == {"a"}
    assert (tmp_path / "a").read_text() == "new"
    settle(tmp_path)  # there is nothing more to do


def test_a_file_system_without_hard_links_takes_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with alone(tmp_path), together(tmp_path, (), Inputs()) as staged:
        write_text(staged / "a", "new")
        (staged / "link").symlink_to("a")
    assert names(tmp_path) == {"a", "link"}
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "link").read_text() == "new"


def test_a_folder_is_held_by_one_and_goes_if_nothing_was_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with alone(out):
        with pytest.raises(OutputError, match="out: another process is writing there"), alone(out):
            raise AssertionError("two hold it")
        with together(out, (), Inputs()), alone(out, ".png"):
            assert (out / STAGED).is_dir()  # of a process that lives
    assert not out.exists()


HOLD = """
import sys
from pathlib import Path
from aeflow.runtime.folders import scratch
with scratch(Path(sys.argv[1]), "making-") as folder:
    print(flush=True)
    sys.stdin.read()
"""


def test_scratch_of_killed_processes_goes_and_that_of_living_ones_stays(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    for process in both:
        assert process.stdout is not None
        process.stdout.readline()
    (tmp_path / "making-before-its-lock").mkdir()
    both[0].kill()
    both[0].wait()
    assert len(names(tmp_path)) == 3
    with scratch(tmp_path, "making-") as folder:
        assert len(names(tmp_path)) == 2  # the living one's, and ours
        (folder / "a").write_text("made")
        publish(folder, tmp_path / "place")
    both[1].communicate()
    assert names(tmp_path) == {"place"}
    assert names(tmp_path / "place") == {"a"}


def test_where_there_are_no_locks_files_are_written_and_nothing_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_lock(file: object, how: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", no_lock)
    (tmp_path / "making-1").mkdir()
    with scratch(tmp_path, "making-"):
        assert len(list(tmp_path.glob("making-*"))) == 2  # the other may be alive
    write_text(tmp_path / "a", "whole")
    put_together(tmp_path, (), Inputs(), {"b": "whole"})
    assert names(tmp_path) == {"a", "b", "making-1"}
