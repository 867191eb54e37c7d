"""Archives from a PACS by DICOMweb: the scores of the files, in an Orthanc; and what it answers when it does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from aeflow.archive.item import Item
from aeflow.archive.sources import dicomweb, tries, way_to
from aeflow.archive.sources.dicomweb import first_part
from aeflow.archive.sources.tries import PassingError
from aeflow.errors import DataError, SettingsError
from aeflow.imageio.errors import FileError, ImageLimitError
from aeflow.imageio.limits import Limits
from helpers.command import error_of, within
from helpers.data import texture
from helpers.dicom_files import content, dataset
from helpers.object_store import Store, serving
from helpers.orthanc import Orthanc, free_port, orthanc

USER, PASSWORD = "reader", "SECRET"
STUDIES = {"1.2.1": ("CR", "DX"), "1.2.2": ("CR",), "1.2.3": ("MG",)}  # the modality of each instance


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tries that follow one another at once, pages of two, and sessions that are made anew."""
    monkeypatch.setattr(tries, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(dicomweb, "PAGE", 2)
    dicomweb._session.cache_clear()
    yield
    dicomweb._session.cache_clear()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    number = 0
    for study, modalities in STUDIES.items():
        for modality in modalities:
            number += 1
            uids = {"SeriesInstanceUID": f"{study}.{modality == 'DX':d}", "SOPInstanceUID": f"{study}.7.{number}"}
            data = dataset(texture(number), StudyInstanceUID=study, Modality=modality, StudyDate="20260102", **uids)
            (folder / f"{number}.dcm").write_bytes(content(data))
    return folder


@pytest.fixture(scope="module")
def pacs(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with orthanc(tmp_path_factory.mktemp("pacs"), user=(USER, PASSWORD)) as found:
        for path in files.iterdir():
            found.send(path.read_bytes())
        yield found


@pytest.fixture
def studies(pacs: Orthanc, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of all studies, whose credentials are in the environment."""
    monkeypatch.setenv("AEFLOW_DICOMWEB_USER", USER)
    monkeypatch.setenv("AEFLOW_DICOMWEB_PASSWORD", PASSWORD)
    monkeypatch.setenv("AEFLOW_DICOMWEB_HOST", f"127.0.0.1:{pacs.http}")
    return f"dicomweb://127.0.0.1:{pacs.http}/dicom-web/studies"


def listed(source: str) -> list[str]:
    """The SOP instance UIDs of a source, sorted."""
    return sorted(item.path.rpartition("/")[2] for item in way_to(source).items(source))


def test_its_instances_have_the_scores_of_files_and_their_urls_as_names(
    studies: str, files: Path, openvino_export: Path, tmp_path: Path
) -> None:
    within("score", openvino_export, files, "--out", tmp_path / "files", "--uids")
    within("score", openvino_export, studies, "--out", tmp_path / "archive", "--uids")
    of_files, found = (
        pd.read_parquet(tmp_path / name).sort_values("sop_instance_uid", ignore_index=True)
        for name in ("files", "archive")
    )
    pd.testing.assert_frame_equal(found.drop(columns=["path", "version"]), of_files.drop(columns=["path", "version"]))
    urls = f"{studies}/" + of_files.study_instance_uid + "/series/" + of_files.series_instance_uid
    assert list(found.path) == list(urls + "/instances/" + of_files.sop_instance_uid)
    said = within("score", openvino_export, studies, "--out", tmp_path / "archive", "--since")[0]
    assert said.startswith("nothing is new: 4 files")
    written = b"".join(path.read_bytes() for path in (tmp_path / "archive").iterdir())
    assert PASSWORD.encode() not in written


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_table_of_it_is_the_table_of_the_files(
    studies: str, files: Path, openvino_export: Path, tmp_path: Path, ending: str
) -> None:
    tables = [tmp_path / f"files{ending}", tmp_path / f"pacs{ending}"]
    for source, table in zip((files, studies), tables, strict=True):
        within("score", openvino_export, source, "--out", table, "--uids")
    read = pd.read_csv if ending == ".csv" else pd.read_parquet
    of_files, found = (read(table).sort_values("sop_instance_uid", ignore_index=True) for table in tables)
    pd.testing.assert_frame_equal(found.drop(columns=["path"]), of_files.drop(columns=["path"]))
    of_files, found = (pd.read_csv(table.with_suffix(".studies.csv")).sort_values("score") for table in tables)
    assert list(found.score) == list(of_files.score)
    assert {path.name for path in tmp_path.iterdir()} == {
        name for table in tables for name in (table.name, table.with_suffix(".studies.csv").name)
    }


@pytest.mark.parametrize(
    ("below", "wanted"),
    [
        ("", {"CR", "DX", "MG"}),
        ("?Modality=CR", {"CR"}),
        ("?Modality=DX&StudyDate=20260101-", {"DX"}),
        ("?00080060=MG", {"MG"}),
        ("?StudyDate=20260103-", set()),
        ("?StudyInstanceUID=1.2.1", {"CR1", "DX"}),
        ("/1.2.1", {"CR1", "DX"}),
        ("/1.2.1?Modality=DX", {"DX"}),
        ("/1.2.1/series/1.2.1.1", {"DX"}),
        ("/1.2.1/series/1.2.1.1/instances/1.2.1.7.2", {"DX"}),
    ],
)
def test_queries_and_levels_choose_what_is_listed(studies: str, below: str, wanted: set[str]) -> None:
    uids = {"CR1": ["1.2.1.7.1"], "CR": ["1.2.1.7.1", "1.2.2.7.3"], "DX": ["1.2.1.7.2"], "MG": ["1.2.3.7.4"]}
    assert listed(studies + below) == sorted(uid for one in wanted for uid in uids[one])


def test_a_table_lists_studies_with_their_labels(studies: str, tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text(f"path,label\n{studies}/1.2.1,1\n{studies}/1.2.2/series/1.2.2.0/instances/1.2.2.7.3,0\n")
    found = [(item.path.rpartition("/")[2], item.label) for item in way_to(str(table)).items(str(table))]
    assert sorted(found) == [("1.2.1.7.1", 1), ("1.2.1.7.2", 1), ("1.2.2.7.3", 0)]


def test_wrong_credentials_are_one_line_that_does_not_repeat_them(
    studies: str, openvino_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AEFLOW_DICOMWEB_PASSWORD", "wrong SECRET")
    line = error_of("score", openvino_export, studies, "--out", tmp_path / "archive")
    assert "cannot be listed (HTTP 401: it wants other credentials); check the URL, and AEFLOW_DICOMWEB_" in line
    assert "SECRET" not in line


def test_credentials_go_to_their_host_alone_and_not_unencrypted(studies: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEFLOW_DICOMWEB_HOST", "pacs.example")
    with pytest.raises(DataError, match="HTTP 401"):
        listed(studies)
    with pytest.raises(SettingsError, match="unencrypted; write dicomwebs://"):
        listed("dicomweb://pacs.example/studies")
    monkeypatch.delenv("AEFLOW_DICOMWEB_HOST")
    dicomweb._session.cache_clear()
    with pytest.raises(SettingsError, match="AEFLOW_DICOMWEB_HOST: not set beside credentials"):
        listed(studies)


def test_what_is_not_there_is_said(studies: str, openvino_export: Path, tmp_path: Path) -> None:
    assert "there is no such study" in error_of("score", openvino_export, f"{studies}/9.9", "--out", tmp_path / "a")
    line = error_of("score", openvino_export, f"{studies}?StudyDate=19000101", "--out", tmp_path / "a")
    assert "holds no images" in line
    line = error_of("score", openvino_export, studies.replace("dicom-web", "wrong"), "--out", tmp_path / "a")
    assert "cannot be listed (HTTP 404: not there)" in line
    nowhere = f"dicomweb://127.0.0.1:{free_port()}/dicom-web/studies"
    line = error_of("score", openvino_export, nowhere, "--out", tmp_path / "a")
    assert "cannot be listed (ConnectionError)" in line


def test_an_instance_that_vanishes_after_it_was_listed_is_a_refused_row(
    studies: str, pacs: Orthanc, openvino_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planned_then_gone(items, path):
        written = write_plan(items, path)
        pacs.delete(SOPInstanceUID="1.2.9.7")
        return written

    from aeflow.archive.score_archive import write_plan

    uids = {"StudyInstanceUID": "1.2.9", "SeriesInstanceUID": "1.2.9.1"}
    pacs.send(content(dataset(texture(9), SOPInstanceUID="1.2.9.7", **uids)))
    pacs.send(content(dataset(texture(8), SOPInstanceUID="1.2.9.8", **uids)))
    try:
        monkeypatch.setattr("aeflow.archive.score_archive.write_plan", planned_then_gone)
        _, err = within("score", openvino_export, f"{studies}/1.2.9", "--out", tmp_path / "archive", ok=1)
        assert "cannot be fetched (HTTP 404: not there)" in err
        found = pd.read_parquet(tmp_path / "archive").set_index("path")
        assert sorted(found.score.notna()) == [False, True]
        [gone] = found[found.score.isna()].index
        assert gone.endswith("/instances/1.2.9.7")
    finally:
        pacs.delete(StudyInstanceUID="1.2.9")


def test_a_busy_server_is_asked_again_and_limits_hold(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = "/web/studies/1/series/2/instances/3"
    stored = (files / "1.dcm").read_bytes()
    with serving(Store({instance[1:]: stored})) as store:
        url = store.url.replace("http", "dicomweb") + instance
        store.failing = {instance[1:]: 2}
        fetched = dicomweb.fetch(Item(url, url))
        assert fetched.path.read_bytes() == stored
        fetched.close()
        monkeypatch.setattr(tries, "LIMITS", Limits(max_bytes=100))
        with pytest.raises(ImageLimitError, match="more than 100 bytes"):
            dicomweb.fetch(Item(url, url))
        monkeypatch.undo()
        monkeypatch.setattr(tries, "FIRST_WAIT", 0.01)
        store.failing = {instance[1:]: 10**6}
        with pytest.raises(FileError, match=f"cannot be fetched in {tries.TRIES} tries .HTTP 503."):
            dicomweb.fetch(Item(url, url))


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("dicomweb://KEY:SECRET@host/studies", "a URL with credentials"),
        ("dicomwebs://host/studies?access_token=SECRET", "a query with something else than attributes"),
        ("dicomwebs://host/studies?SECRET", "a query with something else than attributes"),
        ("dicomweb://host/dicom-web", "names no studies"),
        ("dicomweb://host/studies/../SECRET", "names no studies"),
        ("dicomweb://host/studies/..", "names no studies"),
        ("dicomweb://[::/studies", "is no URL"),
    ],
)
def test_a_url_that_is_none_is_refused_and_not_repeated(url: str, found: str) -> None:
    with pytest.raises(DataError, match=found) as refused:
        listed(url)
    assert "SECRET" not in str(refused.value)


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_the_first_part_of_an_answer_is_its_content_however_it_is_cut(size: int) -> None:
    stored = b"\r\n\r\n--almost\r\n--bo" + bytes(range(256)) * 3
    message = b"a preamble\r\n--border\r\nContent-Type: application/dicom\r\n\r\n" + stored + b"\r\n--border--\r\n"
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    assert b"".join(first_part(pieces, b"border")) == stored
    cut = message[: message.rindex(b"border")]
    with pytest.raises(PassingError, match="cut off"):
        list(first_part([cut], b"border"))
