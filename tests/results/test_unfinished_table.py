"""Tables of scores that were stopped: the same command goes on, and the table is that of an undisturbed run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from aeflow.results.unfinished_table import rows_file, task_file
from aeflow.scoring import score_files as loop
from helpers.command import error_of, within
from helpers.data import texture
from helpers.dicom_files import content, dataset


@pytest.fixture
def images(data: Path, tmp_path: Path) -> Path:
    """Four images, a damaged one, and a study of three slices in one file and two in others."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i, source in enumerate(sorted((data / "test" / "normal").iterdir())[:4]):
        shutil.copyfile(source, folder / f"{i}.png")
    (folder / "1.png").write_bytes((folder / "0.png").read_bytes()[:200])
    for i, frames in enumerate((0, 3, 0)):
        pixels = texture(i) if not frames else [texture(10 + j) for j in range(frames)]
        one = dataset(np.asarray(pixels), frames=frames, StudyInstanceUID="1.2.3", SOPInstanceUID=f"1.2.3.{i}")
        (folder / f"slice{i}.dcm").write_bytes(content(one))
    return folder


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("images_done", [1, 5, 6, 8])
def test_the_same_command_goes_on_and_the_tables_are_those_of_an_undisturbed_run(
    openvino_export: Path, images: Path, tmp_path: Path, suffix: str, images_done: int
) -> None:
    whole, out = tmp_path / f"whole{suffix}", tmp_path / f"scores{suffix}"
    said = within("score", openvino_export, images, "--out", whole, ok=1)
    with pytest.MonkeyPatch.context() as patch:
        score = loop.score_images

        def some(*arguments: object, **options: object) -> object:
            for number, found in enumerate(score(*arguments, **options)):
                if number == images_done:
                    raise KeyboardInterrupt
                yield found

        patch.setattr(loop, "score_images", some)
        _, err = within("score", openvino_export, images, "--out", out, ok=130)
    assert f"{rows_file(out)} holds the first {images_done} row" in err
    assert not out.exists()
    with rows_file(out).open("a") as file:
        file.write("a row that was cut o")
    again = within("score", openvino_export, images, "--out", out, ok=1)
    done = {1: 0, 5: 4, 6: 5, 8: 5}[images_done]  # the file whose rows come last is scored again
    assert (f"going on: {done} of 7 files" in again[1]) == bool(done)
    assert out.read_bytes() == whole.read_bytes()
    studies = [path.with_name(f"{path.stem}.studies.csv").read_text() for path in (out, whole)]
    assert studies[0] == studies[1]
    assert again[0].replace("scores", "whole") == said[0]
    assert "1 image refused" in again[1]
    assert not list(tmp_path.glob("*.part"))


def test_another_model_or_list_of_files_is_named_and_overwrite_begins_anew(
    openvino_export: Path, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores.csv"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aeflow.results.score_table.score_row", _stop)
        within("score", openvino_export, images, "--out", out, ok=130)
    (images / "9.png").write_bytes((images / "0.png").read_bytes())
    line = error_of("score", openvino_export, images, "--out", out)
    assert line.startswith(f"{rows_file(out)}: is what is left of a table with another list of files; ")
    assert "--overwrite" in line
    (images / "9.png").unlink()
    task = json.loads(task_file(out).read_text())
    task_file(out).write_text(json.dumps({**task, "model": "another"}))
    assert "with another model" in error_of("score", openvino_export, images, "--out", out)
    within("score", openvino_export, images, "--out", out, "--overwrite", ok=1)
    assert not list(tmp_path.glob("*.part"))


def test_with_pictures_a_table_is_begun_anew(openvino_export: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aeflow.results.score_table.score_row", _stop)
        within("score", openvino_export, images, "--out", out, ok=130)
    _, err = within("score", openvino_export, images, "--out", out, "--maps", tmp_path / "maps", ok=1)
    assert "going on" not in err
    assert not list(tmp_path.glob("*.part"))


def _stop(*arguments: object) -> None:
    raise KeyboardInterrupt
