"""The run folder: what comes back is what was saved, and a damaged file is never used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from aeflow.artifacts import layout as store
from aeflow.artifacts import run as artifacts
from aeflow.data.records import read_records
from aeflow.errors import ArtifactError
from aeflow.scoring.scorer import Score, score
from aeflow.training.train import Trained
from helpers.data import SIZE


@pytest.fixture
def copy(run: Path, trained: Trained, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def test_save_and_load_change_no_score(trained: Trained, run: Path, data: Path) -> None:
    records = read_records(data, "test")
    for (_, a), (_, b) in zip(
        score(trained.artifact.scorer, records, maps=True),
        score(artifacts.load_run(run).scorer, records, maps=True),
        strict=True,
    ):
        assert isinstance(a, Score)
        assert isinstance(b, Score)
        assert (a.value, a.p_value, a.verdict, a.terms) == (b.value, b.p_value, b.verdict, b.terms)
        assert all(np.array_equal(a.maps[name], b.maps[name]) for name in a.maps)


def test_nothing_in_a_run_is_a_pickle(run: Path, trained: Trained) -> None:
    for path in run.rglob("*"):
        if path.is_file():
            head = path.read_bytes()[:4]
            assert path.suffix not in (".pt", ".pth", ".pkl", ".npz")
            assert head[:2] not in (b"PK", b"\x80\x02", b"\x80\x04")


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_missing_file(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(ArtifactError, match=r"(no such file|holds no model\.json)"):
        artifacts.load_run(copy)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_truncated_file(copy: Path, name: str, share: float) -> None:
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(ArtifactError, match=name):
        artifacts.load_run(copy)


def _says_the_same(one: bytes, other: bytes) -> bool:
    """If two files of JSON hold the same values."""
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_flipped_bits(copy: Path, name: str) -> None:
    content = (copy / name).read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(content), 25):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        if name.endswith(".json") and _says_the_same(bytes(flipped), content):
            continue  # 1e-05 as 1E-05, or a digit past what a number holds: the same model
        (copy / name).write_bytes(bytes(flipped))
        with pytest.raises(ArtifactError, match=r"restore it|restore|give the folder|use the version"):
            artifacts.load_run(copy)


def test_weights_of_another_run(copy: Path) -> None:
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-4:] = b"\0\0\0\0" if content[-4:] != b"\0\0\0\0" else b"\0\0\x80\x3f"
    (copy / "model.safetensors").write_bytes(bytes(content))
    with pytest.raises(ArtifactError, match=r"model.safetensors: damaged, or of another run"):
        artifacts.load_run(copy)


@pytest.mark.parametrize("content", ["[]", "{}", '{"schema": 1}', "null", "\x00\x01", '{"weights": "foreign"}'])
def test_foreign_file(copy: Path, content: str) -> None:
    (copy / "model.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"model\.json: (not written by aeflow|not valid JSON)"):
        artifacts.load_run(copy)


def edit(run: Path, **changes: object) -> None:
    """Change values of model.json the way a program would: with a right checksum."""
    facts = json.loads((run / "model.json").read_text())
    del facts["sha256"]
    facts |= changes
    facts["sha256"] = store.digest(facts)
    (run / "model.json").write_text(json.dumps(facts))


def test_other_schema(copy: Path) -> None:
    edit(copy, schema=99)
    with pytest.raises(ArtifactError, match="has schema 99 where this version reads 7 and 5 and 6"):
        artifacts.load_run(copy)


def test_settings_of_another_version(copy: Path) -> None:
    settings = json.loads((copy / "model.json").read_text())["settings"]
    edit(copy, settings={**settings, "telepathy": True})
    with pytest.raises(ArtifactError, match="does not describe a model of this version"):
        artifacts.load_run(copy)


def test_self_test_guards_the_numbers(copy: Path) -> None:
    scores = json.loads((copy / "model.json").read_text())["self_test"]
    edit(copy, self_test=[value + 1 for value in scores])
    with pytest.raises(ArtifactError, match="this machine gives other scores"):
        artifacts.load_run(copy)


def test_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such folder"):
        artifacts.load_run(tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match=r"holds no model\.json; give the folder"):
        artifacts.load_run(tmp_path)


def test_the_image_size_is_that_of_training(run: Path, trained: Trained) -> None:
    assert artifacts.load_run(run).settings.image_size == SIZE
