"""What is shown: no name of a file, patient or model moves the cursor, changes a colour or forges a line."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

import aeflow
from aeflow.errors import ArtifactError, printable
from aeflow.imageio.errors import ImageError
from aeflow.privacy import identify
from aeflow.runtime.console import Terminal
from aeflow.runtime.progress import columns
from aeflow.runtime.terminal import print
from helpers.command import within

SOURCE = Path(aeflow.__file__).parent
EVIL = "a\x1b[2J\x1b]0;owned\x07\r\x9b31m\u202egnp\nerror: b"
SHOWN = r"a\x1b[2J\x1b]0;owned\x07\r\x9b31m\u202egnp\nerror: b"


def test_a_name_in_its_printable_form() -> None:
    assert printable(EVIL) == SHOWN
    assert printable("Lunge, größer als 5 \\ 肺.png") == "Lunge, größer als 5 \\ 肺.png"
    assert printable("\udce9") == r"\udce9"


def test_errors_and_lines_show_it() -> None:
    identify()
    for error in (ArtifactError(EVIL, "no such file", "check the path"), ImageError(EVIL, "cut off", "export it")):
        assert str(error).startswith(f"{SHOWN}: ")
    out = io.StringIO()
    print("first\nsecond", "\x1b[31m", file=out)
    assert out.getvalue() == "first\nsecond \\x1b[31m\n"
    out = io.StringIO()
    Terminal(file=out, width=200).print("a :smile: \x1b[31m", markup=False)
    assert out.getvalue() == "a :smile: \\x1b[31m\n"


def test_commands_show_it_and_tables_hold_it(tiny_run: Path, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    image = next((data / "test" / "normal").iterdir())
    name = EVIL.replace("/", "")
    shutil.copyfile(image, folder / f"{name}.png")
    (folder / f"broken {name}.png").write_bytes(b"no image")
    run = Path(shutil.copytree(tiny_run, tmp_path / f"run {name}"))
    out, error = within("score", run, folder, "--identify", ok=1)
    assert SHOWN in out
    assert SHOWN in error
    said = out + error
    within("score", run, folder, "--out", tmp_path / "scores.csv", "--identify", ok=1)
    table = (tmp_path / "scores.csv").read_text()
    assert {row["path"].split("/")[-1] for row in csv.DictReader(io.StringIO(table))} == {
        f"{SHOWN}.png",
        f"broken {SHOWN}.png",
    }
    lines, _ = within("score", run, folder, "--json", ok=1)
    assert json.loads(lines.splitlines()[0])["path"].endswith(".png")
    said += lines + table
    said += "".join(within("score", run / EVIL, folder, ok=2)) + "".join(within("info", run / EVIL, ok=2))
    assert not [c for c in said if not c.isprintable() and c != "\n"]


def test_a_full_disk_behind_standard_output_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", Path("/dev/full").open("w"))  # noqa: SIM115, closed below
    with pytest.raises(OSError, match="No space left on device: 'standard output'"):
        print("a score", flush=True)
    with suppress(OSError):  # what waits for the disk is tried once more
        sys.stdout.close()


def test_everything_is_printed_by_one_function() -> None:
    """And every table by one console."""
    for path in set(SOURCE.rglob("*.py")) - {SOURCE / "runtime" / "terminal.py"}:
        text = path.read_text(encoding="utf-8")
        imports = re.search(r"from aeflow.runtime.terminal import .*\bprint\b", text)
        assert imports or not re.search(r"^\s*print\(", text, re.MULTILINE), path
        assert path.name == "console.py" or "rich.console" not in text, path


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_bar_keeps_its_numbers_and_times_on_a_narrow_terminal(width: int) -> None:
    shown = Console(width=width, force_terminal=True, file=io.StringIO(), color_system=None)
    progress = Progress(*columns(), console=shown, expand=True)
    task = progress.add_task("Features", total=12_345, note="")
    progress.update(task, advance=678, note="a long note " * 10)
    shown.print(progress.get_renderable())
    [line] = shown.file.getvalue().splitlines()
    for part in ("Features", "678/12345", "0:00:00", "-:--:--", "a lo"):
        assert part in line
