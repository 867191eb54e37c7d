"""What a command prints in a real terminal: results on stdout, wherever that goes, and progress on stderr alone."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from aeflow.runtime import progress
from helpers.command import AEFLOW, within
from helpers.data import SAMPLE

IMAGES = [str(path) for path in sorted((SAMPLE / "test" / "normal").iterdir())[:3]]


def in_terminal(command: list[str], stdout: Path, **variables: str) -> tuple[int, str]:
    """Run a command whose stdin and stderr are a terminal, and stdout a file; return exit code and what was shown."""
    outer, inner = pty.openpty()
    with stdout.open("wb") as file:
        environment = {**os.environ, "TERM": "xterm", **variables}
        process = subprocess.Popen(command, stdin=inner, stdout=file, stderr=inner, env=environment)
        os.close(inner)
        shown = b""
        while True:
            try:
                part = os.read(outer, 4096)
            except OSError:  # the terminal is closed from the other side
                break
            if not part:
                break
            shown += part
    os.close(outer)
    return process.wait(), shown.decode(errors="replace")


def test_results_reach_stdout_in_a_terminal(tiny_run: Path, tmp_path: Path) -> None:
    """In a process of its own, as a shell starts it; what all commands print there: test_whole_or_not_at_all.py."""
    words = ["score", str(tiny_run), *IMAGES, "--json", "--backend", "torch"]
    code, shown = in_terminal([AEFLOW, *words], tmp_path / "out.txt")
    assert code == 0, shown
    assert (tmp_path / "out.txt").read_text() == within(*words)[0]


def test_forced_colours_take_nothing_from_stdout(tiny_run: Path, tmp_path: Path) -> None:
    """As on build servers, where stderr is no terminal and FORCE_COLOR says that it is."""
    command = [AEFLOW, "score", str(tiny_run), *IMAGES, "--json", "--backend", "torch"]
    found = subprocess.run(command, capture_output=True, env={**os.environ, "FORCE_COLOR": "1"}, check=False)
    assert found.stdout.count(b"score") >= len(IMAGES)
    assert b"\x1b" not in found.stdout


def test_without_a_terminal_progress_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.bar("Scoring", 3) as advance:
        advance(2)
    assert capsys.readouterr().err == ""  # over before it was worth a word
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    with progress.bar("Scoring", 2) as advance:
        advance.more(1000)
        advance(2, note="AUROC 0.9")
        with progress.bar("Reading", 5) as within:
            within(5)
    assert capsys.readouterr().err == "Scoring: 2 of 1,002, AUROC 0.9\n"


def test_what_is_left_is_told_from_the_pace_after_the_first_images(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first 20 images pay for 90 seconds of start; then ten come in a second."""
    times = iter([0.0, 90.0, 93.0, 100.0])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    told = progress.Lines("Classes", every=0.0)
    for done in (20, 50, 120):
        told(done, 320, None)
    assert capsys.readouterr().err.splitlines() == [
        "Classes: 20 of 320",
        "Classes: 50 of 320",
        "Classes: 120 of 320 (10 per second, 20 s left)",
    ]
