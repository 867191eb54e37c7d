"""Study of a search in SQLite, in which no flipped bit passes for a result.

SQLite has no checksums. What counts of a finished trial (its settings, values, figures) is therefore sealed by a
SHA-256 among its attributes, written before the trial is told to be finished; what belongs to the study is stored with
one of its own. A trial that was cut off has none: it is only tried again.
"""

from __future__ import annotations

import sqlite3
import sys
import time
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import distribution_to_json
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from aeflow._version import __version__
from aeflow.errors import ArtifactError
from aeflow.features.arithmetic import Arithmetic
from aeflow.runtime.files import digest
from aeflow.runtime.terminal import print
from aeflow.training.checkpoint import differences

STUDY = "aeflow tune"
TASK, ARITHMETIC = "task", "arithmetic"
SEAL, SECONDS = "sha256", "seconds"
SEALED = (TrialState.COMPLETE, TrialState.PRUNED)
REMEDY = "choose another --out, or delete it"


def open_study(path: Path, task: str, arithmetic: Arithmetic, pruner: BasePruner) -> optuna.Study:
    """Return the study in a file, which is made; ArtifactError if it is damaged or of another ``task``, a digest.

    A search that goes on with another arithmetic is noted: its values are no longer those of one that never stopped.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    try:
        if path.exists():
            _check_pages(path)
        storage = optuna.storages.RDBStorage(URL.create("sqlite", database=str(path)).render_as_string())
        if set(optuna.get_all_study_names(storage)) - {STUDY}:
            raise _damaged(path)
        study = optuna.create_study(
            storage=storage, study_name=STUDY, direction="maximize", load_if_exists=True, pruner=pruner
        )
        _check(study, path)
    except ArtifactError:
        raise
    except (sqlite3.DatabaseError, SQLAlchemyError, RuntimeError, LookupError, ValueError, TypeError) as error:
        raise ArtifactError(path, f"cannot be read ({type(error).__name__})", REMEDY) from error
    if stored(study, TASK, task) != task:
        remedy = "choose another --out, or give the same data and settings again"
        raise ArtifactError(path, "holds a search on other images or settings", remedy)
    store(study, TASK, task)
    _note_arithmetic(study, path, arithmetic)
    return study


def store(study: optuna.Study, name: str, value: Any) -> None:
    """Store a value with the study, and its checksum."""
    study.set_user_attr(name, {"value": value, SEAL: digest([name, value])})


def stored(study: optuna.Study, name: str, default: Any = None) -> Any:
    """Return a value of the study; ``default`` if there is none."""
    return study.user_attrs.get(name, {"value": default})["value"]


def finish(study: optuna.Study, trial: Trial, began: float, state: TrialState, value: float | None = None) -> None:
    """Seal a trial that ``began`` at a time of ``time.perf_counter``, and tell that it is finished."""
    trial.set_user_attr(SECONDS, time.perf_counter() - began)
    kept = study.get_trials(deepcopy=False)[trial.number]
    trial.set_user_attr(SEAL, _digest(kept, state, value))
    study.tell(trial, value, state=state)


def seconds_of_trial(trial: FrozenTrial) -> float:
    """Return the duration of a trial; 0 if a kill left no record of it."""
    if SECONDS in trial.user_attrs:
        return float(trial.user_attrs[SECONDS])
    return 0.0 if trial.duration is None else trial.duration.total_seconds()


def _digest(trial: FrozenTrial, state: TrialState, value: float | None) -> str:
    """Return the SHA-256 of what counts of a trial; of one that is stopped early, its last value says nothing new."""
    return digest(
        {
            "number": trial.number,
            "state": state.name,
            "value": repr(value) if state == TrialState.COMPLETE else None,
            "values": {str(step): repr(value) for step, value in trial.intermediate_values.items()},
            "settings": {name: repr(setting) for name, setting in trial.params.items()},
            "space": {name: distribution_to_json(space) for name, space in trial.distributions.items()},
            "attributes": {name: attribute for name, attribute in trial.user_attrs.items() if name != SEAL},
        }
    )


def _check_pages(path: Path) -> None:
    """Raise ArtifactError if SQLite finds its own pages, or what refers to one another, damaged."""
    with closing(sqlite3.connect(path)) as database:
        whole = database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        if not whole or database.execute("PRAGMA foreign_key_check").fetchall():
            raise _damaged(path)


def _check(study: optuna.Study, path: Path) -> None:
    """Raise ArtifactError unless all that counts is as it was written."""
    trials, attributes = study.get_trials(deepcopy=False), study.user_attrs
    if isinstance(attributes.get(TASK), str):
        raise ArtifactError(path, "holds a search of an earlier version", REMEDY)
    whole = all(
        isinstance(found, dict) and found.get(SEAL) == digest([name, found.get("value")])
        for name, found in attributes.items()
    )
    whole &= [trial.number for trial in trials] == list(range(len(trials)))
    whole &= not trials or {TASK, ARITHMETIC} <= attributes.keys()
    for trial in trials:
        if trial.state in SEALED:
            whole &= trial.user_attrs.get(SEAL) == _digest(trial, trial.state, trial.value)
    if not whole:
        raise _damaged(path)


def _damaged(path: Path) -> ArtifactError:
    return ArtifactError(path, "damaged: it is not as it was written", REMEDY)


def _note_arithmetic(study: optuna.Study, path: Path, arithmetic: Arithmetic) -> None:
    """Keep the arithmetic of a search, and say what is another than before."""
    now = {**arithmetic.to_json(), "optuna": optuna.__version__, "aeflow": __version__}
    before = stored(study, ARITHMETIC, [])
    if before and before[-1] != now:
        what = f"goes on with another arithmetic{differences(before[-1], now)}"
        print(f"note: {path}: {what}; its values may differ in their last digits", file=sys.stderr)
    if now not in before[-1:]:
        store(study, ARITHMETIC, [*before, now])
