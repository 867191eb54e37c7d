"""The script that draws the floors of the house sees circles and upward imports, and design.md shows what it draws."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "scripts" / "import_floors.py"


def draw(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def house(folder: Path, **modules: str) -> Path:
    """Write a package of these modules, by dotted names with ``__`` for a dot."""
    for name, text in modules.items():
        path = folder / "aeflow" / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_the_house_keeps_its_rules_and_design_shows_its_floors() -> None:
    done = draw("--check")
    assert done.returncode == 0, done.stdout
    *floors, summary = done.stdout.rstrip().splitlines()
    assert summary.endswith("0 circles, 0 upward imports")
    assert len(floors) <= 12
    page = (ROOT / "docs" / "design.md").read_text()
    drawn = page.split("<!-- floors: drawn by scripts/import_floors.py -->")[1].split("<!-- /floors -->")[0]
    assert drawn.strip().strip("`").strip("\n").splitlines() == floors


def test_few_files_stand_at_the_top() -> None:
    top = {path.name for path in (ROOT / "src" / "aeflow").glob("*.py")} - {"__main__.py"}  # whose place is there
    assert len(top) <= 8


def test_rooms_stand_on_what_they_import(tmp_path: Path) -> None:
    src = house(
        tmp_path,
        errors="",
        data__records="from aeflow import errors",
        data__files="from aeflow.data import records",
        cli="from aeflow.data.files import x\nimport aeflow.errors",
    )
    done = draw(src, "--check")
    assert done.stdout.splitlines() == [
        " 3  cli",
        " 2  data",
        " 1  errors",
        "3 rooms, 3 floors, 0 circles, 0 upward imports",
    ]
    assert done.returncode == 0


def test_an_import_inside_a_function_that_closes_a_circle_is_upward(tmp_path: Path) -> None:
    src = house(
        tmp_path, errors="def f():\n    from aeflow.privacy import shown\n", privacy="from aeflow.errors import Error"
    )
    done = draw(src, "--check")
    assert done.returncode == 1
    assert "2 rooms, 2 floors, 1 circles, 1 upward imports" in done.stdout
    assert "circle: errors <-> privacy" in done.stdout
    assert "upward: aeflow.errors -> aeflow.privacy" in done.stdout


def test_a_circle_at_loading_is_seen_though_nothing_is_upward(tmp_path: Path) -> None:
    done = draw(house(tmp_path, a="import aeflow.b", b="from aeflow.a import x", c=""), "--check")
    assert done.returncode == 1
    assert "circle: a <-> b" in done.stdout
