"""The limit of the cache: what was unused longest goes first, what is in use stays."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from aeflow.data.records import read_records
from aeflow.errors import SettingsError
from aeflow.features.cache import FeatureCache
from aeflow.model.encoder import Encoder
from aeflow.runtime import cache_limit as limiting
from aeflow.runtime.cache import USING, entries, seal
from aeflow.runtime.cache_limit import cache_limit, make_room
from helpers.command import within
from helpers.data import SIZE, TINY

KEYS = ["0123456789abcdef" * 2, "fedcba9876543210" * 2]
DAY = 24 * 3600


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of 6 MB: shards last used 5, 4, 3 and 2 days ago, a graph 1 day ago."""
    root = tmp_path / "cache"
    monkeypatch.setenv("AEFLOW_CACHE", str(root))
    monkeypatch.setenv("AEFLOW_CACHE_LIMIT", "6.1MB")
    limiting._note.cache_clear()
    names = [f"features/{KEYS[0]}/shard-a", f"features/{KEYS[1]}/shard-b"]
    names += [f"features/{KEYS[0]}/shard-c", f"features/{KEYS[1]}/shard-d", f"graphs/{KEYS[0]}"]
    for age, name in zip((5, 4, 3, 2, 1), names, strict=True):
        folder = root / name
        folder.mkdir(parents=True)
        (folder / "features.npy").write_bytes(bytes(1_200_000))
        seal(folder, "made up")
        os.utime(folder, (time.time() - age * DAY,) * 2)
    return root


def left(root: Path) -> list[str]:
    found = [*root.glob("features/*/shard-*"), *root.glob("graphs/*")]
    return sorted(path.name if path.name.startswith("shard-") else "graph" for path in found)


@pytest.mark.parametrize(
    ("needed", "stay"),
    [
        (0, ["graph", "shard-a", "shard-b", "shard-c", "shard-d"]),
        (1_000_000, ["graph", "shard-b", "shard-c", "shard-d"]),
        (3_000_000, ["graph", "shard-d"]),
        (6_000_000, []),
    ],
)
def test_the_longest_unused_goes_first(root: Path, needed: int, stay: list[str]) -> None:
    make_room(root, needed)
    assert left(root) == stay
    assert sum(entry.size for entry in entries(root)) + needed <= 6_100_000
    assert not list(root.glob("deleted-*"))


def test_without_a_limit_nothing_goes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AEFLOW_CACHE_LIMIT")
    make_room(root, 10**15)
    assert len(left(root)) == 5


def test_what_a_process_uses_stays_with_a_note(
    root: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    encoder, records = Encoder(TINY, (3,)), read_records(data, "train")[:3]
    features, _ = FeatureCache(encoder, SIZE).features(records)
    [folder] = (path.parent for path in root.glob(f"features/*/{USING}*"))
    old = folder / "shard-old"  # of the same kind, but nobody's
    old.mkdir()
    os.utime(old, (0, 0))
    before = features.stored(range(3))[0].clone()
    monkeypatch.setenv("AEFLOW_CACHE_LIMIT", "0MB")
    make_room(root, 1)
    make_room(root, 1)
    assert [path.name for path in root.glob("features/*/shard-*")] == [next(folder.glob("shard-*")).name]
    assert not old.exists()
    assert torch.equal(features.stored(range(3))[0], before)
    assert capsys.readouterr().err.count("note: the cache grows beyond AEFLOW_CACHE_LIMIT (0.0 GB)") == 1
    del features
    gc.collect()
    assert not list(folder.glob(f"{USING}*"))
    make_room(root, 1)
    assert left(root) == []


def test_what_another_process_used_is_free_once_it_was_killed(root: Path) -> None:
    shard = root / "features" / KEYS[0] / "shard-a"
    using = (
        "import sys, pathlib; from aeflow.runtime.cache_limit import Use; shard = pathlib.Path(sys.argv[1]); "
        "use = Use(shard.parent); use.mark(shard); print('marked', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", using, str(shard)], **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"marked\n"
        make_room(root, 10**9)
        assert left(root) == ["shard-a"]
        process.kill()
    make_room(root, 10**9)
    assert left(root) == []
    assert not list(shard.parent.glob(f"{USING}*"))


def test_a_training_stays_within_the_limit(root: Path, data: Path) -> None:
    torch.manual_seed(0)
    FeatureCache(Encoder(TINY, (3,)), SIZE).features(read_records(data, "train"))
    assert sum(entry.size for entry in entries(root)) <= 6_100_000
    assert "shard-a" not in left(root)


@pytest.mark.parametrize(("text", "size"), [("500MB", 5e8), (" 1.5 TB ", 1.5e12), ("200GB", 2e11), ("", None)])
def test_a_limit_is_a_size(monkeypatch: pytest.MonkeyPatch, text: str, size: float | None) -> None:
    monkeypatch.setenv("AEFLOW_CACHE_LIMIT", text)
    assert cache_limit() == size


@pytest.mark.parametrize("text", ["200", "-1GB", "much", "5 KB", "1GB2"])
def test_other_limits_are_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("AEFLOW_CACHE_LIMIT", text)
    with pytest.raises(SettingsError, match=r"AEFLOW_CACHE_LIMIT: .* is no size; write for instance 500MB, 200GB"):
        cache_limit()


def test_the_list_says_the_limit(root: Path) -> None:
    assert within("cache", "list")[0].splitlines()[-1].endswith(f" in {root}, at most 6.1 MB")
    assert json.loads(within("cache", "list", "--json")[0])["limit"] == 6_100_000
