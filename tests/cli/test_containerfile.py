"""The container's file: what it copies is there and enough for the wheel, and what it starts exists.

Nothing here builds the image; ``test_wheel`` runs the installed package as a container does.
"""

from __future__ import annotations

import json
import re
import zipfile

import pytest

from helpers.command import within
from helpers.data import ROOT

TEXT = (ROOT / "Containerfile").read_text()
LINES = [line for line in TEXT.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


def words_of(instruction: str) -> list[list[str]]:
    return [line.split()[1:] for line in LINES if line.startswith(instruction)]


def test_what_it_copies_is_there_and_is_not_ignored() -> None:
    copied = [name for *names, _ in words_of("COPY") for name in names if not name.startswith(("--from", "/"))]
    assert copied
    kept = {line.removeprefix("!") for line in (ROOT / ".containerignore").read_text().split() if line.startswith("!")}
    assert set(copied) == kept
    assert all((ROOT / name).exists() for name in copied)


def test_the_wheel_can_be_built_of_what_it_copies(tmp_path) -> None:
    """No file of the package lies elsewhere, such as beside ``src``."""
    builder = pytest.importorskip("hatchling.builders.wheel", reason="hatchling, which builds the wheel, is missing")
    for *names, _ in words_of("COPY"):
        for name in names:
            if not name.startswith(("--from", "/")):
                (tmp_path / name).symlink_to(ROOT / name)
    [wheel] = builder.WheelBuilder(str(tmp_path)).build(directory=str(tmp_path / "wheel"), versions=["standard"])
    [whole] = builder.WheelBuilder(str(ROOT)).build(directory=str(tmp_path / "whole"), versions=["standard"])
    names = [zipfile.ZipFile(path).namelist() for path in (wheel, whole)]
    assert names[0] == names[1]


def test_what_it_starts_is_a_command_that_needs_no_more() -> None:
    [entry], [default] = (json.loads(" ".join(words)) for words in (words_of("ENTRYPOINT")[0], words_of("CMD")[0]))
    assert entry == "aeflow"
    assert within(default)[0].strip()
    [health] = re.findall(r"^HEALTHCHECK .*CMD (\[.*\])$", "\n".join(LINES), re.MULTILINE)
    assert json.loads(health) == json.loads(words_of_run()) == ["aeflow", "info", "--check"]
    shown = re.findall(r"^#  .* aeflow (\w+)", TEXT, re.MULTILINE)
    assert shown == ["score", "info"]


def words_of_run() -> str:
    [command] = [line.removeprefix("RUN ") for line in LINES if line.startswith("RUN [")]
    return command
