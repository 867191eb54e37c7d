"""No name of a patient, and no name of a file, in anything a run writes: every byte is searched for planted ones."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile

import nibabel
import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from helpers.data import TINY, lesion, texture

CANARY = "Kanarienvogel"
SMALL = ("image_size=64", "hidden=16", "flow_steps=2", "batch_size=8", "stages=3")


def plant(root: Path) -> Path:
    """A data set whose folders, files, manifest-less patients and headers all carry the canary."""

    def put(pixels: np.ndarray, name: str) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / name, pnginfo=_text())

    for i in range(30):
        put(texture(i), f"train/normal/{CANARY}_ward/{CANARY}_{i}.png")
    for i in range(6):
        put(lesion(100 + i)[0], f"train/abnormal/{CANARY}{i}.png")
        put(texture(200 + i), f"train/unlabelled/{CANARY}{i}.png")
        put(texture(300 + i), f"test/normal/{CANARY}{i}.png")
        image, mask = lesion(400 + i)
        put(image, f"test/abnormal/{CANARY}_{i}.png")
        put(mask.astype(np.uint8) * 255, f"test/mask/{CANARY}_{i}.png")
    for split in ("train", "test"):
        (root / split / "normal" / f"{CANARY}_broken.png").write_bytes(
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + f"{CANARY}{split}".encode()
        )
        (root / split / "normal" / f"{CANARY}.txt").write_text(CANARY + split)
        for name, change in (("whole", lambda b: b), ("cut", lambda b: b[:-2000])):
            path = root / split / "normal" / f"{CANARY}_{name}.dcm"
            dicom(path, split)
            path.write_bytes(change(path.read_bytes()))
        slices = [texture(10 * len(split) + i) for i in range(3)]
        volume = nibabel.Nifti1Image(np.stack(slices, axis=2).astype(np.int16), np.eye(4))
        volume.header["descrip"] = volume.header["db_name"] = CANARY.encode()
        nibabel.save(volume, root / split / "normal" / f"{CANARY}.nii.gz")
    return root


def dicom(path: Path, split: str) -> None:
    found = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    found.PatientName, found.PatientID, found.AccessionNumber = f"{CANARY}^A", f"{CANARY}-{split}", CANARY
    found.StudyDescription = found.SeriesDescription = found.InstitutionName = CANARY
    found.PatientBirthDate = CANARY  # not a date: what a reader complains about, it quotes
    found.StudyInstanceUID = f"1.2.826.0.1.{len(split)}"
    found.save_as(path)


def _text():
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Patient", CANARY)
    return info


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_weights: Path) -> tuple[Path, Path, str]:
    """The data, the home folder with everything that was written, and everything that was printed."""
    data = plant(tmp_path_factory.mktemp("data"))
    home = tmp_path_factory.mktemp("home") / f"{CANARY}_user"
    home.mkdir()
    scans = tmp_path_factory.mktemp("scans")
    for i in range(20):
        (scans / ("normal", "abnormal")[i % 2]).mkdir(exist_ok=True)
        dicom(scans / ("normal", "abnormal")[i % 2] / f"{i}.dcm", str(i // 2))
    changes = [part for change in SMALL for part in ("--set", change)]
    changes += ["--encoder", TINY, "--encoder-weights", tiny_weights]
    run, picture = home / "run", data / f"test/abnormal/{CANARY}_0.png"
    looked_at = ["--maps", home / "maps", "--overlay", "--report", home / "scores.html"]
    commands = (
        (1, ["train", data, "--out", run, "--epochs", "2", "--labels", "4", "--device", "cpu", *changes]),
        (1, ["evaluate", run, data, "--out", home / "evaluated"]),
        (1, ["score", run, data / "test", "--out", home / "scores.csv", *looked_at]),
        (0, ["drift", run, home / "scores.csv", "--by", "label", "--report", home / "drift.html", "--json"]),
        (0, ["explain", run, picture, "--out", home / "explained"]),
        (2, ["explain", run, data / f"test/normal/{CANARY}_cut.dcm", "--out", home / "not_explained"]),
        (0, ["info", run]),
        (1, ["audit", data, "--out", home / "audit"]),
        (1, ["score", run, data / "test", "--out", home / "archive"]),
        (0, ["info", home / "archive"]),
        (0, ["info", home / "archive", "--json"]),
        (0, ["bench", run, "--images", data / "test/abnormal", "--out", home / "bench.json", "--backend", "torch"]),
        (0, ["export", run, "--to", "openvino", "--out", home / "MODEL.aeflow"]),
        (1, ["recalibrate", run, data / "train/normal", "--out", home / "recalibrated"]),
        (0, ["data", "split", scans, "--out", home / "split" / "manifest.csv"]),
        (0, ["cache", "list"]),
    )
    done = call(home, *(arguments for _, arguments in commands))
    assert done.returncode == 0, done.stdout + done.stderr
    *shown, codes = done.stdout.splitlines(keepends=True)
    assert json.loads(codes) == [code for code, _ in commands], done.stdout + done.stderr
    assert (run / "openvino" / "export.json").exists()  # training has made a graph
    printed = "".join(shown) + done.stderr
    typed = {str(word) for _, words in commands for word in words if isinstance(word, Path)} | {str(home)}
    for path in sorted(typed, key=len, reverse=True):  # a folder comes after what lies in it
        printed = printed.replace(path, "")  # whoever typed a path knows it
    return data, home, printed


PROGRAM = """
import json, sys
from aeflow.cli import main
codes = []
for arguments in json.load(sys.stdin):
    try:
        main(arguments)
    except SystemExit as end:
        codes.append(end.code)
