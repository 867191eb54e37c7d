"""Scoring: one function, constant memory, the same number however an image comes in."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aeflow.data.records import find_images, read_records
from aeflow.imageio.errors import ImageError
from aeflow.metrics.image import auroc
from aeflow.model.output_names import MAPS
from aeflow.model.terms import TERMS
from aeflow.scoring.scorer import Score, Scorer, score
from aeflow.training.calibrate import calibrate_on
from aeflow.training.train import Trained
from helpers.command import error_of, within
from helpers.data import SIZE, texture


def scores(scorer: Scorer, records: list, **options: object) -> list[Score]:
    found = [result for _, result in score(scorer, records, **options)]
    assert all(isinstance(result, Score) for result in found)
    return found


def test_finds_lesions_it_has_never_seen(trained: Trained, data: Path) -> None:
    records = read_records(data, "test")
    found = scores(trained.artifact.scorer, records, maps=True)
    assert auroc([s.value for s in found], [r.label for r in records]) > 0.9
    inside, outside = [], []
    for record, result in zip(records, found, strict=True):
        if record.mask:
            mask = np.asarray(Image.open(record.mask)) > 0
            inside.append(result.maps["anomaly"][mask].mean())
            outside.append(result.maps["anomaly"][~mask].mean())
    assert np.mean(np.array(inside) > np.array(outside)) > 0.9


@pytest.mark.parametrize("batch_size", [1, 5])
def test_batch_size_changes_no_score(trained: Trained, data: Path, batch_size: int) -> None:
    records = read_records(data, "test")
    spread = np.std(trained.artifact.calibration.scores)
    a, b = scores(trained.artifact.scorer, records), scores(trained.artifact.scorer, records, batch_size=batch_size)
    np.testing.assert_allclose([s.value for s in a], [s.value for s in b], atol=1e-4 * spread, rtol=1e-5)
    assert [s.verdict for s in a] == [s.verdict for s in b]


def test_maps_change_no_score(trained: Trained, data: Path) -> None:
    records = read_records(data, "test")
    with_maps = scores(trained.artifact.scorer, records, maps=True, pictures=True)
    assert [s.value for s in scores(trained.artifact.scorer, records)] == [s.value for s in with_maps]
    for result in with_maps:
        assert set(result.maps) == set(MAPS)
        assert all(m.shape == (SIZE, SIZE) for m in result.maps.values())
        assert [picture.shape for picture in result.pictures] == [(3, SIZE, SIZE)] * 2


def test_order_and_refusals(trained: Trained, data: Path, tmp_path: Path) -> None:
    good = sorted((data / "test" / "normal").iterdir())[:3]
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"GIF? no")
    results = list(score(trained.artifact.scorer, find_images([good[0], bad, good[1], bad, good[2]]), batch_size=2))
    assert [record.path for record, _ in results] == [good[0], bad, good[1], bad, good[2]]
    assert [isinstance(result, ImageError) for _, result in results] == [False, True, False, True, False]


def test_copy_of_an_image_scores_the_same_in_every_format(trained: Trained, tmp_path: Path) -> None:
    pixels = texture(77)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(np.repeat(pixels[..., None], 3, axis=2)).save(tmp_path / "b.png")
    Image.fromarray(pixels).save(tmp_path / "c.tiff")
    Image.fromarray(pixels.astype(np.uint16) * 257).save(tmp_path / "d.png")
    first, *others = scores(trained.artifact.scorer, find_images([tmp_path]))
    spread = np.std(trained.artifact.calibration.scores)
    for other in others:
        assert other.value == pytest.approx(first.value, abs=1e-3 * spread)


def test_terms_add_up_to_the_value(trained: Trained, data: Path) -> None:
    settings = trained.artifact.settings
    for result in scores(trained.artifact.scorer, read_records(data, "test")):
        assert tuple(result.terms) == settings.chosen_terms
        expected = sum(TERMS[name].weight(settings) * term for name, term in result.terms.items())
        assert result.value == pytest.approx(expected)
        assert 0 < result.p_value <= 1


def test_maps_have_one_fixed_scale(trained: Trained, data: Path) -> None:
    """The scale is the model's: it does not depend on the images that are scored."""
    for scale in trained.artifact.calibration.maps.values():
        assert scale.low < scale.threshold < scale.high
    held = read_records(data, "train")[:40]
    recalibrated, _ = calibrate_on(trained.artifact.net, held)
    assert recalibrated.maps.keys() == trained.artifact.calibration.maps.keys()


def test_another_threshold_is_one_replacement_for_scores_studies_and_tables(trained: Trained, data: Path) -> None:
    scorer, records = trained.artifact.scorer, read_records(data, "test")
    middle = float(np.median([s.value for s in scores(scorer, records)]))
    named = scorer.at_threshold(middle)
    found = scores(named, records)
    assert {s.threshold for s in found} == {s.to_dict()["threshold"] for s in found} == {middle}
    assert [s.verdict for s in found] == ["abnormal" if s.value > middle else "normal" for s in found]
    assert [s.value for s in found] == [s.value for s in scores(scorer, records)]
    above = sum(value > middle for value in scorer.calibration.scores)
    assert named.calibration.rate == (1 + above) / (1 + len(scorer.calibration.scores))
    n = 1 + len(scorer.calibration.scores)
    assert scorer.at_rate(0.3).calibration.rate == int(0.3 * n) / n
    assert scorer.calibration.rate == scorer.calibration.smallest_p  # the one it came from is as it was


def test_a_threshold_is_named_on_the_command_line(trained: Trained, run: Path, data: Path, tmp_path: Path) -> None:
    folder, table = data / "test" / "abnormal", tmp_path / "s.csv"
    out, _ = within("score", run, folder, "--threshold", "-1.5", "--json")
    assert {json.loads(line)["threshold"] for line in out.splitlines()} == {-1.5}
    shown, _ = within("score", run, folder, "--false-positive-rate", "0.2", "--out", table)
    threshold = trained.artifact.calibration.at_rate(0.2).threshold
    assert f"threshold {threshold:.4f}: 1" in shown
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {float(row["threshold"]) for row in rows} == {threshold}
    assert all((row["verdict"] == "abnormal") == (float(row["score"]) > threshold) for row in rows)
    assert "cannot set a rate of 0.1%" in error_of("score", run, folder, "--false-positive-rate", "0.001")
    both = ("--threshold", "1", "--false-positive-rate", "0.1")
    assert error_of("score", run, folder, *both) == "--threshold: given beside --false-positive-rate; give one of them"
