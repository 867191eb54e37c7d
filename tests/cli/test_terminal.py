"""What a command prints in a real terminal: results on stdout, wherever that goes, and progress on stderr alone."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from aeflow.runtime import progress
from helpers.command import AEFLOW
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


@pytest.mark.parametrize(
    "words",
    [
        ["score", "RUN", *IMAGES, "--json", "--backend", "torch"],
        ["evaluate", "RUN", "DATA", "--out", "OUT", "--backend", "torch", "--json"],
        ["audit", "DATA", "--out", "OUT"],
        ["info", "RUN"],
    ],
    ids=lambda words: " ".join(word for word in words if word not in IMAGES),
)
def test_results_reach_stdout_in_a_terminal(tiny_run: Path, data: Path, tmp_path: Path, words: list[str]) -> None:
    names = {"RUN": str(tiny_run), "DATA": str(data)}
    kept = {}
    for place in ("plain", "terminal"):
        command = [AEFLOW, *(names.get(word, word).replace("OUT", str(tmp_path / place)) for word in words)]
        out = tmp_path / f"{place}.txt"
        if place == "plain":
            with out.open("wb") as file:
                code = subprocess.run(command, stdout=file, stderr=subprocess.PIPE, check=False).returncode
        else:
            code, _ = in_terminal(command, out)
        kept[place] = (code, out.read_text().replace(str(tmp_path / place), "OUT"))
    assert kept["terminal"] == kept["plain"]
    assert kept["plain"][1]


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
