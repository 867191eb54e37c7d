"""The wheel, installed into a folder of its own: it checks itself as a container does, and its demo needs no more."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from helpers import base_install
from helpers.data import ROOT

MAX_BYTES = 8 * 2**20
# The demo, with a network that trains in seconds
SMALL = (
    "from aeflow.cli import demo, main; "
    "demo.SETTINGS.update(image_size=64, region='none', terms=('flow', 'reconstruction'), decoder_type='transposed', "
    "hidden=16, epochs=1, log_det_weight=0.5, augmented_views=0); main()"
)


@pytest.fixture(scope="module")
def prefix() -> Iterator[Path]:
    """A folder with the package as its wheel installs it, which every user may read."""
    hatchling = pytest.importorskip("hatchling.builders.wheel", reason="hatchling, which builds the wheel, is missing")
    with tempfile.TemporaryDirectory() as folder:
        [wheel] = hatchling.WheelBuilder(str(ROOT)).build(directory=f"{folder}/wheel", versions=["standard"])
        assert Path(wheel).stat().st_size < MAX_BYTES
        installed = Path(folder) / "installed"
        run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", installed, wheel)
        Path(folder).chmod(0o755)
        yield installed


def open_to_all(path: str) -> bool:
    """If every user may go to a file through the folders around it."""
    return all(folder.stat().st_mode & 0o001 for folder in Path(os.path.realpath(path)).parents)


def run(*command: object, code: int = 0, cwd: Path | str = "/", **environment: str) -> subprocess.CompletedProcess[str]:
    """A command, which must end with this code and without a traceback."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [*map(str, command)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=cwd, env={**kept, **environment})
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_it_checks_itself_as_another_user_without_a_home(prefix: Path) -> None:
    """As in a container; as another user where root runs it, and where this Python is open to others."""
    command = [sys.executable, base_install.__file__, "info", "--check"]
    if os.getuid() == 0 and open_to_all(sys.executable) and open_to_all(base_install.__file__):
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
    clean = {"PATH": os.environ["PATH"], "PYTHONPATH": str(prefix), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", env=clean)
    assert (done.returncode, done.stderr) == (0, "")
    assert "JPEG 2000" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("aeflow ")


def test_its_demo_leaves_a_table_and_pictures(prefix: Path, tmp_path: Path) -> None:
    done = run(sys.executable, "-c", SMALL, "demo", "--out", "tried", cwd=tmp_path, PYTHONPATH=str(prefix))
    assert "100 normal chest X-rays" in done.stdout
    for words in ("aeflow train NORMALS --out RUN", "aeflow score RUN IMAGES", "aeflow explain RUN IMAGE", "CC BY 4.0"):
        assert words in done.stdout
    with (tmp_path / "tried" / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(list((tmp_path / "tried" / "maps").glob("*.png"))) == 24
    assert "00001.png" in {row["map"] for row in rows}
    assert (tmp_path / "tried" / "results.html").read_text().count("data:image/jpeg") == 24
    with Image.open(tmp_path / "tried" / "maps" / "00001.png") as picture:
        picture.load()
    again = run(sys.executable, "-c", SMALL, "demo", "--out", "tried", code=2, cwd=tmp_path, PYTHONPATH=str(prefix))
    assert again.stderr == "error: tried: is there already; name another place with --out, or delete it\n"


def test_without_torch_its_demo_names_the_extra(prefix: Path, tmp_path: Path) -> None:
    done = run(sys.executable, base_install.__file__, "demo", code=2, cwd=tmp_path, PYTHONPATH=str(prefix))
    assert done.stderr.endswith("is not installed; pip install 'aeflow[train]'\n")
    assert list(tmp_path.iterdir()) == []
