"""The benchmark of archives runs what it says, and its table compares with one process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.processes import Process
from benchmarks.speed import scale, scale_driver
from helpers.command import within


def run_here(command: list[object], **variables: str) -> Process:
    """Run aeflow's command line in this process, and leave out the driver alone."""
    assert command[:3] == [scale.sys.executable, "-c", scale.PROGRAM]
    output, _ = within(*command[3:])
    return Process(2.0, 300.0, output + json.dumps({"driver_mb": 99.0}) + "\n")


@pytest.mark.torture
def test_each_way_is_measured_on_as_many_images(
    openvino_export: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scale, "run_process", run_here)
    page = tmp_path / "page.md"
    page.write_text("<!-- scale: written by benchmarks/speed/scale.py -->\n<!-- /scale -->\n")
    options = ["--workers", "1", "--driven", "0", "--out", str(tmp_path), "--page", str(page)]
    measure = [str(openvino_export), str(data / "test/normal"), *options]
    scale.main([*measure, "--counts", "5", "--ways", "table", "local"])
    found = json.loads((tmp_path / "scale.json").read_text())
    assert [(row["way"], row["images"], row["driver_mb"]) for row in found["runs"]] == [
        (scale.TABLE, 5, 99),
        ("local", 5, 99),
    ]
    assert "| disk | local | 1 | 5 | 2.5 | 1.00 | 99 | 300 | " in page.read_text()
    assert all(row["table_bytes"] > 0 for row in found["runs"])
    scale.main([*measure, "--counts", "5", "6", "--ways", "local", "--add"])
    added = json.loads((tmp_path / "scale.json").read_text())["runs"]
    assert [(row["way"], row["images"]) for row in added] == [("table", 5), ("local", 5), ("local", 6)]
    assert "| disk | local | 1 | 6 | 3.0 | not measured | " in page.read_text()


def test_a_driver_does_all_its_work_on_rows_that_come_from_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scale_driver.main(1000, tmp_path / "work")
    assert json.loads(capsys.readouterr().out)["seconds"] > 0
    assert len(list((tmp_path / "work" / "archive").glob("part-*.parquet"))) == 2
    studies = (tmp_path / "work" / "archive" / "_studies.csv").read_text().splitlines()
    assert len(studies) == 1 + sum(-(-files // scale_driver.SLICES) for files in (512, 488))
