"""Names of the files of a run and of an export, and their checked JSON; reading them needs no network, so no torch.

An export is a folder, or one file (``runtime.one_file``) with just the files of that folder.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from aeflow.artifacts.schema import ARRAYS_FILE, ExportEntry, ModelEntry, validate
from aeflow.artifacts.upgrade import OLD_SCHEMAS, SCHEMA, upgraded
from aeflow.backends.registry import GRAPH_BACKENDS
from aeflow.errors import ArtifactError, check_path
from aeflow.runtime.files import PART, digest, file_digest, write_text
from aeflow.runtime.folders import LOCK, current
from aeflow.runtime.one_file import begins_with, unpacked

WEIGHTS, MODEL_JSON = "model.safetensors", "model.json"
HISTORY, EPOCH_SCORES = "history.csv", "epoch_scores.json"
NORMALS, CHECKPOINT = "normals.safetensors", "checkpoint.safetensors"
METRICS, PLOTS = "metrics.json", "plots"
FIGURES = (
    "scores",
    "confusion",
    "roc",
    "precision_recall",
    "most_abnormal",
    "most_normal",
    "false_positives",
    "false_negatives",
    "training",
    "epochs",
)
# All that an evaluation may write, and all that a training does.
RESULTS = (
    METRICS,
    "scores.csv",
    "scores.parquet",
    "scores.studies.csv",
    "report.html",
    "model_card.md",
    *(f"{PLOTS}/{name}.png" for name in FIGURES),
)
OF_TRAINING = (MODEL_JSON, WEIGHTS, HISTORY, EPOCH_SCORES, NORMALS, CHECKPOINT, f"{CHECKPOINT}{PART}")
EXPORT_SCHEMA = 3
EXPORT = "export.json"  # in the folder of an exported graph; holds the model's own metadata under "model"
ONE_FILE = ".aeflow"  # ending of the name of an export that is one file
# All that an export may hold, whatever its format.
OF_EXPORT = (EXPORT, ARRAYS_FILE, *(name for kind in GRAPH_BACKENDS.values() for name in kind.files()))
# What ``save_run`` writes into the metadata by itself; the rest comes from the training.
WRITTEN_BY_SAVE = (
    "schema",
    "settings",
    "encoder",
    "classes",
    "prior",
    "calibration",
    "intended",
    "weights_sha256",
    "self_test",
    "versions",
    "sha256",
)
REMEDY_TRAIN = "restore it, or train again"
REMEDY_VERSION = "load it with the version that wrote it, or train again"
MAX_JSON = 64 * 2**20  # bytes; a hundred thousand held-out scores take two million
MAX_HEADER = 8 * 2**20  # bytes; ten thousand tensors take one million
MAX_WEIGHTS = 8 * 2**30  # bytes; the largest networks of timm take half of it

Read = Callable[[str, str, int], bytes]  # of a file by its name; with a remedy for the errors, and a limit in bytes


def history_of(run: Path, metadata: dict[str, Any]) -> tuple[str, str] | None:
    """Return the text of ``history.csv`` and ``epoch_scores.json``; None if the model came without its training.

    Raises ArtifactError if one is damaged; those of earlier versions have no checksum.
    """
    if not holds(run, HISTORY) or not holds(run, EPOCH_SCORES):
        return None
    remedy = f"restore it, or delete {HISTORY}: the report then leaves the training out"
    texts = []
    for name in (HISTORY, EPOCH_SCORES):
        path = member(run, name, remedy, MAX_JSON)
        expected = metadata.get("files", {}).get(name)
        if expected is not None and file_digest(path) != expected:
            raise ArtifactError(path, "damaged training history (checksum differs)", remedy)
        texts.append(path.read_bytes().decode(errors="replace"))
    return texts[0], texts[1]


def with_short_header(path: Path, remedy: str) -> Path:
    """Return the path of a safetensors file; ArtifactError if its header is larger than any model's."""
    with path.open("rb") as file:
        check_header(file.read(8), path, remedy)
    return path


def check_header(start: bytes, path: Path, remedy: str) -> None:
    """Raise ArtifactError if the header of a safetensors file is larger than any model's, by its first eight bytes."""
    size = int.from_bytes(start[:8], "little")
    if size > MAX_HEADER:
        raise ArtifactError(path, f"a header of {size:,} bytes where at most {MAX_HEADER:,} are read", remedy)


