"""What a graph is compiled to stays in the cache: it gives the same bits, and nothing depends on its being there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from aeflow.artifacts.exported_graph import load_export
from aeflow.backends.base import Wanted
from aeflow.backends.openvino import openvino
from aeflow.runtime import kept_files
from aeflow.runtime.cache import cache_root, entries
from helpers.data import SIZE

X = np.random.default_rng(0).random((3, 3, SIZE, SIZE), np.float32)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEFLOW_CACHE", str(tmp_path / "cache"))


def compiling(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What OpenVINO compiles from now on."""
    seen: list[object] = []
    core = openvino().Core
    compile_model = core.compile_model
    monkeypatch.setattr(core, "compile_model", lambda *given: seen.append(given) or compile_model(*given))
    return seen


@pytest.mark.parametrize("form", ["openvino", "onnx"])
def test_the_next_process_compiles_nothing_and_gives_the_same_bits(
    exports: Callable[[str], Path], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = exports(form)
    seen = compiling(monkeypatch)
    first = load_export(export, "openvino").backend.run(X)
    assert len(seen) == 1
    second = load_export(export, "openvino").backend.run(X)
    assert len(seen) == 1
    assert first.measures.keys() == second.measures.keys()
    for name, measure in first.measures.items():
        assert_array_equal(measure, second.measures[name])
    [entry] = entries(cache_root())
    assert (entry.kind, entry.what.startswith("compiled graph ")) == ("graph", True)


def test_other_outputs_and_other_hints_are_compiled_by_themselves(
    openvino_export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = compiling(monkeypatch)
    load_export(openvino_export)
    load_export(openvino_export, wanted=Wanted(maps=True))
    assert len(seen) == len(entries(cache_root())) == 2
    monkeypatch.setattr("aeflow.backends.openvino.threads", lambda: 1)
    load_export(openvino_export)
    assert len(seen) == len(entries(cache_root())) == 3


def test_what_openvino_refuses_is_made_anew(
    openvino_export: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load_export(openvino_export)

    def refuse(*given: object) -> None:
        raise RuntimeError("of another release")

    with monkeypatch.context() as patch:
        patch.setattr(openvino().Core, "import_model", refuse)
        load_export(openvino_export)
    assert capsys.readouterr().err.startswith("note: a part of the cache is damaged, and made anew")
    seen = compiling(monkeypatch)
    load_export(openvino_export)
    assert (seen, capsys.readouterr().err) == ([], "")


def test_a_cache_that_cannot_be_written_changes_nothing(
    openvino_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    want = load_export(openvino_export).backend.run(X)
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("AEFLOW_CACHE", str(tmp_path / "a file" / "cache"))
    found = load_export(openvino_export).backend.run(X)
    assert all((found.measures[name] == want.measures[name]).all() for name in want.measures)
    assert capsys.readouterr().err == ""


def test_a_process_that_was_faster_keeps_its_own(openvino_export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish = kept_files.publish

    def twice(folder: Path, place: Path) -> None:
        place.mkdir()
        (place / "of the other").write_text("")
        publish(folder, place)

    monkeypatch.setattr(kept_files, "publish", twice)
    load_export(openvino_export)
    [place] = (cache_root() / "graphs").iterdir()
    assert [path.name for path in place.iterdir()] == ["of the other"]
