"""Archives as a user sees them: the rows of a table in parts, the same whatever was killed on the way, none twice."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from aeflow.archive import plan
from aeflow.archive.folder import STATE, STUDIES, ArchiveFolder
from aeflow.archive.part_scorer import OF_FILE, Opening
from aeflow.artifacts.layout import EXPORT
from aeflow.errors import ArtifactError
from aeflow.runtime.files import file_digest
from helpers.command import error_of, within
from helpers.data import texture
from helpers.dicom_files import content, dataset


@pytest.fixture
def images(data: Path, tmp_path: Path) -> Path:
    """A folder of nine images, one of them damaged, in two folders."""
    folder = tmp_path / "images"
    for i, source in enumerate(sorted((data / "test" / "normal").iterdir())[:8]):
        place = folder / ("a" if i % 2 else "b") / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)
    (folder / "b" / "broken.png").write_bytes((folder / "b" / "0.png").read_bytes()[:200])
    return folder


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MAX_FILES", 2)


@pytest.fixture
def archive(openvino_export: Path, images: Path, tmp_path: Path) -> Path:
    """A complete archive of the images."""
    out = tmp_path / "archive"
    within("score", openvino_export, images, "--out", out, ok=1)
    return out


def rows(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out)


def test_it_has_the_rows_of_the_table_and_what_was_read(
    archive: Path, openvino_export: Path, images: Path, tmp_path: Path
) -> None:
    within("score", openvino_export, images, "--out", tmp_path / "t.parquet", ok=1)
    table, found = pd.read_parquet(tmp_path / "t.parquet"), rows(archive)
    pd.testing.assert_frame_equal(found.drop(columns=[*OF_FILE]), table)
    assert list(found.sha256) == [file_digest(Path(path)) for path in found.path]
    assert list(found.bytes) == [os.path.getsize(path) for path in found.path]
    assert list(found.version) == [str(os.stat(path).st_mtime_ns) for path in found.path]
    assert list(found.refusal.dropna()) == ["image"]
    assert set(found.revision) == {1}
    assert len(list(archive.glob("part-*.parquet"))) == 5


def test_the_command_counts_and_info_tells_what_it_is(openvino_export: Path, images: Path, tmp_path: Path) -> None:
    out, err = within("score", openvino_export, images, "--out", tmp_path / "new", "--json", ok=1)
    counts = json.loads(out)
    assert (counts["files"], counts["images"], counts["refused"]) == (9, 8, 1)
    assert counts["normal"] + counts["abnormal"] == 8
    shown, _ = within("score", openvino_export, images, "--out", tmp_path / "new", "--overwrite", ok=1)
    assert f"archive: {tmp_path / 'new'}, a folder of Parquet parts: pandas.read_parquet('{tmp_path / 'new'}')" in shown
    assert "1 image refused:" in err
    assert "broken" not in err
    out, _ = within("info", tmp_path / "new")
    assert out.startswith("archive              complete\nfiles                9 files\n")
    assert json.loads(within("info", tmp_path / "new", "--json")[0])["complete"] is True


def test_a_complete_one_is_refused_with_both_remedies(archive: Path, openvino_export: Path, images: Path) -> None:
    before = {path.name: path.read_bytes() for path in archive.iterdir()}
    line = error_of("score", openvino_export, images, "--out", archive)
    assert line.startswith(f"{archive}: is complete: 9 files, model ")
    (other := archive.parent / "elsewhere").mkdir()
    line = error_of("score", openvino_export, other, "--out", archive)
    assert line.startswith(f"{archive}: is an archive of other images: {images}; name another folder with --out, ")
    assert "--since" in line
    assert "--overwrite" in line
    assert {path.name: path.read_bytes() for path in archive.iterdir()} == before


@pytest.mark.parametrize("left", [set(), {0}, {1, 3, 4}])
def test_parts_that_are_missing_are_scored_and_no_others(
    archive: Path, openvino_export: Path, images: Path, left: set[int]
) -> None:
    whole = rows(archive)
    folder = ArchiveFolder.opened(archive)
    assert folder.state is not None
    folder.state.revisions[0].complete = False  # as it is until all parts are there
    folder.write_state()
    (archive / STUDIES).unlink(missing_ok=True)
    kept = {}
    for number in range(5):
        if number in left:
            kept[number] = folder.part(1, number).stat().st_ino
        else:
            folder.part(1, number).unlink()
    assert "unfinished" in within("info", archive)[0]
    _, err = within("score", openvino_export, images, "--out", archive, ok=1)
    assert (f"going on: {sum(1 if n == 4 else 2 for n in left)} of 9 files" in err) == bool(left)
    pd.testing.assert_frame_equal(rows(archive), whole)
    assert {number: folder.part(1, number).stat().st_ino for number in left} == kept


def test_since_scores_what_is_new_or_changed_by_content(archive: Path, openvino_export: Path, images: Path) -> None:
    said = within("score", openvino_export, images, "--out", archive, "--since")[0]
    assert said.startswith("nothing is new: 9 files are as they were")
    Image.fromarray(texture(77)).save(images / "b" / "2.png")  # changed
    Image.fromarray(texture(78)).save(images / "c.png")  # new
    os.utime(images / "a" / "1.png", ns=(0, 1))  # of another time, by a clock that goes backwards; the same content
    within("score", openvino_export, images, "--out", archive, "--since")
    found = rows(archive)
    new = found[found.revision == 2]
    assert sorted(new.path) == sorted([f"{images}/b/2.png", f"{images}/c.png"])
    assert list(new.sha256) == [file_digest(Path(path)) for path in new.path]
    said = within("score", openvino_export, images, "--out", archive, "--since")[0]
    assert said.startswith("nothing is new: 12 files")
    pd.testing.assert_frame_equal(rows(archive), found)


def test_since_tries_again_what_could_not_be_read(archive: Path, openvino_export: Path, images: Path) -> None:
    shutil.rmtree(images / "b")
    (images / "b").symlink_to("nowhere")
    (images / "c.png").symlink_to("not_there_yet")
    _, err = within("score", openvino_export, images, "--out", archive, "--since", ok=1)
    assert "cannot be opened" in err
    (images / "b").unlink()
    Image.fromarray(texture(79)).save(images / "not_there_yet", "png")
    within("score", openvino_export, images, "--out", archive, "--since")
    last = rows(archive).query("path.str.endswith('c.png')", engine="python")
    assert list(last.revision) == [2, 3]
    assert last.score.notna().tolist() == [False, True]


def test_a_file_that_vanishes_while_the_archive_is_scored_is_a_refused_row(
    openvino_export: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planned_then_gone(items, path):
        files = write_plan(items, path)
        (images / "a" / "3.png").unlink()
        with (images / "a" / "5.png").open("ab") as file:
            file.write(b"more")  # after the end of a PNG
        return files

    write_plan = plan.write_plan
    monkeypatch.setattr("aeflow.archive.score_archive.write_plan", planned_then_gone)
    within("score", openvino_export, images, "--out", tmp_path / "new", ok=1)
    found = rows(tmp_path / "new").set_index("path")
    gone, grown = found.loc[f"{images}/a/3.png"], found.loc[f"{images}/a/5.png"]
    assert gone.error.startswith("cannot be opened")
    assert pd.isna(gone.sha256)
    assert grown.sha256 == file_digest(images / "a" / "5.png")
    assert len(found) == 9


def test_another_threshold_model_or_source_is_noticed_and_named(
    archive: Path, openvino_export: Path, images: Path, tmp_path: Path
) -> None:
    (images / "new.png").write_bytes((images / "a" / "1.png").read_bytes())
    line = error_of("score", openvino_export, images, "--out", archive, "--since", "--threshold", 99)
    assert "was begun with other threshold: " in line
    assert "now 99" in line
    assert "--identify" in error_of("score", openvino_export, images, "--out", archive, "--since", "--identify")
    folder = ArchiveFolder.opened(archive)
    assert folder.state is not None
    folder.state.task["model"] = "0123456789abcdef"
    folder.state.revisions[0].complete = False
    folder.write_state()
    assert "was begun with other model: 0123456789ab, now " in error_of(
        "score", openvino_export, images, "--out", archive
    )
    line = error_of("score", openvino_export, images / "a", "--out", archive)
    assert f"was begun with other sources: {images}, now {images}/a" in line


def test_overwrite_goes_on_with_what_it_began_and_replaces_what_is_another(
    archive: Path, openvino_export: Path, images: Path
) -> None:
    whole = rows(archive)
    folder = ArchiveFolder.opened(archive)
    assert folder.state is not None
    folder.state.revisions[0].complete = False
    folder.write_state()
    folder.part(1, 2).unlink()
    kept = folder.part(1, 0).stat().st_ino
    _, err = within("score", openvino_export, images, "--out", archive, "--overwrite", ok=1)
    assert "going on: 7 of 9 files" in err
    assert folder.part(1, 0).stat().st_ino == kept
    pd.testing.assert_frame_equal(rows(archive), whole)
    folder.state.task["threshold"] = -1.0
    folder.write_state()
    _, err = within("score", openvino_export, images, "--out", archive, "--overwrite", ok=1)
    assert "going on" not in err
    pd.testing.assert_frame_equal(rows(archive), whole)


def test_overwrite_replaces_an_archive_and_nothing_else(archive: Path, openvino_export: Path, images: Path) -> None:
    within("score", openvino_export, images / "a", "--out", archive, "--overwrite")
    assert sorted(rows(archive).path) == sorted(str(path) for path in (images / "a").iterdir())
    (archive / STATE).unlink()
    (archive / "notes.txt").touch()
    line = error_of("score", openvino_export, images, "--out", archive, "--overwrite")
    assert line.startswith(f"{archive}: holds something else (1 entr")


def test_overwrite_deletes_nothing_until_there_is_something_to_score(
    archive: Path, openvino_export: Path, images: Path, tmp_path: Path
) -> None:
    before = {path.name: path.read_bytes() for path in archive.iterdir()}
    (tmp_path / "empty").mkdir()
    assert "holds no images" in error_of("score", openvino_export, tmp_path / "empty", "--out", archive, "--overwrite")
    broken = Path(shutil.copytree(openvino_export, tmp_path / "broken"))
    (broken / EXPORT).write_text("{")
    assert "export.json" in error_of("score", broken, images, "--out", archive, "--overwrite")
    assert {path.name: path.read_bytes() for path in archive.iterdir()} == before


def test_a_damaged_state_is_one_line(archive: Path, openvino_export: Path, images: Path) -> None:
    (archive / STATE).write_text("{")
    assert f"{archive / STATE}: damaged" in error_of("score", openvino_export, images, "--out", archive)


def test_an_archive_does_not_lie_among_its_images(openvino_export: Path, images: Path) -> None:
    assert "which is to be scored" in error_of("score", openvino_export, images, "--out", images / "archive")


@pytest.mark.parametrize("option", [("--maps", "m"), ("--report", "r.html")])
def test_what_needs_all_images_at_once_is_for_tables(
    openvino_export: Path, images: Path, option: tuple[str, str]
) -> None:
    assert option[0] in error_of("score", openvino_export, images, "--out", "archive", *option)


def test_what_is_for_archives_is_refused_elsewhere(openvino_export: Path, images: Path) -> None:
    assert "--since" in error_of("score", openvino_export, images, "--out", "t.csv", "--since")
    assert "--workers" in error_of("score", openvino_export, images, "--workers", 2)
    assert "--engine" in error_of("score", openvino_export, images, "--out", "a", "--engine", "slurm")


def test_a_table_lists_files_with_labels_and_patients(openvino_export: Path, images: Path, tmp_path: Path) -> None:
    listed = [("a/1.png", "normal", "Jane"), ("b/0.png", "1", ""), (str(images / "a" / "3.png"), "", "Jane")]
    table = images / "list.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "patient"), *listed])
    pd.DataFrame(listed, columns=["path", "label", "patient"]).to_parquet(images / "list.parquet")
    for source in (table, images / "list.parquet"):
        out = tmp_path / source.suffix[1:] / "archive"
        within("score", openvino_export, source, "--out", out)
        found = rows(out)
        assert list(found.path) == [path for path, *_ in listed]
        assert [None if pd.isna(label) else int(label) for label in found.label] == [0, 1, None]
        assert found.patient[0] == found.patient[2] != "Jane"
        assert b"Jane" not in b"".join(path.read_bytes() for path in out.iterdir())


def test_volumes_keep_their_studies_across_parts_and_revisions(
    openvino_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(number: int, seed: int) -> None:
        data = dataset(texture(seed), StudyInstanceUID="1.2.3", PatientID="Jane", SOPInstanceUID=f"1.2.3.{number}")
        (folder / f"{number}.dcm").write_bytes(content(data))

    monkeypatch.setattr(plan, "MAX_FILES", 1)
    folder = tmp_path / "series"
    folder.mkdir()
    for i in range(4):
        put(i, 200 + i)
    within("score", openvino_export, folder, "--out", tmp_path / "t.csv")
    out = tmp_path / "archive"
    within("score", openvino_export, folder, "--out", out)
    assert (out / STUDIES).read_text() == (tmp_path / "t.studies.csv").read_text()
    put(4, 300)
    put(0, 301)
    within("score", openvino_export, folder, "--out", out, "--since")
    [study] = csv.DictReader((out / STUDIES).open())
    newest = rows(out).drop_duplicates("path", keep="last")
    assert int(study["images"]) == len(newest) == 5
    assert float(study["score"]) == newest.score.max()


def test_a_driver_that_is_killed_goes_on_with_the_same_rows(
    archive: Path, openvino_export: Path, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    program = "from aeflow.archive import plan; plan.MAX_FILES = 1; from aeflow.cli import main; main()"
    command = [sys.executable, "-c", program, "score", openvino_export, images, "--out", out]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([str(part) for part in command], env=environment, stderr=subprocess.DEVNULL)
    while not list(out.glob("part-*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = len(list(out.glob("part-*.parquet")))
    assert before < 9
    assert len(rows(out)) == before  # readers see whole parts only
    _, err = within("score", openvino_export, images, "--out", out, ok=1)
    assert f"going on: {before} of 9 files" in err
    pd.testing.assert_frame_equal(rows(out), rows(archive))


def test_a_model_that_is_replaced_while_it_scores_is_noticed(openvino_export: Path, tmp_path: Path) -> None:
    opening = Opening(str(openvino_export))
    opening = replace(opening, fingerprint=opening.open().facts.fingerprint)
    assert opening.open().facts.fingerprint == opening.fingerprint
    model = json.loads((openvino_export / EXPORT).read_text())["model"]["sha256"]
    assert opening.fingerprint == model
    with pytest.raises(ArtifactError, match="replaced by another while it scored"):
        replace(opening, fingerprint="of the former model").open()


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    archive: Path, openvino_export: Path, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "full"
    limit = 5000  # bytes of any file: enough for the plan, too little for a part
    program = (
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); "
        "from aeflow.cli import main; main()"
    )
    command = [sys.executable, "-c", program, "score", openvino_export, images, "--out", out]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "free some space" in line
    assert "Traceback" not in done.stderr
    assert not list(out.glob("part-*"))
    within("score", openvino_export, images, "--out", out, ok=1)
    pd.testing.assert_frame_equal(rows(out), rows(archive))


def test_two_workers_and_uids(openvino_export: Path, images: Path, archive: Path, tmp_path: Path) -> None:
    within("score", openvino_export, images, "--out", tmp_path / "two", "--workers", 2, "--uids", ok=1)
    found = rows(tmp_path / "two")
    assert "sop_instance_uid" in found
    pd.testing.assert_frame_equal(found[rows(archive).columns], rows(archive))
