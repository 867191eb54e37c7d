"""The queue: nothing is lost by a restart, nothing is made or sent twice, and what fails waits and is said."""

from __future__ import annotations

import dataclasses
import sqlite3
import time
from pathlib import Path

import pytest

from aeflow.errors import ArtifactError, SettingsError
from aeflow.node import admin
from aeflow.node.header import ObjectFacts
from aeflow.node.queue import FILE, Queue
from aeflow.node.store import Store
from aeflow.node.tables import NewResult

FACTS = ObjectFacts("1.2.1", "1.2.1.0", "1.2.1.0.1", "1.2.840.10008.5.1.4.1.1.1", "CR", "CHEST")
RESULT = NewResult("model", "report", "2.25.1", "2.25.2", "1.2.840.10008.5.1.4.1.1.88.33", "file", ("pacs", "web"))


@pytest.fixture
def queue(tmp_path: Path):
    found = Queue(tmp_path)
    yield found
    found.close()


def scored(queue: Queue, number: int = 1) -> None:
    """Bring a study to its results."""
    facts = dataclasses.replace(FACTS, study=f"1.2.{number}", instance=f"1.2.{number}.0.1")
    queue.add(facts, "MODALITY", f"object {number}", quiet=0)
    study = queue.next_study()
    assert study is not None
    result = dataclasses.replace(RESULT, instance=f"2.25.{number}", name=f"file {number}")
    assert queue.finish(study, "scored", "", [result]) == []


def test_a_study_waits_until_it_is_quiet_and_longer_if_more_comes(queue: Queue) -> None:
    queue.add(FACTS, "MODALITY", "a", quiet=0.2)
    assert queue.next_study() is None
    time.sleep(0.15)
    queue.add(dataclasses.replace(FACTS, instance="1.2.1.0.2"), "MODALITY", "b", quiet=0.2)
    time.sleep(0.1)
    assert queue.next_study() is None
    time.sleep(0.15)
    study = queue.next_study()
    assert study is not None
    assert [one.name for one in study.objects] == ["a", "b"]
    assert study.revision == 2


def test_a_study_that_a_killed_process_had_begun_is_begun_again_behind_the_others(tmp_path: Path) -> None:
    first = Queue(tmp_path)
    first.add(FACTS, "MODALITY", "a", quiet=0)
    first.add(dataclasses.replace(FACTS, study="1.2.2"), "MODALITY", "b", quiet=0)
    begun = first.next_study()
    assert begun is not None
    second = Queue(tmp_path)  # the first never ended anything
    second.restart(quiet=0)
    order = [study.uid for study in (second.next_study(), second.next_study()) if study is not None]
    assert sorted(order) == ["1.2.1", "1.2.2"]
    assert order[-1] == begun.uid


def test_a_study_that_grows_while_it_is_scored_waits_again_and_its_results_count(queue: Queue) -> None:
    queue.add(FACTS, "MODALITY", "a", quiet=0)
    study = queue.next_study()
    assert study is not None
    queue.add(dataclasses.replace(FACTS, instance="1.2.1.0.2"), "MODALITY", "b", quiet=0)
    queue.finish(study, "scored", "", [RESULT])
    again = queue.next_study()
    assert again is not None
    assert again.revision == 2
    assert len(queue.deliveries("pacs", 10)) == 1
    former = queue.report_of(study.id, "model")
    assert former is not None
    assert former["instance"] == RESULT.instance


def test_a_result_that_is_there_is_not_sent_again_and_its_new_file_is_not_needed(queue: Queue) -> None:
    scored(queue)
    [delivery] = queue.deliveries("pacs", 10)
    queue.sent(delivery)
    assert queue.unneeded(delivery) == []  # the other destination has not got it
    queue.sent(queue.deliveries("web", 10)[0])
    assert queue.unneeded(delivery) == ["file 1"]
    queue.add(FACTS, "MODALITY", "another", quiet=0)
    study = queue.next_study()
    assert study is not None
    assert queue.finish(study, "scored", "", [dataclasses.replace(RESULT, name="again")]) == ["again"]
    assert queue.deliveries("pacs", 10) == []


