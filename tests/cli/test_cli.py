"""What a person types and sees: commands, files, exit codes, one-line errors."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import aeflow
from aeflow.calibration.input_guard import INPUT_COLUMNS
from aeflow.data.records import read_records
from aeflow.model.terms import TERMS
from aeflow.privacy import pseudonym
from aeflow.training.checkpoint import save_checkpoint
from aeflow.training.train import Trained
from benchmarks.inputs import link_images
from helpers.command import call, error_of, within
from helpers.data import SAMPLE, texture, write_data


@pytest.fixture(scope="module")
def evaluated(trained: Trained, run: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluated")
    shown, error = within("evaluate", run, data, "--out", out)
    assert re.search(r"AUROC\W+[01]\.\d+\W+[01]\.\d+ to [01]\.\d+", shown)
    assert f"report: {out / 'report.html'}" in shown.replace("\n", "")
    assert error == ""  # progress is for terminals
    return out


def test_help_lists_the_commands_and_is_quick() -> None:
    done = call("--help")
    for command in ("train", "evaluate", "score", "explain", "info"):
        assert command in done.stdout
    assert "not a medical device" in " ".join(done.stdout.split())
    probe = "import sys, aeflow.cli; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe]).returncode == 0
    scoring = "import sys, aeflow.scoring.score_files; sys.exit('matplotlib' in sys.modules)"  # only pictures need it
    assert subprocess.run([sys.executable, "-c", scoring]).returncode == 0


def test_version() -> None:
    assert call("--version").stdout.strip() == aeflow.__version__


def test_evaluate_writes_all_it_promises(evaluated: Path) -> None:
    names = {path.relative_to(evaluated).as_posix() for path in evaluated.rglob("*") if path.is_file()}
    assert names >= {"metrics.json", "scores.csv", "scores.parquet", "report.html", "model_card.md"}
    plots = "scores confusion roc precision_recall training epochs most_abnormal most_normal"
    assert names >= {f"plots/{name}.png" for name in plots.split()}
    for path in (evaluated / "plots").iterdir():
        assert np.asarray(Image.open(path).convert("L")).std() > 5, path  # something is drawn


def test_metrics_follow_the_contract(evaluated: Path) -> None:
    metrics = json.loads((evaluated / "metrics.json").read_text())
    assert (metrics["split"], metrics["n_normal"], metrics["n_abnormal"]) == ("test", 12, 12)
    for name in ("auroc", "average_precision", "f1", "accuracy", "sensitivity", "specificity"):
        assert metrics[name]["low"] <= metrics[name]["value"] <= metrics[name]["high"], name
    assert metrics["threshold"]["from"] == "held-out train normals"
    assert metrics["oracle"]["f1"]["value"] >= metrics["f1"]["value"]
    for name in ("residual", "anomaly"):
        for metric in ("auroc", "aupro", "dice"):
            value = metrics["pixel"][name][metric]
            assert 0 <= value["low"] <= value["value"] <= value["high"] <= 1


def test_tables_follow_the_contract(evaluated: Path, data: Path) -> None:
    with (evaluated / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    terms = " ".join(TERMS) + " posterior"  # the same columns for every model: tables can be stacked
    columns = f"path slice label patient study score p_value verdict threshold outside {terms} p_abnormal"
    assert list(rows[0]) == [*columns.split(), *INPUT_COLUMNS.values(), "model", "map", "error", "refusal"]
    with (data / "manifest.csv").open() as file:
        listed = [row["path"] for row in csv.DictReader(file) if row["split"] == "test"]
    assert [row["path"] for row in rows] == [pseudonym(path) for path in listed]
    parquet = pq.read_table(evaluated / "scores.parquet").to_pylist()
    assert [row["score"] for row in parquet] == [float(row["score"]) for row in rows]  # full precision in both
    assert all(re.fullmatch(r"[0-9a-f]{12}", row["patient"]) for row in rows)


def test_report_is_one_file(evaluated: Path) -> None:
    html = (evaluated / "report.html").read_text()
    assert not re.search(r"""(src|href)=["'](?!data:|#|https://doi)""", html)
    assert "not a medical device" in html
    assert html.count("data:image/png") >= 6


