"""Figures: every input draws without a warning, nothing is stretched per image, classes differ without colour."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from aeflow.errors import DataError
from aeflow.evaluation import plots
from aeflow.metrics.image import image_metrics
from aeflow.reporting.gallery import OUTLINE, gallery
from aeflow.reporting.palette import ABNORMAL, NORMAL, PAPER
from aeflow.reporting.panels import Panel, panel_title
from aeflow.reporting.style import png
from aeflow.scoring.scorer import Score


@dataclass(frozen=True)
class Threshold:
    value: float
    rule: str = "95th percentile"
    source: str = "held-out train normals"


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def pixels(figure: Figure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png(figure))).convert("RGB"))


def has_colour(picture: np.ndarray, colour: str, tolerance: int = 6) -> bool:
    distance = np.abs(picture.astype(int) - np.round(255 * np.array(to_rgb(colour))).astype(int))
    return bool((distance.max(axis=-1) <= tolerance).sum() > 20)


def texts(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(mpl.text.Text))


def scored(n: int = 80, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str], dict[str, Any]]:
    labels = np.repeat([0, 1], n // 2)
    scores = np.random.default_rng(seed).normal(size=n) + 1.5 * labels
    patients = [str(i // 2) for i in range(n)]
    return scores, labels, patients, image_metrics(scores, labels, patients, Threshold(0.8))


# Style


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2)."""
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot([0.2126, 0.7152, 0.0722], channels))


