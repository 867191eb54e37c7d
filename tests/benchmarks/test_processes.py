"""Programs are run as their users start them."""

from __future__ import annotations

import sys

import pytest

from benchmarks.processes import run_process


def test_programs_run_with_nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "0")
    code = (
        "import os, time; b = b'x' * 2**28; time.sleep(0.5); print([k for k in os.environ if k[:3] in ('OMP', 'MAL')])"
    )
    found = run_process([sys.executable, "-c", code])
    assert found.output.strip() == "[]"
    assert found.seconds > 0.5
    assert 256 < found.peak_mb < 400
    with pytest.raises(SystemExit, match="no such thing"):
        run_process([sys.executable, "-c", "raise SystemExit('no such thing')"])
