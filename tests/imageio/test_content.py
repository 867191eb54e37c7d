"""Files that a user names: only regular ones are opened, within the limits, and each is read once."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from aeflow.imageio.content import read_content, start_of
from aeflow.imageio.errors import FileError, ImageLimitError
from aeflow.imageio.limits import Limits
from aeflow.imageio.reader import kind_of
from aeflow.runtime.files import content


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def listening(path: Path) -> None:
    socket.socket(socket.AF_UNIX).bind(str(path))


@pytest.mark.parametrize("make", [fifo, device, listening])
def test_what_is_no_file_is_never_opened(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the name of a socket has to be short
    make(path := Path("file"))
    for read in (lambda: read_content(path, Limits()), lambda: start_of(path, 8)):
        with pytest.raises(FileError, match="not a file; name an image file"):
            read()
    assert content(path) is None
    assert kind_of(path) == "plain"


def test_a_huge_file_is_neither_read_nor_digested(tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**42)
    with pytest.raises(ImageLimitError, match="4398046511104 bytes where the limit is 1000"):
        read_content(tmp_path / "sparse", Limits(max_bytes=1000))
    assert content(tmp_path / "sparse", 1000) is None


def test_a_file_is_read_once_for_all_its_images_and_again_once_it_changed(tmp_path):
    path = tmp_path / "volume"
    path.write_bytes(b"one")
    first = read_content(path, Limits())
    assert read_content(path, Limits()) is first
    path.write_bytes(b"two!")
    assert read_content(path, Limits()) == b"two!"