def contrast(a: str, b: str) -> float:
    high, low = sorted([luminance(a), luminance(b)], reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_classes_differ_in_luminance_and_stand_out_from_the_page() -> None:
    assert contrast(NORMAL, ABNORMAL) >= 2
    assert contrast(NORMAL, PAPER) >= 3
    assert contrast(ABNORMAL, PAPER) >= 3
    assert to_rgb(NORMAL)[1] == max(to_rgb(NORMAL))  # green
    assert to_rgb(ABNORMAL)[0] == max(to_rgb(ABNORMAL))  # red


def test_drawing_leaves_the_callers_settings_and_ignores_them() -> None:
    scores, labels, patients, metrics = scored()
    plain = png(plots.roc(scores, labels, patients, metrics))
    with mpl.rc_context({"axes.facecolor": "black", "font.size": 30}):
        before = dict(mpl.rcParams)
        assert png(plots.roc(scores, labels, patients, metrics)) == plain
        assert dict(mpl.rcParams) == before


def test_figures_are_wide_enough_for_the_page(tmp_path: Any) -> None:
    plots.save_png(plots.score_distributions([0.0, 1.0], [2.0, 3.0], 1.5), tmp_path / "scores.png")
    with Image.open(tmp_path / "scores.png") as image:
        assert image.format == "PNG"
        assert image.width >= 900
    assert plots.as_data_uri(b"abc") == "data:image/png;base64,YWJj"


# Score distributions


@pytest.mark.parametrize(
    ("normal", "abnormal"),
    [
        ([], [1.0, 2.0, 3.0]),
        ([1.0, 2.0, 3.0], []),
        ([1.0], []),
        ([1.0], [1.0]),
        ([0.0] * 50, [0.0] * 50),
        ([0.0] * 50, [1.0] * 50),
        (np.linspace(0, 1, 40), [*np.linspace(1, 2, 40), 1e12]),
        ([-1e150, 0.0], [1e150]),
        (np.random.default_rng(0).normal(size=20_000), np.random.default_rng(1).normal(3, size=10)),
    ],
    ids=["no normal", "no abnormal", "one image", "one each", "all tied", "ties", "outlier", "huge", "many"],
)
def test_score_distributions_draw_whatever_the_scores(normal: Any, abnormal: Any) -> None:
    picture = pixels(plots.score_distributions(normal, abnormal, 0.5))
    assert has_colour(picture, NORMAL) == (len(normal) > 0)
    assert has_colour(picture, ABNORMAL) == (len(abnormal) > 0)


def test_the_density_is_a_density_and_outliers_do_not_squeeze_it() -> None:
    generator = np.random.default_rng(0)
    normal, abnormal = generator.normal(size=300), generator.normal(3, size=300)
    for extra in ([], [1e9], [-1e6, 1e6]):
        figure = plots.score_distributions(normal, [*abnormal, *extra], 1.5)
        axes = figure.axes[0]
        low, high = axes.get_xlim()
        assert -8 < low < normal.min()
        assert abnormal.max() < high < 12
        assert ("beyond" in texts(figure)) == bool(extra)
        for line in axes.lines[1:]:  # the first is the threshold
            x, y = line.get_data()
            assert np.nansum(y) * np.diff(x)[0] == pytest.approx(1, abs=0.02)


def test_the_density_equals_scipys_where_the_bulk_is() -> None:
    from scipy.stats import gaussian_kde

    scores = np.random.default_rng(0).normal(size=500)
    x, y = plots.score_distributions(scores, [], 0.0).axes[0].lines[1].get_data()
    inner = np.abs(x) < 1.5
    reference = gaussian_kde(scores, bw_method=0.9 * 500**-0.2)(x[inner])
    np.testing.assert_allclose(y[inner], reference, rtol=0.06)


def test_the_threshold_is_drawn_and_labelled_and_held_out_normals_are_dashed() -> None:
    figure = plots.score_distributions([0.0, 1.0], [2.0, 3.0], 1.2345, held_out=[0.0, 0.5])
    assert "threshold 1.23" in texts(figure)
    assert "held-out train normals (2)" in texts(figure)
    assert list(figure.axes[0].lines[0].get_xdata()) == [1.2345, 1.2345]


def test_no_score_and_scores_that_are_not_finite_are_named() -> None:
    with pytest.raises(DataError, match="no score"):
        plots.score_distributions([], [], 0.5)
    with pytest.raises(DataError, match="not finite"):
        plots.score_distributions([np.nan], [], 0.5)


# Epochs


@pytest.mark.parametrize(("n", "best"), [(1, 1), (3, 2), (12, 12), (13, 7), (100, 1), (100, 37), (100, 100)])
def test_the_epoch_sheet_shows_first_last_and_best_on_shared_axes(n: int, best: int) -> None:
    generator = np.random.default_rng(0)
    epochs = [(e, generator.normal(size=30), generator.normal(e / n, size=10)) for e in range(1, n + 1)]
    shown = [axes for axes in plots.epoch_sheet(epochs, best).axes if axes.get_visible()]
    titles = [axes.get_title(loc="left") for axes in shown]
    assert len(shown) == min(n, 12)
    assert sum(title == f"epoch {best} · best" for title in titles) == 1
    assert titles[0].startswith("epoch 1")
    assert titles[-1].startswith(f"epoch {n}")
    assert len({(*axes.get_xlim(), *axes.get_ylim()) for axes in shown}) == 1
    peak = max(np.nanmax(line.get_ydata()) for axes in shown for line in axes.lines)
    assert shown[0].get_ylim()[1] > peak, "no curve is cut off"


def test_the_epoch_sheet_without_abnormal_images_is_green_alone() -> None:
    picture = pixels(plots.epoch_sheet([(1, np.arange(9.0), None), (2, np.arange(9.0), [])], 2))
    assert has_colour(picture, NORMAL)
    assert not has_colour(picture, ABNORMAL)
    with pytest.raises(DataError, match="best epoch 3"):
        plots.epoch_sheet([(1, [0.0], None)], 3)


# Curves


def test_the_operating_point_lies_on_both_curves() -> None:
    scores, labels, patients, metrics = scored()
    counts = metrics["confusion"]
    roc, pr = plots.roc(scores, labels, patients, metrics), plots.precision_recall(scores, labels, patients, metrics)
    precision = counts["true_positive"] / (counts["true_positive"] + counts["false_positive"])
    sensitivity, specificity = metrics["sensitivity"]["value"], metrics["specificity"]["value"]
    for figure, point in ((roc, (1 - specificity, sensitivity)), (pr, (sensitivity, precision))):
        curve = np.stack(figure.axes[0].lines[1].get_data(), 1)
        assert np.abs(curve - point).max(axis=1).min() < 1e-9
        assert len(figure.axes[0].collections) >= 1  # the band
    assert f"AUROC {metrics['auroc']['value']:.3f}" in texts(roc)
    assert f"average precision {metrics['average_precision']['value']:.3f}" in texts(pr)


def test_curves_of_few_images_without_intervals_still_draw() -> None:
    scores, labels, patients = [0.1, 0.5, 0.4], [0, 0, 1], ["a", "b", "c"]
    metrics = image_metrics(scores, labels, patients, Threshold(9.0))  # nothing is called abnormal
    assert pixels(plots.roc(scores, labels, patients, metrics)).size
    assert pixels(plots.precision_recall(scores, labels, patients, metrics)).size
    with pytest.raises(DataError, match="both classes"):
        plots.roc(scores, [0, 0, 0], patients, metrics)


def test_the_confusion_matrix_tells_counts_and_shares() -> None:
    metrics = image_metrics([0.0, 0.0, 1.0, 1.0, 1.0], [0, 0, 0, 1, 1], list("abcde"), Threshold(0.5))
    text = texts(plots.confusion_matrix(metrics))
    for part in ("66.7% of 3", "33.3% of 3", "0.0% of 2", "100.0% of 2", "false alarm", "missed"):
        assert part in text
    alone = image_metrics([0.0, 1.0], [0, 0], ["a", "b"], Threshold(0.5))
    assert "no images" in texts(plots.confusion_matrix(alone))


def history(n: int, **changes: Any) -> list[dict[str, Any]]:
    parts = [f"{side}_{part}" for side in ("train", "held_out") for part in ("loss", "flow", "reconstruction")]
    rows = [{"epoch": e, **dict.fromkeys(parts, 1.0 / e), "best": int(e == n // 2 + 1)} for e in range(1, n + 1)]
    return [{**row, **changes} for row in rows]


def test_training_curves_mark_the_best_epoch_and_take_text() -> None:
    for rows in (history(1), history(20), [{k: str(v) for k, v in row.items()} for row in history(5)]):
        figure = plots.training_curves(rows)
        assert len(figure.axes) == 3
        assert f"best epoch ({len(rows) // 2 + 1})" in texts(figure)
        assert pixels(figure).size


def test_training_curves_leave_out_what_was_not_recorded() -> None:
    gone = {"train_reconstruction": float("nan"), "held_out_reconstruction": ""}
    figure = plots.training_curves(history(4, best=0, **gone))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["total loss", "flow term"]
    assert "best" not in texts(figure)
    for rows in ([], [{"epoch": 1}]):
        with pytest.raises(DataError, match="no losses"):
            plots.training_curves(rows)


# Galleries

SCALES = {"residual": (0.0, 0.5), "anomaly": (1.0, 4.0)}


def panel(seed: int, factor: float = 1.0, colour: bool = False, mask: bool = False) -> Panel:
    generator = np.random.default_rng(seed)
    image = generator.random((48, 48, 3) if colour else (48, 48))
    marked = np.zeros((48, 48), bool)
    marked[10:20, 12:30] = mask
    maps = {"residual": factor * generator.random((48, 48)), "anomaly": factor * 5 * generator.random((12, 12))}
    return Panel(
        image,
        image**2,
        maps,
        panel_title(Score(1.23, 0.045, "abnormal", 1.0, {}, {}, {}, ()), "normal"),
        marked if mask else None,
    )


def test_every_map_of_a_kind_shares_the_fixed_scale() -> None:
    figure = gallery([panel(0), panel(1, factor=100.0), panel(2, factor=0.001)], SCALES)
    norms = [image.norm for axes in figure.axes for image in axes.images if image.get_cmap().name == "heat"]
    assert {(norm.vmin, norm.vmax) for norm in norms} == set(SCALES.values())
    assert len(norms) == 6
    bars = [axes for axes in figure.axes if hasattr(axes, "_colorbar")]
    assert [bar._colorbar.extend for bar in bars] == ["max", "max"]  # one a map, values above shown as such
    assert "in 90 % of normals" in texts(figure)


def test_a_map_is_clear_at_the_typical_value_and_full_from_the_extreme_one_on() -> None:
    figure = gallery([panel(0)], SCALES)
    maps = [image for axes in figure.axes for image in axes.images if image.get_cmap().name == "heat"]
    for image, (low, high) in zip(maps, SCALES.values(), strict=True):
        rgba = image.to_rgba(np.array([[low - 1, low, high, 1e6]]))[0]
        assert rgba[0][3] == rgba[1][3] == 0
        np.testing.assert_array_equal(rgba[2], rgba[3])
        assert rgba[2][3] > 0.5
        alpha = image.to_rgba(np.linspace(low, high, 50)[None])[0, :, 3]
        assert (np.diff(alpha) >= 0).all()


def test_images_keep_their_brightness() -> None:
    dark = Panel(np.full((32, 32), 0.25), None, {}, "dark")
    picture = pixels(gallery([dark], {}))
    assert (picture == round(0.25 * 255)).all(axis=-1).sum() > 10_000


def test_masks_are_outlined_where_they_mark_something() -> None:
    assert has_colour(pixels(gallery([panel(0, mask=True)], SCALES)), OUTLINE, tolerance=30)
    everything = np.ones((48, 48), bool)
    for mask in (None, ~everything, everything):
        part = panel(0)
        picture = gallery([Panel(part.image, None, part.maps, "", mask)], SCALES)
        assert not has_colour(pixels(picture), OUTLINE, tolerance=30)


def test_galleries_take_colour_other_shapes_and_missing_parts() -> None:
    part = panel(0, colour=True)
    wide = Panel(np.zeros((20, 60)), None, {"anomaly": np.zeros((5, 15))}, "wide")
    figure = gallery([part, wide, Panel(np.zeros((90, 30)), None, {}, "tall")], SCALES)
    assert pixels(figure).size
    assert texts(figure).count("none") == 5  # two reconstructions, two residual maps, one anomaly map


def test_titles_say_score_p_value_verdict_and_truth() -> None:
    result = Score(1.2345, 0.00371, "abnormal", 1.0, {}, {}, {}, (), smallest_p=0.001)
    title = panel_title(result, "normal")
    for part in ("score 1.23", "p = 0.0037", "called abnormal", "truth: normal"):
        assert part in title
    assert "truth" not in panel_title(result)
    assert "p ≤ 0.0037" in panel_title(replace(result, smallest_p=0.00371)), (
        "the smallest that a model gives is a bound"
    )


def test_wrong_use_of_galleries_is_named() -> None:
    with pytest.raises(DataError, match="no panel"):
        gallery([], SCALES)
    for scales in ({"anomaly": (0.0, 1.0)}, {"anomaly": (0.0, 1.0), "residual": (1.0, 1.0)}):
        with pytest.raises(DataError, match="map 'residual'"):
            gallery([panel(0)], scales)
