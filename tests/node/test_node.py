"""The whole way against real parts: dcmtk sends, the node scores, Orthanc holds the results; also after kills."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pydicom
import pytest

from aeflow.results.dicom.overlay import MIN_WIDTH
from helpers.dicom_sources import MADE, PATIENT, texture, write
from helpers.orthanc import NodeProcess, Orthanc, free_port, needed, orthanc, storescu, wait_for

SEND_ALL = """
quiet_seconds = {quiet}
[[rule]]
outside = "send"
send = ["report", "overlay", "map"]
"""
SEND_REPORTS = """
quiet_seconds = 5
[[rule]]
outside = "send"
send = ["report"]
"""


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    needed("storescu")
    with orthanc(tmp_path_factory.mktemp("pacs")) as found:
        yield found


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, pacs: Orthanc, openvino_export: Path) -> Iterator[NodeProcess]:
    folder = tmp_path_factory.mktemp("node")
    (folder / "node.toml").write_text(SEND_ALL.format(quiet=1))
    options = ("--port", 0, "--config", folder / "node.toml", "--send-to", f"127.0.0.1:{pacs.dicom}:PACS")
    with NodeProcess(openvino_export, folder, *options) as found:
        yield found


def results(pacs: Orthanc, study: str, reports: int = 1) -> dict[str, list[pydicom.Dataset]]:
    """The results on a study by modality, once there are so many reports."""
    wait_for(lambda: pacs.count(StudyInstanceUID=study, Modality="SR") == reports, 60)
    found: dict[str, list[pydicom.Dataset]] = {}
    for one in pacs.instances(StudyInstanceUID=study):
        found.setdefault(one.SOPClassUID.keyword, []).append(one)
    return found


@pytest.mark.parametrize("kind", MADE)
def test_every_kind_of_image_comes_back_as_results_that_the_validator_accepts(
    node: NodeProcess, pacs: Orthanc, tmp_path: Path, kind: str
) -> None:
    file = MADE[kind](tmp_path / "image.dcm")
    source = pydicom.dcmread(file)
    done = storescu(node.port, file)
    assert done.returncode == 0, done.stdout + done.stderr
    found = results(pacs, source.StudyInstanceUID)
    frames = int(source.get("NumberOfFrames", 1))
    [report] = found["ComprehensiveSRStorage"]
    overlays, maps = found["SecondaryCaptureImageStorage"], found["ParametricMapStorage"]
    assert (len(overlays), len(maps)) == (frames, 1)
    assert all(one.Columns >= MIN_WIDTH for one in overlays)
    for one in [report, *overlays, *maps]:
        assert (one.PatientID, one.StudyInstanceUID) == (PATIENT["PatientID"], source.StudyInstanceUID)
    named = {
        item.ReferencedSOPInstanceUID
        for series in report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert named == {source.SOPInstanceUID, *(one.SOPInstanceUID for one in [*overlays, *maps])}
    assert "Normal" not in [item.value for item in report.iterall() if item.keyword == "CodeMeaning"]
    needed("dciodvfy")
    for one in [report, *overlays, *maps]:
        one.save_as(tmp_path / "result.dcm")
        said = subprocess.run(["dciodvfy", str(tmp_path / "result.dcm")], capture_output=True, text=True)
        errors = [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]
        assert errors == [], one.SOPClassUID.name


def study(folder: Path, number: int, images: int, start: int = 0) -> list[Path]:
    """Write some images of a study, on which no two have the same pixels."""
    return [
        write(
            folder / f"{number}.{image}.dcm", "CR", (255 * texture(96, 96, seed=100 * number + image)).astype(np.uint8),
            StudyInstanceUID=f"1.2.840.9.{number}", SeriesInstanceUID=f"1.2.840.9.{number}.0",
            SOPInstanceUID=f"1.2.840.9.{number}.0.{image}", InstanceNumber=image + 1,
        )
        for image in range(start, start + images)
    ]  # fmt: skip


def test_a_study_that_grows_gets_a_report_that_replaces_the_former(
    node: NodeProcess, pacs: Orthanc, tmp_path: Path
) -> None:
    uid = "1.2.840.9.1"
    assert storescu(node.port, *study(tmp_path, 1, 1)).returncode == 0
    first = results(pacs, uid)
    assert storescu(node.port, *study(tmp_path, 1, 2, start=1)).returncode == 0
    grown = results(pacs, uid, reports=2)
    [former] = first["ComprehensiveSRStorage"]
    [new] = [one for one in grown["ComprehensiveSRStorage"] if one.SOPInstanceUID != former.SOPInstanceUID]
    [predecessor] = [
        item for study in new.PredecessorDocumentsSequence for one in study.ReferencedSeriesSequence
        for item in one.ReferencedSOPSequence
    ]  # fmt: skip
    assert predecessor.ReferencedSOPInstanceUID == former.SOPInstanceUID
    assert "PredecessorDocumentsSequence" not in former
    assert len(grown["SecondaryCaptureImageStorage"]) == 3  # that of the first image is the same object
    assert storescu(node.port, *study(tmp_path, 1, 3)).returncode == 0  # sent again, all of it
    assert storescu(node.port, *study(tmp_path, 2, 1)).returncode == 0
    results(pacs, "1.2.840.9.2")
    assert pacs.count(StudyInstanceUID=uid, Modality="SR") == 2


def test_nobody_is_named_in_the_log(node: NodeProcess) -> None:
    said = node.said()
    assert "study " in said
    for word in ("Canary", "CANARY", PATIENT["PatientID"], "1.2.840.9.", "1.2.826"):
        assert word not in said


def test_results_outside_the_intended_input_are_withheld_and_what_is_no_image_is_a_dead_letter(
    pacs: Orthanc, tmp_path: Path, openvino_export: Path
) -> None:
    to = ("--send-to", f"127.0.0.1:{pacs.dicom}:PACS")
    with NodeProcess(openvino_export, tmp_path, "--port", 0, "--quiet", 0.5, *to) as node:
        black = write(
            tmp_path / "black.dcm", "CR", np.zeros((64, 64), np.uint8),
            StudyInstanceUID="1.2.840.8.1", SOPInstanceUID="1.2.840.8.1.1",
        )  # fmt: skip
        outside = write(
            tmp_path / "noise.dcm", "CR", (np.arange(64 * 64).reshape(64, 64) % 2 * 255).astype(np.uint8),
            StudyInstanceUID="1.2.840.8.2", SOPInstanceUID="1.2.840.8.2.1",
        )  # fmt: skip
        assert storescu(node.port, black, outside).returncode == 0
        wait_for(lambda: not node.state()["studies"].get("waiting"), 60)
        state = node.state()
        assert state["studies"] == {"dead": 1, "withheld": 1}, node.said()
        [letter] = state["dead_letters"]
        assert letter["what"] == "scoring"
        assert letter["reason"] == "1 image in which every pixel is the same, and no other"
    for uid in ("1.2.840.8.1", "1.2.840.8.2"):
        assert pacs.count(StudyInstanceUID=uid) == 0


def test_a_pacs_that_is_down_gets_its_results_when_it_is_back_by_stow(tmp_path: Path, openvino_export: Path) -> None:
    needed("storescu")
    with orthanc(tmp_path / "pacs") as first:
        http, dicom = first.http, first.dicom
    (tmp_path / "node.toml").write_text(SEND_ALL.format(quiet=0.5))
    to = ("--config", tmp_path / "node.toml", "--send-to", f"http://127.0.0.1:{http}/dicom-web")
    with NodeProcess(openvino_export, tmp_path, "--port", 0, *to) as node:
        assert storescu(node.port, *study(tmp_path, 3, 2)).returncode == 0
        wait_for(lambda: "wait" in node.said(), 60)
        assert node.state()["destinations"]["send_to_1"]["trouble"]
        with orthanc(tmp_path / "pacs", port=dicom, http=http) as pacs:
            found = results(pacs, "1.2.840.9.3")
            assert Counter({name: len(of) for name, of in found.items()}) == Counter(
                ComprehensiveSRStorage=1, SecondaryCaptureImageStorage=2, ParametricMapStorage=2
            )
            wait_for(lambda: node.state()["destinations"]["send_to_1"] == {"sent": 5}, 30)
    assert list((node.store / "results").iterdir()) == []


def killed_and_counted(
    folder: Path, run: Path, studies: int, images: int, associations: int, kills: int, pause: Callable[[int], float]
) -> int:
    """Send studies over several associations while the node is killed; return how many results the PACS holds."""
    files = {number: study(folder, number, images) for number in range(studies)}
    (folder / "node.toml").write_text(SEND_REPORTS)
    with ExitStack() as stack:
        pacs = stack.enter_context(orthanc(folder / "pacs"))
        node = NodeProcess(
            run, folder, "--port", free_port(), "--config", folder / "node.toml",
            "--send-to", f"127.0.0.1:{pacs.dicom}:PACS",
        )  # fmt: skip
        stack.enter_context(node)

        def send(number: int) -> None:
            """Send a study until all of it is acknowledged, as a modality does."""
            wait_for(lambda: storescu(node.port, *files[number]).returncode == 0, 1200, pause=1)

        with ThreadPoolExecutor(associations) as pool:
            sent = [pool.submit(send, number) for number in range(studies)]
            for number in range(kills):
                time.sleep(pause(number))
                node.kill()
                node.start()
            for one in sent:
                one.result()
        wait_for(lambda: pacs.count(Modality="SR") >= studies, 1200, pause=1)
        wait_for(lambda: set(node.state()["studies"]) == {"scored"}, 600, pause=1)
        wait_for(lambda: set(node.state()["destinations"]["send_to_1"]) == {"sent"}, 600, pause=1)
        reports = pacs.instances(Modality="SR")
        assert node.stop() == 0
    replaced = {
        item.ReferencedSOPInstanceUID
        for report in reports for study in report.get("PredecessorDocumentsSequence", [])
        for one in study.ReferencedSeriesSequence for item in one.ReferencedSOPSequence
    }  # fmt: skip
    current = Counter(one.StudyInstanceUID for one in reports if one.SOPInstanceUID not in replaced)
    assert current == Counter({f"1.2.840.9.{number}": 1 for number in range(studies)})
    for report in reports:
        if report.SOPInstanceUID not in replaced:
            assert len(evidence_of(report) & {f"{report.StudyInstanceUID}.0.{n}" for n in range(images)}) == images
    return sum(current.values())


def evidence_of(report: pydicom.Dataset) -> set[str]:
    return {
        item.ReferencedSOPInstanceUID
        for series in report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }


def test_a_kill_loses_no_study_and_answers_none_twice(tmp_path: Path, openvino_export: Path) -> None:
    needed("storescu")
    killed_and_counted(tmp_path, openvino_export, studies=6, images=2, associations=3, kills=2, pause=lambda n: 1.0)


@pytest.mark.torture
def test_twenty_kills_lose_none_of_two_hundred_studies(
    tmp_path: Path, openvino_export: Path, record_property: Callable[[str, object], None]
) -> None:
    needed("storescu")
    rng, kills, studies, images = np.random.default_rng(0), 20, 200, 5
    found = killed_and_counted(
        tmp_path, openvino_export, studies, images, associations=8, kills=kills,
        pause=lambda n: float(rng.uniform(0.5, 6.0)),
    )  # fmt: skip
    record_property("node: kills -9 while studies come in", kills)
    record_property("node: objects sent by eight associations at once", studies * images)
    record_property("node: studies with one report in force", found)
