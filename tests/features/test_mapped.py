"""Arrays that stay on disk: their values, whatever happens to the file, and no memory for what was read."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np
import pytest

from aeflow.data.records import Record
from aeflow.features import mapped as mapping
from aeflow.features.cached_features import Features, Row, Shard
from aeflow.features.mapped import allow_many_files, mapped, too_many_files
from aeflow.imageio.image import Acquisition


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((5, 7)).astype(np.float16))
    return tmp_path / "x.npy"


def test_values_are_those_of_the_file_even_when_it_is_gone(file: Path) -> None:
    want = np.load(file)
    x, held = mapped(file)
    file.unlink()
    np.testing.assert_array_equal(x, want)
    held.madvise(mapping.mmap.MADV_DONTNEED)
    np.testing.assert_array_equal(x, want)
    assert x.dtype == want.dtype
    with pytest.raises(ValueError, match="read-only"):
        x[0, 0] = 1


@pytest.mark.parametrize("change", [lambda content: content[:-1], lambda content: content + b"x"])
def test_another_size_is_damage(file: Path, change) -> None:
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(ValueError, match=r"x\.npy: its size is not what it says"):
        mapped(file)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_what_was_read_takes_no_memory(tmp_path: Path) -> None:
    """64 MB are read, a batch at a time, and hardly any of them stay."""
    np.save(tmp_path / "features.npy", np.ones((256, 100_000), np.float16))
    np.save(tmp_path / "pixels.npy", np.ones((256, 3, 64, 64), np.uint8))
    (flat, *files), (pixels, file) = mapped(tmp_path / "features.npy"), mapped(tmp_path / "pixels.npy")
    shard = Shard(flat, pixels, [Acquisition()] * 256, files=(*files, file))
    record = Record(Path("x"), "x", None, 0, "x", None, None)
    features = Features([record] * 256, ["x"] * 256, [Row(shard, i) for i in range(256)], [(100_000, 1, 1)])
    before = of_files()
    for start in range(0, 256, 32):
        features.stored(range(start, start + 32))
        assert of_files() - before < 2e6


def of_files() -> float:
    """Bytes of mapped files that this process holds in memory."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssFile")]
    return int(line.split()[1]) * 1024


def test_as_many_files_as_the_system_allows() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        allow_many_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= min(hard, mapping.MOST_FILES)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert f"more files than the {hard:,} that a process may hold open; raise it" in str(too_many_files(Path("cache")))
