"""Archives from a store of objects: the scores of the files, whatever the store answers in between."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from aeflow.archive.item import Item
from aeflow.archive.sources import remote, tries, way_to
from aeflow.errors import DataError
from aeflow.imageio.errors import FileError, ImageLimitError
from aeflow.imageio.limits import Limits
from helpers.command import error_of, within
from helpers.object_store import Store, serving

MOTO = os.environ.get("AEFLOW_TEST_MOTO") or shutil.which("moto_server")  # see the extra ``store`` in pyproject.toml


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Credentials that every store takes, and tries that follow one another at once."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setattr(tries, "FIRST_WAIT", 0.01)
    remote._system.cache_clear()
    yield
    remote._system.cache_clear()


@pytest.fixture
def files(data: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((data / "test" / "normal").iterdir())[:5]}


@pytest.fixture
def store(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    names = [f"hospital/{'b' if i % 2 else 'a'}/{name}" for i, name in enumerate(files)]
    with serving(Store(dict(zip(names, files.values(), strict=True)))) as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL", found.url)
        yield found


def test_its_objects_have_the_scores_of_files_and_their_urls_as_names(
    store: Store, openvino_export: Path, tmp_path: Path
) -> None:
    for key, content in store.objects.items():
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(content)
    within("score", openvino_export, tmp_path / "hospital", "--out", tmp_path / "files")
    within("score", openvino_export, "s3://hospital", "--out", tmp_path / "objects")
    files, objects = pd.read_parquet(tmp_path / "files"), pd.read_parquet(tmp_path / "objects")
    assert list(objects.path) == [
        f"s3://hospital/{path}" for path in files.path.str.removeprefix(f"{tmp_path}/hospital/")
    ]
    same = ["score", "p_value", "verdict", "sha256", "bytes", "outside"]
    pd.testing.assert_frame_equal(objects[same], files[same])
    said = within("score", openvino_export, "s3://hospital", "--out", tmp_path / "objects", "--since")[0]
    assert "nothing is new" in said
    store.objects["hospital/c.png"] = store.objects["hospital/a/000.png"]
    within("score", openvino_export, "s3://hospital", "--out", tmp_path / "objects", "--since")
    assert list(pd.read_parquet(tmp_path / "objects").path)[-1] == "s3://hospital/c.png"


def test_an_object_that_is_busy_and_slow_at_first_is_scored_and_one_that_stays_so_is_refused(
    store: Store, openvino_export: Path, tmp_path: Path
) -> None:
    busy, never, *_ = store.objects
    store.failing = {busy: 2, never: 10**6}
    store.slow = {busy: 0.2}
    out = tmp_path / "archive"
    _, err = within("score", openvino_export, "s3://hospital", "--out", out, ok=1)
    assert "1 image refused" in err
    found = pd.read_parquet(out).set_index("path")
    assert found.score.notna().sum() == 4
    refused = found.loc[f"s3://{never}"]
    assert refused.error.startswith(f"cannot be fetched in {tries.TRIES} tries")
    assert pd.isna(refused.sha256)
    store.failing.clear()
    within("score", openvino_export, "s3://hospital", "--out", out, "--since")
    again = pd.read_parquet(out).query("revision == 2")
    assert list(again.path) == [f"s3://{never}"]
    assert again.score.notna().all()


def test_a_503_is_asked_again_and_what_is_gone_is_not(store: Store) -> None:
    key, *_ = store.objects
    store.failing[key] = 1
    fetched = way_to(f"s3://{key}").fetch(Item(f"s3://{key}", f"s3://{key}"))
    assert fetched.path.read_bytes() == store.objects[key]
    fetched.close()
    assert not fetched.path.exists()
    assert store.asked.count(key) > 1
    store.asked.clear()
    with pytest.raises(FileError, match="cannot be fetched"):
        remote.fetch(Item("gone", "s3://hospital/gone.png"))
    assert len(store.asked) <= 2


def test_limits_hold_for_objects(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "LIMITS", Limits(max_bytes=100))
    with pytest.raises(ImageLimitError, match="bytes where the limit is 100"):
        remote.fetch(Item("large", f"s3://{next(iter(store.objects))}"))


def test_a_table_in_the_store_lists_objects_and_urls(store: Store, openvino_export: Path, tmp_path: Path) -> None:
    store.objects["hospital/list.csv"] = b"path,label\na/000.png,0\ns3://hospital/b/001.png,1\n"
    within("score", openvino_export, "s3://hospital/list.csv", "--out", tmp_path / "archive")
    found = pd.read_parquet(tmp_path / "archive")
    assert found[["path", "label"]].values.tolist() == [["a/000.png", 0], ["s3://hospital/b/001.png", 1]]


def test_any_url_that_fsspec_knows_is_read(files: dict[str, bytes], tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    items = list(way_to("file://").items(f"file://{tmp_path}"))
    assert [item.name for item in items] == [f"file://{tmp_path}/{name}" for name in files]
    assert [item.bytes for item in items] == [len(content) for content in files.values()]
    for item, content in zip(items, files.values(), strict=True):
        fetched = way_to(item.path).fetch(item)
        assert fetched.path.read_bytes() == content
        fetched.close()


@pytest.mark.parametrize("url", ["s3://KEY:SECRET@hospital/a", "https://host/a.png?X-Amz-Signature=SECRET"])
def test_a_url_with_credentials_is_refused_and_not_repeated(url: str, openvino_export: Path, tmp_path: Path) -> None:
    line = error_of("score", openvino_export, url, "--out", tmp_path / "archive")
    assert "credentials" in line
    assert "SECRET" not in line


def test_a_store_that_cannot_be_asked_and_a_scheme_that_nobody_knows_are_one_line(
    openvino_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no way to it is known" in error_of("score", openvino_export, "carrier://pigeon", "--out", tmp_path / "a")
    assert "a URL, whose scores go to a file" in error_of("score", openvino_export, "s3://hospital")
    with pytest.raises(DataError, match="there is no such object"):
        list(remote.items(f"file://{tmp_path}/nothing"))


@pytest.mark.skipif(
    MOTO is None, reason="moto_server is not here; it needs an environment of its own (AEFLOW_TEST_MOTO)"
)
def test_moto_is_read_as_well(
    files: dict[str, bytes], openvino_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = "5987"
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen([str(MOTO), "-p", port], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for name, content in {"": b"", **{f"/{name}": content for name, content in files.items()}}.items():
            _put(f"{url}/hospital{name}", content, server)
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        within("score", openvino_export, "s3://hospital", "--out", tmp_path / "archive")
    finally:
        server.kill()
        server.wait()
    assert list(pd.read_parquet(tmp_path / "archive").path) == [f"s3://hospital/{name}" for name in files]


def _put(url: str, content: bytes, server: subprocess.Popen[bytes]) -> None:
    """Put an object or a bucket, once the server answers."""
    request = urllib.request.Request(url, content, {"Content-Type": "application/octet-stream"}, method="PUT")
    while True:
        try:
            urllib.request.urlopen(request).close()
            return
        except urllib.error.HTTPError:
            raise
        except OSError:
            assert server.poll() is None
            time.sleep(0.1)
