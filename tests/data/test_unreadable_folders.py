"""A folder that cannot be listed costs itself, as a file that cannot be opened does."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aeflow.data.records import find_images, read_records
from aeflow.imageio.content import read_content
from aeflow.imageio.errors import ImageError
from aeflow.imageio.limits import Limits
from helpers.image_files import noise, png

NOBODY = 65534


@contextmanager
def without_rights(*folders: Path) -> Iterator[None]:
    """Take the rights to list folders away; root has all rights, and is nobody meanwhile."""
    for folder in folders:
        folder.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for folder in folders:
            folder.chmod(0o755)


@pytest.fixture
def data() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:  # tmp_path lies where nobody may look
        data = Path(name)
        data.chmod(0o755)
        for folder in ("train/normal/a", "train/normal/b", "train/mask/a", "test/normal"):
            (data / folder).mkdir(parents=True)
            (data / folder / f"{folder.replace('/', '-')}.png").write_bytes(png(noise("u1"), 0))
        yield data


def test_it_is_refused_by_its_reason_and_the_others_are_found(data):
    with without_rights(hidden := data / "train/normal/a"):
        for records in (find_images([data / "train/normal"]), read_records(data, "train")):
            assert [record.path.name for record in records] == ["a", "train-normal-b.png"]
            assert records[0].path == hidden
        with pytest.raises(ImageError, match=r"cannot be opened \(Permission denied\)"):
            read_content(hidden, Limits())


def test_a_class_or_a_split_that_cannot_be_listed_costs_itself(data):
    with without_rights(data / "train/normal", data / "test"):
        assert [(r.split, r.label, r.path.name) for r in read_records(data)] == [
            ("train", 0, "normal"),
            ("test", None, "test"),
        ]


def test_masks_that_cannot_be_listed_are_said(data, capsys):
    with without_rights(data / "train/mask/a"):
        assert len(read_records(data, "train")) == 2
    said = capsys.readouterr().err
    assert "cannot be listed: its masks are passed over" in said
    assert str(data) not in said
