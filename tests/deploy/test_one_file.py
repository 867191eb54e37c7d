"""An export in one file: whatever takes an export's folder takes it, and nothing but it."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import aeflow
from aeflow.artifacts.exported_graph import load_export
from aeflow.artifacts.layout import OF_EXPORT, of_run, read_metadata
from aeflow.artifacts.run import load_run
from aeflow.errors import ArtifactError
from aeflow.runtime.one_file import MAX_DIRECTORY, packed, unpacked
from helpers.command import error_of, within
from helpers.data import SAMPLE
from helpers.once import once

IMAGES = sorted((SAMPLE / "test" / "abnormal").iterdir())[:2]


def contents(folder: Path) -> dict[str, bytes]:
    """The files of an export in the order in which one file has them."""
    return {name: (folder / name).read_bytes() for name in OF_EXPORT if (folder / name).exists()}


@pytest.fixture(scope="module")
def model(tiny_run: Path, shared: Path) -> Path:
    return once(
        shared / "exports" / "MODEL.aeflow", lambda out: within("export", tiny_run, "--to", "openvino", "--out", out)
    )


def test_it_scores_as_the_folder_does(model: Path, openvino_export: Path, tmp_path: Path) -> None:
    tables = []
    for place in (model, openvino_export):
        tables.append(tmp_path / f"{place.name}.csv")
        within("score", place, *IMAGES, "--out", tables[-1])
    assert tables[0].read_text() == tables[1].read_text()
    assert within("info", model) == within("info", openvino_export)


def test_python_loads_explains_and_pickles_it(model: Path) -> None:
    loaded = aeflow.load(model)
    explained = loaded.explain(IMAGES[0])
    assert explained.score.value == loaded.score(IMAGES[0]).value
    assert pickle.loads(pickle.dumps(loaded)).score(IMAGES[0]).value == explained.score.value


def test_any_program_for_zip_archives_opens_it_and_it_is_the_same_each_time(
    exports: Callable[[str], Path], tmp_path: Path
) -> None:
    for form in ("openvino", "onnx"):
        folder = Path(shutil.copytree(exports(form), tmp_path / form))
        whole = packed(contents(folder))
        for path in folder.iterdir():
            os.utime(path, (0, 0))
        assert packed(contents(folder)) == whole
        file = tmp_path / f"{form}.aeflow"
        file.write_bytes(whole)
        with zipfile.ZipFile(file) as archive:
            assert archive.testzip() is None
            assert {name: archive.read(name) for name in archive.namelist()} == contents(folder)
        assert load_export(file).fingerprint == load_export(folder).fingerprint


def test_what_needs_the_network_names_the_run_around_it(model: Path, tiny_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run, tmp_path / "run"))
    shutil.copy(model, run)
    inside = run / model.name
    with pytest.raises(ArtifactError, match=f"this needs the network itself; give the run that it came from: {run}$"):
        load_run(inside)
    assert "an export generates none; name a folder of images" in error_of("bench", inside)
    assert "needs the network itself" in error_of("recalibrate", inside, SAMPLE / "val" / "normal", "--out", run / "a")
    assert "is a file; name a folder for the results with --out" in error_of("evaluate", inside, SAMPLE)
    assert model.name in of_run(run)  # a new training takes the former one's export away


def test_what_is_named_in_its_place_is_said(model: Path, openvino_export: Path, tmp_path: Path) -> None:
    image = IMAGES[0]
    assert "name the model first, then the images" in error_of("score", image, model)
    assert "no model: " in error_of("score", image, image)
    assert f"give the folder itself: {openvino_export}" in error_of("info", openvino_export / "graph.xml")
    (tmp_path / "thesis.aeflow").write_text("mine")
    found = error_of("export", openvino_export, "--to", "onnx", "--out", tmp_path / "thesis.aeflow")
    assert "is there, and no export in one file; choose another --out" in found
    assert (tmp_path / "thesis.aeflow").read_text() == "mine"
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("export.json", "{}")
    assert "damaged: cut short or damaged (checksum differs); export it again" in error_of(
        "info", tmp_path / "other.zip"
    )


def sealed(content: bytes) -> bytes:
    """An archive with the right checksum, as a stranger makes it."""
    return content[:-64] + hashlib.sha256(content[:-64]).hexdigest().encode()


def archive_of(path: Path, *entries: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.comment = bytes(64)
        for name, content in entries:
            archive.writestr(name, content)
    return sealed(path.read_bytes())


def giant_directory(content: bytes) -> bytes:
    """The same with a directory that is said to be larger than any."""
    at = len(content) - 64 - 22 + 12
    return sealed(content[:at] + struct.pack("<L", MAX_DIRECTORY + 1) + content[at + 4 :])


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_of_strangers(tmp_path: Path) -> None:
    good, place = ("export.json", b"{}" * 1000), tmp_path / "made"
    hostile = {
        "a way out": archive_of(place, good, ("../export.json", b"")),
        "an absolute path": archive_of(place, good, ("/etc/passwd", b"")),
        "another name": archive_of(place, good, ("more.txt", b"")),
        "one name twice": archive_of(place, good, good),
        "compressed": archive_of(place, good, compression=zipfile.ZIP_DEFLATED),
        "a giant directory": giant_directory(archive_of(place, good)),
        "no archive": sealed(b"export" * 100),
        "not sealed": archive_of(place, good)[:-1],
        "longer": archive_of(place, good) + b" ",
        "empty": b"",
    }
    place.write_bytes(archive_of(place, good))
    assert unpacked(place, OF_EXPORT) == dict([good])
    for content in hostile.values():
        place.write_bytes(content)
        with pytest.raises(ValueError, match=r"holds|where|short|archive"):
            unpacked(place, OF_EXPORT)
        with pytest.raises(ArtifactError, match=r"^\S+: (damaged|no model): .*; (export it again|give the folder)"):
            read_metadata(place)


def test_a_graph_in_one_file_that_scores_otherwise_is_not_written(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aeflow.deploy import export as exporting

    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)
    assert "not written: scores differ" in error_of(
        "export", tiny_run, "--to", "openvino", "--out", tmp_path / "m.aeflow"
    )
    assert list(tmp_path.iterdir()) == []
