"""Laws of all that is written: killed at any event or on a full disk, it is the old or the new, never a mixture."""

from __future__ import annotations

import os
import random
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import helpers.writers_of_pages
import helpers.writers_of_scores
import helpers.writers_of_services  # noqa: F401
from helpers import writers_of_models
from helpers.command import every_command
from helpers.killing import Commands, Ended, commands
from helpers.writers import BY_OTHERS, READERS, WRITERS, Case, World, leftovers, tree

Record = Callable[[str, object], None]
LITTLE = 200  # bytes that a file may have: less than any result takes
LIMITS = [LITTLE, *(pytest.param(more, marks=pytest.mark.torture) for more in (0, 4096, 2**16))]
PROGRESS = re.compile(r"[A-Z][a-z ]+: [\d,]+ of .*")  # where the machine is slow
MOST_KILLS = 40  # of one command; of more events, so many are drawn
NAMES = [pytest.param(name, marks=[pytest.mark.torture] * one.long) for name, one in WRITERS.items()]


@pytest.fixture(scope="module")
def warm() -> Iterator[Commands]:
    with commands() as found:
        yield found


@pytest.fixture
def world(tmp_path: Path, tiny_run: Path, data: Path, tiny_weights: Path, exports: Callable[[str], Path]) -> World:
    return World(tmp_path, tiny_run, data, tiny_weights, exports)


@pytest.fixture(params=NAMES)
def case(request: pytest.FixtureRequest, world: World) -> Case:
    return WRITERS[request.param].make(world)


def test_every_command_stands_in_the_table() -> None:
    written = {one.command for one in WRITERS.values()}
    assert sorted(written | READERS.keys() | BY_OTHERS.keys()) == sorted(every_command())
    assert {other for others in BY_OTHERS.values() for other in others} <= written


def killed(warm: Commands, case: Case, at: int) -> Ended:
    case.before()
    ended = case.run(warm, at=at)
    case.check()
    return ended


def words(text: str) -> list[str]:
    """Return the words of an output, without numbers: times differ."""
    return re.findall(r"[^\W\d]+", text)


def test_a_killed_command_leaves_the_old_or_the_new_and_the_next_prints_the_same_in_a_terminal(
    warm: Commands, case: Case, request: pytest.FixtureRequest
) -> None:
    whole = killed(warm, case, 0)
    assert whole.code in case.codes, whole.err
    killed(warm, case, random.Random(request.node.callspec.id).randint(1, whole.events))
    again = case.run(warm, terminal=True)  # with what is left there now
    assert again.code in case.codes or "is there already" in again.err, again.err
    if again.code in case.codes:
        assert bool(again.out) == bool(whole.out)
        assert "\x1b" not in again.out
        assert case.says_what_it_found or words(again.out) == words(whole.out)
        case.at_the_end()
    assert leftovers(case.under) == []


@pytest.mark.parametrize("name", READERS)
def test_a_reader_writes_nothing_and_prints_the_same_in_a_terminal(warm: Commands, world: World, name: str) -> None:
    arguments = READERS[name](world)
    under = Path(os.path.commonpath([world.tmp, world.run]))
    own = world.tmp / "cache"  # tests beside this one write into the shared cache between the two runs
    writers_of_models.filled(world, own)
    plain, shown = (
        warm.run(*arguments, under=under, terminal=one, variables={"AEFLOW_CACHE": str(own)}) for one in (False, True)
    )
    assert (plain.code, plain.events, shown.code, shown.events) == (0, 0, 0, 0)
    assert plain.out
    assert words(shown.out) == words(plain.out)


@pytest.mark.torture
def test_a_command_killed_at_every_event_leaves_the_old_or_the_new(
    warm: Commands, case: Case, record_property: Record
) -> None:
    last = killed(warm, case, 0).events
    chosen = range(1, last + 1)
    if last > MOST_KILLS:
        chosen = sorted(random.Random(0).sample(chosen, MOST_KILLS))
    kills = sum(killed(warm, case, at).code == -signal.SIGKILL for at in chosen)
    record_property("kills", kills)


@pytest.mark.parametrize("limit", LIMITS)
def test_on_a_full_disk_a_command_says_so_and_leaves_the_old(
    warm: Commands, case: Case, limit: int, record_property: Record
) -> None:
    if not case.needs_room:
        pytest.skip("a full disk is a test of its own")
    case.before()
    there = tree(case.under) if case.under.exists() else {}
    ended = case.run(warm, limit=limit)
    record_property("full disks", 1)
    if ended.code in case.codes and limit > LITTLE:  # it had room enough
        case.check()
        return
    assert ended.code == 2, ended.err
    assert "Traceback" not in ended.err
    *others, line = ended.err.splitlines()
    assert line.startswith("error: ")
    assert all(one.startswith("note: ") or PROGRESS.fullmatch(one) for one in others), ended.err
    assert (tree(case.under) if case.under.exists() else {}) == there
