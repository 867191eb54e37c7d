"""What the base package does without any extra, and what it says of the rest."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from helpers import base_install
from helpers.command import within
from helpers.data import SAMPLE

IMAGES = sorted((SAMPLE / "test" / "abnormal").iterdir())[:3]


def base(*arguments: object, code: int = 0) -> tuple[str, str]:
    """Stdout and stderr of a command of the base package."""
    command = [sys.executable, base_install.__file__, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


IN_PYTHON = """
from helpers.base_install import hide_extras
hide_extras()
import sys
import aeflow
model = aeflow.load(sys.argv[1])
print(model._repr_html_(), model.score(sys.argv[2])._repr_html_())
try:
    model.frame(sys.argv[2])
except aeflow.SettingsError as error:
    print(error)
"""


def ran(program: str, *arguments: object) -> str:
    """What a program in Python prints that imports the helpers."""
    tests = str(Path(base_install.__file__).parents[1])
    found = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, *filter(None, [os.environ.get("PYTHONPATH")])])}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=found)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_in_python_scores_show_themselves_and_a_frame_names_what_it_lacks(openvino_export: Path) -> None:
    shown, error = ran(IN_PYTHON, openvino_export, IMAGES[0]).splitlines()
    assert shown.count("data:image/png;base64,") == 1
    assert error == "pandas: is not installed; pip install 'aeflow[pandas]'"


EARLY = """
from helpers.base_install import hide_extras
hide_extras()
import sys
from aeflow.cli import main
sys.stderr = sys.stdout
run, few, made = sys.argv[1:]
for words in (
    ["demo", "--out", few],
    ["train", few, "--out", made],
    ["train", few, "--out", run],
    ["train", few, "--out", made, "--resume"],
    ["train", few, "--out", made, "--device", "gpu"],
    ["recalibrate", run, few, "--out", made],
    ["recalibrate", run, few, "--out", few],
    ["explain", run, few, "--out", made],
):
    try:
        main(words)
    except SystemExit as end:
        assert end.code == 2, words
"""


def test_what_is_wrong_at_once_is_said_before_torch_is_asked_for(tmp_path: Path) -> None:
    """Torch takes seconds to import; here it is missing, which would be the answer of whatever comes to it."""
    few, made = tmp_path / "few", tmp_path / "made"
    few.mkdir()
    for i in range(12):
        Image.new("L", (8, 8), i).save(few / f"{i}.png")
    (run := tmp_path / "run").mkdir()
    (run / "model.json").write_text("{}")
    said = ran(EARLY, run, few, made).splitlines()
    said = [line for line in said if not line.startswith("note: ")]
    expected = (
        "few: is there already; name another place with --out",
        "few: 10 images to train on and 2 to hold out; give at least 25 normal images",
        "run: already holds a model; choose another --out",
        "made: no unfinished training to resume; leave out --resume",
        "device: 'gpu' is not supported; choose auto, cpu or cuda",
        "normals: 12 images; give 20 or more",
        "few: is there already; choose another --out",
        "few: a folder; name an image file",
    )
    assert len(said) == len(expected)
    assert all(begins in line for begins, line in zip(expected, said, strict=True)), said


SERVE = """
from helpers.base_install import hide_extras
hide_extras("fastapi", "starlette", "uvicorn", "jinja2", "python_multipart", "sqlalchemy", "alembic", "argon2")
import importlib, pkgutil
import numpy as np
import aeflow.serve
for module in pkgutil.walk_packages(aeflow.serve.__path__, "aeflow.serve."):
    importlib.import_module(module.name)
