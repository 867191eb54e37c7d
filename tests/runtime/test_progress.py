"""Progress: one count, heard by a caller's own listener or shown on stderr, never both."""

from __future__ import annotations

import pytest

from aeflow.runtime import progress
from aeflow.runtime.progress import bar, heard_by, listening

Heard = list[tuple[int, int, str]]


def test_a_listener_hears_each_count_and_the_terminal_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    heard: Heard = []
    with listening(lambda *told: heard.append(told)):
        with bar("Scoring", 3) as advance:
            advance(2, note="AUROC 0.9")
            advance.more(4)
            with bar("Reading", 5) as within:
                within(5)
            advance()
        with bar("Writing", 1) as advance:
            advance()
    assert heard == [(0, 3, "Scoring"), (2, 3, "Scoring"), (3, 7, "Scoring"), (0, 1, "Writing"), (1, 1, "Writing")]
    assert capsys.readouterr().err == ""
    with bar("Scoring", 1) as advance:
        advance()
    assert capsys.readouterr().err == "Scoring: 1 of 1\n"  # who no longer listens hears no more
    assert len(heard) == 5


def test_what_a_listener_raises_ends_the_work_and_leaves_nothing_behind(capsys: pytest.CaptureFixture[str]) -> None:
    def stop(done: int, total: int, what: str) -> None:
        if done == 2:
            raise KeyError(what)

    def work() -> None:
        with listening(stop), bar("Scoring", 3) as advance:
            for _ in range(3):
                advance()

    with pytest.raises(KeyError, match="Scoring"):
        work()
    heard: Heard = []
    with listening(lambda *told: heard.append(told)), bar("Scoring", 3):
        pass
    assert heard == [(0, 3, "Scoring")]  # no bar is taken for an outer one that is still open


def test_nobody_needs_to_listen(capsys: pytest.CaptureFixture[str]) -> None:
    heard_by(None, "Scoring", 2)(2)
    with listening(None), bar("Scoring", 1) as advance:
        advance()
    assert capsys.readouterr().err == ""
