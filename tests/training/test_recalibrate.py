"""Recalibrating on local normals: the rule of training on other images, in a run of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binom

import aeflow
from aeflow.artifacts.layout import HISTORY, WEIGHTS
from aeflow.artifacts.reference_normals import NORMALS
from aeflow.artifacts.run import load_run, save_run
from aeflow.calibration import calibration as calibrate
from aeflow.cli import main
from aeflow.config import make_settings
from aeflow.data.records import find_images, of_label, read_records
from aeflow.data.splits import hold_out
from aeflow.deploy.open_model import open_model
from aeflow.errors import ArtifactError, DataError, OutputError
from aeflow.evaluation.evaluate import evaluate
from aeflow.runtime.files import file_digest
from aeflow.training.local_normals import MIN_LOCAL_NORMALS
from aeflow.training.recalibrate import recalibrate
from helpers.data import texture
from helpers.same_scores import assert_same_scores, scores


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 normals of another place: brighter, with less contrast."""
    folder = tmp_path_factory.mktemp("local")
    for i in range(24):
        Image.fromarray((90 + 0.6 * texture(7000 + i)).astype(np.uint8)).save(folder / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module")
def recalibrated(tiny_run: Path, local: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("recalibrated") / "run"
    recalibrate(tiny_run, [local], out, device="cpu")
    return out


def test_the_held_out_normals_of_training_give_its_own_calibration(trained, run, data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "aeflow.training.local_normals.MIN_LOCAL_NORMALS", calibrate.MIN_NORMALS
    )  # so few does the small data folder hold out
    settings = trained.artifact.settings
    _, held = hold_out(of_label(read_records(data, "train"), 0), settings.held_out, settings.seed)
    done = recalibrate(run, [record.path for record in held], tmp_path / "again", device="cpu")
    old, new = trained.artifact.calibration, done.artifact.calibration
    assert new.threshold == pytest.approx(old.threshold, abs=1e-6)
    assert new.rule == old.rule
    np.testing.assert_allclose(new.scores, old.scores, atol=1e-6)
    for name, scale in old.maps.items():
        assert new.map_limits[name] == pytest.approx((scale.low, scale.high), rel=1e-5)


def measures(n: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    flow = 3 + 0.2 * rng.standard_normal((n, 2))
    return {"flow": flow, "reconstruction": 0.4 + 0.05 * rng.standard_normal(n)}


def test_a_shift_of_every_measure_leaves_the_verdicts():
    """Another scanner that moves and stretches each measure alike is undone; so is no other change."""
    here, fresh = measures(MIN_LOCAL_NORMALS, 0), measures(200, 1)
    fresh["flow"][100:] += 0.5  # two and a half standard deviations: abnormal ones among them
    moved = [
        {"flow": 2.5 * one["flow"] + 1, "reconstruction": 0.8 * one["reconstruction"] - 3} for one in (here, fresh)
    ]
    a, b = (calibrate.fit_calibration(make_settings("aeflow-1"), one, {}) for one in (here, moved[0]))
    values = a.value(a.terms(fresh)), b.value(b.terms(moved[1]))
    np.testing.assert_allclose(*values)
    assert [a.verdict(v) for v in values[0]] == [b.verdict(v) for v in values[1]]
    assert 0 < sum(v > a.threshold for v in values[0]) < 200


def test_twenty_normals_flag_one_fresh_normal_in_twenty_on_average():
    """Gaussian scores: P(above the highest of 20) = 1/21; within binomial bounds over independent draws."""
    draws, flagged = 1000, 0
    for seed in range(draws):
        calibration = calibrate.fit_calibration(make_settings("aeflow-1"), measures(MIN_LOCAL_NORMALS, seed), {})
        flagged += calibration.value(calibration.terms(measures(1, 10**6 + seed)))[0] > calibration.threshold
    low, high = binom.ppf([0.0005, 0.9995], draws, 1 / (MIN_LOCAL_NORMALS + 1))
    assert low <= flagged <= high
    assert flagged / draws < 0.07


def test_a_new_run_with_the_same_weights_and_another_calibration(tiny_run, recalibrated, local):
    old, new = load_run(tiny_run), load_run(recalibrated)
    assert file_digest(recalibrated / WEIGHTS) == file_digest(tiny_run / WEIGHTS)
    assert len(new.calibration.scores) == 24
    assert new.calibration.maps != old.calibration.maps
    facts = new.metadata["recalibration"]
    assert (facts["images"], facts["patients"], facts["refused_images"]) == (24, 24, 0)
    assert facts["original"]["threshold"] == old.calibration.threshold
    kept = {name: value for name, value in new.metadata.items() if name not in ("recalibration", "normals")}
    assert kept == {name: value for name, value in old.metadata.items() if name != "normals"}
    assert sorted(new.metadata["normals"]["columns"]["score"]) == pytest.approx(new.calibration.scores)
    for name in (HISTORY, NORMALS):
        assert (recalibrated / name).read_bytes() == (tiny_run / name).read_bytes()
    values = [one.value for one in scores(new.scorer, find_images([local]))]
    assert max(values) <= new.calibration.threshold + 1e-5
    assert new.calibration.threshold == new.calibration.scores[-1]  # the highest of 24 is what one in 25 passes


def test_classes_keep_what_they_say(tiny_run, recalibrated, data):
    """Normals cannot tell where the abnormal images of another place lie: the posterior stays, the threshold moves."""
    old, new = load_run(tiny_run), load_run(recalibrated)
    assert old.calibration.posterior is not None
    assert new.calibration.posterior == old.calibration.posterior
    assert new.calibration.threshold != old.calibration.threshold
    records = read_records(data, "test")[:4]
    pairs = zip(scores(old.scorer, records), scores(new.scorer, records), strict=True)
    assert all(a.posterior == b.posterior and a.value != b.value for a, b in pairs)


def test_a_graph_of_it_scores_as_it_does(recalibrated, local, data, tmp_path, monkeypatch):
    monkeypatch.setenv("AEFLOW_CACHE", str(tmp_path / "cache"))
    records = read_records(data, "test")[:6]
    open_model(recalibrated, "openvino", "cpu")
    [folder] = (path.parent for path in (tmp_path / "cache" / "graphs").glob("*/export.json"))
    graph = aeflow.load(folder).scorer
    assert graph.metadata["recalibration"]["images"] == 24
    assert_same_scores(scores(load_run(recalibrated).scorer, records), scores(graph, records), graph)
    with pytest.raises(ArtifactError, match="give the run that it came from"):  # it has no weights to go along
        recalibrate(folder, [local], tmp_path / "out")


def test_recalibrating_twice_keeps_the_first_calibration_for_reference(tiny_run, recalibrated, local, tmp_path):
    again = aeflow.load(recalibrated, "cpu").recalibrate(local, out=tmp_path / "twice")
    assert (
        again.artifact.metadata["recalibration"]["original"]
        == load_run(recalibrated).metadata["recalibration"]["original"]
    )
    assert again.scorer.calibration == load_run(recalibrated).calibration
    assert again.run == tmp_path / "twice"


def test_what_a_user_sees(tiny_run, local, tmp_path, capsys):
    """Refused images are listed, the exit code says so, the original stays as it was."""
    folder = tmp_path / "normals"
    shutil.copytree(local, folder)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    before = {path.name: file_digest(path) for path in tiny_run.iterdir() if path.is_file()}
    with pytest.raises(SystemExit) as left:
        main(["recalibrate", str(tiny_run), str(folder), "--out", str(tmp_path / "new"), "--device", "cpu"])
    assert left.value.code == 1
    out, err = capsys.readouterr()
    assert "recalibrated on 24 normal images of 24 patients" in out
    assert "4.0% of new normals are expected above it (set by 24 held-out normals)" in out
    assert "1 image refused:" in err
    assert "broken" not in err
    assert {path.name: file_digest(path) for path in tiny_run.iterdir() if path.is_file()} == before
    with pytest.raises(SystemExit):
        main(["info", str(tmp_path / "new")])
    assert "24 local normal images of 24 patients" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_too_few_images_are_an_error_that_says_how_many(tiny_run, local, tmp_path):
    files = sorted(local.iterdir())
    with pytest.raises(DataError, match=rf"19 images; give {MIN_LOCAL_NORMALS} or more"):
        recalibrate(tiny_run, files[:19], tmp_path / "few")
    for i in range(30):
        shutil.copyfile(files[0], tmp_path / f"copy{i}.png")
    with pytest.raises(DataError, match="1 different readable normal image;"):
        recalibrate(tiny_run, sorted(tmp_path.glob("copy*")), tmp_path / "copies")
    assert not (tmp_path / "few").exists()
    assert not (tmp_path / "copies").exists()


def test_a_folder_with_other_classes_is_refused(tiny_run, data, tmp_path):
    with pytest.raises(DataError, match="holds abnormal or unlabelled images, too"):
        recalibrate(tiny_run, [data], tmp_path / "out")


def test_nothing_is_overwritten(tiny_run, local, tmp_path):
    with pytest.raises(ArtifactError, match="is there already"):
        recalibrate(tiny_run, [local], tiny_run)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    with pytest.raises(ArtifactError, match="is there already"):
        recalibrate(tiny_run, [local], tmp_path / "out")


def test_notes_of_what_the_images_cannot_bear(tiny_run, local, tmp_path):
    """Few patients; a rate that so few images cannot set; images of another kind."""
    folder = tmp_path / "noise"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(MIN_LOCAL_NORMALS):  # the file names are those of a public set, of two patients
        Image.fromarray(rng.integers(0, 256, (64, 64), dtype=np.uint8)).save(folder / f"person{i % 2}_{i}.png")
    notes = " ".join(recalibrate(tiny_run, [folder], tmp_path / "out").notes)
    assert "are of 2 patients" in notes
    assert "outside the model's intended input" in notes
    run = shutil.copytree(tiny_run, tmp_path / "strict")
    strict = load_run(run)
    save_run(
        type(strict)(
            strict.net,
            strict.settings.model_copy(update={"false_positive_rate": 0.01}),
            strict.calibration,
            strict.input_guard,
            strict.metadata,
        ),
        run,
    )
    notes = " ".join(recalibrate(run, [local], tmp_path / "strictly").notes)
    assert "24 images cannot set a rate of 1%: 99 images are needed" in notes


def test_an_evaluation_tells_where_the_threshold_came_from(recalibrated, local, data, tmp_path):
    model = aeflow.load(recalibrated, "cpu", backend="torch")
    found = model.evaluate(data, out=tmp_path / "report")
    with pytest.raises(OutputError, match=r"metrics\.json: is there already"):
        model.evaluate(data, out=tmp_path / "report")
    assert found["threshold"]["from"] == "local normal images"
    assert "the share of local normal images that score" in (tmp_path / "report" / "report.html").read_text()


def test_images_that_set_the_threshold_are_not_evaluated(recalibrated, local, tmp_path):
    shutil.copytree(local, tmp_path / "data" / "test" / "normal")
    Image.fromarray(texture(1)).save(tmp_path / "data" / "test" / "normal" / "fresh.png")
    scorer = load_run(recalibrated).scorer
    with pytest.raises(DataError, match=r"set on 24 of its 25 files.*recalibrated, whose threshold is"):
        evaluate(scorer, tmp_path / "data", split="test", out=tmp_path / "out", run=recalibrated)
    shutil.rmtree(tmp_path / "data" / "test" / "normal")
    (tmp_path / "data" / "test" / "normal").mkdir()
    Image.fromarray(texture(1)).save(tmp_path / "data" / "test" / "normal" / "fresh.png")
    evaluate(scorer, tmp_path / "data", split="test", out=tmp_path / "out", run=recalibrated)
