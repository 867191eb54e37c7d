"""Laws of plan and end: what is written comes back, and studies are those of all rows, however few are held at once."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aeflow.archive import finish, plan
from aeflow.archive.folder import ArchiveFolder, State
from aeflow.archive.former import FormerFiles
from aeflow.archive.item import Item
from aeflow.archive.part_scorer import OF_FILE
from aeflow.archive.plan import Part, Plan, write_plan
from aeflow.archive.sources import way_to
from aeflow.data.load_files import load_files
from aeflow.data.records import Record, find_images
from aeflow.errors import ArtifactError, DataError, OutputError
from aeflow.imageio.content import FileState
from aeflow.results.score_table import arrow_table, columns
from aeflow.results.study_table import write_studies
from aeflow.results.table_rows import rows_of
from aeflow.runtime.files import file_digest
from aeflow.scoring.studies import ScoredSlice, Studies

ITEMS = [
    Item("scan.dcm", "/data/scan.dcm", 0, "p1", 10, "17", None),
    Item(os.fsdecode(b"caf\xe9.png"), os.fsdecode(b"/data/caf\xe9.png")),
    Item("s3://bucket/a b.png", "s3://bucket/a b.png", 1, None, 2**40, "etag", "00" * 32),
]


def test_a_plan_gives_back_its_items_in_parts_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MAX_FILES", 2)
    assert write_plan(iter([*ITEMS, ITEMS[0]]), tmp_path / "plan") == 4
    found = Plan(tmp_path / "plan", file_digest(tmp_path / "plan"))
    assert [found.part(number) for number in range(len(found))] == [
        Part(0, ITEMS[:2]),
        Part(1, [ITEMS[2]]),  # has more bytes than a part takes beside others
        Part(2, [ITEMS[0]]),
    ]
    assert [found.files_in(number) for number in range(3)] == [2, 1, 1]


@pytest.mark.parametrize("content", [b"", b"half a pl"])
def test_a_damaged_plan_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "plan").write_bytes(content)
    with pytest.raises(ArtifactError, match="missing or damaged"):
        Plan(tmp_path / "plan", file_digest(tmp_path / "plan"))


def test_a_folder_is_listed_as_for_a_table(data: Path, tmp_path: Path) -> None:
    (data / "notes.txt").write_text("no image")
    items = list(way_to(str(data)).items(str(data)))
    assert [item.name for item in items] == [record.name for record in find_images([data])]
    assert all(item.bytes == os.path.getsize(item.path) for item in items)
    (data / "notes.txt").unlink()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("path,label\na.png,0\n,1\n", "line 3: names no file"),
        ("path,label\na.png,ill\n", "line 2: a label of another kind"),
        ("file\na.png\n", "no column 'path'"),
        ("path\na.png,b\n", "line 2: 2 fields under 1 column"),
    ],
)
def test_a_wrong_table_is_one_line(tmp_path: Path, content: str, said: str) -> None:
    table = tmp_path / "list.csv"
    table.write_text(content)
    with pytest.raises(DataError, match=said):
        list(way_to(str(table)).items(str(table)))


def part_of(path: Path, rows: list[dict[str, object]]) -> Path:
    names = columns() | OF_FILE
    pq.write_table(arrow_table([dict.fromkeys(names) | row for row in rows], names), path)
    return path


def test_studies_are_those_of_all_rows_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dealt to several files by study, they are what the collector in memory finds."""
    rng = np.random.default_rng(0)
    parts, expected = [], Studies(0.05)
    row = 0
    for number in range(5):
        rows: list[dict[str, object]] = []
        for i in range(40):
            row += 1
            study, score, p = f"study {rng.integers(12)}", float(rng.normal()), float(rng.uniform())
            one: dict[str, object] = {"path": f"{number}/{i}", "study": study, "patient": f"of {study}", "revision": 1}
            match i % 8:
                case 0:
                    one |= {"error": "damaged", "refusal": "image"}
                    expected.add_refused(study)
                case 1:
                    one |= {"error": "empty", "refusal": "empty"}
                case 2:
                    one |= {"study": None, "score": score, "p_value": p, "verdict": "normal"}
                case _:
                    one |= {"score": score, "p_value": p, "label": i % 2, "verdict": "normal"}
                    expected.add_scored(study, ScoredSlice(row, f"of {study}", i % 2, score, p))
            rows.append(one)
        parts.append(part_of(tmp_path / f"{number}.parquet", rows))
    monkeypatch.setenv("AEFLOW_IDENTIFY", "1")  # the expected table is to have the keys as they are
    write_studies(expected.results(), tmp_path / "expected.csv")
    for at_once in (10**9, 10_000):
        monkeypatch.setattr(finish, "BYTES_AT_ONCE", at_once)
        found = finish.write_studies_of(parts, tmp_path / "studies.csv", 0.05, tmp_path)
        assert found == (12, sum(study.verdict == "abnormal" for study in expected.results()))
        assert (tmp_path / "studies.csv").read_text() == (tmp_path / "expected.csv").read_text()
    assert not list(tmp_path.glob("_studies.*"))


