"""Run folder of a training: the inputs it keeps clear of, and its writing as a whole."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from aeflow.artifacts.layout import EPOCH_SCORES, HISTORY, of_run
from aeflow.artifacts.reference_normals import ReferenceNormals
from aeflow.artifacts.run import Artifact, save_run
from aeflow.data.folder_files import MANIFEST
from aeflow.data.plain_folders import TrainingData, records_of
from aeflow.runtime.files import file_digest, write_text
from aeflow.runtime.folders import together
from aeflow.runtime.inputs import Inputs
from aeflow.training.checkpoint import Progress
from aeflow.training.loop import Material


def inputs_of(data: TrainingData, run: Path, *given: Path | None) -> Inputs:
    """Return the files that a training reads; OutputError if one would be replaced, or if images lie in ``run``."""
    inputs = Inputs(file for record in records_of(data) for file in record.files)
    inputs.keep_apart(run)
    inputs.add([Path(data) / MANIFEST, *given])
    for folder in given:
        if folder is not None and folder.is_dir():
            inputs.add(folder.iterdir())
    for name in of_run(run):
        inputs.spare(run / name)
    return inputs


def write_run(
    model: Artifact, run: Path, material: Material, progress: Progress, inputs: Inputs
) -> list[dict[str, float]]:
    """Write the run folder, in place of a former model and of all that came of it; return the history of losses."""
    history = [{**row, "best": int(row["epoch"] == progress.best_epoch)} for row in progress.history]
    with together(run, of_run(run), inputs) as staged:
        if history:  # a model without a flow has no epochs
            write_text(staged / HISTORY, _csv(history))
            write_text(staged / EPOCH_SCORES, json.dumps(progress.epoch_scores))
        ReferenceNormals.of_training(model.net, material.views[0]).save(staged)
        model.metadata["files"] = {name: file_digest(staged / name) for name in (HISTORY, EPOCH_SCORES) if history}
        save_run(model, staged)
    return history


def _csv(rows: Sequence[dict[str, float]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
