"""The trials of a tuning, in SQLite: Optuna proposes settings, the lab trains them, the proxy gives their value."""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from aeflow.config import Settings
from aeflow.errors import ArtifactError, NumericalError
from aeflow.model.aeflow import AEFlow
from aeflow.runtime.files import digest
from aeflow.runtime.progress import Advance
from aeflow.tuning.proxy import READOUT
from aeflow.tuning.search_space import READINGS
from aeflow.tuning.trainer import Reading, TrialTrainer

DATABASE = "tune.db"
STARTUP = 5  # trials that are drawn at random before the estimator learns from them
PRUNE_AFTER_TRIALS = 4  # trainings that are finished before one may end early
GLANCES = (0.5, 0.75)  # shares of a training after which it is looked at
GLANCED = 60  # images of each group that a glance looks at
REST = 0.3  # of the time for the first features: that for those of another split
CONFIRM_FROM_SHARE = 0.7  # share of the time that ``confirm`` takes with which it begins: a trial may end an epoch late
STATES = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "stopped early", TrialState.FAIL: "cut off"}


class OutOfTimeError(Exception):
    """The budget ended within a training."""


class Search:
    """The trials of a folder, those of earlier calls included; raises ArtifactError where it holds another search."""

    def __init__(self, folder: Path, lab: TrialTrainer, budget: float, began: float) -> None:
        self.folder, self.lab, self.budget = folder, lab, budget
        self.glance = lab.proxy.thinned(GLANCED)
        self.study = _opened(folder / DATABASE, lab)
        self.study.set_user_attr("feature_seconds", max(self._told("feature_seconds"), time.perf_counter() - began))
        known = map(seconds_of_trial, self.trials())
        self.ends = began + budget - sum(known) - self._told("confirm_seconds")
        self.shown = 0

    def run(self, advance: Advance, most: int | None) -> None:
        """Trials until the budget is spent, but for what ``confirm`` takes, or until there are ``most`` of them."""
        self._again()
        try:
            self._run(advance, most)
        finally:  # an interrupt may come while a trial is made, before anyone holds it
            for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                self.study.tell(trial.number, state=TrialState.FAIL)

    def _run(self, advance: Advance, most: int | None) -> None:
        while self.default() is None or self._may_try(most):
            # Of its own for each trial: a search that goes on draws what one without a stop would have drawn.
            seed = self.lab.space.base.seed + len(self.study.get_trials(deepcopy=False))
            self.study.sampler = optuna.samplers.TPESampler(n_startup_trials=STARTUP, seed=seed)
            trial = self.study.ask(self.lab.space.distributions)
            try:
                self._try(trial, advance)
            except OutOfTimeError:
                self.study.tell(trial, state=TrialState.FAIL)
                break
            except optuna.TrialPruned:
                self.study.tell(trial, state=TrialState.PRUNED)
            except NumericalError:
                if "default" in trial.user_attrs:
                    raise
                trial.set_user_attr("reason", "left the finite numbers")
                self.study.tell(trial, state=TrialState.PRUNED)
            self._show(advance, "")

    def _may_try(self, most: int | None) -> bool:
        """Whether there is time for the shortest training seen so far, and a trial is wanted."""
        wanted = most is None or sum(trial.state != TrialState.FAIL for trial in self.trials()) < most
        return wanted and self.left() > min(seconds_of_trial(trial) for trial in self.finished())

    def _try(self, trial: Trial, advance: Advance) -> None:
        """Train a model, and tell the best of its readings."""
        settings, reached = self.lab.space.settings(trial.params), 0
        first = "default" in trial.user_attrs

        def look(net: AEFlow, epoch: int, epochs: int) -> None:
            nonlocal reached
            self._show(advance, f"trial {trial.number}, epoch {epoch} of {epochs}; ")
            if not first and self.left() <= 0:
                raise OutOfTimeError
            due = sum(epoch >= share * epochs for share in GLANCES)
            if due == reached or epoch == epochs:
                return
            reached = due
            readouts = self.lab.space.readings(settings)
            found = self.glance.readings(net, readouts)
            trial.report(max(Reading(*pair).value for pair in zip(readouts, found, strict=True)), due)
            if not first and trial.should_prune():
                raise optuna.TrialPruned

        net = self.lab.train(settings, self.folder / "training", look)
        readings = self.lab.readings(net)
        best = max(readings, key=lambda one: one.value)
        trial.set_user_attr("own", readings[0].to_json())
        trial.set_user_attr("figures", best.figures)
        trial.set_user_attr("reading", {name: getattr(best.settings, name) for name in READOUT})
        trial.set_user_attr("readings", _each_choice(readings))
        self.study.tell(trial, best.value)

    def confirm(self, data: Path | str) -> None:
        """Train the best settings and the preset's own with another seed, unless that is known or time is short."""
        best, tic = self.study.best_trial, time.perf_counter()
        chosen, base = self.settings_of(best), self.lab.space.base
        if chosen == base or self.confirmed() is not None or self.ends - tic < CONFIRM_FROM_SHARE * self._reserve():
            return
        seed = base.seed + 1
        lab = TrialTrainer.of(data, self.lab.space, self.lab.encoder, seed)
        own, other = (settings.model_copy(update={"seed": seed}) for settings in (base, chosen))
        net = lab.train(own, self.folder / "training")
        default = Reading(own, lab.proxy.readings(net, [own])[0])
        if not _differ_in_reading(own, other):
            net = lab.train(other, self.folder / "training")
        found = {"default": default.to_json(), "best": Reading(other, lab.proxy.readings(net, [other])[0]).to_json()}
        self.study.set_user_attr("confirmed", {"trial": best.number, "seed": seed, **found})
        self.study.set_user_attr("confirm_seconds", self._told("confirm_seconds") + time.perf_counter() - tic)

    def left(self) -> float:
        """Seconds for trials: the budget without what is spent, and what ``confirm`` will take."""
        return self.ends - time.perf_counter() - self._reserve()

    def chosen(self) -> Settings:
        """The best settings, where they are ahead with another seed, too, or could not be tried; else the preset's."""
        found = self.confirmed()
        if found is not None and found["best"]["value"] <= found["default"]["value"]:
            return self.lab.space.base
        return self.settings_of(self.study.best_trial)

    def settings_of(self, trial: FrozenTrial) -> Settings:
        """The settings of a finished trial, with the best reading."""
        settings = self.lab.space.settings(trial.params)
        return settings.model_copy(update=trial.user_attrs["reading"])

    def trials(self) -> list[FrozenTrial]:
        """Those that are over."""
        return self.study.get_trials(deepcopy=False, states=tuple(STATES))

    def finished(self) -> list[FrozenTrial]:
        """Those that have a value."""
        return self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))

    def default(self) -> FrozenTrial | None:
        """The finished trial of the preset's own settings."""
        return next((trial for trial in self.finished() if "default" in trial.user_attrs), None)

    def _again(self) -> None:
        """Queue the preset's own settings first, and every trial anew that a kill or the budget's end cut off."""
        trials = self.study.get_trials(deepcopy=False)
        if not trials:
            self.study.enqueue_trial(self.lab.space.default(), user_attrs={"default": True})
        retried = {trial.user_attrs.get("retry_of") for trial in trials}
        for trial in trials:
            if trial.state == TrialState.RUNNING:
                self.study.tell(trial.number, state=TrialState.FAIL)
            if trial.state in (TrialState.RUNNING, TrialState.FAIL) and trial.number not in retried:
                mark = {name: True for name in ("default",) if name in trial.user_attrs}
                self.study.enqueue_trial(trial.params, user_attrs={**mark, "retry_of": trial.number})

    def confirmed(self) -> dict[str, Any] | None:
        """What ``confirm`` found for the settings that are the best now."""
        found: dict[str, Any] | None = self.study.user_attrs.get("confirmed")
        return found if found is not None and found["trial"] == self.study.best_trial.number else None

    def _reserve(self) -> float:
        """Seconds that ``confirm`` will take."""
        default = self.default()
        if default is None or self.confirmed() is not None:
            return 0.0
        trainings = seconds_of_trial(default) + seconds_of_trial(self.study.best_trial)
        return trainings + REST * self._told("feature_seconds")

    def _told(self, name: str) -> float:
        return float(self.study.user_attrs.get(name, 0.0))

    def _show(self, advance: Advance, doing: str) -> None:
        default = self.default()
        best = (
            ""
            if default is None
            else f"best {self.study.best_value:.4f} (preset {default.user_attrs['own']['value']:.4f})"
        )
        passed = min(round(self.budget), round(self.budget - (self.ends - time.perf_counter())))
        advance(passed - self.shown, note=doing + best)
        self.shown = passed


