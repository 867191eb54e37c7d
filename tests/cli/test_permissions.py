"""What may not be read or written: one line that says so, the right exit code, and the batch goes on where it can."""

from __future__ import annotations

import csv
import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from helpers.data import texture

# Root may read and write everything by two of its capabilities; a process that they are taken from is as a user's.
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, PR_CAPBSET_DROP = 1, 2, 24
SCRIPT = """
import contextlib, io, json, sys
from aeflow.cli import main
for words in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(words)
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""
DENIED = "Permission denied"


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def _as_a_user() -> None:
    prctl = ctypes.CDLL(None).prctl
    for right in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        prctl(PR_CAPBSET_DROP, right, 0, 0, 0)


def as_a_user(*commands: Sequence[object], **environment: str) -> list[Ended]:
    """Run commands in one process that has the rights of files' owners, and no more."""
    asked = json.dumps([[str(word) for word in words] for words in commands])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, asked],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        preexec_fn=_as_a_user if os.geteuid() == 0 else None,
    )
    assert done.returncode == 0, done.stderr
    ended = [Ended(*json.loads(line)) for line in done.stdout.splitlines()]
    for command in ended:
        assert "Traceback" not in command.err
    return ended


@pytest.fixture(scope="module", autouse=True)
def _rights_can_be_taken(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("rights") / "file"
    file.touch(0)
    read = [sys.executable, "-c", "import sys; open(sys.argv[1])", str(file)]
    preexec = _as_a_user if os.geteuid() == 0 else None
    if subprocess.run(read, stderr=subprocess.DEVNULL, preexec_fn=preexec).returncode == 0:
        pytest.skip("this user may read everything, and that cannot be changed here")


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Path]:
    """Two images that can be read, one that cannot, and a folder that cannot be listed."""
    folder = tmp_path / "images"
    for name in ("a.png", "b.png", "closed/c.png", "d.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(texture(len(name))).save(folder / name)
    closed = [folder / "b.png", folder / "closed"]
    for path in closed:
        path.chmod(0)
    yield folder
    for path in closed:
        path.chmod(0o755)


def test_what_cannot_be_read_is_refused_and_the_batch_goes_on(
    openvino_export: Path, images: Path, tmp_path: Path
) -> None:
    [scored, alone, nothing, typed] = as_a_user(
        ["score", openvino_export, images, "--out", tmp_path / "scores.csv", "--nifti", tmp_path / "nifti"],
        ["score", openvino_export, images / "b.png"],
        ["score", openvino_export, images / "closed"],
        ["score", openvino_export, images / "b.png", images / "closed", images / "a.png"],
    )
    assert scored.code == 1
    assert "2 images called normal" in scored.out or "table: " in scored.out
    rows = {Path(row["path"]).name: row for row in csv.DictReader((tmp_path / "scores.csv").open())}
    assert sorted(rows) == ["a.png", "b.png", "closed", "d.png"]
    assert rows["a.png"]["score"]
    assert rows["d.png"]["score"]
    for name in ("b.png", "closed"):
        assert rows[name]["error"] == f"cannot be opened ({DENIED}); check the path and its permissions"
    assert "2 images refused:" in scored.err
    for one in (alone, nothing):
        assert one.code == 1
        assert one.err.count(DENIED) == 1
        assert one.out.startswith("refused ")
    assert typed.code == 1
    assert "a.png" in typed.out


def test_a_place_that_cannot_be_written_is_named_and_stays_as_it_is(
    openvino_export: Path, images: Path, tmp_path: Path
) -> None:
    closed = tmp_path / "results"
    closed.mkdir()
    (closed / "former.csv").write_text("path,score,verdict,error\n")
    closed.chmod(0o555)
    file = images / "a.png"
    try:
        ended = as_a_user(
            ["score", openvino_export, file, "--out", closed / "scores.csv"],
            ["score", openvino_export, file, "--out", closed / "former.csv", "--overwrite"],
            ["score", openvino_export, file, "--out", closed / "new" / "scores.csv"],
            ["score", openvino_export, file, "--maps", closed],
            ["score", openvino_export, file, "--nifti", closed],
            ["score", openvino_export, file, "--dicom", closed / "dicom"],
            ["explain", openvino_export, file, "--out", closed],
        )
    finally:
        closed.chmod(0o755)
    for one in ended:
        assert one.code == 2, one
        [line] = [line for line in one.err.splitlines() if not line.startswith("note: ")]
        assert line.startswith(f"error: {closed}")
        assert line.endswith("change its permissions, or name another place")
        assert DENIED in line
    assert [path.name for path in closed.iterdir()] == ["former.csv"]


def test_a_model_that_cannot_be_read_is_an_error_alone(openvino_export: Path, tmp_path: Path, images: Path) -> None:
    models = []
    for name in ("export.json", "graph.bin", "."):
        model = Path(shutil.copytree(openvino_export, tmp_path / f"model {name}"))
        (model / name).chmod(0)
        models.append(model)
    ended = as_a_user(*(["score", model, images] for model in models), ["info", models[0]])
    for model in models:
        model.chmod(0o755)
    for one in ended:
        assert one.code == 2, one
        [line] = one.err.splitlines()
        assert line.startswith(f"error: {tmp_path}/model ")
        assert DENIED in line
        assert one.out == ""


def test_a_cache_that_cannot_be_written_or_listed_is_named(tiny_run: Path, tmp_path: Path, images: Path) -> None:
    cache = tmp_path / "cache"
    (cache / "graphs").mkdir(parents=True)
    cache.chmod(0)
    try:
        [scored, listed] = as_a_user(
            ["score", tiny_run, images / "a.png", "--backend", "openvino"],
            ["cache", "list"],
            AEFLOW_CACHE=str(cache),
        )
    finally:
        cache.chmod(0o755)
    for one in (scored, listed):
        assert one.code == 2, one
        assert DENIED in one.err
        assert str(cache) in one.err
        assert len([line for line in one.err.splitlines() if not line.startswith("note: ")]) == 1
