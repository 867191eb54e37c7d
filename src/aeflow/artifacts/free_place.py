"""Places where a model may be written."""

from __future__ import annotations

import os
from pathlib import Path

from aeflow.artifacts.layout import CHECKPOINT, MODEL_JSON, OF_TRAINING, holds
from aeflow.errors import REPLACE, ArtifactError


def check_run(run: Path, resume: bool, overwrite: bool) -> None:
    """Raise ArtifactError if the run folder holds what a training must not replace, or not what it is to resume."""
    if run.exists() and not run.is_dir():
        raise ArtifactError(run, "is a file", "give a folder with --out")
    if resume and not (run / CHECKPOINT).is_file():
        raise ArtifactError(run, "no unfinished training to resume", "leave out --resume")
    if overwrite or resume:
        return
    if holds(run, MODEL_JSON):
        raise ArtifactError(run, "already holds a model", f"choose another --out, or {REPLACE}")
    if (run / CHECKPOINT).exists():
        raise ArtifactError(run, "holds an unfinished training", f"go on with --resume (resume=True), or {REPLACE}")
    if taken := [name for name in OF_TRAINING if os.path.lexists(run / name)]:
        found = f"holds {taken[0]}, which is of no model here"
        raise ArtifactError(run, found, f"choose another --out, or {REPLACE}")