def importances(study: optuna.Study) -> dict[str, float] | None:
    """The share of the values' variance that each setting explains (fANOVA, Hutter et al. 2014); None of too few."""
    if (
        len({trial.value for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))})
        < PRUNE_AFTER_TRIALS
    ):
        return None
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def seconds_of_trial(trial: FrozenTrial) -> float:
    """How long a trial took; 0 where a kill left no word of it."""
    return 0.0 if trial.duration is None else trial.duration.total_seconds()


def state_of(trial: FrozenTrial) -> str:
    """How a trial ended, in a word."""
    return STATES[trial.state]


def _differ_in_reading(a: Settings, b: Settings) -> bool:
    """Whether two models have the same weights."""
    return a.model_copy(update={name: getattr(b, name) for name in READOUT}) == b


def _each_choice(readings: list[Reading]) -> dict[str, dict[str, float]]:
    """The best value that each choice of a setting of the score allows, the others free."""
    found: dict[str, dict[str, float]] = {name: {} for name in READINGS}
    for one in readings:
        for name, best in found.items():
            choice = json.dumps(getattr(one.settings, name))
            best[choice] = max(one.value, best.get(choice, 0.0))
    return {name: dict(sorted(best.items())) for name, best in found.items()}


def _opened(path: Path, lab: TrialTrainer) -> optuna.Study:
    """The study in a file, which is made; ArtifactError unless it is one of this very search."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    base, distributions = lab.space.base, lab.space.distributions
    task = {
        "settings": base.model_dump(mode="json"),
        "space": {name: distribution_to_json(one) for name, one in distributions.items()},
        "images": lab.fingerprint(),
        "encoder": lab.encoder.fingerprint(),
    }
    try:
        storage = optuna.storages.RDBStorage(URL.create("sqlite", database=str(path)).render_as_string())
        study = optuna.create_study(
            storage=storage,
            study_name="aeflow tune",
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=PRUNE_AFTER_TRIALS),
        )
    except (SQLAlchemyError, RuntimeError) as error:
        found = f"cannot be read ({type(error).__name__})"
        raise ArtifactError(path, found, "choose another --out, or delete it") from error
    if study.user_attrs.setdefault("task", digest(task)) != digest(task):
        remedy = "choose another --out, or give the same data and settings again"
        raise ArtifactError(path, "holds a search on other images or settings", remedy)
    study.set_user_attr("task", digest(task))
    return study