from aeflow.drift.statistics import compare
from aeflow.metrics.image import auroc_metric
print(compare({"a": np.arange(20.0)}, {"a": np.arange(20.0)})[0].p)
print(auroc_metric([1.0, 2.0, 3.0, 4.0], [0, 1, 0, 1], list("abcd"))["value"])
"""


def test_the_service_needs_its_own_extra_alone() -> None:
    """Its pages take statistics of images over time and intervals: scipy would be most of what it installs."""
    assert ran(SERVE).splitlines() == ["1.0", "0.75"]


def scores_of(table: Path) -> list[float]:
    with table.open(newline="") as file:
        return [float(row["score"]) for row in csv.DictReader(file)]


def test_it_scores_an_export_as_the_whole_package_does(openvino_export: Path, tmp_path: Path) -> None:
    ours, theirs, maps = tmp_path / "base.csv", tmp_path / "all.csv", tmp_path / "maps"
    look_at = ("--maps", maps, "--overlay", "--report", tmp_path / "scores.html")
    base("score", openvino_export, *IMAGES, "--out", ours, *look_at)
    within("score", openvino_export, *IMAGES, "--out", theirs)
    assert scores_of(ours) == scores_of(theirs)
    assert len(list(maps.glob("*.png"))) == 2 * len(IMAGES)
    assert (tmp_path / "scores.html").read_text().count("data:image/jpeg") == len(IMAGES)


def test_what_a_first_score_does_not_need_is_not_imported(openvino_export: Path) -> None:
    """Pydicom and GDCM belong to the decoders; the rest of a start is rich's, pydantic's and NumPy's."""
    code = (
        "import sys; from aeflow.cli import main\n"
        "second = set(sys.modules)\ntry: main(sys.argv[1:])\nexcept SystemExit as end: assert not end.code\n"
        "print(*({'numpy', 'rich', 'pydantic'} & second), *({'pydicom', 'gdcm', 'torch'} & set(sys.modules)), 'end')"
    )
    command = [sys.executable, "-c", code, "score", str(openvino_export), str(IMAGES[0])]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.stdout.splitlines()[-1] == "end", done.stderr


def test_it_explains_by_what_an_export_holds(openvino_export: Path, tmp_path: Path) -> None:
    out, err = base("explain", openvino_export, IMAGES[0], "--out", tmp_path)
    assert "the average normal image, mostly for: " in out
    assert "shows no healthy counterpart" in err
    facts = json.loads((tmp_path / "explain.json").read_text())
    assert facts["readings"]
    with Image.open(tmp_path / "explain.png") as picture:
        picture.load()


def test_a_run_is_scored_by_the_graph_in_it(tiny_run: Path, openvino_export: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for path in tiny_run.iterdir():
        (run / path.name).symlink_to(path) if path.is_dir() else (run / path.name).write_bytes(path.read_bytes())
    (run / "openvino").mkdir()
    for path in openvino_export.iterdir():
        (run / "openvino" / path.name).write_bytes(path.read_bytes())
    out, _ = base("score", run, IMAGES[0], "--json")
    assert json.loads(out)["score"] == json.loads(base("score", openvino_export, IMAGES[0], "--json")[0])["score"]
    assert base("info", run)[0]


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("train", lambda run, data, out: ("train", data, "--out", out)),
        ("train", lambda run, data, out: ("score", run, IMAGES[0], "--backend", "torch")),
        ("train", lambda run, data, out: ("recalibrate", run, data / "train" / "normal", "--out", out)),
        ("train", lambda run, data, out: ("export", run, "--to", "openvino", "--out", out)),
        ("report", lambda run, data, out: ("evaluate", run, data, "--out", out)),
        ("report", lambda run, data, out: ("drift", run, data, "--report", out / "drift.html")),
        ("audit", lambda run, data, out: ("audit", data, "--out", out)),
        ("parquet", lambda run, data, out: ("score", run, IMAGES[0], "--out", out / "scores.parquet")),
        ("serve", lambda run, data, out: ("serve", run, "--data", out)),
        ("tune", lambda run, data, out: ("tune", data, "--out", out, "--budget", "60s")),
        ("node", lambda run, data, out: ("node", run, "--send-to", "127.0.0.1:104:PACS", "--store", out)),
    ],
)
def test_a_command_names_the_extra_that_it_lacks(
    extra: str,
    words: Callable[[Path, Path, Path], tuple[object, ...]],
    tiny_run: Path,
    openvino_export: Path,
    data: Path,
    tmp_path: Path,
) -> None:
    model = openvino_export if extra == "parquet" else tiny_run
    out, err = base(*words(model, data, tmp_path / "out"), code=2)
    assert out == ""
    [line] = err.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(f"is not installed; pip install 'aeflow[{extra}]'")
    assert not (tmp_path / "out").exists()
