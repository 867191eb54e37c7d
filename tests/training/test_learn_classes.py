"""Labels and unlabelled images, from the folder to the model: what is drawn, and what a user sees of it."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from aeflow.artifacts.run import load_run
from aeflow.cli import main
from aeflow.config import make_settings
from aeflow.data.augment import recapture
from aeflow.data.preprocess import preprocess
from aeflow.data.records import Record, of_label, read_records
from aeflow.errors import DataError, SettingsError
from aeflow.features.cache import image_key
from aeflow.imageio.reader import read_image
from aeflow.metrics.image import auroc
from aeflow.model.aeflow import AEFlow
from aeflow.model.encoder_weights import EMBEDDED, pretrained
from aeflow.model.front import Front
from aeflow.model.regions import REGIONS
from aeflow.results.score_table import score_row
from aeflow.runtime.files import content
from aeflow.scoring.scorer import Score, score
from aeflow.training import train as training
from aeflow.training.learn_classes import LabelledSet, choose_labelled_set, read_examples
from aeflow.training.train import Trained
from helpers.command import error_of
from helpers.data import SIZE, lesion, small_settings, texture, write_data

KINDS = ("cyst", "tumour", "")
SMALL = ["--set", f"image_size={SIZE}", "--set", "hidden=16", "--set", "flow_steps=2", "--set", "batch_size=8"]
SMALL += ["--epochs", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of images that nobody opens: 4 normals, 24 abnormal, 5 unlabelled; patient x is tested, too."""
    root = tmp_path_factory.mktemp("listed")
    rows = [f"n{i}.png,train,0,n{i}," for i in range(4)] + [f"u{i}.png,train,,u{i}," for i in range(5)]
    rows += [f"a{i:02}.png,train,1,a{i // 2},{KINDS[i % 3]}" for i in range(24)]
    rows += [f"x{i}.png,train,1,x,tumour" for i in range(3)] + ["x9.png,train,,x,", "x.png,test,0,x,"]
    (root / "manifest.csv").write_text("\n".join(["path,split,label,patient,kind", *rows]))
    for row in rows:
        (root / row.partition(",")[0]).touch()
    return root


def chosen(folder: Path, **changes: object) -> LabelledSet:
    records = read_records(folder, "train")
    return choose_labelled_set(
        folder, records, of_test(folder), of_label(records, 0)[1:], make_settings(classifier="mixture", **changes)
    )


def of_test(folder: Path) -> list[Record]:
    return [record for record in read_records(folder) if record.split == "test"]


def names(lesson: LabelledSet, label: int | None = None) -> list[str]:
    """Of the images with a label, or of all that are known to be abnormal."""
    pairs = zip(lesson.records, lesson.labels, strict=True)
    return [record.name for record, own in pairs if (own > 0 if label is None else own == label)]


def test_seed_decides_the_draw(folder: Path) -> None:
    assert chosen(folder, labels=5) == chosen(folder, labels=5)
    assert names(chosen(folder, labels=5)) != names(chosen(folder, labels=5, seed=1))
    records = read_records(folder, "train")
    shuffled = [records[i] for i in np.random.default_rng(0).permutation(len(records))]
    again = choose_labelled_set(folder, shuffled, of_test(folder), of_label(records, 0)[1:], make_settings(labels=5))
    assert names(again) == names(chosen(folder, labels=5))


def test_more_labels_are_the_fewer_and_others(folder: Path) -> None:
    draws = [names(chosen(folder, labels=k)) for k in (0, 1, 5, 10, 24)]
    assert [len(draw) for draw in draws] == [0, 1, 5, 10, 24]
    assert all(draw == more[: len(draw)] for draw, more in pairwise(draws))
    assert names(chosen(folder)) == draws[-1]  # all, unless a number is asked for


def test_patients_of_the_test_split_teach_nothing(folder: Path) -> None:
    lesson = chosen(folder, undrawn=True)
    assert not any(record.patient == "x" for record in lesson.records)
    assert lesson.left_out == 4
    with pytest.raises(DataError, match=r"24 labelled abnormal images of patients .*, 25 asked for; ask for fewer"):
        chosen(folder, labels=25)


