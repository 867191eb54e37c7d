"""The order of a stream, its groups, and one image a patient: stable as rows are added, and no patient is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from aeflow.drift.order import groups_of, one_a_patient, ordered
from aeflow.drift.score_rows import ScoreRows
from aeflow.errors import DataError
from aeflow.privacy import identify, pseudonym


def rows(**columns: list) -> ScoreRows:
    n = len(next(iter(columns.values())))
    every = {"path": [f"{i}.png" for i in range(n)], **columns}
    return ScoreRows(every, [Path("scores.csv")] * n, 0, 0)


@pytest.mark.parametrize(
    "cells",
    [["2026-04-10", "2026-04-09", "2026-03-30"], ["20260410", "20260409", "20260330"], ["10", "9.5", "-1"]],
    ids=["dates", "dates of DICOM", "numbers"],
)
def test_rows_come_in_the_order_of_a_column(cells: list[str]) -> None:
    assert ordered(rows(at=cells), "at").words("at") == cells[::-1]


def test_equal_cells_keep_their_order() -> None:
    assert ordered(rows(at=["2", "1", "2", "1"]), "at").words("path") == ["1.png", "3.png", "0.png", "2.png"]


@pytest.mark.parametrize("cell", ["", "10.4.2026", "Monday"])
def test_what_has_no_order_is_refused(cell: str) -> None:
    with pytest.raises(DataError, match="write dates as 2026-04-03"):
        ordered(rows(at=["1", cell]), "at")


def standing(given: ScoreRows) -> list[int]:
    return one_a_patient(given, {"all": range(len(given))})["all"]


def test_a_patient_of_two_groups_stands_in_each() -> None:
    given = rows(patient=["a", "b", "a", "b", "a"])
    found = one_a_patient(given, {"all": range(5), "old": [0, 1], "new": [2, 3, 4]})
    assert len(found["all"]) == 2
    assert found["old"] == [0, 1]
    assert [given.words("patient")[row] for row in found["new"]] in (["a", "b"], ["b", "a"])


def test_an_image_stands_for_its_patient_and_stays_it_as_rows_are_added() -> None:
    patients = ["a"] * 20 + ["b"] + ["c"] * 3 + ["a"]
    studies = ["a1"] * 20 + [""] + ["c1", "c1", "c2"] + ["a2"]
    chosen = standing(rows(patient=patients, study=studies))
    assert [patients[row] for row in chosen] == ["a", "b", "c"]
    assert chosen[0] < 20
    assert chosen[0] not in (0, 19)  # drawn, neither the first slice nor the last
    longer = standing(rows(patient=[*patients, "d", "a"], study=[*studies, "", "a1"][:27]))
    assert longer[1:3] == chosen[1:3]
    assert standing(rows(x=[1, 2, 3])) == [0, 1, 2]  # patients that nobody knows are different ones


def test_dates_are_grouped_by_month() -> None:
    days = [f"2026-{month:02}-{day:02}" for month in (1, 2) for day in range(1, 29)]
    assert sorted(set(groups_of(rows(date=days), "date"))) == ["2026-01", "2026-02"]


def test_a_column_of_patients_is_no_column_of_sources() -> None:
    names = [f"Doe {i}" for i in range(12)]
    for column in ("path", "patient", "reader"):
        with pytest.raises(DataError) as caught:
            groups_of(rows(patient=[f"p{i}" for i in range(12)], reader=names), column)
        assert "Doe" not in str(caught.value)
    with pytest.raises(DataError, match="41 different values"):
        groups_of(rows(reader=[f"Doe {i}" for i in range(41)]), "reader")


def test_names_of_persons_are_pseudonyms_unless_asked_for() -> None:
    table = rows(operator_name=["Doe", "Roe"] * 10)
    assert set(groups_of(table, "operator_name")) == {pseudonym("Doe"), pseudonym("Roe")}
    identify()
    assert set(groups_of(table, "operator_name")) == {"Doe", "Roe"}


def test_an_empty_cell_is_a_group() -> None:
    assert set(groups_of(rows(site=["A", None] * 10), "site")) == {"A", "(empty)"}
    assert np.array(groups_of(rows(site=["A"] * 4), "site")).tolist() == ["A"] * 4
