"""Evaluation of a model on a labelled split: metrics, tables, plots and the report."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from aeflow._version import __version__
from aeflow.artifacts.layout import HISTORY, METRICS, PLOTS, RESULTS, history_of
from aeflow.data.leakage import among
from aeflow.data.loader import mask_of, region_of
from aeflow.data.records import Record, Refusals, inputs_of, read_records
from aeflow.data.slices import refusals_among, unfold
from aeflow.errors import ArtifactError, DataError, OutputError, count, sentence
from aeflow.evaluation import plots
from aeflow.evaluation.localisation import WhereMapsLook
from aeflow.evaluation.notes import can_be_told, notes_on
from aeflow.evaluation.report import write_model_card, write_report
from aeflow.evaluation.study_metrics import of_studies
from aeflow.imageio.errors import ImageError
from aeflow.metrics.image import image_metrics
from aeflow.metrics.pixel import PixelMetrics
from aeflow.model.output_names import MAPS
from aeflow.privacy import shown
from aeflow.reporting.gallery import gallery
from aeflow.reporting.panels import panel
from aeflow.reporting.style import png
from aeflow.results.score_table import ScoreTable
from aeflow.runtime.files import write_bytes, write_text
from aeflow.runtime.folders import alone, current, refuse_former_set, together
from aeflow.runtime.progress import bar
from aeflow.scoring.scorer import Score, Scorer, score
from aeflow.scoring.studies import Studies, hardly_ever

GALLERY_IMAGES = 4  # images in each gallery
TRUTH = {0: "normal", 1: "abnormal", None: None}
THRESHOLD_FROM = "held-out train normals"
RECALIBRATED_FROM = "local normal images"


@dataclass(frozen=True, slots=True)
class Threshold:
    """The model's threshold as ``metrics.json`` holds it."""

    value: float
    rule: str
    source: str = THRESHOLD_FROM


