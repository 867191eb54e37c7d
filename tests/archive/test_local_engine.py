"""Laws of the processes that score: whoever dies, every file has its row once, and only one that kills no score."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from aeflow.archive.engines.local import MIN_FILES, STARTS, TRIES, LocalEngine, shared
from aeflow.archive.item import Item
from aeflow.archive.plan import Part
from aeflow.errors import AeflowError, ArtifactError
from helpers.part_workers import Toy


def parts_of(*sizes: int) -> list[Part]:
    return [Part(number, [Item(f"{number}/{i}", "") for i in range(size)]) for number, size in enumerate(sizes)]


def scored(toy: Toy, parts: list[Part], workers: int = 1) -> dict[int, list[tuple[str, str | None]]]:
    with LocalEngine(workers) as engine:
        found = [(number, table.to_pylist()) for number, table in engine.tables(toy, parts)]
    assert len(found) == len({number for number, _ in found})
    return {number: [(row["name"], row["error"]) for row in rows] for number, rows in found}


def started(folder: Path) -> list[int]:
    return [int(path.stem) for path in folder.glob("*.started")]


def test_each_part_comes_once_with_all_its_files_in_order(tmp_path: Path) -> None:
    parts = parts_of(3, 1, 4, 2, 5)
    found = scored(Toy(str(tmp_path)), parts, workers=2)
    assert found == {part.number: [(item.name, None) for item in part.items] for part in parts}


@pytest.mark.parametrize(("workers", "last"), [(1, [400] * 5), (2, [400, 400, 400, 50, 50]), (8, [MIN_FILES] * 5)])
def test_the_last_parts_are_cut_so_that_all_workers_end_together(workers: int, last: list[int]) -> None:
    assert [files for _, files in shared(parts_of(*[400] * 5), workers)] == last


def test_a_part_that_is_cut_is_whole_and_in_order(tmp_path: Path) -> None:
    parts = parts_of(1, 3 * MIN_FILES + 1)
    found = scored(Toy(str(tmp_path), deadly=("1/40",)), parts, workers=2)
    assert {number: [name for name, _ in rows] for number, rows in found.items()} == {
        part.number: [item.name for item in part.items] for part in parts
    }
    assert [name for name, error in found[1] if error] == ["1/40"]


def test_a_file_that_kills_is_found_among_many_and_the_others_have_their_rows(tmp_path: Path) -> None:
    parts = parts_of(2, 32)
    found = scored(Toy(str(tmp_path), deadly=("1/21",)), parts)
    refused = {name: error for rows in found.values() for name, error in rows if error is not None}
    assert refused == {"1/21": f"killed the process that scored it {TRIES} times"}
    assert {number: [name for name, _ in rows] for number, rows in found.items()} == {
        part.number: [item.name for item in part.items] for part in parts
    }
    halvings = 5  # of 32
    assert len(started(tmp_path)) <= 1 + TRIES + halvings + TRIES


def test_a_worker_that_is_killed_costs_nothing_but_time(tmp_path: Path) -> None:
    ended = threading.Event()

    def kill_the_first() -> None:
        while not ended.is_set() and not started(tmp_path):
            time.sleep(0.02)
        time.sleep(0.1)
        killed.extend(started(tmp_path)[:1])
        os.kill(killed[0], signal.SIGKILL)

    killed: list[int] = []
    killer = threading.Thread(target=kill_the_first)
    killer.start()
    parts = parts_of(5, 5, 5)
    found = scored(Toy(str(tmp_path), seconds=0.05), parts, workers=2)
    ended.set()
    killer.join()
    assert found == {part.number: [(item.name, None) for item in part.items] for part in parts}
    assert set(started(tmp_path)) > set(killed) > set()


@pytest.mark.parametrize("asked", ["facts", "tables"])
def test_workers_that_die_before_they_are_ready_are_an_error_in_one_line(tmp_path: Path, asked: str) -> None:
    toy = Toy(str(tmp_path), at_start="kill")
    with LocalEngine(1) as engine, pytest.raises(AeflowError, match=rf"{STARTS} in a row died .*signal 9"):
        engine.facts(toy) if asked == "facts" else list(engine.tables(toy, parts_of(1)))


def test_what_a_worker_cannot_open_is_raised_as_it_is(tmp_path: Path) -> None:
    with LocalEngine(1) as engine, pytest.raises(ArtifactError, match="model: damaged; train it again"):
        list(engine.tables(Toy(str(tmp_path), at_start="refuse"), parts_of(1)))


def test_the_worker_that_was_asked_for_facts_scores(tmp_path: Path) -> None:
    toy = Toy(str(tmp_path))
    with LocalEngine(1) as engine:
        assert engine.facts(toy) == "facts of a toy"
        assert len(list(engine.tables(toy, parts_of(1, 1)))) == 2
    assert len(started(tmp_path)) == 1


def test_workers_end_with_a_driver_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys; from aeflow.archive.engines.local import LocalEngine; from aeflow.archive.item import Item; "
        "from aeflow.archive.plan import Part; from helpers.part_workers import Toy; "
        "list(LocalEngine(2).tables(Toy(sys.argv[1], seconds=60), "
        "[Part(0, [Item('a', '')]), Part(1, [Item('b', '')])]))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], env=environment)
    while len(started(tmp_path)) < 2:
        assert driver.poll() is None
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}") for pid in started(tmp_path)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
