"""Orthanc's change feed against a real Orthanc: each stable study is fetched once, whole, and whatever is killed."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pydicom
import pytest

from aeflow.node.intake import Intake
from aeflow.node.orthanc import ChangeFeed, FeedError
from aeflow.node.queue import Queue
from aeflow.node.settings import NodeSettings, OrthancFeed
from aeflow.node.store import Store
from helpers.dicom_peers import SMALL, image
from helpers.orthanc import NodeProcess, Orthanc, free_port, needed, orthanc, storescu, wait_for

STABLE = {"StableAge": 1}
RULE = "[[rule]]\noutside = 'send'\n"


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    needed("storescu")
    with orthanc(tmp_path_factory.mktemp("pacs"), **STABLE) as found:
        yield found


class Following:
    """A feed without a model, on a queue and a store of its own; ``fetched`` are the files that it asked for."""

    def __init__(self, folder: Path, address: str, **settings: Any) -> None:
        values = NodeSettings(**{"limits": SMALL, **settings})
        self.store, self.queue = Store(folder), Queue(folder)
        intake = Intake(values, self.queue, self.store, lambda: None)
        self.feed = ChangeFeed(OrthancFeed(address=address), intake, self.queue, threading.Event())
        self.fetched: list[str] = []
        content = self.feed._content

        def counted(path: str, limit: int) -> bytes | None:
            self.fetched += [path] if path.endswith("/file") else []
            return content(path, limit)

        self.feed._content = counted  # type: ignore[method-assign]

    def objects(self, study: str) -> list[Any]:
        """The rows of a study once the feed has nothing more to say."""
        while self.feed.follow():
            pass
        return self.queue.all("SELECT objects.* FROM objects JOIN studies ON studies.id = study WHERE uid = ?", study)


def stable(pacs: Orthanc, study: str) -> None:
    """Wait until a study has become stable."""
    wait_for(lambda: any(
        one["ChangeType"] == "StableStudy" and one["Seq"] > newest(pacs, study) for one in changes(pacs)
        if one["ResourceType"] == "Study"
        and pacs.get(f"/studies/{one['ID']}")["MainDicomTags"]["StudyInstanceUID"] == study
    ), pause=0.3)  # fmt: skip


def changes(pacs: Orthanc) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pacs.get("/changes?since=0&limit=10000")["Changes"]
    return found


def newest(pacs: Orthanc, study: str) -> int:
    """The number of the last change that an instance of a study made."""
    found = 0
    for one in changes(pacs):
        if one["ChangeType"] == "NewInstance":
            path = f"/instances/{one['ID']}/study"
            if pacs.get(path)["MainDicomTags"]["StudyInstanceUID"] == study:
                found = one["Seq"]
    return found


def sent(pacs: Orthanc, folder: Path, study: str, *numbers: int, **attributes: object) -> list[Path]:
    """Send images to Orthanc, and wait until their study is stable."""
    files = [
        image(
            folder, number, StudyInstanceUID=study, SeriesInstanceUID=f"{study}.{number}",
            SOPInstanceUID=f"{study}.{number}.1", **attributes,
        )
        for number in numbers
    ]  # fmt: skip
    assert storescu(pacs.dicom, *files).returncode == 0
    stable(pacs, study)
    return files


def test_a_stable_study_is_fetched_once_as_it_is_and_what_was_there_before_is_not(
    pacs: Orthanc, tmp_path: Path
) -> None:
    sent(pacs, tmp_path, "1.2.7.1", 0)
    following = Following(tmp_path / "store", pacs.address)
    assert following.objects("1.2.7.1") == []
    files = sent(pacs, tmp_path, "1.2.7.2", 1, 2)
    rows = following.objects("1.2.7.2")
    assert [row["source"] for row in rows] == ["MODALITY", "MODALITY"]  # whose they are to Orthanc
    kept = [pydicom.dcmread(following.store.path_of(row["name"])) for row in rows]
    assert kept == [pydicom.dcmread(file) for file in files]
    study = following.queue.next_study()
    assert study is not None, "it is complete: nothing has to be waited for"
    assert (study.uid, study.revision) == ("1.2.7.2", 2)


def test_of_a_study_that_grows_only_the_new_series_is_fetched(pacs: Orthanc, tmp_path: Path) -> None:
    following = Following(tmp_path / "store", pacs.address)
    following.objects("")
    sent(pacs, tmp_path, "1.2.7.3", 1)
    assert len(following.objects("1.2.7.3")) == 1
    sent(pacs, tmp_path, "1.2.7.3", 2)
    assert len(following.objects("1.2.7.3")) == 2
    assert len(following.fetched) == 2


def test_what_no_rule_wants_and_our_own_results_are_not_fetched(pacs: Orthanc, tmp_path: Path) -> None:
    rules = [{"modality": ["CR"], "source": ["MODALITY"]}]
    following = Following(tmp_path / "store", pacs.address, rule=rules)
    following.objects("")
    sent(pacs, tmp_path, "1.2.7.4", 1, Modality="MR")
    sent(pacs, tmp_path, "1.2.7.5", 2, Manufacturer="aeflow")
    sent(pacs, tmp_path, "1.2.7.6", 3)
    assert [len(following.objects(f"1.2.7.{n}")) for n in (4, 5, 6)] == [0, 0, 1]
    assert len(following.fetched) == 1


def test_what_is_interrupted_is_fetched_again_and_the_place_has_not_moved(pacs: Orthanc, tmp_path: Path) -> None:
    following = Following(tmp_path / "store", pacs.address)
    following.objects("")
    sent(pacs, tmp_path, "1.2.7.7", 1, 2, 3)
    place, content = following.feed.place.get(), following.feed._content

    def ended(path: str, limit: int) -> bytes | None:
        if len(following.fetched) == 2:
            raise KeyboardInterrupt
        return content(path, limit)

    following.feed._content = ended  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        following.feed.follow()
    assert following.feed.place.get() == place
    with closing(following.queue):
        assert len(following.queue.all("SELECT * FROM objects")) == 2
    again = Following(tmp_path / "store", pacs.address)
    assert len(again.objects("1.2.7.7")) == 3
    [[revision]] = again.queue.all("SELECT revision FROM studies")
    assert revision == 3


def test_a_full_disk_waits_and_passes_over_nothing(pacs: Orthanc, tmp_path: Path) -> None:
    following = Following(tmp_path / "store", pacs.address)
    following.objects("")
    sent(pacs, tmp_path, "1.2.7.8", 1)
    following.feed.intake.settings = NodeSettings(limits={"free_bytes": 2**60})
    with pytest.raises(FeedError, match="the disk is full"):
        following.feed.follow()
    following.feed.intake.settings = NodeSettings(limits=SMALL)
    assert len(following.objects("1.2.7.8")) == 1


def test_an_object_beyond_the_limit_is_passed_over_and_the_next_is_taken(pacs: Orthanc, tmp_path: Path) -> None:
    following = Following(tmp_path / "store", pacs.address, limits={**SMALL, "object_bytes": 6000})
    following.objects("")
    sent(pacs, tmp_path, "1.2.7.9", 1, PatientComments="x" * 4000)
    sent(pacs, tmp_path, "1.2.7.10", 2)
    assert [len(following.objects(f"1.2.7.{n}")) for n in (9, 10)] == [0, 1]


def test_another_data_base_is_read_from_its_beginning(tmp_path: Path) -> None:
    needed("storescu")
    http, dicom = free_port(), free_port()
    with orthanc(tmp_path / "pacs", port=dicom, http=http, **STABLE) as pacs:
        sent(pacs, tmp_path, "1.2.7.11", 1, 2)
        following = Following(tmp_path / "store", pacs.address)
        following.objects("")
    with pytest.raises(FeedError, match="not reached"):
        following.feed.follow()
    shutil.rmtree(tmp_path / "pacs")
    with orthanc(tmp_path / "pacs", port=dicom, http=http, **STABLE) as pacs:
        sent(pacs, tmp_path, "1.2.7.12", 3)
        assert len(following.objects("1.2.7.12")) == 1


def test_credentials_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed("storescu")
    http, dicom = free_port(), free_port()
    log_in = {"AuthenticationEnabled": True, "RegisteredUsers": {"node": "secret"}}
    with orthanc(tmp_path / "pacs", port=dicom, http=http, **log_in) as pacs:
        with pytest.raises(FeedError, match="answered HTTP 401"):
            Following(tmp_path / "a", pacs.address).feed.follow()
        monkeypatch.setenv("AEFLOW_ORTHANC_USER", "node")
        monkeypatch.setenv("AEFLOW_ORTHANC_PASSWORD", "secret")
        assert Following(tmp_path / "b", pacs.address).feed.follow()


def test_a_node_follows_an_orthanc_through_a_kill_and_leaves_its_results_there(
    pacs: Orthanc, tmp_path: Path, openvino_export: Path
) -> None:
    (tmp_path / "node.toml").write_text(f"[orthanc]\naddress = '{pacs.address}'\n{RULE}")
    to = ("--config", tmp_path / "node.toml", "--send-to", f"127.0.0.1:{pacs.dicom}:PACS")
    with NodeProcess(openvino_export, tmp_path, "--port", 0, *to) as node:
        with closing(Queue(node.store)) as queue:
            wait_for(lambda: queue.all("SELECT * FROM feeds"), 60)
        sent(pacs, tmp_path, "1.2.7.13", 1)
        node.kill()
        sent(pacs, tmp_path, "1.2.7.14", 2)  # nobody listens
        node.start()
        for study in ("1.2.7.13", "1.2.7.14"):
            wait_for(lambda study=study: pacs.count(StudyInstanceUID=study, Modality="SR") == 1, 120, pause=0.5)
            stable(pacs, study)  # with the results in it
        with closing(Queue(node.store)) as queue:
            last = pacs.get("/changes?last")["Last"]
            wait_for(lambda: queue.all("SELECT last FROM feeds")[0]["last"] >= last, 60, pause=0.5)
        assert node.state()["studies"] == {"scored": 2}, "its own results are no new study"
