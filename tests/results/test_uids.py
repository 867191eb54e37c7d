"""Unique identifiers of DICOM images: in the table where they are asked for, and nowhere else."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pydicom
import pytest
from PIL import Image

from aeflow.results.score_table import UIDS
from aeflow.training.train import Trained
from helpers.command import within
from helpers.data import texture
from helpers.dicom_sources import ct, enhanced_mr


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    ct(folder / "a.dcm")
    enhanced_mr(folder / "b.dcm")
    Image.fromarray(texture(1)).save(folder / "c.png")
    (folder / "d.dcm").write_bytes((folder / "a.dcm").read_bytes()[:400])
    (folder / "e.dcm").write_bytes((folder / "a.dcm").read_bytes()[:-9])
    return folder


def test_tables_hold_them_on_request(trained: Trained, run: Path, images: Path, tmp_path: Path) -> None:
    within("score", run, images, "--out", tmp_path / "s.csv", "--uids", ok=1)
    rows = list(csv.DictReader((tmp_path / "s.csv").open()))
    assert list(rows[0])[-4:] == list(UIDS)
    headers = [pydicom.dcmread(images / name) for name in ("a.dcm", *["b.dcm"] * 4)]
    for row, header, frame in zip(rows, headers, "11234", strict=False):
        assert row["sop_instance_uid"] == header.SOPInstanceUID
        assert row["study_instance_uid"] == header.StudyInstanceUID
        assert row["series_instance_uid"] == header.SeriesInstanceUID
        assert row["frame"] == frame
    assert [[row[name] for name in UIDS] for row in rows[5:7]] == [[""] * 4] * 2, "a picture, and no whole header"
    assert rows[7]["sop_instance_uid"] == rows[0]["sop_instance_uid"], "its pixels alone are refused"
    within("score", run, images, "--out", tmp_path / "t.parquet", "--uids", ok=1)
    table = pq.read_table(tmp_path / "t.parquet").to_pylist()
    assert [(row["sop_instance_uid"] or "", row["frame"]) for row in table] == [
        (row["sop_instance_uid"], int(row["frame"]) if row["frame"] else None) for row in rows
    ]
    out, _ = within("score", run, images, "--json", "--uids", ok=1)
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["sop_instance_uid"] or "" for line in lines] == [row["sop_instance_uid"] for row in rows]


def test_without_the_request_there_are_none(trained: Trained, run: Path, images: Path, tmp_path: Path) -> None:
    out, err = within("score", run, images, "--json", ok=1)
    within("score", run, images, "--out", tmp_path / "s.csv", "--nifti", tmp_path / "nifti", ok=1)
    header = (tmp_path / "s.csv").read_text().splitlines()[0]
    assert not set(UIDS) & set(header.split(","))
    written = b"".join(path.read_bytes() for path in tmp_path.glob("s*.csv")) + (out + err).encode()
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        assert pydicom.dcmread(images / "a.dcm")[keyword].value.encode() not in written
