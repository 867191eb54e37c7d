"""What a user finds when outputs and inputs meet, when two write at once, and after Ctrl-C."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from aeflow.errors import REPLACE
from aeflow.runtime.files import part_of
from helpers.command import AEFLOW, error_of, within
from helpers.data import SAMPLE

IMAGES = sorted((SAMPLE / "test" / "normal").iterdir())
TORCH = ("--backend", "torch")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of images with the names of our pictures."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in (1, 2):
        Image.open(IMAGES[number]).save(folder / f"{number:05}.png")
    return folder


HOLDS = "holds images that are read here; name a folder of its own for the results"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("way", ["itself", "link", "hard links", "a neighbour"])
def test_pictures_never_replace_images(tiny_run: Path, images: Path, tmp_path: Path, way: str) -> None:
    before, out, given = contents(images), images, images
    if way == "link":
        out = tmp_path / "link"
        out.symlink_to(images)
    if way == "hard links":
        out = tmp_path / "hard"
        shutil.copytree(images, out, copy_function=os.link)
    if way == "a neighbour":  # foreign pictures that are no inputs
        given = IMAGES[0]
    line = error_of("score", tiny_run, given, "--maps", out, *TORCH)
    found = {"hard links": "is one of the inputs", "a neighbour": "is there already, and not by aeflow"}
    assert found.get(way, HOLDS) in line
    assert contents(images) == before


def test_pictures_of_an_earlier_run_are_replaced(tiny_run: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "maps"
    within("score", tiny_run, IMAGES[3], IMAGES[4], "--maps", out, "--overlay", *TORCH)
    before = contents(out)
    (out / "notes.png").write_bytes(b"mine")
    refused = error_of("score", tiny_run, images, "--maps", out, *TORCH)
    assert refused == f"{out}/00001.png: is there already; name another place, or {REPLACE}"
    assert contents(out) == {**before, "notes.png": b"mine"}
    within("score", tiny_run, IMAGES[5], "--maps", out, "--overwrite", *TORCH)
    assert contents(out).keys() == {"00001.png", "notes.png"}  # none of two tables, and what is not ours stays
    assert contents(out)["00001.png"] not in before.values()
    (out / "notes.png").unlink()
    line = error_of("score", tiny_run, out, "--maps", out, "--overwrite", *TORCH)  # our own pictures, scored
    assert HOLDS in line


def test_a_table_replaces_a_table_and_nothing_else(tiny_run: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("")
    for name in ("scores.csv", "scores.parquet"):
        within("score", tiny_run, images, "--out", tmp_path / name, *TORCH)
        before = (tmp_path / name).read_bytes()
        line = error_of("score", tiny_run, IMAGES[3], "--out", tmp_path / name, *TORCH)
        assert line == f"{tmp_path / name}: is there already; name another place, or {REPLACE}"
        assert (tmp_path / name).read_bytes() == before
        assert not part_of(tmp_path / name).exists()
        within("score", tiny_run, IMAGES[3], "--out", tmp_path / name, "--overwrite", *TORCH)
        assert (tmp_path / name).read_bytes() != before
    for name in ("patients.csv", "patients.parquet"):
        (tmp_path / name).write_text("name,score\nJane Doe,1\n")
        line = error_of("score", tiny_run, images, "--out", tmp_path / name, "--overwrite", *TORCH)
        assert f"{name}: is there already, and is no table of scores; move it away" in line
        assert "Jane" in (tmp_path / name).read_text()


def test_every_output_is_refused_before_any_is_begun(tiny_run: Path, images: Path, tmp_path: Path) -> None:
    """One that is in the way keeps the others from being written, and nothing is scored."""
    page, table, maps = tmp_path / "scores.html", tmp_path / "scores.csv", tmp_path / "maps"
    within("score", tiny_run, IMAGES[3], "--report", page, *TORCH)
    before = page.read_bytes()
    words = ("score", tiny_run, images, "--out", table, "--maps", maps, "--report", page, *TORCH)
    line = error_of(*words)
    assert line == f"{page}: is there already; name another place, or {REPLACE}"
    assert {path.name for path in tmp_path.iterdir()} == {"images", "scores.html"}
    assert page.read_bytes() == before
    part_of(page).write_bytes(b"of a killed process")  # is no result
    (tmp_path / "scores.studies.csv").write_text("mine")
    assert "scores.studies.csv: is there already, and is no table of studies" in error_of(*words, "--overwrite")
    (tmp_path / "scores.studies.csv").unlink()
    within(*words, "--overwrite")
    assert page.read_bytes() != before
    page.write_text("<p>mine</p>")
    assert "is there already, and is no page of scores" in error_of(*words, "--overwrite")


def test_an_evaluation_is_replaced_on_request_alone(tiny_run: Path, data: Path, tmp_path: Path) -> None:
    within("evaluate", tiny_run, data, "--out", tmp_path, *TORCH)
    before = contents(tmp_path / "plots")
    line = error_of("evaluate", tiny_run, data, "--out", tmp_path, *TORCH)
    assert line == f"{tmp_path}/metrics.json: is there already; name another place, or {REPLACE}"
    assert contents(tmp_path / "plots") == before
    within("evaluate", tiny_run, data, "--out", tmp_path, "--overwrite", *TORCH)


def test_an_explanation_never_replaces_its_image(tiny_run: Path, tmp_path: Path) -> None:
    image = tmp_path / "explain.png"
    Image.open(IMAGES[0]).save(image)
    before = contents(tmp_path)
    command = ("explain", tiny_run, image, "--out", tmp_path)
    for words in (command, (*command, "--overwrite")):
        assert "explain.png: is one of the inputs" in error_of(*words)
    assert contents(tmp_path) == before


def test_an_evaluation_and_an_audit_never_replace_an_image_of_a_manifest(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "plots").mkdir()
    rows = ["path,split,label"]
    for number, name in enumerate(("plots/roc.png", "report.html", "audit.html", "metrics.json")):
        shutil.copy(IMAGES[number], tmp_path / name)
        rows.append(f"{name},test,{number % 2}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert "is one of the inputs" in error_of("evaluate", tiny_run, tmp_path, "--out", tmp_path, *TORCH)
    assert "audit.html: is there already" in error_of("audit", tmp_path, "--out", tmp_path)
    assert "is one of the inputs" in error_of("audit", tmp_path, "--out", tmp_path, "--overwrite")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_training_never_replaces_its_weights(data: Path, tiny_weights: Path, tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    shutil.copy(tiny_weights, weights)
    arguments = ("train", data, "--out", tmp_path, "--encoder-weights", weights)
    assert "holds model.safetensors, which is of no model here" in error_of(*arguments)
    assert "model.safetensors: is one of the inputs" in error_of(*arguments, "--overwrite")
    assert weights.read_bytes() == tiny_weights.read_bytes()


def test_exporting_again_leaves_foreign_files(tiny_run: Path, exports: Callable[[str], Path], tmp_path: Path) -> None:
    out = Path(shutil.copytree(exports("onnx"), tmp_path / "out"))
    (out / "notes.txt").write_text("mine")
    (out / "graph.xml").write_text("mine, too")
    again = ("export", tiny_run, "--to", "openvino", "--out", out)
    assert f"{out}: already holds an export; choose another --out, or replace it with --overwrite" in error_of(*again)
    assert "File exists" in within(*again, "--overwrite", ok=2)[1].splitlines()[-1]
    assert contents(out).keys() == {"notes.txt", "graph.xml", "graph.onnx", "arrays.safetensors", "export.json"}


def started(run: Path, out: Path, *options: object) -> subprocess.Popen[str]:
    """Start a score of many images, and return once its table is begun."""
    command = [AEFLOW, "score", run, SAMPLE / "train" / "normal", "--out", out, *TORCH, *options]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a job in the background of a shell ignores it
    process = subprocess.Popen(
        [*map(str, command)], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, preexec_fn=heard
    )
    while process.poll() is None and not (part_of(out).exists() and part_of(out).stat().st_size):
        time.sleep(0.05)
    return process


def test_ctrl_c_says_what_is_there(tiny_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    within("score", tiny_run, IMAGES[0], "--out", out, *TORCH)
    before = out.read_bytes()
    process = started(tiny_run, out, "--overwrite")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130, err
    line = err.splitlines()[-1]  # after progress, where the machine is slow
    rows = part_of(out).read_text().count("\n") - 1
    assert rows > 0
    there = f"{part_of(out)} holds the first {rows} rows, {out} is as it was"
    assert line == f"stopped ({there}, and the same command goes on from them)"
    assert out.read_bytes() == before


def test_the_second_of_two_writers_is_refused_and_the_first_goes_on(tiny_run: Path, tmp_path: Path) -> None:
    out, maps = tmp_path / "scores.csv", tmp_path / "maps"
    first = started(tiny_run, out, "--maps", maps)
    first.send_signal(signal.SIGSTOP)
    try:
        said = "another process is writing there; wait for it, or name another"
        assert error_of("score", tiny_run, IMAGES[0], "--out", out, *TORCH) == f"{out}: {said}"
        assert error_of("score", tiny_run, IMAGES[0], "--maps", maps, *TORCH) == f"{maps}: {said}"
    finally:
        first.send_signal(signal.SIGCONT)
    _, err = first.communicate()
    assert first.returncode == 0, err
    assert out.read_text().count("\n") == 1 + len(list((SAMPLE / "train" / "normal").iterdir()))
    assert not list(tmp_path.rglob("*.part"))
