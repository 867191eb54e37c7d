"""Laws: the stages give the very scores and add up to the whole."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aeflow.artifacts import exported_graph as exported
from aeflow.artifacts.run import Artifact, load_run
from aeflow.data.loader import decoded
from aeflow.deploy import benchmark as benches
from aeflow.deploy.benchmark import STAGES, Bench, bench, images_of
from aeflow.deploy.network_timing import TorchNetwork, encoder_of, generated, in_stages
from aeflow.errors import DataError
from aeflow.imageio.errors import ImageError
from aeflow.runtime.machine import family, machine, peak_mb, resident_mb
from aeflow.scoring.scorer import BATCH, score
from aeflow.training.train import Trained
from helpers.command import error_of, within


@pytest.fixture(scope="module")
def artifact(trained: Trained, run: Path) -> Artifact:
    return load_run(run)


@pytest.fixture(scope="module")
def found(artifact: Artifact, data: Path) -> Bench:
    return bench(artifact.scorer, images_of(data / "test", "axial"), TorchNetwork(artifact), batch=8)


@pytest.mark.timing
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


@pytest.mark.timing
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


@pytest.mark.timing
def test_the_whole_is_set_beside_the_bare_encoder(found: Bench) -> None:
    assert found.images == 24
    for name in ("score", "score with maps"):
        ratio = found.rates[name] / found.rates["encoder"]
        assert ratio / 2 < found.over_encoder[name] < 2 * ratio  # one of medians, the other of turns
    assert found.peak_mb is not None
    assert found.peak_mb >= 100


def test_the_encoder_is_timed_in_the_backend_that_scores(tiny_run: Path, exported_run: Path, data: Path) -> None:
    artifact, scorer = load_run(tiny_run), exported.load_export(exported_run)
    found = bench(scorer, images_of(data / "test" / "normal", "axial"), TorchNetwork(artifact), batch=8)
    assert found.backend == scorer.backend.name
    x = torch.rand(3, 3, artifact.settings.image_size, artifact.settings.image_size)
    with torch.no_grad():
        features = encoder_of(artifact, scorer)(x)
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
        bench(artifact.scorer, images_of(folder, "axial"))
    for number in range(3):
        Image.open(data / "test" / "normal" / f"{number:03}.png").save(folder / f"{number}.png")
    shown, error = within(
        "bench", run, "--images", folder, "--backend", "torch", "--out", tmp_path / "bench.json", ok=1
    )
    assert "1 image refused" in error
    assert "notes" not in error
    assert all(f"\n{stage} " in shown for stage in STAGES)
    assert "of the bare encoder" in shown
    text = (tmp_path / "bench.json").read_text()
    values = json.loads(text)
    assert (values["images"], values["refusals"], values["batch"]) == (3, 1, BATCH)
    assert set(values["stages"]["1"]["flow"]) == {"median", "p95"}
    for secret in (str(tmp_path), str(run), "notes.png", platform.node()):
        assert secret not in text


def test_an_export_is_timed_without_its_network(exported_run: Path, data: Path) -> None:
    assert "an export generates none; name a folder of images" in error_of("bench", exported_run)
    folder = data / "test" / "normal"
    values = json.loads(within("bench", exported_run, "--images", folder, "--json")[0])
    assert set(values["rates"]) == {"score", "score with maps"}
    assert list(values["stages"]["1"]) == ["decode", "preprocess", "hand over"]
    assert values["over_encoder"] == {}
    shown = within("bench", exported_run, "--images", folder)[0]
    assert "score with maps" in shown
    assert "encoder" not in shown


def test_wrong_use_is_one_line(trained: Trained, run: Path, tmp_path: Path) -> None:
    assert "a folder without images" in error_of("bench", run, "--images", tmp_path)


def test_machine_facts_say_what_a_timing_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_PLACES", "cores")
    monkeypatch.setenv("LD_PRELOAD_OF_SOMEBODY", "/home/somebody/lib.so")
    facts = machine()
    json.dumps(facts, allow_nan=False)
    assert facts["cores"] >= 1
    assert facts["versions"]["torch"]
    assert facts["environment"]["OMP_PLACES"] == "cores"
    assert "somebody/" not in str(facts)


@pytest.mark.timing
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


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_has_its_own_peak_and_not_that_of_who_started_it() -> None:
    """As ``getrusage`` has it."""
    code = "from aeflow.runtime.machine import own_peak_mb; print(own_peak_mb())"
    starter = f"import subprocess, sys; b = b'x' * (300 * 2**20); subprocess.run([sys.executable, '-c', {code!r}])"
    said = subprocess.run([sys.executable, "-c", starter], capture_output=True, text=True, check=True).stdout
    assert 5 < float(said) < 200


@pytest.mark.timing
def test_spread_is_of_an_image(found: Bench) -> None:
    spread = benches.Spread.of([0.001] * 90 + [0.1] * 10)
    assert asdict(spread) == {"median": 1.0, "p95": 100.0}
    assert found.to_json()["stages"]["1"]["encoder"] == asdict(found.stages["1"]["encoder"])