def test_who_is_what(folder: Path) -> None:
    """What was not drawn joins the unlabelled images only where that is asked for."""
    lesson = chosen(folder, labels=20)
    assert lesson.kinds == ["abnormal", "cyst", "tumour"]
    by_name = {record.name: record for record in lesson.records}
    for kind, name in enumerate(lesson.kinds, 1):
        assert {by_name[image].kind or "abnormal" for image in names(lesson, kind)} == {name}
    assert names(lesson, 0) == ["n1.png", "n2.png", "n3.png"]  # the held-out normals do not teach
    assert names(lesson, -1) == [f"u{i}.png" for i in range(5)]
    assert chosen(folder, labels=0).kinds == ["abnormal"]
    undrawn = {image for image in names(chosen(folder)) if image not in names(lesson)}
    assert set(names(chosen(folder, labels=20, undrawn=True), -1)) == undrawn | set(names(lesson, -1))


def mixed(root: Path, normal: int = 20, abnormal: int = 10) -> Path:
    """``write_data`` by folders, with unlabelled images of which some are abnormal."""
    (write_data(root) / "manifest.csv").unlink()
    (root / "train" / "unlabelled").mkdir()
    for i in range(normal + abnormal):
        pixels = texture(3000 + i) if i < normal else lesion(3000 + i)[0]
        Image.fromarray(pixels).save(root / "train" / "unlabelled" / f"{i:03}.png")
    return root


def test_unlabelled_folder_is_read_and_refusals_take_their_label_along(tmp_path: Path) -> None:
    data = mixed(tmp_path / "data")
    for broken in ("abnormal/000.png", "unlabelled/002.png"):
        (data / "train" / broken).write_bytes(b"no image")
    records = read_records(data, "train")
    settings = small_settings(labels=6, region="body")
    encoder = pretrained(EMBEDDED, settings.encoder_stages)
    front = Front(encoder, REGIONS["body"](encoder), settings)
    asked = choose_labelled_set(data, records, [], of_label(records, 0), settings)
    assert asked.labels.count(-1) == 30
    lesson, examples, refusals = read_examples(asked, front, settings)
    assert sorted(record.name for record, _ in refusals) == ["train/abnormal/000.png", "train/unlabelled/002.png"]
    label_of = dict(zip(asked.records, asked.labels, strict=True))
    assert lesson.labels == [label_of[record] for record in lesson.records] == examples.label.tolist()
    assert [lesson.labels.count(label) for label in (0, 1, -1)] == [40, 5, 29]
    assert examples.patient == [record.patient for record in lesson.records]
    record, net = lesson.records[-1], AEFlow(settings, encoder, region=front.region)
    x = preprocess(read_image(record.path), SIZE)
    again = recapture(x, str(image_key(record, content(record.path), 1)))
    for found, pixels in ((examples.s, x), (examples.recaptured, again)):
        judged = net.pooled_of_classes(net.seen(torch.from_numpy(pixels)[None]))
        np.testing.assert_allclose(found[-1], judged[0], rtol=1e-4, atol=1e-4)  # they learn from what they judge


def test_whoever_names_labels_wants_the_classes() -> None:
    assert make_settings().classifier == "none"
    assert make_settings(labels=0).classifier == make_settings(undrawn=True).classifier == "mixture"
    assert make_settings(labels=5, classifier="none").classifier == "none"  # what is said outright holds
    with pytest.raises(SettingsError, match="labels"):
        make_settings(labels=-1)


def test_the_former_name_of_the_classifier_gets_an_error_that_names_the_new_one(data: Path, tmp_path: Path) -> None:
    words = (
        "prior: 'gmm' is now classifier 'mixture'; write classifier=mixture; prior is the density of the flow's latent"
    )
    with pytest.raises(SettingsError, match=words):
        make_settings(prior="gmm")
    for arguments in (["--prior", "gmm"], ["--set", "prior=gmm"]):
        assert error_of("train", data, "--out", tmp_path / "run", *arguments) == words


def scores(artifact: training.Artifact, data: Path) -> list[Score]:
    return [result for _, result in score(artifact.scorer, read_records(data, "test")) if isinstance(result, Score)]


