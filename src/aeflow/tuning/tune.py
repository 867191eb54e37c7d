"""Search for better settings on the proxy, within a budget of time.

A trial trains one model. All its readouts, settings of the score that need no other weights
(``search_space.READINGS``), are then compared on the same measures, and the trial has the value of the best reading: a
training takes a minute or more, a reading a hundredth of a second, so a search of a dozen trainings cannot afford to
spend any of them on a readout. Settings that need a training are left to Optuna: a tree-structured Parzen estimator
(Bergstra et al. 2011), and trainings that are worse than the median of the others at the same point end early.

The best of many noisy values is too optimistic. So the best settings and the preset's own are finally trained again
with another seed, which holds out other normals, and the preset is only changed for settings that are ahead there, too.

::

    OUT/tune.db      every trial, in SQLite; the same command goes on from there
    OUT/preset.json  for aeflow train --preset
    OUT/tune.json    all results                 OUT/tune.html  the same as a page
"""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from aeflow.config import FLOWGMM, Settings, preset_text
from aeflow.data.records import Record, inputs_of
from aeflow.errors import ArtifactError, SettingsError, stop_behind
from aeflow.imageio.errors import ImageError
from aeflow.runtime.extras import extra
from aeflow.runtime.files import write_text
from aeflow.runtime.folders import alone, together
from aeflow.runtime.inputs import Inputs
from aeflow.runtime.process import pick_device, prepare
from aeflow.runtime.progress import bar

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from aeflow.tuning.search import Search

PRESET, RESULT, PAGE = "preset.json", "tune.json", "tune.html"
UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class Tuned:
    """Result of a tuning."""

    settings: Settings  # the preset's own if nothing was better
    summary: dict[str, Any]  # as in tune.json
    refusals: list[tuple[Record, ImageError]]


def seconds_of(budget: str) -> float:
    """Return ``90s``, ``30m`` or ``2h`` in seconds; raises SettingsError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([smh])", budget.strip())
    if not found or not float(found[1]):
        number = re.fullmatch(r"\d+(?:\.\d+)?", budget.strip())
        what = f"{budget!r} has no unit" if number else f"{budget!r} is no time"
        raise SettingsError("--budget", what, "write for instance 90s, 30m or 2h")
    return float(found[1]) * UNITS[found[2]]


def tune(
    data: Path | str,
    out: Path | str,
    settings: Settings,
    budget: float,
    *,
    trials: int | None = None,
    encoder_weights: Path | None = None,
    preset: Path | None = None,
    device: str = "auto",
) -> Tuned:
    """Search around ``settings`` for ``budget`` seconds in all, and write the four files above into ``out``.

    A search that was stopped goes on; the time it took counts. ``trials`` ends it earlier, and makes it repeatable. The
    first trial is ``settings`` itself, of the file ``preset`` if they come from one. Raises DataError as training does,
    ArtifactError if ``out`` holds another search or is in use, SettingsError if the budget ends before the first trial
    does; what was computed till then is kept.
    """
    began = time.perf_counter()
    prepare()
    with extra("tune"):
        import optuna
    if settings.classifier != "none":
        raise SettingsError("classifier", "only normals-only models are tuned", "tune without it, then train with it")
    if settings.prior == FLOWGMM:
        raise SettingsError("prior", "only normals-only models are tuned", "tune without it, then train with it")
    from sqlalchemy.exc import SQLAlchemyError

    from aeflow.model.encoder import strides_of
    from aeflow.model.encoder_weights import pretrained
    from aeflow.tuning.search import DATABASE, Search
    from aeflow.tuning.search_space import SearchSpace
    from aeflow.tuning.trainer import TrialTrainer, spent  # these need optuna

    folder, on = Path(out), pick_device(device)
    with _alone(folder), alone(folder), _stoppable():
        inputs = inputs_of(data)
        inputs.add([encoder_weights, preset])
        for name in (PRESET, RESULT, PAGE):
            inputs.spare(folder / name)
        space = SearchSpace(settings, strides_of(settings.encoder))
        encoder = pretrained(settings.encoder, space.widest.encoder_stages, encoder_weights).to(on)
        trainer = TrialTrainer.of(data, space, encoder, settings.seed, ends=began + budget)
        search = Search(folder, trainer, budget, began)
        try:
            with bar("Tuning (s)", round(budget)) as advance:
                search.run(advance, trials)
                if search.default() is None:
                    raise spent("in the first training, that of the preset itself")
                search.confirm(data)
        except (KeyboardInterrupt, SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            if (stop := stop_behind(error)) is None:  # the data base passes on what the system refused
                found = f"cannot be written ({type(error).__name__})"
                raise ArtifactError(folder / DATABASE, found, "free some space, or name another --out") from error
            if search.default() is not None:
                write(search, folder, inputs)
            raise stop from None
        return Tuned(search.chosen(), write(search, folder, inputs), trainer.refusals)


def write(search: Search, folder: Path, inputs: Inputs) -> dict[str, Any]:
    """Write the results so far; return the content of tune.json."""
    from aeflow.tuning.report import write_page  # matplotlib takes a second to import

    found = summarise(search)
    with together(folder, (PRESET, RESULT, PAGE), inputs) as staged:
        write_text(staged / PRESET, preset_text(search.chosen()))
        write_text(staged / RESULT, json.dumps(found, indent=1, allow_nan=False) + "\n")
        write_page(found, staged / PAGE)
    return found


def summarise(search: Search) -> dict[str, Any]:
    """Return all results as plain values without names; the preset's own trial must be finished."""
    from aeflow.tuning.search import importances, state_of
    from aeflow.tuning.trial_database import ARITHMETIC, seconds_of_trial, stored

    default, best, trainer = search.default(), search.study.best_trial, search.trainer
    assert default is not None
    was, now = (settings.model_dump(mode="json") for settings in (trainer.space.base, search.chosen()))

    def row(trial: FrozenTrial) -> dict[str, Any]:
        """Return a trial as plain values."""
        return {
            "number": trial.number,
            "state": state_of(trial),
            "reason": trial.user_attrs.get("reason"),
            "seconds": round(seconds_of_trial(trial), 1),
            "value": trial.value if "figures" in trial.user_attrs else None,
            "figures": trial.user_attrs.get("figures"),
            "settings": {name: trial.params[name] for name in trainer.space.distributions if name in trial.params},
            "reading": trial.user_attrs.get("reading"),
        }

    return {
        "seed": trainer.space.base.seed,
        "budget_seconds": search.budget,
        "arithmetic": stored(search.study, ARITHMETIC),
        "images": {"kept": len(trainer.views[0]), **trainer.proxy.counts()},
        "default": {"trial": default.number, **default.user_attrs["own"]},
        "best": {"trial": best.number, "value": best.value, "figures": best.user_attrs["figures"]},
        "confirmed": search.confirmed(),
        "changed": {name: {"from": was[name], "to": now[name]} for name in was if was[name] != now[name]},
        "readings": best.user_attrs["readings"],
        "importances": importances(search.study),
        "trials": [row(trial) for trial in search.trials()],
    }


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make the folder, and hold it for this process only."""
    lock = FileLock(folder / "tune.lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise ArtifactError(folder, "another process tunes here", "wait for it, or choose another --out") from error
    except OSError as error:
        found = f"cannot be written ({type(error).__name__})"
        raise ArtifactError(folder, found, "give another folder with --out") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM end as Ctrl-C does, if this is the main thread: finished trials are written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
