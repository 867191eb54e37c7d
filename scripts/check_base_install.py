"""A fresh environment with the base package alone: how large it is, and whether it scores as the whole package does.

    python scripts/check_base_install.py [--folder FOLDER]

Trains a small model on the bundled X-rays with the environment that runs this, installs the package without any extra
into a new environment, and scores in both by the graph that the training left. As root it also scores as the container
does: as another user, without a home, with nothing to write to but the place of the results. Then the extra `serve` is
added. Exit code 1 if the environment or what the extra adds is larger than it may be, if the base holds a package of an
extra, or gives another score. The new environment goes, unless it lies in a FOLDER.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from aeflow.runtime.extras import IN_EXTRAS

ROOT = Path(__file__).parent.parent
MOST_MEGABYTES, MOST_OF_SERVE = 450, 80
SMALL = {"image_size": 96, "hidden": 16, "flow_steps": 2, "epochs": 1}


def main() -> None:
    """Build both, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit("\n".join(faults(options.folder or Path(temporary))) or None)


def faults(folder: Path) -> list[str]:
    """Return what is wrong with a base environment that is made in a folder."""
    environment, run = folder / "base", folder / "run"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    call(python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", ROOT)
    sets = [text for name, value in SMALL.items() for text in ("--set", f"{name}={value}")]
    call(sys.executable, "-m", "aeflow", "train", ROOT / "sample", "--out", run, *sets)
    images = ROOT / "sample" / "test" / "abnormal"
    tables = [folder / "whole.csv", folder / "base.csv"]
    call(sys.executable, "-m", "aeflow", "score", run / "openvino", images, "--out", tables[0])
    call(python, "-m", "aeflow", "score", run, images, "--out", tables[1], "--maps", folder / "maps")
    call(python, "-m", "aeflow", "explain", run, next(images.iterdir()), "--out", folder / "explained")
    if os.getuid() == 0:
        as_in_a_container(python, run, images, folder)
        tables.append(folder / "nobody" / "scores.csv")
    megabytes = size(environment)
    print(f"the base environment takes {megabytes:.0f} MiB, {MOST_MEGABYTES} allowed")
    found = [] if megabytes <= MOST_MEGABYTES else ["it is too large"]
    installed = [name for name in IN_EXTRAS if any((environment / "lib").glob(f"*/site-packages/{name}"))]
    found += [f"{name} is installed" for name in installed]
    call(python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", f"{ROOT}[serve]")
    added = size(environment) - megabytes
    print(f"the extra serve adds {added:.0f} MiB, {MOST_OF_SERVE} allowed")
    found += [] if added <= MOST_OF_SERVE else ["the extra serve is too large"]
    whole, *others = (scores(table) for table in tables)
    return found + [f"scores differ: {whole[:3]} and {other[:3]}" for other in others if not whole or whole != other]


def size(environment: Path) -> float:
    """Return the size of a folder in MiB."""
    return sum(path.lstat().st_size for path in environment.rglob("*")) / 2**20


def as_in_a_container(python: Path, run: Path, images: Path, folder: Path) -> None:
    """Check and score as the user nobody, without a home; raises CalledProcessError if that fails."""
    folder.chmod(0o755)
    for path in (run, *run.rglob("*")):  # whoever trained it may have kept it to themselves
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
    shutil.copytree(images, folder / "images")
    (folder / "nobody").mkdir()
    (folder / "nobody").chmod(0o777)
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(python), "-m", "aeflow"]
    clean = {"PATH": os.environ["PATH"], "AEFLOW_CACHE": str(folder / "nobody")}
    score = ["score", str(run), str(folder / "images"), "--out", str(folder / "nobody" / "scores.csv")]
    for words in (["info", "--check", str(run)], score):
        subprocess.run([*command, *words], check=True, cwd="/", env=clean, stdout=subprocess.DEVNULL)


def call(*command: object) -> None:
    """Run a command outside of the source folder; raises CalledProcessError."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([*map(str, command)], check=True, cwd="/", env=kept, stdout=subprocess.DEVNULL)


def scores(table: Path) -> list[str]:
    """Return the scores in a table as they are written there."""
    with table.open(newline="") as file:
        return [row["score"] for row in csv.DictReader(file)]


if __name__ == "__main__":
    main()
