"""The check of an installation: what is broken shows, in one line, and what works is said."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from aeflow.deploy import self_check as checking
from aeflow.errors import AeflowError
from helpers.command import error_of, within


def test_it_says_what_works(openvino_export: Path) -> None:
    out, err = within("info", "--check", openvino_export, "--json")
    found = json.loads(out)
    assert err == ""
    assert found.keys() == {"version", "packages", "reads", "runs", "model", "seconds"}
    assert found["reads"].startswith("PNG, lossless JPEG, JPEG-LS, JPEG 2000, from ")
    assert "scores its test images as it should, with openvino" in found["model"]
    assert (
        error_of("info")
        == "RUN: no model or archive is named; name one; without one, aeflow info --check checks the installation"
    )


def failure() -> str:
    with pytest.raises(AeflowError) as caught:
        list(checking.self_check())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_broken_shows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
        assert failure().startswith("check, reads: FileNotFoundError: ")
    with monkeypatch.context() as patch:
        patch.setattr(checking, "PACKAGES", ("numpy", "no_such_package"))
        assert failure().startswith("check, packages: not installed: no_such_package; install aeflow again")
    with monkeypatch.context() as patch:
        patch.setattr(checking, "VALUES", checking.VALUES[::-1])
        assert failure().startswith("check: PNG is decoded otherwise; install aeflow again")
    whole = checking.unpacked(checking.FILE, checking.IMAGES)
    for name in checking.IMAGES:
        cut = {**whole, name: whole[name][:-60]}
        with monkeypatch.context() as patch:
            patch.setattr(checking, "unpacked", lambda file, names, cut=cut: cut)
            assert failure().startswith(f"check: {checking.IMAGES[name]} is not decoded: ")
    with monkeypatch.context() as patch:
        patch.setattr(checking, "import_module", lambda name: 1 / 0)
        assert failure().startswith("check, runs: ZeroDivisionError: ")
