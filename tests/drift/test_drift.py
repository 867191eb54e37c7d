"""The command on tables that it wrote itself: quiet, another scanner, other patients, other models, and its page."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aeflow.artifacts.layout import read_metadata
from aeflow.calibration.input_guard import INPUT_COLUMNS
from aeflow.drift.drift import drift
from aeflow.drift.report import write_report
from aeflow.drift.words import findings, share
from aeflow.serve.charts import over_time
from helpers.command import error_of, within
from helpers.data import NORMALS, lesion, texture
from helpers.once import once

IMAGES = 150
Table = list[dict[str, str]]


def brighter(image: np.ndarray) -> np.ndarray:
    return np.clip(image.astype(float) * 0.8 + 60, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def model(recalibrated_run: Path) -> Path:
    return recalibrated_run


@pytest.fixture(scope="module")
def scored(model: Path, shared: Path) -> dict[str, Table]:
    """Rows of normals, of normals by another scanner, and of abnormal images, as the command writes them."""

    def make(place: Path) -> None:
        folder = place.with_name("drift-images")
        for i in range(IMAGES):
            plain, other, ill = texture(30_000 + i), brighter(texture(40_000 + i)), lesion(50_000 + i)[0]
            for name, image in (("plain", plain), ("other", other), ("ill", ill)):
                (folder / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(folder / name / f"{i:03}.png")
        within("score", model, folder, "--out", place)

    rows = list(csv.DictReader(once(shared / "drift.csv", make).open()))
    return {name: [row for row in rows if f"/{name}/" in row["path"]] for name in ("plain", "other", "ill")}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Table], Path]:
    def written(name: str, rows: Table) -> Path:
        with (tmp_path / name).open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
        return tmp_path / name

    return written


def with_column(rows: Table, name: str, cell: Callable[[int], str]) -> Table:
    return [{**row, name: cell(number)} for number, row in enumerate(rows)]


def test_a_run_keeps_what_its_normals_look_like_and_tables_say_it_of_images(model: Path, scored) -> None:
    metadata = read_metadata(model)
    kept = metadata["normals"]
    assert len(kept["patients"]) == NORMALS
    np.testing.assert_allclose(sorted(kept["columns"]["score"]), metadata["calibration"]["scores"])
    assert set(INPUT_COLUMNS.values()) < set(kept["columns"])
    for row in scored["plain"]:
        assert row["model"] == metadata["sha256"][:12]
        assert all(np.isfinite(float(row[name])) for name in INPUT_COLUMNS.values())
    brightness = [np.mean([float(row["input_brightness"]) for row in scored[name]]) for name in ("plain", "other")]
    assert brightness[1] > brightness[0] + 0.2


def test_normals_like_the_trainings_give_no_alarm(model: Path, scored, write) -> None:
    out, err = within("drift", model, write("scores.csv", scored["plain"]))
    assert "150 images of 150 patients" in out
    assert "no alarm" in " ".join(out.split())
    assert "where 5.0 % of normal images would be" in out.splitlines()[1], (
        "the share promised of normal images stands beside the one found"
    )
    assert "alarm  normal images do not look" not in out
    assert err == ""


def test_another_scanner_is_exit_code_3_and_a_page_says_since_when(model: Path, scored, write, tmp_path: Path) -> None:
    table = write("scores.csv", scored["plain"] + scored["other"])
    page = tmp_path / "new" / "drift.html"
    out, _ = within("drift", model, table, "--report", page, "--json", ok=3)
    found = json.loads(out)
    assert found["broken"]
    [first, *_] = found["findings"]
    assert first["severity"] == "alarm"
    assert "aeflow recalibrate" in first["remedy"]
    [alarm, *_] = found["sources"][0]["charts"]["other_images"]["alarms"]
    assert alarm["since"]["low"] <= 151 <= alarm["since"]["high"]
    assert alarm["at"] < 150 + 120
    text = page.read_text()
    assert "Something has changed" in text
    assert text.count("data:image/png") == 3
    assert not any(word in text for word in ("http://", "https://", "<script", str(tmp_path)))
    assert "is there already" in error_of("drift", model, table, "--report", page)
    within("drift", model, table, "--report", page, "--overwrite", ok=3)


def test_more_abnormal_images_are_no_other_scanner(model: Path, scored, write, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    plain, ill = scored["plain"], iter(scored["ill"])
    mixed = [next(ill) if number > 75 and rng.random() < 0.4 else row for number, row in enumerate(plain)]
    found = drift(model, [write("scores.csv", mixed)])
    assert not found.broken
    assert found.sources[0].flagged.low > 0.05
    both = f"{share(found.sources[0].flagged)}, where {100 * found.promised:.1f} % of normal images would be"
    words = " ".join(f"{one.title} {one.text}" for one in findings(found))
    assert "called abnormal than of normal ones alone" in words
    assert both in words
    out, _ = within("drift", model, tmp_path / "scores.csv", "--report", tmp_path / "drift.html")
    assert both in " ".join(out.split())
    page = (tmp_path / "drift.html").read_text()
    assert found.sources[0].other_scores.alarms
    assert "images look abnormal than those before them" in page
    assert "<dt>Alarms</dt><dd>0</dd>" in page
    assert not re.search(r"[1-9]\d* alarms", words + page), "a change of the share of abnormal images is none"


def test_a_budget_of_fewer_than_are_called_abnormal_is_broken(model: Path, scored, write) -> None:
    table = write("scores.csv", scored["ill"])
    out, _ = within("drift", model, table, "--budget", "0.1", "--json", ok=3)
    assert json.loads(out)["findings"][0]["title"].endswith("are called abnormal than accepted") or "look" in out
    assert drift(model, [table], budget=0.1).sources[0].over_budget.alarms
    assert "0.1 and" not in error_of("drift", model, table, "--budget", "10")


def test_sources_are_compared_by_a_column_of_a_second_table(model: Path, scored, write, tmp_path: Path) -> None:
    rows = [row for pair in zip(scored["plain"], scored["other"], strict=True) for row in pair]
    more = [{"path": row["path"], "scanner": "new $1" if "/other/" in row["path"] else "old"} for row in rows]
    found = drift(model, [write("scores.csv", rows)], by="scanner", join=write("more.csv", more))
    write_report(found, tmp_path / "drift.html")
    assert "scanner new $1" in (tmp_path / "drift.html").read_text()
    every, new, old = found.sources
    assert [source.name for source in found.sources] == ["all images", "scanner new $1", "scanner old"]
    assert new.other_images.alarms
    assert not old.other_images.alarms
    shifts = {one.statistic: one for one in new.comparisons}
    assert shifts["input_brightness"].significant
    assert shifts["input_brightness"].low > 0
    assert every.images == 300


def test_patients_of_two_scanners_are_compared_on_each(model: Path, scored, write, tmp_path: Path) -> None:
    """Those of the second would else be none, and its chart a page that cannot be drawn."""
    both = [(row, "old") for row in scored["plain"]] + [(row, "new") for row in scored["other"]]
    rows = [{**row, "patient": f"p{number % 150}", "scanner": name} for number, (row, name) in enumerate(both)]
    found = drift(model, [write("scores.csv", rows)], by="scanner")
    write_report(found, tmp_path / "drift.html")
    every, new, old = found.sources
    assert [len(source.rows) for source in (every, new, old)] == [150, 150, 150]
    assert new.other_images.alarms
    assert not old.other_images.alarms
    assert not every.other_images.alarms, "all patients were seen on the old one first"
    assert all(over_time(source, found.at, 0.05).startswith("<svg") for source in found.sources)


def test_the_order_is_that_of_a_column(model: Path, scored, write) -> None:
    rows = scored["other"][:100] + scored["plain"]  # the newest first
    dated = with_column(rows, "date", lambda number: f"2026-{12 - number // 28:02}-{28 - number % 28:02}")
    table = write("scores.csv", dated)
    [alarm, *_] = (found := drift(model, [table], order="date")).sources[0].other_images.alarms
    since = found.at[found.sources[0].rows[round(alarm.onset.low)]]
    assert "2026-07" < since < "2026-10"
    out, _ = within("drift", model, table, "--order", "date", ok=3)
    assert "Since 2026-" in out


def test_tables_of_earlier_versions_are_read_by_their_scores(model: Path, tiny_run: Path, scored, write) -> None:
    old = [{name: row[name] for name in ("path", "patient", "score", "p_value", "verdict")} for row in scored["plain"]]
    table = write("old.csv", old)
    _, err = within("drift", model, table)
    assert "score the images again" in err
    wrong = error_of("drift", tiny_run, table)
    assert "has p-value" in wrong
    assert "name the model that scored them" in wrong


def test_what_cannot_be_compared_is_one_line(model: Path, tiny_run: Path, scored, write, tmp_path: Path) -> None:
    table = write("scores.csv", scored["plain"])
    assert f"where {tiny_run} is" in error_of("drift", tiny_run, table)
    assert error_of("drift", model, table, "--by", "verdit").endswith("; name 'verdict'")
    assert "patient" in error_of("drift", model, table, "--by", "patient")
    assert error_of("drift", model, table, "--report", tmp_path / "page.pdf").endswith("end it in .html")
    same = write("scores.html", scored["plain"])
    assert "is one of the inputs" in error_of("drift", model, same, "--report", same)
    assert error_of("drift", table, model).endswith("name the model first, then the tables of scores")