def is_export(place: Path) -> bool:
    """Return if a folder holds an exported graph and no run; a file can be nothing else that is read."""
    return place.is_file() or (holds(place, EXPORT) and not holds(place, MODEL_JSON))


def holds(place: Path, name: str) -> bool:
    """Return if a folder holds a file of a run or of an export, or if an export that is one file does."""
    if place.is_file():
        return name == EXPORT and begins_with(place, EXPORT)
    return (current(place) / name).is_file()


def is_model(place: Path) -> bool:
    """Return if a folder or a file is a run or an export."""
    return holds(place, MODEL_JSON) or holds(place, EXPORT)


def of_export(folder: Path) -> tuple[str, ...]:
    """Return the names of an export's files; none if the folder holds no readable one."""
    try:
        return (*read_export(folder)["files"], EXPORT)
    except ArtifactError:
        return (EXPORT,) if holds(folder, EXPORT) else ()


def of_run(run: Path) -> tuple[str, ...]:
    """Return the names of all that aeflow may have written into a run folder, in the folders in it, too.

    Those are the model, and what was measured on it and exported of it.
    """
    names = [*OF_TRAINING, *RESULTS]
    for folder in sorted(run.iterdir()) if run.is_dir() else ():
        if folder.is_file():
            names += [folder.name] if holds(folder, EXPORT) else []
        elif holds(folder, EXPORT):
            names += [f"{folder.name}/{name}" for name in of_export(folder)]
        elif holds(folder, METRICS):
            names += [f"{folder.name}/{name}" for name in RESULTS]
    return tuple(names)


def member(folder: Path, name: str, remedy: str, limit: int = MAX_WEIGHTS) -> Path:
    """Return the path of a model's file.

    Raises ArtifactError if it is missing, leads out of the folder, is no ordinary file or larger than any model's.
    """
    path = current(folder) / name
    if not path.exists() and not path.is_symlink():
        raise ArtifactError(path, "no such file", remedy)
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise ArtifactError(path, "a link to a file outside of the model's folder", "put the file itself there")
    if not path.is_file():
        raise ArtifactError(path, "no ordinary file", remedy)
    if (size := path.stat().st_size) > limit:
        raise _too_large(path, size, limit, remedy)
    return path


def files_of(place: Path) -> Read:
    """Return a function that reads the files of a run or of an export; ArtifactError if it is one file that is damaged.

    One file is read as a whole at once, and a folder's files when they are asked for.
    """
    if not place.is_file():
        return partial(_read_member, place)
    give = "give the folder that `aeflow train` wrote, or the file or folder of `aeflow export`"
    if place.name in (*OF_TRAINING, *OF_EXPORT):
        raise ArtifactError(place, "one of the files of a model", f"give the folder itself: {place.parent}")
    try:
        files = unpacked(place, OF_EXPORT)
    except (ValueError, OSError) as error:
        damaged = begins_with(place, EXPORT) or place.suffix == ONE_FILE
        found = f"{'damaged' if damaged else 'no model'}: {getattr(error, 'strerror', None) or error}"
        raise ArtifactError(place, found, "export it again" if damaged else give) from error

    def read(name: str, remedy: str, limit: int) -> bytes:
        if name not in files:
            raise ArtifactError(place, f"holds no {name}", remedy)
        if len(files[name]) > limit:
            raise _too_large(place / name, len(files[name]), limit, remedy)
        return files[name]

    return read


def _read_member(folder: Path, name: str, remedy: str, limit: int) -> bytes:
    """Return the content of a file in a folder; see ``member``."""
    return member(folder, name, remedy, limit).read_bytes()


def _too_large(path: Path, size: int, limit: int, remedy: str) -> ArtifactError:
    return ArtifactError(path, f"{size:,} bytes where at most {limit:,} are read", remedy)


def run_of(export: Path, sha256: str) -> str:
    """Name the run that an export came from: the folder around it, else the checksum of its ``model.json``."""
    try:
        if read_metadata(export.resolve().parent)["sha256"] == sha256:
            return str(export.resolve().parent)
    except ArtifactError:  # it was taken elsewhere
        pass
    return f"the one whose {MODEL_JSON} has the sha256 {sha256[:16]}..."


