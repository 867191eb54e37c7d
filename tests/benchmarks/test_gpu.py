"""The benchmark of a GPU does the same on a CPU with tiny sizes, and never passes one off as the other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.speed import gpu


@pytest.mark.torture
def test_measures_every_way(tmp_path: Path) -> None:
    gpu.main(["--device", "cpu", "--tiny", "--out", str(tmp_path)])
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert results["tiny"] is True
    assert results["machine"].startswith("CPU")
    assert not [row for rows in (results["training"], results["scoring"]) for row in rows if "failed" in row]
    training = results["training"]
    assert [(row["train_bfloat16"], row["compiler"], row["hold"]) for row in training] == [
        (True, None, True),
        (False, None, True),
        (True, None, False),
        (True, "eager", True),
    ]
    assert training[0]["held_out_loss"] == training[2]["held_out_loss"]  # held or sent, the same features
    assert training[0]["held_out_loss"] == pytest.approx(training[1]["held_out_loss"], rel=0.01)
    assert training[0]["held_out_loss"] != training[1]["held_out_loss"]  # bfloat16 was on
    assert all(row["epochs"] == 2 and row["images_per_second"] > 0 for row in training)
    scoring = results["scoring"]
    assert [(row["score_bfloat16"], row["compiler"]) for row in scoring] == [
        (True, None),
        (False, None),
        (True, "eager"),
    ]
    assert scoring[1]["moved_by_sd"] == [0, 0]
    assert min(scoring[0]["moved_by_sd"]) > 0
    assert scoring[2]["moved_by_sd"] == scoring[0]["moved_by_sd"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], "no CUDA device here: nothing measured"), (["--device", "cpu"], "--device cpu needs --tiny")],
)
def test_without_a_gpu_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as left:
        gpu.main([*arguments, "--out", str(tmp_path)])
    assert left.value.code == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