print(json.dumps(codes))
"""


def call(home: Path, *commands: Sequence[object]) -> subprocess.CompletedProcess[str]:
    """Run commands one after the other in one process, whose caches and secrets lie in ``home``, too.

    The last line that it prints are the commands' exit codes.
    """
    places = {"HOME": home, "XDG_CACHE_HOME": home / "cache", "XDG_STATE_HOME": home / "state", "TMPDIR": home / "tmp"}
    (home / "tmp").mkdir(exist_ok=True)
    env = {k: v for k, v in os.environ.items() if k not in ("AEFLOW_CACHE", "AEFLOW_SALT")}
    env |= {"OMP_NUM_THREADS": "1", **{name: str(place) for name, place in places.items()}}
    asked = json.dumps([list(map(str, arguments)) for arguments in commands])
    return subprocess.run([sys.executable, "-c", PROGRAM], input=asked, capture_output=True, text=True, env=env)


def test_nothing_printed_names_anybody(world: tuple[Path, Path, str]) -> None:
    _, _, printed = world
    assert "images refused" in printed
    assert "--identify shows their names" in printed
    assert CANARY.lower() not in printed.lower()


def test_nothing_written_names_anybody_but_the_paths_of_the_tables(world: tuple[Path, Path, str]) -> None:
    _, home, _ = world
    files = [path for path in home.rglob("*") if path.is_file()]
    assert len(files) > 40
    spellings = [CANARY.encode(), CANARY.lower().encode(), CANARY.upper().encode(), CANARY.encode("utf-16-le")]
    telling = {path for path in files if any(word in path.read_bytes() for word in spellings)}
    plan_and_parts = {path for path in (home / "archive").iterdir() if path.suffix in (".arrow", ".parquet")}
    assert telling <= {home / "scores.csv", *plan_and_parts}
    assert not any(CANARY.lower() in str(path.relative_to(home)).lower() for path in files)
    for row in csv.DictReader((home / "scores.csv").open()):
        assert CANARY in row.pop("path")
        assert CANARY.lower() not in str(row).lower()
    rows = pq.read_table(home / "archive")
    assert all(CANARY in path for path in rows["path"].to_pylist())
    assert CANARY.lower() not in str(rows.drop_columns("path").to_pylist()).lower()
    with ZipFile(home / "MODEL.aeflow") as model:  # what it holds might be packed
        assert not any(CANARY.encode() in model.read(name) for name in model.namelist())


def test_a_published_model_does_not_tell_which_images_it_saw(world: tuple[Path, Path, str]) -> None:
    """Whoever has a candidate image and the model, but not the salt, finds no digest of the image in it."""
    data, home, _ = world
    written = (home / "recalibrated" / "model.json").read_text()
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (data / "train/normal").rglob("*.png")]
    assert len(digests) > 20
    assert not any(digest[:12] in written for digest in digests)


def test_names_are_shown_on_request(world: tuple[Path, Path, str]) -> None:
    data, home, _ = world
    done = call(
        home,
        ["explain", home / "run", data / f"test/normal/{CANARY}_cut.dcm", "--out", home / "e", "--identify"],
        ["score", home / "run", data / "test/normal", "--out", home / "named.csv", "--identify"],
    )
    assert f"{CANARY}_cut.dcm: " in done.stderr
    assert f"{CANARY}_broken.png: " in done.stderr
    patients = {row["patient"] for row in csv.DictReader((home / "named.csv").open())}
    assert f"{CANARY}-test" in patients


def test_the_canary_would_be_found(world: tuple[Path, Path, str]) -> None:
    """The search itself works: the tables that may hold it do."""
    _, home, _ = world
    assert CANARY.encode() in (home / "scores.csv").read_bytes()
