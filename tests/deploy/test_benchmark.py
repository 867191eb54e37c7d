"""Laws: the stages give the very scores and add up to the whole; what the benchmarks compare is what they say."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from aeflow.artifacts import exported_graph as exported
from aeflow.artifacts.run import Artifact, load_run
from aeflow.data.loader import decoded
from aeflow.deploy import benchmark as benches
from aeflow.deploy.benchmark import STAGES, Bench, bare_encoder, bench, generated, images_of, in_stages
from aeflow.errors import DataError
from aeflow.imageio.errors import ImageError
from aeflow.runtime.machine import family, machine, peak_mb, resident_mb
from aeflow.scoring.scorer import BATCH, score
from aeflow.training.train import Trained
from helpers.command import call, error_of
from helpers.data import ROOT

pytestmark = pytest.mark.timing
PEER = os.environ.get("AEFLOW_ANOMALIB_PYTHON")


@pytest.fixture(scope="module")
def artifact(trained: Trained, run: Path) -> Artifact:
    return load_run(run)


@pytest.fixture(scope="module")
def found(artifact: Artifact, data: Path) -> Bench:
    return bench(artifact, artifact.scorer, images_of(data / "test", "axial"), batch=8)


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module(request.param)


def test_stages_give_the_very_scores_and_leave_no_time_out(artifact: Artifact, data: Path) -> None:
    records = images_of(data / "test" / "abnormal", "axial")
    read = [x for _, x in decoded(records, artifact.settings.image_size) if not isinstance(x, ImageError)]
    pixels, facts, shares = torch.from_numpy(np.stack([x.pixels for x in read])), [x.acquisition for x in read], []
    for _ in range(5):
        tic = time.perf_counter()
        seconds, values = in_stages(artifact, pixels, facts)
        shares.append(sum(seconds.values()) / (time.perf_counter() - tic))
    assert 0.9 < max(shares) <= 1
    scored = [result.value for _, result in score(artifact.scorer, records) if not isinstance(result, ImageError)]
    assert values == pytest.approx(scored, rel=1e-4, abs=1e-4)
    assert list(seconds) == list(STAGES[3:])


def test_stages_add_up_to_about_the_whole(found: Bench) -> None:
    assert list(found.stages) == ["1", "8"]
    for stages in found.stages.values():
        assert tuple(stages) == STAGES
        assert all(0 <= spread.median <= spread.p95 for spread in stages.values())
    alone, together = (sum(spread.median for spread in stages.values()) for stages in found.stages.values())
    # Other programs run beside tests, so no tighter; a batch's time taken for an image's would be off by more.
    assert found.single.median / 6 < alone < 6 * found.single.median
    assert together < 3 * alone
    assert together / 6 < 1000 / found.rates["score with maps"] < 6 * together


def test_the_whole_is_set_beside_the_bare_encoder(found: Bench) -> None:
    assert found.images == 24
    for name in ("score", "score with maps"):
        ratio = found.rates[name] / found.rates["encoder"]
        assert ratio / 2 < found.over_encoder[name] < 2 * ratio  # one of medians, the other of turns
    assert found.peak_mb is not None
    assert found.peak_mb >= 100


def test_the_encoder_is_timed_in_the_backend_that_scores(tiny_run: Path, exported_run: Path, data: Path) -> None:
    artifact, scorer = load_run(tiny_run), exported.load_export(exported_run)
    found = bench(artifact, scorer, images_of(data / "test" / "normal", "axial"), batch=8)
    assert found.backend == f"{scorer.backend.name} fp32"
    x = torch.rand(3, 3, artifact.settings.image_size, artifact.settings.image_size)
    with bare_encoder(artifact, scorer) as encode, torch.no_grad():
        features = encode(x)
        for theirs, ours in zip(artifact.net.encoder(x), features.values(), strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-3)


def test_images_are_made_up_where_none_are_given(artifact: Artifact) -> None:
    with generated(artifact, 3) as records:
        results = [result for _, result in score(artifact.scorer, records)]
    assert len(results) == 3
    assert not any(isinstance(result, ImageError) for result in results)
    assert not records[0].path.parent.exists()


def test_unreadable_images_are_refused_and_the_rest_measured(
    artifact: Artifact, run: Path, data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "notes.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="none of 1 can be read"):
        bench(artifact, artifact.scorer, images_of(folder, "axial"))
    for number in range(3):
        Image.open(data / "test" / "normal" / f"{number:03}.png").save(folder / f"{number}.png")
    done = call("bench", run, "--images", folder, "--backend", "torch", "--out", tmp_path / "bench.json", ok=1)
    assert "1 images refused" in done.stderr
    assert "notes" not in done.stderr
    assert all(f"│ {stage} " in done.stdout for stage in STAGES)
    assert "of the bare encoder" in done.stdout
    text = (tmp_path / "bench.json").read_text()
    values = json.loads(text)
    assert (values["images"], values["refusals"], values["batch"]) == (3, 1, BATCH)
    assert set(values["stages"]["1"]["flow"]) == {"median", "p95"}
    for secret in (str(tmp_path), str(run), "notes.png", platform.node()):
        assert secret not in text


def test_wrong_use_is_one_line(trained: Trained, run: Path, tmp_path: Path) -> None:
    assert "an empty folder" in error_of("bench", run, "--images", tmp_path)


def test_machine_facts_say_what_a_timing_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_PLACES", "cores")
    monkeypatch.setenv("LD_PRELOAD_OF_SOMEBODY", "/home/somebody/lib.so")
    facts = machine()
    json.dumps(facts, allow_nan=False)
    assert facts["cores"] >= 1
    assert facts["versions"]["torch"]
    assert facts["environment"]["OMP_PLACES"] == "cores"
    assert "somebody/" not in str(facts)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_that_of_the_whole_family() -> None:
    before = resident_mb(os.getpid())
    code = "b = b'x' * (200 * 2**20); print(flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    assert child.pid in family(os.getpid())
    assert 200 < resident_mb(child.pid) < 300
    assert resident_mb(os.getpid()) > before + 150
    assert (peak_mb(os.getpid()) or 0) > 300
    child.communicate(b"\n")
    assert resident_mb(child.pid) == 0


@pytest.mark.parametrize("benchmark", ["pixel_speed"], indirect=True)
def test_pixel_metrics_of_full_size_maps_are_exact(benchmark: ModuleType) -> None:
    """Maps of 256 x 256 with several regions each, against scikit-learn and a plain AUPRO of every threshold."""
    found = benchmark.measure(12)
    assert found["off_from_exact"]["auroc"] < 1e-6
    assert found["off_from_exact"]["aupro"] < 1e-5


@pytest.mark.parametrize("benchmark", ["pixel_speed"], indirect=True)
def test_the_plain_aupro_finds_what_is_plain(benchmark: ModuleType) -> None:
    mask = np.zeros((8, 8), bool)
    mask[0, :2], mask[4:6, 4:6] = True, True
    best = np.where(mask, 1.0, 0.0)
    assert benchmark.exact([(best, mask)]) == pytest.approx({"auroc": 1.0, "aupro": 1.0})
    half = np.where(np.arange(8)[:, None] < 3, best, 0.0)  # one region of two is found, the rest lies with the normals
    assert benchmark.exact([(half, mask)])["aupro"] == pytest.approx(0.5 + 0.5 * 0.3 / 2, abs=1e-9)


@pytest.mark.parametrize("benchmark", ["speed"], indirect=True)
def test_programs_run_with_nothing_set(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "0")
    code = (
        "import os, time; b = b'x' * 2**28; time.sleep(0.5); print([k for k in os.environ if k[:3] in ('OMP', 'MAL')])"
    )
    found = benchmark.ran([sys.executable, "-c", code])
    assert found.output.strip() == "[]"
    assert found.seconds > 0.5
    assert 256 < found.peak_mb < 400
    with pytest.raises(SystemExit, match="no such thing"):
        benchmark.ran([sys.executable, "-c", "raise SystemExit('no such thing')"])


@pytest.mark.parametrize("benchmark", ["speed"], indirect=True)
def test_the_command_is_timed_on_the_same_images(
    benchmark: ModuleType, trained: Trained, run: Path, data: Path, tmp_path: Path
) -> None:
    options = argparse.Namespace(run=run, data=data, anomalib_python=None, images=6, drawn=2, repeats=1, epochs=0)
    speed = benchmark.Speed(options, tmp_path)
    speed.command(benchmark.PLAIN, speed.images, 0.5, [])
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 1 + 6
    [found] = speed.runs[benchmark.PLAIN]
    assert 0 < found["whole"] <= found["alone"]
    assert found["peak_mb"] > 100
    assert speed.medians()[benchmark.PLAIN] == found


@pytest.mark.skipif(not PEER, reason="AEFLOW_ANOMALIB_PYTHON names no Python that has anomalib")
@pytest.mark.parametrize("benchmark", ["speed"], indirect=True)
def test_speed_runs_to_the_end_beside_anomalib(
    benchmark: ModuleType, trained: Trained, run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Minutes: three peers are fitted and asked."""
    monkeypatch.setattr(benchmark, "STARTS", 1)
    small = {"images": 6, "drawn": 2, "repeats": 1, "epochs": 1, "train-images": 16, "maps": 10}
    options = [part for name, value in small.items() for part in (f"--{name}", str(value))]
    files = ["--data", str(data), "--run", str(run), "--out", str(tmp_path)]
    benchmark.main([*files, "--anomalib-python", str(PEER), *options])
    found = json.loads((tmp_path / "speed.json").read_text())
    assert (tmp_path / "speed.md").read_text() == benchmark.as_table(found)
    assert all(value > 0 for value in found["ratios"].values())
    assert len(found["ratios"]) == 8