def read_metadata(folder: Path) -> dict[str, Any]:
    """Read the checked content of a run's ``model.json``, which an export carries along; raises ArtifactError."""
    if is_export(folder):
        metadata: dict[str, Any] = read_export(folder)["model"]
        return metadata
    give = "give the folder that `aeflow train --out` wrote"
    read = files_of(folder)
    content = read_checked(folder, MODEL_JSON, (SCHEMA, *OLD_SCHEMAS), give, REMEDY_TRAIN, read)
    return _model(folder / MODEL_JSON, content)


def read_export(place: Path, read: Read | None = None) -> dict[str, Any]:
    """Read the checked content of an exported graph's ``export.json``; raises ArtifactError.

    ``read`` is what ``files_of`` gave, if it was called already.
    """
    give, remedy = "give the folder that `aeflow export` wrote", "export it again"
    export = read_checked(place, EXPORT, (EXPORT_SCHEMA,), give, remedy, read or files_of(place))
    validate(ExportEntry, export, place / EXPORT, remedy)
    return {**export, "model": _model(place / EXPORT, export.get("model"))}


def check_weights(run: Path, metadata: dict[str, Any]) -> Path:
    """Return the path of a run's weights; raises ArtifactError if they are missing or damaged."""
    path = member(run, WEIGHTS, "restore it from a backup, or train again")
    if file_digest(path) != metadata["weights_sha256"]:
        raise ArtifactError(path, "damaged, or of another run (checksum differs)", REMEDY_TRAIN)
    return path


def _model(path: Path, metadata: Any) -> dict[str, Any]:
    """Return the content of a ``model.json`` in today's names, once it is known to hold what a model needs."""
    try:
        today = upgraded(metadata)
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        found = f"does not describe a model of an earlier schema ({type(error).__name__})"
        raise ArtifactError(path, found, REMEDY_VERSION) from error
    validate(ModelEntry, today, path, REMEDY_VERSION)
    return today


def read_checked(
    folder: Path, name: str, schemas: tuple[int, ...], give: str, remedy: str, read: Read
) -> dict[str, Any]:
    """Read a JSON file that ``write_checked`` wrote, by a function of ``files_of``.

    Raises ArtifactError if it is missing, damaged or of another version.
    """
    path = current(folder) / name
    if not folder.is_file() and not path.exists() and not path.is_symlink():
        raise _missing(folder, name, give)
    try:
        content = _parsed(read(name, remedy, MAX_JSON).decode())
        checksum = digest({k: v for k, v in content.items() if k != "sha256"} if isinstance(content, dict) else None)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(path, "not valid JSON: truncated or damaged", remedy) from error
    if not isinstance(content, dict) or "schema" not in content or "sha256" not in content:
        raise ArtifactError(path, "not written by aeflow", give)
    if not isinstance(content["schema"], int) or content["schema"] not in schemas:
        found = f"has schema {content['schema']!r} where this version reads {' and '.join(map(str, schemas))}"
        raise ArtifactError(path, found, f"use the version of aeflow that wrote it, or {remedy.split(', or ')[-1]}")
    if checksum != content["sha256"]:
        raise ArtifactError(path, "damaged or edited by hand (checksum differs)", remedy)
    return content


def _missing(folder: Path, name: str, give: str) -> ArtifactError:
    """Return the error for a model's file that is not there, as while its training goes on."""
    if not folder.is_dir():
        return ArtifactError(folder, "no such folder", f"{check_path(folder)}; {give}")
    if name == MODEL_JSON and (folder / LOCK).is_file():
        found = f"holds no {name}: a training is writing there, or was killed"
        return ArtifactError(folder, found, "wait for it; if none runs, give its command again with --resume")
    if name == MODEL_JSON and (folder / CHECKPOINT).is_file():
        found = f"holds no {name}: a training was stopped there"
        return ArtifactError(folder, found, "give its command again with --resume")
    return ArtifactError(folder, f"holds no {name}", give)


def _parsed(text: str) -> Any:
    """Return the value of JSON text; raises ValueError, also for numbers that are not finite, or RecursionError."""

    def finite(number: str) -> float:
        value = float(number)
        if not math.isfinite(value):
            raise ValueError(f"{number} is no finite number")
        return value

    return json.loads(text, parse_float=finite, parse_constant=finite)


def write_checked(path: Path, metadata: dict[str, Any]) -> None:
    """Write plain values as JSON, with a checksum over all of them."""
    write_text(path, json.dumps({**metadata, "sha256": digest(metadata)}, indent=1, allow_nan=False))