def test_flow_and_decoder_know_nothing_of_the_classes(
    data: Path, run: Path, trained: Trained, taught: tuple[Path, Trained]
) -> None:
    """Every weight of the normals-only model is there bit for bit, and so are its terms."""
    plain, whole = load_file(run / "model.safetensors"), load_file(taught[0] / "model.safetensors")
    assert all(torch.equal(value, whole[key]) for key, value in plain.items())
    assert {key.split(".")[0] for key in whole.keys() - plain.keys()} == {"classes", "encoder"}
    for a, b in zip(scores(trained.artifact, data), scores(taught[1].artifact, data), strict=True):
        assert set(b.terms) - set(a.terms) == {"posterior"}
        np.testing.assert_allclose([b.terms[name] for name in a.terms], list(a.terms.values()), rtol=1e-5, atol=1e-5)
        assert set(b.posterior) == {"normal", "abnormal"}
        assert a.posterior == {}


def test_loaded_model_scores_the_same(data: Path, taught: tuple[Path, Trained]) -> None:
    run, trained = taught
    loaded = load_run(run)
    assert loaded.calibration == trained.artifact.calibration
    assert loaded.metadata["labelled_set"] == {
        "labelled_images": {"abnormal": 5},
        "left_out_images": 0,
        "unlabelled": None,
    }
    for result in scores(loaded, data):
        line = score_row(read_records(data)[0], result)
        assert 0 <= line["p_abnormal"] <= 1
        assert line["p_abnormal"] == pytest.approx(result.posterior["abnormal"])
        assert line["posterior"] == result.terms["posterior"]
    assert [r.value for r in scores(loaded, data)] == [r.value for r in scores(trained.artifact, data)]


def test_without_lessons_it_is_the_normals_only_model(data: Path, run: Path, trained: Trained, tmp_path: Path) -> None:
    result = training.train(data, tmp_path, small_settings(classifier="mixture", labels=0), device="cpu")
    assert result.artifact.settings.classifier == "none"
    assert result.artifact.metadata["labelled_set"]["labelled_images"] == {}
    assert result.notes[2:] == ["nothing to learn classes from; this is the normals-only model"]
    assert result.artifact.calibration == trained.artifact.calibration
    plain, same = load_file(run / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert plain.keys() == same.keys()
    assert all(torch.equal(plain[key], same[key]) for key in plain)
    assert [r.value for r in scores(load_run(tmp_path), data)] == [r.value for r in scores(trained.artifact, data)]


def test_pool_alone_teaches(tmp_path: Path) -> None:
    data = mixed(tmp_path / "data")
    shutil.rmtree(data / "train" / "abnormal")
    result = training.train(data, tmp_path / "run", small_settings(classifier="mixture", epochs=1), device="cpu")
    found = result.artifact.metadata["labelled_set"]["unlabelled"]
    assert (found["used"], found["share"]) == (True, pytest.approx(1 / 3, abs=0.15))
    assert result.notes[1:] == [found["finding"]]  # the first: that few normals set no threshold
    assert result.artifact.calibration.posterior.abnormal_share == found["share"]
    tested = [(r.label, s.posterior["abnormal"]) for r, s in score(result.artifact.scorer, read_records(data, "test"))]
    assert auroc(*np.array(tested).T[::-1]) > 0.95


def train(data: Path, run: Path, *arguments: str) -> object:
    """The exit code of the command."""
    with pytest.raises(SystemExit) as end:
        main(["train", str(data), "--out", str(run), "--no-graph", *SMALL, *arguments])
    return end.value.code


def test_more_labels_than_there_are_is_one_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(data, tmp_path / "run", "--labels", "999") == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "6 labelled abnormal images" in err
    assert "999 asked for; ask for fewer with --labels" in err
    assert not (tmp_path / "run").exists()


def test_empty_unlabelled_folder_is_a_note(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = mixed(tmp_path / "data", 0, 0)
    assert train(data, tmp_path / "run", "--classifier", "mixture", "--labels", "0") == 0
    out, err = capsys.readouterr()
    assert out.startswith("trained on")
    assert "note: nothing to learn classes from; this is the normals-only model\n" in err
