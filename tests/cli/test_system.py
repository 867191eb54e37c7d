"""What the system refuses, and names that no encoding holds: a line and exit code 2, or a batch that goes on."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from aeflow.home import NO_HOME, in_home
from aeflow.imageio.reader import kind_of
from aeflow.runtime.files import content
from helpers.command import AEFLOW, error_of, within
from helpers.data import SAMPLE

[IMAGE, OTHER, *_] = sorted((SAMPLE / "test" / "normal").iterdir())
NAME = b"M\xfcller_\xe9.jpeg"  # Latin-1, which is no UTF-8
SHOWN = "M\\udcfcller_\\udce9.jpeg"
TORCH = ("--backend", "torch")


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder of two images, one of them with a name that is no UTF-8."""
    folder = tmp_path / "images"
    folder.mkdir()
    shutil.copy(IMAGE, folder / "a.jpeg")
    try:
        shutil.copy(os.fsencode(IMAGE), os.path.join(os.fsencode(folder), NAME))
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    return folder


@pytest.mark.parametrize("place", ["taken.csv", "file/scores.csv", "/dev/full.csv"])
def test_a_table_that_cannot_be_written_is_an_error_of_one_line(tiny_run: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "taken.csv").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "full.csv").symlink_to("/dev/full")
    out = tmp_path / ("full.csv" if place.startswith("/dev") else place)
    line = error_of("score", tiny_run, IMAGE, "--out", out, *TORCH)
    assert line.count("; ") == 1
    assert any(words in line for words in ("Is a directory", "File exists", "Not a directory", "No space left"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_model_that_may_not_be_read_is_an_error_of_one_line(tiny_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    (run / "model.json").chmod(0)
    assert "Permission denied; change its permissions" in error_of("score", run, IMAGE, *TORCH)


def test_names_that_are_no_text_are_written_as_escapes(tiny_run: Path, odd: Path, tmp_path: Path) -> None:
    within("score", tiny_run, odd, "--out", tmp_path / "s.csv", *TORCH)
    with (tmp_path / "s.csv").open(encoding="utf-8") as file:
        assert {Path(row["path"]).name for row in csv.DictReader(file)} == {"a.jpeg", SHOWN}
    within("score", tiny_run, odd, "--out", tmp_path / "s.parquet", *TORCH)
    paths = pq.read_table(tmp_path / "s.parquet")["path"].to_pylist()
    assert {Path(path).name for path in paths} == {"a.jpeg", SHOWN}


def test_a_terminal_that_cannot_show_a_name_shows_its_escapes(tiny_run: Path, odd: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([AEFLOW, "score", tiny_run, odd, *TORCH], capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert SHOWN.encode() in done.stdout


def test_a_reader_who_has_seen_enough_is_no_failure(tiny_run: Path) -> None:
    """`| head`: nobody reads any more, though there is more to say."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    command = [AEFLOW, "score", tiny_run, IMAGE, OTHER, *TORCH]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert b"Traceback" not in err
    assert b"Exception ignored" not in err


def test_a_full_standard_output_is_an_error() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([AEFLOW, "--version"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*: No space left on device; free some space, .*\n", done.stderr.decode())


def test_a_pipe_in_a_folder_is_refused_and_never_opened(tiny_run: Path, tmp_path: Path) -> None:
    shutil.copy(IMAGE, tmp_path / "a.jpeg")
    os.mkfifo(tmp_path / "pipe.png")
    assert kind_of(tmp_path / "pipe.png") == "plain"
    assert content(tmp_path / "pipe.png") is None
    out, _ = within("score", tiny_run, tmp_path, "--json", *TORCH, ok=1)
    first, refused = map(json.loads, out.splitlines())
    assert first["score"] is not None
    assert refused["error"] == "not a file; name an image file"


def test_a_user_without_a_home_keeps_nothing() -> None:
    def find() -> Path:
        raise RuntimeError("could not determine the home directory")

    assert in_home(find) == NO_HOME
    assert in_home(lambda: Path("/home/me")) == Path("/home/me")