@dataclass(frozen=True, slots=True)
class Scored:
    """Labelled images of a split with their scores."""

    records: list[Record]
    values: list[float]
    verdicts: list[str]
    outside: list[bool]  # of the intended input
    studies: Studies

    @property
    def labels(self) -> list[int]:
        """Label of each image, 0 or 1."""
        return [int(record.label or 0) for record in self.records]

    @property
    def patients(self) -> list[str]:
        """Patient of each image."""
        return [record.patient for record in self.records]

    def count_outside(self) -> dict[str, int]:
        """Count the normal and abnormal images that are outside the intended input."""
        labels = [label for label, out in zip(self.labels, self.outside, strict=True) if out]
        return {"normal": labels.count(0), "abnormal": labels.count(1)}

    def of(self, label: int) -> list[float]:
        """Return the scores of one label."""
        return [value for value, record in zip(self.values, self.records, strict=True) if record.label == label]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Result of an evaluation: metrics, the path of the report, and refused images."""

    metrics: dict[str, Any]
    report: Path
    refusals: Refusals


def evaluate(
    scorer: Scorer,
    data: Path | str,
    *,
    split: str,
    out: Path,
    run: Path,
    overwrite: bool = False,
    listed: list[Record] | None = None,
) -> Evaluation:
    """Score the images of a split and measure on the labelled ones, at the threshold the model came with.

    Writes metrics.json, scores.csv, scores.parquet, plots/, report.html and model_card.md into ``out``; the training's
    history is read from ``run``. Those of a former evaluation go, if they may be overwritten. ``listed`` is what
    ``check`` gave, if it was asked before the model was read.
    Raises OutputError if they may not, DataError if the split holds no labelled image, or one that the threshold of a
    recalibrated model was set on.
    """
    if listed is None:
        listed = check(scorer.metadata, data, split, out, overwrite)
    records = unfold(listed, scorer.settings.slice_axis)
    if not any(record.label is not None for record in records):
        raise DataError(data, f"no labelled image in split '{split}'", "score it with `aeflow score` instead")
    with alone(out):
        inputs = inputs_of(data)
        refuse_former_set(out, RESULTS, inputs, overwrite)
        with together(out, RESULTS, inputs) as staged:
            metrics, refusals = _written(scorer, listed, records, data, split, staged, current(run))
    return Evaluation(metrics, out / "report.html", refusals)


def check(model: Mapping[str, Any], data: Path | str, split: str, out: Path, overwrite: bool) -> list[Record]:
    """Return the files of a split; raise what ``evaluate`` does where the content of model.json is enough to know."""
    if out.is_file():
        raise OutputError(out, "is a file", "name a folder for the results with --out")
    listed = read_records(data, split, unsplit=True)
    refuse_former_set(out, RESULTS, inputs_of(data), overwrite)
    _refuse_calibration_images(model, listed, data)
    return listed


def _written(
    scorer: Scorer,
    listed: list[Record],
    records: list[Record],
    data: Path | str,
    split: str,
    out: Path,
    run: Path,
) -> tuple[dict[str, Any], Refusals]:
    """Write all results into an empty folder; return the metrics and the refused images."""
    history, epochs = _history(run, scorer.metadata)
    scored, maps, refusals = _score_all(scorer, records, out)
    if not scored.records:
        raise DataError(data, f"all of {count(len(records), 'image')} refused", f"the first: {refusals[0][1]}")
    calibration, seed = scorer.calibration, scorer.settings.seed
    threshold = Threshold(calibration.threshold, calibration.rule, _source(scorer))
    metrics = {
        "split": split,
        **image_metrics(scored.values, scored.labels, scored.patients, threshold, seed),
        **maps,
        "study": of_studies(scored.studies.results(), out),
        "outside": scored.count_outside(),
        "refused": len(refusals),
        "seed": seed,
    }
    metrics["notes"] += notes_on(scorer.metadata, metrics, data, listed)
    if metrics["study"] is not None and (seldom := hardly_ever(calibration)) is not None:
        metrics["notes"].append(f"{sentence(seldom)}.")
    write_text(out / METRICS, json.dumps(metrics, indent=1, allow_nan=False))
    figures = {**_result_figures(scorer, scored, metrics), **_training_figures(history, epochs)}
    pictures = {name: png(figure) for name, figure in figures.items()}
    (out / PLOTS).mkdir()
    for name, picture in pictures.items():
        write_bytes(out / PLOTS / f"{name}.png", picture)
    settings = scorer.settings.model_dump(mode="json")
    metadata = {**scorer.metadata, "settings": settings, "version": __version__, "rate": calibration.rate}
    write_report(
        out / "report.html",
        title=f"Split {split}, {count(len(records), 'image')}",
        run=metadata,
        metrics=metrics,
        history=history,
        figures=pictures,
        refusals=[
            {"path": shown(record.name), "error": f"{error.found}; {error.remedy}"} for record, error in refusals
        ],
    )
    write_model_card(out / "model_card.md", run=metadata, metrics=metrics)
    return metrics, refusals


def _source(scorer: Scorer) -> str:
    """Return the name of the normals that the threshold came from."""
    return RECALIBRATED_FROM if "recalibration" in scorer.metadata else THRESHOLD_FROM


def _refuse_calibration_images(model: Mapping[str, Any], files: Sequence[Record], data: Path | str) -> None:
    """Raise DataError if the threshold of a recalibrated model was set on some of the files."""
    recalibration = model.get("recalibration", {})
    known = len(among(files, recalibration["content"])) if recalibration and can_be_told(recalibration) else 0
    if known:
        before = recalibration["original"]["threshold"]
        found = f"the threshold was set on {known:,} of its {count(len(files), 'file')}"
        other = f"evaluate the run that was recalibrated, whose threshold is {before:.4f}"
        raise DataError(data, found, f"take them out, or {other}")


def _score_all(scorer: Scorer, records: list[Record], out: Path) -> tuple[Scored, dict[str, Any], Refusals]:
    """Score everything once, writing both tables as the scores come; also return the metrics of the maps."""
    masks, regions = any(record.mask for record in records), any(record.region for record in records)
    calibration = scorer.calibration
    pixels = {name: PixelMetrics(calibration.map_limits[name], calibration.maps[name].threshold) for name in MAPS}
    where = WhereMapsLook(scorer.settings.seed)
    scores = score(scorer, records, maps=masks or regions, pictures=masks)  # both maps are held against masks
    scored, refusals = Scored([], [], [], [], Studies(scorer.calibration.rate)), Refusals()
    with (
        bar("Scoring", len(records)) as advance,
        ScoreTable(out / "scores.csv", names=False) as to_csv,
        ScoreTable(out / "scores.parquet", names=False) as to_parquet,
    ):
        for number, (record, result) in enumerate(scores, 1):
            mask = region = None
            if isinstance(result, Score):
                try:
                    mask, region = (read(record, scorer.settings.image_size) for read in (mask_of, region_of))
                except ImageError as error:
                    result = error
            to_csv.add(number, record, result)
            to_parquet.add(number, record, result)
            scored.studies.add(number, record, result)
            advance()
            if isinstance(result, ImageError):
                refusals.append((record, result))
                continue
            if mask is not None:
                for name, metric in pixels.items():
                    metric.update(result.maps[name], mask, record.patient)
            if mask is not None or region is not None:
                counts = None if result.region is None else result.region > 0.5
                where.add(record, result.maps["anomaly"], mask, region, counts)
            if record.label is not None:
                scored.records.append(record)
                scored.values.append(result.value)
                scored.verdicts.append(result.verdict)
                scored.outside.append(bool(result.outside))
    pixel = {name: metric.result() for name, metric in pixels.items()} if masks else None
    return scored, {"pixel": pixel, "localisation": where.result()}, refusals_among(refusals)


def _result_figures(scorer: Scorer, scored: Scored, metrics: dict[str, Any]) -> dict[str, Figure]:
    """Return the figures of the scores, by name."""
    threshold = scorer.calibration.threshold
    figures = {
        "scores": plots.score_distributions(
            scored.of(0), scored.of(1), threshold, scorer.calibration.scores, _source(scorer)
        ),
        "confusion": plots.confusion_matrix(metrics),
    }
    if metrics["auroc"] is not None:
        curves = (scored.values, scored.labels, scored.patients, metrics)
        figures |= {"roc": plots.roc(*curves), "precision_recall": plots.precision_recall(*curves)}
    return figures | _galleries(scorer, scored)


def _training_figures(history: list[dict[str, float]], epochs: list[dict[str, list[float]]]) -> dict[str, Figure]:
    """Return the figures of the training, by name."""
    if not history:
        return {}
    best = next(int(row["epoch"]) for row in history if row["best"])
    sheet = [(number, epoch["normal"], epoch["abnormal"] or None) for number, epoch in enumerate(epochs, 1)]
    return {"training": plots.training_curves(history), "epochs": plots.epoch_sheet(sheet, best)}


def _galleries(scorer: Scorer, scored: Scored) -> dict[str, Figure]:
    """Return pictures of the most telling images.

    These are scored once more, so that the first pass need not keep any image.
    """
    rising = np.argsort(scored.values, kind="stable").tolist()
    falling = rising[::-1]
    wrong = [verdict != TRUTH[label] for verdict, label in zip(scored.verdicts, scored.labels, strict=True)]
    chosen = {
        "most_abnormal": falling[:GALLERY_IMAGES],
        "most_normal": rising[:GALLERY_IMAGES],
        "false_positives": [i for i in falling if wrong[i] and scored.labels[i] == 0][:GALLERY_IMAGES],
        "false_negatives": [i for i in rising if wrong[i] and scored.labels[i] == 1][:GALLERY_IMAGES],
    }
    return {name: _gallery(scorer, [scored.records[i] for i in indices]) for name, indices in chosen.items() if indices}


def _gallery(scorer: Scorer, records: Sequence[Record]) -> Figure:
    """Return the gallery of some images."""
    rows = []
    for record, result in score(scorer, records, maps=True, pictures=True):
        if isinstance(result, ImageError):  # it was readable in the first pass
            raise result
        read = mask_of if record.mask is not None else region_of  # to be outlined
        rows.append(panel(result, TRUTH[record.label], read(record, scorer.settings.image_size)))
    return gallery(rows, scorer.calibration.map_limits)


def _history(run: Path, metadata: dict[str, Any]) -> tuple[list[dict[str, float]], list[dict[str, list[float]]]]:
    """Return the rows of history.csv and each epoch's scores; both empty if the model came without its training."""
    texts = history_of(run, metadata)
    if texts is None:
        return [], []
    try:
        lines = csv.DictReader(io.StringIO(texts[0], newline=""), strict=True)
        rows = [{key: float(value) for key, value in row.items()} for row in lines]
        scores = json.loads(texts[1])
        if len(rows) != len(scores) or not any(row["best"] for row in rows):
            raise ValueError("its epochs do not fit together")
        return rows, [
            {side: [float(value) for value in epoch[side]] for side in ("normal", "abnormal")} for epoch in scores
        ]
    except (ValueError, TypeError, KeyError, csv.Error, RecursionError) as error:
        remedy = f"restore it, or delete {HISTORY}: the report then leaves the training out"
        raise ArtifactError(run / HISTORY, f"damaged training history ({type(error).__name__})", remedy) from error