def test_only_the_newest_state_of_a_file_counts_in_its_study(tmp_path: Path) -> None:
    of_study = {"study": "s", "patient": "p", "verdict": "normal", "p_value": 0.5}
    first = [{"path": path, "score": 9.0, "revision": 1, **of_study} for path in "ab"]
    second = [{"path": path, "score": 1.0, "revision": 2, **of_study} for path in "ac"]
    parts = [part_of(tmp_path / "1", first), part_of(tmp_path / "2", second)]
    assert finish.write_studies_of(parts, tmp_path / "studies.csv", 0.05, tmp_path) == (1, 0)
    assert (tmp_path / "studies.csv").read_text().splitlines()[1] == "s,p,,3,0,9.0,0.5,normal,2 3 4"


def test_a_damaged_part_is_named_with_its_remedy(tmp_path: Path) -> None:
    part = part_of(tmp_path / "part", [{"path": "a"}])
    part.write_bytes(part.read_bytes()[:-20])
    for read in (lambda: list(rows_of(part, ["path"])), lambda: FormerFiles([part])):
        with pytest.raises(ArtifactError, match=f"{part}: damaged .*; delete it, and repeat"):
            read()


def test_former_files_are_known_by_state_and_come_back_with_their_content(tmp_path: Path) -> None:
    sha = "ab" * 32
    rows = [
        {"path": "same", "sha256": sha, "bytes": 5, "version": "1"},
        {"path": "same", "sha256": sha, "bytes": 5, "version": "1"},  # another slice of it
        {"path": "changed", "sha256": sha, "bytes": 5, "version": "1"},
        {"path": "unread", "error": "cannot be opened", "refusal": "file"},
        {"path": "unmarked", "sha256": sha, "bytes": 5},
    ]
    former = FormerFiles([part_of(tmp_path / "1", rows)])
    now = [
        Item("same", "", bytes=5, version="1"),
        Item("changed", "", bytes=5, version="0"),  # an earlier time is another, too
        Item("unread", "", bytes=5, version="1"),
        Item("unmarked", "", bytes=5),
        Item("new", "", bytes=5, version="1"),
    ]
    assert list(former.changed(now)) == [
        now[1]._replace(former=sha),
        now[2],
        now[3]._replace(former=sha),
        now[4],
    ]
    assert list(FormerFiles([]).changed(now)) == now


def test_a_part_has_its_name_only_once_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = ArchiveFolder(tmp_path)
    table = pa.table({"path": ["a"]})
    archive.write_part(1, 0, table)

    def half(table: pa.Table, file: object, **options: object) -> None:
        file.write(b"PAR1")  # type: ignore[attr-defined]
        seen.extend(pq.read_table(tmp_path).to_pylist())  # what a reader sees meanwhile
        raise OSError(28, "No space left on device")

    seen: list[object] = []
    monkeypatch.setattr(pq, "write_table", half)
    with pytest.raises(OSError, match="No space"):
        archive.write_part(1, 1, table)
    assert seen == [{"path": "a"}]
    assert [path.name for path in tmp_path.iterdir()] == ["part-0001-000000.parquet"]


def test_an_archive_that_was_half_deleted_is_begun_anew(tmp_path: Path) -> None:
    archive = ArchiveFolder(tmp_path)
    archive.state = State(task={"model": "m"}, replaced=True)
    archive.write_state()
    archive.write_part(1, 0, pa.table({"path": ["a"]}))
    again = ArchiveFolder.opened(tmp_path)
    assert again.state is not None
    assert not again.state.complete
    again.clear()
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is no folder"):
        ArchiveFolder.opened(tmp_path / "file")


def test_a_record_has_the_state_that_its_file_was_read_in(data: Path) -> None:
    [first, second, *_] = find_images([data / "test" / "normal"])
    found: list[Record] = []

    def passed_over(record: Record) -> bool:
        found.append(record)
        return record.path == second.path

    [(record, _)] = load_files([first, second], 32, "axial", known=(), passed_over=passed_over)
    status = first.path.stat()
    assert record.state == FileState(file_digest(first.path), status.st_size, status.st_mtime_ns)
    assert [one.path for one in found] == [first.path, second.path]