def test_what_fails_waits_longer_each_time_and_is_dead_after_its_time(queue: Queue) -> None:
    scored(queue)
    [delivery] = queue.deliveries("pacs", 10)
    waits = []
    for attempts in range(4):
        queue.postpone([dataclasses.replace(delivery, attempts=attempts)], "no association", give_up=3600)
        [[due]] = queue.all("SELECT due FROM deliveries WHERE destination = 'pacs'")
        waits.append(round(due - time.time()))
    assert waits == [1, 2, 4, 8]
    assert queue.deliveries("pacs", 10) == []
    queue.postpone([delivery], "no association", give_up=-1)
    [letter] = admin.dead_letters(queue)
    assert (letter.what, letter.kind, letter.reason) == ("pacs", "report", "no association")


def test_a_dead_letter_is_tried_again_or_dropped_with_its_files(queue: Queue, tmp_path: Path) -> None:
    store = Store(tmp_path)
    scored(queue, 1)
    scored(queue, 2)
    for delivery in queue.deliveries("pacs", 10):
        queue.refused(delivery, "answered 0xA900")
    assert [one.study for one in admin.dead_letters(queue)] == [1, 2]
    assert admin.retry(queue, [1]) == 1
    assert [one.study for one in queue.deliveries("pacs", 10)] == [1]
    for place in (store.path_of("object 2"), store.result("file 2")):
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(b"")
    assert admin.drop(queue, store, [2]) == 1
    assert not store.path_of("object 2").exists()
    assert not store.result("file 2").exists()
    assert admin.dead_letters(queue) == []
    with pytest.raises(SettingsError, match="there is no study 7"):
        admin.retry(queue, [7])


def test_a_study_that_is_dropped_while_it_is_scored_leaves_nothing(queue: Queue, tmp_path: Path) -> None:
    queue.add(FACTS, "MODALITY", "a", quiet=0)
    study = queue.next_study()
    assert study is not None
    admin.drop(queue, Store(tmp_path), [study.id])
    assert queue.finish(study, "scored", "", [RESULT]) == [RESULT.name]
    queue.postpone_study(study, "no space", give_up=60)
    assert queue.all("SELECT * FROM results") == []


def test_only_what_has_ended_is_forgotten(queue: Queue) -> None:
    for number in range(1, 5):
        scored(queue, number)
    by_study = {one.study: one for name in ("pacs", "web") for one in queue.deliveries(name, 10)}
    assert len(by_study) == 4
    for name in ("pacs", "web"):
        for one in queue.deliveries(name, 10):
            if one.study == 1 or (one.study == 2 and name == "pacs"):
                queue.sent(one)
    queue.refused(queue.deliveries("web", 10)[1], "no")
    assert queue.forget(before=time.time() - 60) == 0
    assert queue.forget(before=time.time() + 60) == 1
    assert [row[0] for row in queue.all("SELECT id FROM studies")] == [2, 3, 4]


def test_a_clock_that_was_set_back_delays_nothing(queue: Queue) -> None:
    queue.add(FACTS, "MODALITY", "a", quiet=10 * 365 * 86400)
    assert queue.next_study() is not None


def test_names_of_files_that_nobody_was_told_of_are_swept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    kept, left = store.keep(b"kept", "aa"), store.keep(b"left", "bb")
    assert store.keep(b"kept", "aa") != kept  # so a deletion never meets what came again
    (store.folder / "scratch" / "part").write_bytes(b"")
    assert store.sweep({kept}, set()) == 2
    assert store.path_of(kept).read_bytes() == b"kept"
    assert not store.path_of(left).exists()
    assert list((store.folder / "scratch").iterdir()) == []


def test_a_file_that_is_no_queue_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no data base at all" * 100)
    with pytest.raises(ArtifactError, match=r"queue\.db: cannot be opened as a queue"):
        Queue(tmp_path)
    other = tmp_path / "later"
    other.mkdir()
    with sqlite3.connect(other / FILE) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(ArtifactError, match="version 99"):
        Queue(other)
    with pytest.raises(ArtifactError, match="no queue of a node"):
        admin.open_queue(tmp_path / "nothing")
