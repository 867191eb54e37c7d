"""Drift: tables of scores against the normals that a model was calibrated on, as a whole and by a column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aeflow._types import Floats
from aeflow.artifacts.layout import read_metadata
from aeflow.calibration.calibration import Calibration
from aeflow.calibration.held_out import SCORE, HeldOutNormals
from aeflow.calibration.input_guard import INPUT_COLUMNS
from aeflow.drift.charts import ALARM
from aeflow.drift.order import groups_of, one_a_patient, ordered, patients_of
from aeflow.drift.score_rows import ScoreRows, joined, read_scores
from aeflow.drift.source import Source, Stream, watch
from aeflow.drift.statistics import controlled
from aeflow.errors import DataError, SettingsError, count
from aeflow.scoring.scorer import MODEL_DIGITS

EVERY = "all images"
SEED = 0  # of the images that stand for patients of the normals
ALIKE = 1e-6  # largest difference of two p-values that count as one


@dataclass(slots=True)
class Drift:
    """Result of a comparison of scores with the normals behind a calibration."""

    model: str  # first digits of its fingerprint
    sources: list[Source]  # all images first
    promised: float  # share of normals above the threshold, on average
    budget: float | None
    order: str | None  # column of the order, None for that of the rows
    patients: int
    refused: int  # rows without a score
    repeated: int  # rows of an image that was there before
    at: list[str]  # of each image of the stream: its cell in the column of the order, or its number
    notes: list[str]

    @property
    def broken(self) -> bool:
        """If images are others than the normals in any source, or more are called abnormal than the site accepts."""
        return self.alarms > 0

    @property
    def alarms(self) -> int:
        """How often a chart of images in any source, or that of the budget, passed its line; others give no alarm."""
        over = self.sources[0].over_budget
        of_images = sum(len(source.other_images.alarms) for source in self.sources)
        return of_images + (0 if over is None else len(over.alarms))


def drift(
    run: Path | str,
    scores: Sequence[Path | str],
    *,
    by: str | None = None,
    order: str | None = None,
    join: Path | str | None = None,
    budget: float | None = None,
) -> Drift:
    """Compare scores that a model gave with those of the normals it was calibrated on.

    ``scores``: tables of `aeflow score`, or folders of Parquet parts. ``by`` names the column of sources, ``order``
    that of the order, which is that of the rows by default; ``join`` is a second table, by ``path``, that may have
    both.
    ``budget`` is the share of images called abnormal that the site accepts.

    Raises DataError for a table that cannot be used or that another model made, ArtifactError for a broken model.
    """
    if budget is not None and not 0 < budget < 1:
        raise SettingsError("--budget", f"{budget:g} is no share", "give one between 0 and 1")
    metadata = read_metadata(Path(run))
    rows = read_scores(list(map(Path, scores)))
    if join is not None:
        rows = joined(rows, Path(join))
    check_model(rows, metadata["sha256"][:MODEL_DIGITS], Calibration.from_json(metadata["calibration"]), run)
    return drift_of(rows, metadata, by=by, order=order, budget=budget)


def drift_of(
    rows: ScoreRows,
    metadata: dict[str, Any],
    *,
    by: str | None = None,
    order: str | None = None,
    budget: float | None = None,
) -> Drift:
    """Compare rows of scores that a model gave, whose ``model.json`` is ``metadata``; DataError as ``drift``."""
    calibration = Calibration.from_json(metadata["calibration"])
    rows = ordered(rows, order)
    normals, notes = reference(metadata, calibration)
    stream = stream_of(rows, [SCORE, "p_value", *normals])
    members = {EVERY: list(range(len(rows)))}
    if by is not None:
        groups = groups_of(rows, by)
        members |= {f"{by} {name}": [i for i, one in enumerate(groups) if one == name] for name in sorted(set(groups))}
    counted = one_a_patient(rows, members)
    line = ALARM * min(2, len(members))  # with groups, two charts see each image
    sources = [
        watch(
            name,
            stream,
            chosen,
            counted[name],
            normals,
            len(calibration.scores),
            line,
            budget if name == EVERY else None,
        )
        for name, chosen in members.items()
    ]
    for source, found in zip(sources, controlled([source.comparisons for source in sources]), strict=True):
        source.comparisons = found
    return Drift(
        model=metadata["sha256"][:MODEL_DIGITS],
        sources=sources,
        promised=_promised(rows, calibration),
        budget=budget,
        order=order,
        patients=len(set(stream.patients)),
        refused=rows.refused,
        repeated=rows.repeated,
        at=[f"{row:,}" for row in range(1, len(rows) + 1)] if order is None else rows.words(order),
        notes=notes + _notes(rows, stream, normals),
    )


def reference(metadata: dict[str, Any], calibration: Calibration) -> tuple[dict[str, Floats], list[str]]:
    """Return the columns of the held-out normals, of one image a patient, and what the user should know of them."""
    if metadata.get("normals") is None:
        note = (
            "the model is of an earlier version, which kept the scores of its normals alone, so exposure and framing "
            "are not compared: aeflow recalibrate adds them"
        )
        return {SCORE: np.array(calibration.scores)}, [note]
    table = HeldOutNormals.from_json(metadata["normals"])
    order = np.random.default_rng(SEED).permutation(len(table.patients))
    _, first = np.unique(np.array(table.patients)[order], return_index=True)
    kept = np.sort(order[first])
    return {name: np.array(values)[kept] for name, values in table.columns.items()}, []


def stream_of(rows: ScoreRows, columns: Sequence[str]) -> Stream:
    """Return the figures of rows in their order."""
    figures = {name: rows.numbers(name) for name in columns}
    verdicts = rows.words("verdict") if "verdict" in rows.columns else [""] * len(rows)
    outside = rows.words("outside") if "outside" in rows.columns else [""] * len(rows)
    return Stream(
        figures,
        patients_of(rows),
        np.array([float(verdict == "abnormal") for verdict in verdicts]),
        np.array([float(bool(reasons)) for reasons in outside]),
    )


def check_model(rows: ScoreRows, model: str, calibration: Calibration, run: Path | str) -> None:
    """Raise DataError if another model made a row: by its column, or in earlier tables by a p-value not the model's."""
    made_by = rows.words("model") if "model" in rows.columns else [""] * len(rows)
    remedy = f"score these images with {run}, or name the model that scored them"
    scores, p_values = rows.numbers(SCORE), rows.numbers("p_value")
    for name, source, score, p in zip(made_by, rows.sources, scores, p_values, strict=True):
        if name and name != model:
            raise DataError(source, f"scores of the model {name}, where {run} is {model}", remedy)
        if not name and not abs(p - calibration.p_value(float(score))) < ALIKE:
            raise DataError(source, f"a score of {score:.4g} has p-value {p:.4g}, which is not that of {run}", remedy)


def _promised(rows: ScoreRows, calibration: Calibration) -> float:
    """Return the share of normals above the threshold that most rows have, on average."""
    named = rows.numbers("threshold")
    most = Counter(named[np.isfinite(named)].tolist()).most_common(1)
    threshold = most[0][0] if most else calibration.threshold
    return (1 + calibration.above(threshold)) / (1 + len(calibration.scores))


def _notes(rows: ScoreRows, stream: Stream, normals: dict[str, Floats]) -> list[str]:
    """Return what the user should know of the tables."""
    notes = []
    known = [name for name in INPUT_COLUMNS.values() if name in normals]
    lacking = sum(1 for row in zip(*(stream.columns[name] for name in known), strict=True) if np.isnan(row).all())
    if known and lacking:
        what = f"{count(lacking, 'row')} without exposure and framing, of tables of an earlier version"
        notes.append(f"{what}: of these the score alone is compared; score the images again")
    if rows.repeated:
        notes.append(f"{count(rows.repeated, 'row')} of images that stand in an earlier row are passed over")
    if rows.passed_over:
        notes.append(f"{count(len(rows.passed_over), 'table')} of studies passed over")
    return notes
