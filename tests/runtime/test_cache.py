"""The cache: what it holds is named, clearing deletes that and nothing else, and nobody who uses it meanwhile fails."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import time
from pathlib import Path

import pytest
import torch

from aeflow.cli.cache import if_large, seconds_of
from aeflow.data.records import read_records
from aeflow.deploy import open_model as deploying
from aeflow.deploy.open_model import open_model
from aeflow.errors import SettingsError
from aeflow.features.cache import FeatureCache
from aeflow.model.encoder import Encoder
from aeflow.model.encoder_weights import EMBEDDED, pretrained
from aeflow.runtime import cache as caching
from aeflow.runtime.cache import cache_root, clear, entries, seal
from helpers.command import within
from helpers.data import SIZE
from helpers.once import once

DAY = 24 * 3600
KEY = "0123456789abcdef" * 2


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AEFLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return pretrained(EMBEDDED, (3, 4))


@pytest.fixture(scope="session")
def graph_cache(tiny_run: Path, shared: Path) -> Path:
    """A cache that holds the graph which OpenVINO scores the tiny run with; to be copied, not to be used."""

    def make(cache: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AEFLOW_CACHE", str(cache))
            open_model(tiny_run, "openvino", "cpu")

    return once(shared / "graph cache", make)


def put(folder: Path, days: float = 0, **files: str) -> Path:
    """A folder with some files that nobody has used for so many days."""
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    for one in (folder, folder.parent):
        os.utime(one, (time.time() - days * DAY,) * 2)
    return folder


@pytest.fixture
def filled(root: Path) -> Path:
    put(root / "features" / KEY / "shard-a", images_json='{"by": "torch", "rows": [["a", {}], ["b", {}]]}')
    put(root / "graphs" / KEY, graph_xml="x" * 1000)
    seal(root / "features" / KEY / "shard-a", "a network 3,4, 64 px, augment")
    seal(root / "graphs" / KEY, "openvino fp32 of model 0123")
    for folder in (root / "features" / KEY / "shard-a", root / "features" / KEY):
        os.utime(folder, (time.time() - 40 * DAY,) * 2)
    return root


def test_the_place_is_the_variables_else_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AEFLOW_CACHE", "somewhere")
    assert cache_root() == Path("somewhere")
    monkeypatch.delenv("AEFLOW_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "aeflow"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "aeflow"


def test_features_are_listed_by_what_made_them(root: Path, data: Path, encoder: Encoder) -> None:
    records = read_records(data, "train")[:5]
    FeatureCache(encoder, SIZE).features(records[:3])
    FeatureCache(encoder, SIZE).features(records)
    [entry] = entries(root)
    assert (entry.kind, entry.images, len(entry.folders)) == ("features", 5, 2)
    assert entry.what == f"{EMBEDDED} 3,4, {SIZE} px, augment"
    stored = [path for path in root.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in stored) <= entry.size
    assert time.time() - entry.used < 60


def test_a_graph_is_listed_and_what_has_opened_it_goes_on_after_clearing(
    root: Path, tiny_run: Path, graph_cache: Path
) -> None:
    shutil.copytree(graph_cache, root)
    graph, compiled = sorted(entries(root), key=lambda entry: entry.what, reverse=True)
    assert graph.kind == compiled.kind == "graph"
    assert re.fullmatch(r"openvino of model [0-9a-f]{12}", graph.what)
    assert re.fullmatch(rf"compiled graph [0-9a-f]{{8}}, {SIZE} px, \d+ outputs?", compiled.what)
    scorer = open_model(tiny_run, "openvino", "cpu")
    assert clear(entries(root), root) == graph.size + compiled.size
    assert entries(root) == []
    x = torch.rand(1, 3, SIZE, SIZE).numpy()
    assert scorer.backend.run(x).measures["flow"].shape == (1, 1)  # what was opened goes on


def test_using_makes_young(filled: Path, data: Path, encoder: Encoder) -> None:
    records = read_records(data, "train")[:2]
    cache = FeatureCache(encoder, SIZE)
    cache.features(records)
    os.utime(cache.folder, (0, 0))
    assert entries(filled)[0].used == 0
    cache.features(records)
    assert time.time() - max(entry.used for entry in entries(filled)) < 60
    assert min(entry.used for entry in entries(filled)) > 0


def test_clearing_deletes_the_cache_and_nothing_else(filled: Path) -> None:
    mine = [filled / "notes.txt", filled / "features" / "mine" / "shard-1", filled / "graphs" / "thesis"]
    for path in mine:
        path.mkdir(parents=True)
    within("cache", "clear", "--yes")
    assert entries(filled) == []
    assert all(path.exists() for path in mine)
    assert not list(filled.glob("deleted-*"))
    assert not (filled / "graphs" / KEY).exists()


def test_only_what_was_long_unused_goes(filled: Path) -> None:
    out, _ = within("cache", "clear", "--older-than", "30d", "--yes")
    assert out.startswith("deleted 1 entry, 0.0 MB in ")
    assert [entry.kind for entry in entries(filled)] == ["graph"]
    within("cache", "clear", "--older-than", "1h", "--yes")
    assert [entry.kind for entry in entries(filled)] == ["graph"]


def test_what_is_being_written_is_spared_for_a_day(root: Path) -> None:
    young = put(root / "features" / KEY / "writing-a", 0.5)
    old = put(root / "features" / (KEY[::-1]) / "writing-b", 1.5)
    making, made = put(root / "graphs" / ".export-a", 0.5), put(root / "graphs" / ".export-b", 1.5)
    left = put(root / "deleted-a")
    os.utime(making, (time.time() - DAY / 2,) * 2)
    assert {folder for entry in entries(root) for folder in entry.folders} == {old, made, left}
    within("cache", "clear", "--yes")
    assert young.exists()
    assert making.exists()
    assert not any(path.exists() for path in (old, made, left))


def test_features_survive_a_clearing_at_any_moment(
    root: Path, data: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process clears after each thing that the cache does: the features are those of a quiet cache."""
    records = read_records(data, "train")[:6]
    quiet = FeatureCache(encoder, SIZE, root.parent / "quiet").features(records)[0]
    cache = FeatureCache(encoder, SIZE)
    cache.features(records[:2])
    for name in ("_known", "_rows", "_write_shard", "_encode"):
        monkeypatch.setattr(cache, name, cleared_after(getattr(cache, name), root))
    for _ in range(2):
        features, refused = cache.features(records)
        assert refused == []
        for a, b in zip(features.stored(range(6)), quiet.stored(range(6)), strict=True):
            assert torch.equal(a, b)