def test_score_table_and_maps(trained: Trained, run: Path, data: Path, tmp_path: Path) -> None:
    folder = data / "test" / "abnormal"
    done = call("score", run, folder, "--out", tmp_path / "s.csv", "--maps", tmp_path / "maps")
    assert re.search(r"\d+ images called normal, \d+ abnormal", done.stdout)
    assert [path.name for path in sorted((tmp_path / "maps").iterdir())] == [f"{i:05d}.png" for i in range(1, 13)]
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 13


def test_score_to_a_terminal_and_as_json(trained: Trained, run: Path, data: Path) -> None:
    folder = data / "test" / "normal"
    lines = within("score", run, folder)[0].splitlines()
    assert len(lines) == 12
    assert all(re.match(r"(normal|abnormal) +score +-?\d+\.\d{3}  p[ ≤][01]\.\d{4}  .+\.png", line) for line in lines)
    rows = [json.loads(line) for line in within("score", run, folder, "--json")[0].splitlines()]
    assert [row["verdict"] for row in rows] == [line.split()[0] for line in lines]
    ill, least = data / "test" / "abnormal", trained.artifact.calibration.smallest_p
    rows = [json.loads(line) for line in within("score", run, ill, "--json")[0].splitlines()]
    bounds = [f"p≤{least:.4f}" in line for line in within("score", run, ill)[0].splitlines()]
    assert bounds == [row["p_value"] == pytest.approx(least) for row in rows]
    assert any(bounds)


def test_evaluate_and_score_and_python_agree(evaluated: Path, run: Path, data: Path) -> None:
    with (evaluated / "scores.csv").open() as file:
        first = next(csv.DictReader(file))
    image = read_records(data, "test")[0].path  # the table of an evaluation names no file
    from_cli = json.loads(within("score", run, image, "--json")[0])
    result = aeflow.load(run).score(image)
    spread = np.std(aeflow.load(run).artifact.calibration.scores)
    assert result.value == pytest.approx(float(first["score"]), abs=1e-4 * spread, rel=1e-5)
    assert result.value == pytest.approx(from_cli["score"], abs=1e-4 * spread, rel=1e-5)
    assert result.map is not None


def test_bad_images_are_listed_and_the_rest_is_scored(trained: Trained, run: Path, tmp_path: Path) -> None:
    """One batch with every kind of bad file: the good ones get scores, the bad ones a reason, the exit code is 1."""
    good = texture(5)
    Image.fromarray(good).save(tmp_path / "good8.png")
    Image.fromarray(good.astype(np.uint16) * 257).save(tmp_path / "good16.png")
    Image.fromarray(good).convert("P").save(tmp_path / "good_palette.png")
    Image.fromarray(good).convert("RGBA").save(tmp_path / "good_rgba.png")
    Image.fromarray(good).convert("CMYK").save(tmp_path / "good_cmyk.jpg")
    Image.fromarray(good[:1, :1]).save(tmp_path / "bad_1x1.png")
    Image.fromarray(np.full((64, 64), 7, np.uint8)).save(tmp_path / "bad_constant.png")
    nan = good.astype(np.float32)
    nan[3, 3] = np.nan
    Image.fromarray(nan).save(tmp_path / "bad_nan.tiff")
    whole = (tmp_path / "good8.png").read_bytes()
    (tmp_path / "bad_truncated.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bad_text.png").write_text("this is no image")
    (tmp_path / "bad_empty.png").write_bytes(b"")
    bomb = bytearray(whole)
    bomb[16:24] = (30000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bytes(bomb[12:29])).to_bytes(4, "big")
    (tmp_path / "bad_bomb.png").write_bytes(bytes(bomb))
    _, error = within("score", run, tmp_path, "--out", tmp_path.parent / "bad.csv", ok=1)
    with (tmp_path.parent / "bad.csv").open() as file:
        rows = {Path(row["path"]).name: row for row in csv.DictReader(file)}
    assert len(rows) == 12
    for name, row in rows.items():
        assert bool(row["error"]) == name.startswith("bad"), (name, row)
        assert bool(row["score"]) == name.startswith("good"), (name, row)
    assert "7 images refused" in error
    bad = [row["path"] for name, row in rows.items() if name.startswith("bad")]
    assert all(f"image {pseudonym(path)}: " in error for path in bad)
    assert "bad_" not in error
    assert re.search(r"30000", rows["bad_bomb.png"]["error"])
    lines, again = within("score", run, tmp_path, ok=1)
    refused = [line for line in lines.splitlines() if line.startswith("refused ")]
    assert refused == [f"refused   {row['path']}: {row['error']}" for row in rows.values() if row["error"]]
    assert "bad_" not in again, "what is answered names files, stderr does not"


