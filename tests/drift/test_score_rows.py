"""Tables of scores as people have them: in parts, twice, of earlier versions, from spreadsheets; and what is none."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aeflow.drift.score_rows import joined, read_scores
from aeflow.errors import DataError

ROWS = [{"path": f"{i}.png", "slice": None, "score": i / 7, "p_value": 1 / (i + 1), "error": None} for i in range(6)]


def write_csv(path: Path, rows: list[dict]) -> Path:
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


def write_parquet(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_csv_parquet_and_a_folder_of_parts_are_the_same(tmp_path: Path) -> None:
    write_parquet(tmp_path / "parts" / "part-00001.parquet", ROWS[3:])
    write_parquet(tmp_path / "parts" / "part-00000.parquet", ROWS[:3])
    tables = [write_csv(tmp_path / "a.csv", ROWS), write_parquet(tmp_path / "b.parquet", ROWS), tmp_path / "parts"]
    read = [read_scores([table]) for table in tables]
    assert [rows.words("path") for rows in read] == [[row["path"] for row in ROWS]] * 3
    assert [rows.numbers("score").tolist() for rows in read] == [[row["score"] for row in ROWS]] * 3


def test_an_image_counts_once_and_a_refused_one_not_at_all(tmp_path: Path) -> None:
    first = write_csv(tmp_path / "monday.csv", ROWS[:4])
    refused = {**ROWS[5], "score": None, "p_value": None, "error": "truncated"}
    second = write_csv(tmp_path / "tuesday.csv", [*ROWS[3:5], refused])
    (tmp_path / "monday.studies.csv").write_text("study,patient\n")
    rows = read_scores([first, second, tmp_path / "monday.studies.csv"])
    assert rows.words("path") == ["0.png", "1.png", "2.png", "3.png", "4.png"]
    assert (rows.repeated, rows.refused, len(rows.passed_over)) == (1, 1, 1)


def test_slices_are_images_of_their_own_however_their_numbers_are_written(tmp_path: Path) -> None:
    slices = [{**ROWS[0], "slice": number} for number in (1, 2)]
    again = write_csv(tmp_path / "again.csv", [{**ROWS[0], "slice": "2.0"}])
    rows = read_scores([write_parquet(tmp_path / "a.parquet", slices), again])
    assert (len(rows), rows.repeated) == (2, 1)


def test_tables_of_different_versions_go_together(tmp_path: Path) -> None:
    new = write_parquet(tmp_path / "new.parquet", [{**ROWS[0], "input_layout": 1.5}])
    rows = read_scores([write_csv(tmp_path / "old.csv", ROWS[1:3]), new])
    assert [math.isnan(value) for value in rows.numbers("input_layout")] == [True, True, False]


def test_a_decimal_comma_is_read(tmp_path: Path) -> None:
    (tmp_path / "excel.csv").write_text('path;score;p_value\n"a.png";0,25;0,5\n', encoding="utf-16")
    assert read_scores([tmp_path / "excel.csv"]).numbers("score").tolist() == [0.25]


def test_a_second_table_gives_its_columns_by_path(tmp_path: Path) -> None:
    rows = read_scores([write_csv(tmp_path / "scores.csv", ROWS)])
    more = write_csv(tmp_path / "more.csv", [{"path": f"{i}.png", "scanner": f"S{i % 2}"} for i in (5, 1, 0)])
    assert joined(rows, more).words("scanner") == ["S0", "S1", "", "", "", "S1"]


def test_bad_tables_are_one_line_each(tmp_path: Path) -> None:
    table = write_csv(tmp_path / "scores.csv", ROWS)
    rows = read_scores([table])

    def error(call, *arguments) -> str:
        with pytest.raises(DataError) as caught:
            call(*arguments)
        return str(caught.value)

    twice = write_csv(tmp_path / "twice.csv", [{"path": "0.png", "site": "A"}] * 2)
    other = write_csv(tmp_path / "other.csv", [{"path": "x/0.png", "site": "A"}])
    (tmp_path / "empty").mkdir()
    none = write_csv(tmp_path / "none.csv", [{**ROWS[0], "score": None}])
    words = write_csv(tmp_path / "words.csv", [{**ROWS[0], "score": "high"}])
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    lacking = write_csv(tmp_path / "lacking.csv", [{"path": "a", "score": 1}])
    assert error(joined, rows, twice).endswith("rows 1 and 2 have the same path; give every image one row")
    assert "none of its 1 path is among those of the scores" in error(joined, rows, other)
    assert "a folder without Parquet parts" in error(read_scores, [tmp_path / "empty"])
    assert "no scored image; of 1 row none has a score" in error(read_scores, [none])
    assert "'high' in column 'score' is no number" in error(read_scores([words]).numbers, "score")
    assert "cannot be read as Parquet" in error(read_scores, [tmp_path / "broken.parquet"])
    assert "no column 'p_value'" in error(read_scores, [lacking])
    assert error(rows.words, "slise").endswith("; name 'slice'")