def cleared_after(function, root: Path):
    def then_cleared(*arguments):
        found = function(*arguments)
        clear(entries(root), root)
        return found

    return then_cleared


def test_a_shard_that_goes_while_it_is_opened_is_no_damage(
    root: Path, data: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = FeatureCache(encoder, SIZE)
    cache.features(read_records(data, "train")[:2])
    rows = cache._rows

    def gone(shard: Path, wanted: set[str]):
        if shard.name.startswith("shard-"):
            clear(entries(root), root)
        return rows(shard, wanted)

    monkeypatch.setattr(cache, "_rows", gone)
    assert len(cache.features(read_records(data, "train")[:2])[0]) == 2
    assert "damaged" not in capsys.readouterr().err


def test_a_graph_that_goes_while_it_is_opened_is_made_again(
    root: Path, tiny_run: Path, graph_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(graph_cache, root)
    x = torch.rand(1, 3, SIZE, SIZE).numpy()
    before = open_model(tiny_run, "openvino", "cpu").backend.run(x)
    read = deploying.read_export

    def gone(folder: Path):
        monkeypatch.setattr(deploying, "read_export", read)
        clear(entries(root), root)
        return read(folder)

    monkeypatch.setattr(deploying, "read_export", gone)
    again = open_model(tiny_run, "openvino", "cpu").backend.run(x)
    assert len(entries(root)) == 2  # the graph, and what it was compiled to
    assert before.measures["flow"] == pytest.approx(again.measures["flow"])


def test_two_may_clear_at_once(filled: Path) -> None:
    found = entries(filled)
    clear(found, filled)
    clear(found, filled)
    assert entries(filled) == []


def test_the_list_says_kind_number_size_and_age(filled: Path) -> None:
    out, _ = within("cache", "list")
    first, second, total = out.splitlines()
    assert " ".join(first.split()) == "features a network 3,4, 64 px, augment 2 images 0.0 MB used 40 days ago"
    assert " ".join(second.split()) == "graph openvino fp32 of model 0123 0.0 MB used just now"
    assert total == f"2 entries, 0.0 MB in {filled}"
    shown = json.loads(within("cache", "list", "--json")[0])
    assert [row["kind"] for row in shown["entries"]] == ["features", "graph"]
    assert shown["entries"][0]["images"] == 2
    assert shown["bytes"] == sum(row["bytes"] for row in shown["entries"]) > 1000


def test_a_large_cache_without_a_limit_is_noted_with_its_place(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert if_large() == []
    monkeypatch.setattr("aeflow.cli.cache.LARGE", 0)
    [note] = if_large()
    assert note.startswith(f"the cache in {filled} has grown to 0 GB: aeflow cache clear --older-than 30d")
    monkeypatch.setenv("AEFLOW_CACHE_LIMIT", "1GB")
    assert if_large() == []


def test_an_empty_cache_is_listed_and_cleared(root: Path) -> None:
    assert within("cache", "list")[0] == f"0 entries, 0.0 MB in {root}\n"
    assert json.loads(within("cache", "clear", "--json")[0]) == {"folder": str(root), "bytes": 0, "entries": []}


def test_what_an_older_version_wrote_is_listed_too(filled: Path) -> None:
    (filled / "features" / KEY / "shard-a" / "about.json").unlink()
    assert "written by an earlier version" in within("cache", "list")[0]


def test_nothing_is_deleted_without_a_yes(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    _, error = within("cache", "clear", ok=2)
    assert error == (
        f"error: {filled}: 2 entries, 0.0 MB would be deleted, and nobody is at a terminal to agree; add --yes\n"
    )
    assert len(entries(filled)) == 2


class Terminal(io.StringIO):
    """A keyboard with a person at it."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "code", "left"), [("y", 0, 0), ("n", 1, 2)])
def test_it_asks_on_stderr(filled: Path, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, left: int) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(f"{answer}\n"))
    out, error = within("cache", "clear", ok=code)
    assert "a network" in error
    assert "Delete 2 entries, 0.0 MB" in error
    assert "Delete" not in out
    assert len(entries(filled)) == left


def test_a_cache_of_somebody_else_is_an_error(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(caching.tempfile, "mkdtemp", refused)
    _, error = within("cache", "clear", "--yes", ok=2)
    assert error == f"error: {filled}: cannot be cleared (Permission denied); clear it as its owner\n"


def test_a_read_only_cache_serves(root: Path, data: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    records = read_records(data, "train")[:2]
    FeatureCache(encoder, SIZE).features(records)

    def refused(*_: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(caching.os, "utime", refused)
    assert len(FeatureCache(encoder, SIZE).features(records)[0]) == 2


@pytest.mark.parametrize(("text", "seconds"), [("12h", 43200), ("30d", 2592000), (" 1.5 w ", 907200), ("0d", 0)])
def test_an_age_is_a_time(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "-1d", "d", "5m", "1d12h"])
def test_other_ages_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"--older-than: .* is no age; write for instance 12h, 30d or 4w"):
        seconds_of(text)
