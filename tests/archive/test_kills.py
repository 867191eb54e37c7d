"""Kills of an archive by `kill -9`, driver and workers, at any moment: the same command goes on to the same rows."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from aeflow.archive import plan
from aeflow.archive.folder import ArchiveFolder
from aeflow.artifacts.layout import EXPORT, read_export, write_checked
from helpers.command import error_of, within
from helpers.data import texture
from helpers.part_workers import workers_of

FILES, IN_A_PART = 60, 2
PARTS = FILES // IN_A_PART
KILLS = 20
LAST = 2 * PARTS // 3  # the kill comes after one of the first parts, so that enough is left to be killed
OPENING_SECONDS, PART_SECONDS = 1.0, 0.05  # at most so long after the workers are there, or after the part
PROGRAM = f"from aeflow.archive import plan; plan.MAX_FILES = {IN_A_PART}; from aeflow.cli import main; main()"
Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number in range(FILES - 1):
        Image.fromarray(texture(number)).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


@pytest.fixture(scope="module")
def undisturbed(openvino_export: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    out = tmp_path_factory.mktemp("undisturbed") / "archive"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "MAX_FILES", IN_A_PART)
        within("score", openvino_export, images, "--out", out, ok=1)
    return pd.read_parquet(out)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MAX_FILES", IN_A_PART)


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(KILLS))
def test_the_same_command_goes_on_to_the_same_rows(
    openvino_export: Path,
    images: Path,
    undisturbed: pd.DataFrame,
    tmp_path: Path,
    seed: int,
    record_property: Record,
) -> None:
    record_property("kills of an archive, its driver or a worker", 1)
    chance, out = random.Random(seed), tmp_path / "archive"
    command = [sys.executable, "-c", PROGRAM, "score", openvino_export, images, "--out", out, "--workers", 2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([str(part) for part in command], env=environment, stderr=subprocess.DEVNULL)
    try:
        after, driver = chance.randrange(LAST), seed % 2 == 0
        while len(workers_of(process.pid)) == 0 or len(list(out.glob("part-*"))) < after:
            assert process.poll() is None
            time.sleep(0.005)
        time.sleep(chance.uniform(0, PART_SECONDS if after else OPENING_SECONDS))
        os.kill(process.pid if driver else chance.choice(workers_of(process.pid)), signal.SIGKILL)
        code = process.wait()
    finally:
        process.kill()
        process.wait()
    assert code == (-signal.SIGKILL if driver else 1)  # 1: for the damaged image
    if driver:
        assert len(list(out.glob("part-*"))) < PARTS
        within("score", openvino_export, images, "--out", out, ok=1)
    pd.testing.assert_frame_equal(pd.read_parquet(out), undisturbed)


@pytest.mark.parametrize("way", ["renamed", "written over"])
@pytest.mark.parametrize("killed", [True, False])
def test_no_row_is_scored_by_a_model_that_takes_the_place_of_the_first(
    openvino_export: Path,
    images: Path,
    undisturbed: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    killed: bool,
) -> None:
    run, other, out = tmp_path / "run", tmp_path / "other", tmp_path / "archive"
    for place in (run, other):
        shutil.copytree(openvino_export, place)
    export = read_export(other)
    del export["sha256"]
    model = export["model"] | {"sha256": "0" * 64}  # of another training, with the same files
    write_checked(other / EXPORT, {**export, "model": model})

    def exchange(place: Path) -> None:
        for file in sorted(place.iterdir()):
            if way == "renamed":
                shutil.copyfile(file, tmp_path / "new")
                os.replace(tmp_path / "new", run / file.name)
            else:
                (run / file.name).write_bytes(file.read_bytes())

    def written(archive: ArchiveFolder, *arguments: object) -> None:
        write_part(archive, *arguments)  # type: ignore[arg-type]
        if len(archive.parts()) == 1:
            exchange(other)
            if killed:
                for worker in workers_of(os.getpid()):
                    os.kill(worker, signal.SIGKILL)

    write_part = ArchiveFolder.write_part
    monkeypatch.setattr(ArchiveFolder, "write_part", written)
    if killed:
        line = error_of("score", run, images, "--out", out)
        assert "the model was replaced by another while it scored; put the former model back" in line
        assert 1 <= len(list(out.glob("part-*"))) < PARTS
        monkeypatch.setattr(ArchiveFolder, "write_part", write_part)
        assert "was begun with other model" in error_of("score", run, images, "--out", out)
        exchange(openvino_export)
    within("score", run, images, "--out", out, ok=1)
    found = pd.read_parquet(out)
    assert set(found.model.dropna()) == set(undisturbed.model.dropna())
    pd.testing.assert_frame_equal(found, undisturbed)