def test_wrong_use_is_one_line(trained: Trained, run: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = call("score", tmp_path, data, ok=2)
    assert done.stdout == ""
    assert re.fullmatch(r"error: .* holds no model.json; give the folder [^\n]*\n", done.stderr)
    assert "a folder without images; name a folder that holds images" in error_of("score", run, tmp_path / "empty")
    assert "no images in split 'val'; put images into" in error_of("evaluate", run, data, "--split", "val")
    assert "beta: '7' is not allowed" in error_of("train", data, "--out", tmp_path / "r", "--set", "beta=7")
    wrong = ("train", data, "--out", tmp_path / "r", "--set")
    assert "telepathy: no such setting; settings are encoder, stages" in error_of(*wrong, "telepathy=1")
    assert error_of(*wrong, "epoch=3") == "epoch: no such setting; do you mean epochs? aeflow settings lists all"
    assert "preset: no preset named 'best'" in error_of("train", data, "--out", tmp_path / "r", "--preset", "best")
    assert "already holds a model" in error_of("train", data, "--out", run)
    assert "end it in .csv or .parquet" in error_of("score", run, data, "--out", tmp_path / "scores.xlsx")
    assert "holds no images; name a folder of normal" in error_of("train", tmp_path / "empty", "--out", tmp_path / "r")
    assert "is not supported; choose auto, cpu or cuda" in error_of("score", run, data, "--device", "tpu")


def test_split_with_one_class(trained: Trained, run: Path, tmp_path: Path) -> None:
    """Metrics that need both classes are null, the others stand, and the report says why."""
    data = write_data(tmp_path / "data", test=4)
    lines = (data / "manifest.csv").read_text().splitlines()
    (data / "manifest.csv").write_text("\n".join(line for line in lines if "test/abnormal" not in line))
    within("evaluate", run, data, "--out", tmp_path / "out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["auroc"] is None
    assert metrics["sensitivity"] is None
    assert 0 <= metrics["specificity"]["value"] <= 1
    assert metrics["notes"]
    assert (tmp_path / "out" / "report.html").exists()


def test_evaluate_goes_on_past_bad_images_and_masks(trained: Trained, run: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", test=5)
    (data / "test" / "normal" / "001.png").write_bytes(b"no image")
    (data / "test" / "mask" / "002.png").write_bytes(b"no mask")
    assert "2 images refused" in within("evaluate", run, data, "--out", tmp_path / "out", ok=1)[1]
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["n_normal"], metrics["n_abnormal"], metrics["refused"]) == (4, 4, 2)


@pytest.mark.parametrize("damage", ["history.csv", "epoch_scores.json"])
def test_damaged_training_history_is_named(
    trained: Trained, run: Path, data: Path, tmp_path: Path, damage: str
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    content = (copy / damage).read_bytes()
    (copy / damage).write_bytes(content[: len(content) * 2 // 3])
    assert "damaged training history" in error_of("evaluate", copy, data, "--out", tmp_path / "out")
    (copy / damage).unlink()  # the remedy: without it the report has no training section
    within("evaluate", copy, data, "--out", tmp_path / "out")
    assert not (tmp_path / "out" / "plots" / "training.png").exists()
    assert (tmp_path / "out" / "plots" / "roc.png").exists()


def test_info(trained: Trained, run: Path) -> None:
    shown, _ = within("info", run)
    assert "tf_efficientnet_lite0" in shown
    names = [line[:20].strip() for line in shown.splitlines()]
    assert names[:7] == ["model", "region", "looks for", "terms", "normals", "threshold", "smallest p-value"]
    assert "of them held out" in shown
    assert names.index("epochs") < names.index("versions") < names.index("seconds")
    assert json.loads(within("info", run, "--json")[0])["schema"] == 7


@pytest.mark.torture
def test_train_on_the_bundled_sample(tmp_path: Path) -> None:
    """Real X-rays from the command line; a short training on 80, so only its soundness is judged."""
    (tmp_path / "train").mkdir()
    link_images(tmp_path / "train" / "normal", sorted((SAMPLE / "train" / "normal").iterdir())[:80])
    settings = ["--epochs", "2", "--set", "image_size=64", "--set", "hidden=32"]
    facts = json.loads(within("train", tmp_path, "--out", tmp_path / "run", "--no-graph", *settings, "--json")[0])
    assert facts["normal_images"] + facts["held_out_images"] == 80
    assert 0 <= facts["log_det_weight"] <= 1
    phases = [facts[f"{phase}_seconds"] for phase in ("features", "training", "calibration")]
    assert 0 < sum(phases) <= facts["seconds"]
    pace, rounded = facts["training_images_per_second"], 0.05  # seconds are told to a tenth
    assert pace * (phases[1] - rounded) <= 1.01 * 2 * facts["normal_images"] <= 1.02 * pace * (phases[1] + rounded)
    metrics = json.loads(within("evaluate", tmp_path / "run", SAMPLE, "--json")[0])
    assert metrics["auroc"]["value"] > 0.7


def test_ctrl_c_in_a_training_says_what_is_there(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after an epoch it can go on; stopped while the graph is made, the model is complete and summed up."""
    run = tmp_path / "run"
    command = ["train", data, "--out", run, "--epochs", "2", "--set", "image_size=64", "--set", "hidden=8"]

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    def save_and_stop(*arguments: Any) -> None:
        save_checkpoint(*arguments)
        stop()

    with monkeypatch.context() as patch:
        patch.setattr("aeflow.training.train.read_images", stop)
        assert "stopped (no model was written; the same command begins again" in within(*command, ok=130)[1]
    with monkeypatch.context() as patch:
        patch.setattr("aeflow.training.loop.save_checkpoint", save_and_stop)
        shown, said = within(*command, ok=130)
    assert shown == ""
    assert said.splitlines()[-1] == "stopped (the same command with --resume goes on)"
    assert "holds no model.json: a training was stopped there; give its command again" in error_of("info", run)
    monkeypatch.setattr("aeflow.deploy.export.export", stop)
    shown, said = within(*command, "--resume", ok=130)
    assert shown == ""  # the summary is the last that a training prints
    assert said.splitlines()[-1] == f"stopped (the model in {run} is complete, without the graph that scores faster)"
    assert "images" in within("info", run)[0]


def test_no_patient_in_any_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Patients of the manifest leave the program as salted hashes only."""
    monkeypatch.setenv("AEFLOW_CACHE", str(tmp_path / "cache"))
    data = write_data(tmp_path / "data", train=30, test=6)
    manifest = (data / "manifest.csv").read_text()
    (data / "manifest.csv").write_text(re.sub(r",([patu])(\d+),", r",Canary^\1\2,", manifest))
    small = ["--set", "image_size=64", "--set", "hidden=8", "--epochs", "1"]
    shown, _ = within("train", data, "--out", tmp_path / "run", "--no-graph", *small)
    assert shown.splitlines()[-1].startswith("next: aeflow score ")
    assert "counts in the term flow (finds synthetic anomalies best" in within("info", tmp_path / "run")[0]
    assert not (tmp_path / "cache" / "graphs").exists()
    within("evaluate", tmp_path / "run", data)
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file():
            assert b"Canary" not in path.read_bytes(), path


def test_public_names() -> None:
    assert sorted(aeflow.__all__) == aeflow.__all__
    for name in aeflow.__all__:
        assert getattr(aeflow, name).__doc__, name
    assert callable(aeflow.train)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = aeflow.nonsense
