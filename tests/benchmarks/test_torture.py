"""Counts of the long tests as their report has them, and the time of what guards files."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.torture import counted, guards, table

REPORT = """<testsuites><testsuite>
<testcase name="test_a[1]"><properties><property name="kills" value="40"/></properties></testcase>
<testcase name="test_a[2]"><properties><property name="kills" value="2"/></properties><failure/></testcase>
<testcase name="test_b[1]"><properties><property name="most megabytes" value="3"/></properties></testcase>
<testcase name="test_b[2]"><properties><property name="most megabytes" value="2"/></properties></testcase>
<testcase name="test_c"><error/></testcase>
<testcase name="test_d"/>
</testsuite></testsuites>"""


def test_counts_are_summed_and_a_test_that_failed_is_seen(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    found = counted(report)
    assert found["kills"] == {"number": 42, "failed": 1}
    assert found["most megabytes"] == {"number": 3, "failed": 0}
    assert found["test_c"] == {"number": 0, "failed": 1}
    assert "test_d" not in found
    assert "| kills | 42 | 1 |" in table({"counts": found})


def test_guards_are_timed_and_do_their_work(tmp_path: Path) -> None:
    place = tmp_path / "file"
    with guards() as seconds, place.open("wb") as file:
        file.write(b"content")
        file.flush()
        os.fsync(file.fileno())
    assert place.read_bytes() == b"content"
    assert 0 < seconds["fsync"] < 10