@pytest.mark.parametrize("benchmark", ["speed_table"], indirect=True)
def test_a_gpu_is_read_the_way_it_ships(benchmark: ModuleType) -> None:
    shipped = {"train_bfloat16": True, "compiler": None, "hold": True, "seconds": 100.0}
    training = [
        shipped,
        {**shipped, "hold": False, "seconds": 9.0},
        {**shipped, "compiler": "inductor", "seconds": 8.0},
    ]
    scoring = [
        {"score_bfloat16": False, "compiler": None, "images_per_second": 2500.0},
        {"score_bfloat16": False, "compiler": None, "images_per_second": 9000.0},
        {"score_bfloat16": True, "compiler": None, "images_per_second": 9900.0},
    ]
    trained, scored = benchmark.gpu_rows({"training": training, "scoring": scoring})
    assert (trained["measured"], trained["reached"]) == (100, "floor")
    assert (scored["measured"], scored["reached"]) == (9000, "aim")
    assert all(row["measured"] is None and row["reached"] is None for row in benchmark.gpu_rows(None))


@pytest.mark.parametrize("benchmark", ["speed_table"], indirect=True)
def test_each_floor_is_a_row_that_says_what_is_reached(benchmark: ModuleType, found: Bench) -> None:
    middle = {"whole": 50.0, "alone": 80.0, "peak_mb": 1024.0}
    result = {
        "images": 4,
        "drawn": 2,
        "runs": {"aeflow, maps": [middle]},
        "medians": {"aeflow, maps": middle},
        "ratios": {"aeflow, maps / fastflow, whole": 3.5, "aeflow, maps / fastflow, alone": 2.5},
        "starts": {"help": [0.1, 0.3, 0.2], "first score": [7.0]},
        "training": None,
        "bench": json.loads(json.dumps(found.to_json())),
        "pixel": {"maps": 10, "seconds": 4.0, "peak_mb": 300},
        "seconds": 1.0,
        "machine": machine(),
    }
    page = benchmark.as_table(result)
    assert "| images/s, maps included, over anomalib FastFlow's fastest way | 3 | 6 | 2.5 x | no |" in page
    assert "| peak memory of scoring, whole process | 1.5 | 0.8 | 1 GiB | floor |" in page
    assert "| training, 30 epochs, over FastFlow's | 5 | 20 | not measured | - |" in page
    assert "| `aeflow --help` | 0.4 | 0.2 | 0.2 s | aim |" in page
    assert "| first score of a cold process | 6 | 3 | 7 s | no |" in page
    assert "| pixel AUROC + AUPRO of 10 maps 256x256 | 10 | 3 | 4 s | floor |" in page
    assert all(f"| {stage} | " in page for stage in STAGES)


def test_spread_is_of_an_image(found: Bench) -> None:
    spread = benches.Spread.of([0.001] * 90 + [0.1] * 10)
    assert asdict(spread) == {"median": 1.0, "p95": 100.0}
    assert found.to_json()["stages"]["1"]["encoder"] == asdict(found.stages["1"]["encoder"])
