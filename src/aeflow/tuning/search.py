"""Trials of a tuning, in SQLite: Optuna proposes settings, the trainer trains them, the proxy gives their value."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial, Trial, TrialState

from aeflow.config import Settings
from aeflow.errors import NumericalError
from aeflow.model.aeflow import AEFlow
from aeflow.runtime.files import digest
from aeflow.runtime.progress import Advance
from aeflow.tuning.proxy import READOUT
from aeflow.tuning.search_space import READINGS
from aeflow.tuning.trainer import Reading, TrialTrainer
from aeflow.tuning.trial_database import finish, open_study, seconds_of_trial, store, stored

DATABASE = "tune.db"
STARTUP_TRIALS = 5  # trials that are drawn at random before the estimator learns from them
PRUNE_AFTER_TRIALS = 4  # trainings that are finished before one may end early
GLANCE_SHARES = (0.5, 0.75)  # shares of a training after which it is measured
GLANCE_IMAGES = 60  # images of each group in such a quick measurement
SECOND_FEATURES_SHARE = 0.3  # of the time for the first features: the time for those of another split
CONFIRM_MARGIN = 1.25  # times the time that ``confirm`` will take are kept for it: a trial may end an epoch late
STATES = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "stopped early", TrialState.FAIL: "cut off"}


class OutOfTimeError(Exception):
    """End of the budget within a training."""


class Search:
    """Trials of a folder, earlier calls included; raises ArtifactError if it holds another search."""

    def __init__(self, folder: Path, trainer: TrialTrainer, budget: float, began: float) -> None:
        self.folder, self.trainer, self.budget = folder, trainer, budget
        self.glance = trainer.proxy.thinned(GLANCE_IMAGES)
        pruner = optuna.pruners.MedianPruner(n_startup_trials=PRUNE_AFTER_TRIALS)
        self.study = open_study(folder / DATABASE, digest(_task(trainer)), trainer.arithmetic, pruner)
        feature_seconds = max(self._stored_number("feature_seconds"), time.perf_counter() - began)
        store(self.study, "feature_seconds", feature_seconds)
        known = map(seconds_of_trial, self.trials())
        self.ends = began + budget - sum(known) - self._stored_number("confirm_seconds")
        self.shown = 0

    def run(self, advance: Advance, most: int | None) -> None:
        """Run trials until only the time for ``confirm`` is left of the budget, or until there are ``most`` of them."""
        self._queue_again()
        try:
            self._run(advance, most)
        finally:  # an interrupt may come while a trial is being made
            for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                self.study.tell(trial.number, state=TrialState.FAIL)

    def _run(self, advance: Advance, most: int | None) -> None:
        """Ask for one trial after the other, and report how each ends."""
        while self.default() is None or self._may_try(most):
            # A seed for each trial: a search that goes on draws the same as one that never stopped.
            seed = self.trainer.space.base.seed + len(self.study.get_trials(deepcopy=False))
            self.study.sampler = optuna.samplers.TPESampler(n_startup_trials=STARTUP_TRIALS, seed=seed)
            trial = self.study.ask(self.trainer.space.distributions)
            end = partial(finish, self.study, trial, time.perf_counter())
            try:
                end(TrialState.COMPLETE, self._try(trial, advance))
            except OutOfTimeError:
                self.study.tell(trial, state=TrialState.FAIL)
                break
            except optuna.TrialPruned:
                end(TrialState.PRUNED)
            except NumericalError:
                if "default" in trial.user_attrs:
                    raise
                trial.set_user_attr("reason", "left the finite numbers")
                end(TrialState.PRUNED)
            self._show(advance, "")

    def _may_try(self, most: int | None) -> bool:
        """Return if a trial is wanted, and there is time for the shortest training seen so far."""
        wanted = most is None or sum(trial.state != TrialState.FAIL for trial in self.trials()) < most
        return wanted and self.left() > min(seconds_of_trial(trial) for trial in self.finished())

    def _try(self, trial: Trial, advance: Advance) -> float:
        """Train a model, and return the best of its readings."""
        settings, reached = self.trainer.space.settings(trial.params), 0
        first = "default" in trial.user_attrs

        def look(net: AEFlow, epoch: int, epochs: int) -> None:
            nonlocal reached
            self._show(advance, f"trial {trial.number}, epoch {epoch} of {epochs}; ")
            if self.left() <= 0:
                raise OutOfTimeError
            due = sum(epoch >= share * epochs for share in GLANCE_SHARES)
            if due == reached or epoch == epochs:
                return
            reached = due
            readouts = self.trainer.space.readings(settings)
            found = self.glance.readings(net, readouts)
            trial.report(max(Reading(*pair).value for pair in zip(readouts, found, strict=True)), due)
            if not first and trial.should_prune():
                raise optuna.TrialPruned

        net = self.trainer.train(settings, self.folder / "training", look)
        readings = self.trainer.readings(net)
        best = max(readings, key=lambda reading: reading.value)
        trial.set_user_attr("own", readings[0].to_json())
        trial.set_user_attr("figures", best.figures)
        trial.set_user_attr("reading", {name: getattr(best.settings, name) for name in READOUT})
        trial.set_user_attr("readings", _each_choice(readings))
        return best.value

    def confirm(self, data: Path | str) -> None:
        """Train the best settings and the preset's own with another seed, unless that is done or time is short."""
        best, tic = self.study.best_trial, time.perf_counter()
        chosen, base = self.settings_of(best), self.trainer.space.base
        if chosen == base or self.confirmed() is not None or self.ends - tic < self._reserve():
            return
        seed = base.seed + 1
        trainer = TrialTrainer.of(data, self.trainer.space, self.trainer.encoder, seed)
        own, other = (settings.model_copy(update={"seed": seed}) for settings in (base, chosen))
        net = trainer.train(own, self.folder / "training")
        default = Reading(own, trainer.proxy.readings(net, [own])[0])
        if not _differ_in_readout(own, other):
            net = trainer.train(other, self.folder / "training")
        best_again = Reading(other, trainer.proxy.readings(net, [other])[0])
        found = {"default": default.to_json(), "best": best_again.to_json()}
        store(self.study, "confirmed", {"trial": best.number, "seed": seed, **found})
        confirm_seconds = self._stored_number("confirm_seconds") + time.perf_counter() - tic
        store(self.study, "confirm_seconds", confirm_seconds)

    def left(self) -> float:
        """Return the seconds for trials: the budget without the time spent and the time that ``confirm`` will take."""
        return self.ends - time.perf_counter() - CONFIRM_MARGIN * self._reserve()

    def chosen(self) -> Settings:
        """Return the best settings if they are ahead with another seed, too; else the preset's."""
        found = self.confirmed()
        if found is None or found["best"]["value"] <= found["default"]["value"]:
            return self.trainer.space.base
        return self.settings_of(self.study.best_trial)

    def settings_of(self, trial: FrozenTrial) -> Settings:
        """Return the settings of a finished trial, with its best readout."""
        settings = self.trainer.space.settings(trial.params)
        return settings.model_copy(update=trial.user_attrs["reading"])

    def trials(self) -> list[FrozenTrial]:
        """Return the trials that ended: completed, pruned or failed."""
        return self.study.get_trials(deepcopy=False, states=tuple(STATES))

    def finished(self) -> list[FrozenTrial]:
        """Return the completed trials, which have a value."""
        return self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))

    def default(self) -> FrozenTrial | None:
        """Return the finished trial of the preset's own settings."""
        return next((trial for trial in self.finished() if "default" in trial.user_attrs), None)

    def _queue_again(self) -> None:
        """Queue the preset's own settings first, and repeat every trial that a kill or the budget's end cut off."""
        trials = self.study.get_trials(deepcopy=False)
        if not trials:
            self.study.enqueue_trial(self.trainer.space.default(), user_attrs={"default": True})
        retried = {trial.user_attrs.get("retry_of") for trial in trials}
        for trial in trials:
            if trial.state == TrialState.RUNNING:
                self.study.tell(trial.number, state=TrialState.FAIL)
            if trial.state in (TrialState.RUNNING, TrialState.FAIL) and trial.number not in retried:
                mark = {name: True for name in ("default",) if name in trial.user_attrs}
                self.study.enqueue_trial(trial.params, user_attrs={**mark, "retry_of": trial.number})

    def confirmed(self) -> dict[str, Any] | None:
        """Return the result of ``confirm`` for the settings that are the best now."""
        found: dict[str, Any] | None = stored(self.study, "confirmed")
        return found if found is not None and found["trial"] == self.study.best_trial.number else None

    def _reserve(self) -> float:
        """Return the seconds that ``confirm`` will take."""
        default = self.default()
        if default is None or self.confirmed() is not None:
            return 0.0
        trainings = seconds_of_trial(default) + seconds_of_trial(self.study.best_trial)
        return trainings + SECOND_FEATURES_SHARE * self._stored_number("feature_seconds")

    def _stored_number(self, name: str) -> float:
        """Return the number stored with the study under a name, 0 if there is none."""
        return float(stored(self.study, name, 0.0))

    def _show(self, advance: Advance, doing: str) -> None:
        """Show the time passed, the present trial and the best value."""
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
    """Return the share of the values' variance that each setting explains (fANOVA, Hutter et al. 2014); None if few."""
    if (
        len({trial.value for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))})
        < PRUNE_AFTER_TRIALS
    ):
        return None
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def state_of(trial: FrozenTrial) -> str:
    """Return the end of a trial, in a word."""
    return STATES[trial.state]


def _differ_in_readout(a: Settings, b: Settings) -> bool:
    """Return if two settings differ in their readout only, so that their models have the same weights."""
    return a.model_copy(update={name: getattr(b, name) for name in READOUT}) == b


def _each_choice(readings: list[Reading]) -> dict[str, dict[str, float]]:
    """Return the best value that each choice of a setting of the score allows, the others free."""
    found: dict[str, dict[str, float]] = {name: {} for name in READINGS}
    for reading in readings:
        for name, best in found.items():
            choice = json.dumps(getattr(reading.settings, name))
            best[choice] = max(reading.value, best.get(choice, 0.0))
    return {name: dict(sorted(best.items())) for name, best in found.items()}


def _task(trainer: TrialTrainer) -> dict[str, Any]:
    """Return what a search is about: another one does not go on in the same folder."""
    distributions = trainer.space.distributions
    return {
        "settings": trainer.space.base.model_dump(mode="json"),
        "space": {name: distribution_to_json(distribution) for name, distribution in distributions.items()},
        "images": trainer.fingerprint(),
        "encoder": trainer.encoder.fingerprint(),
    }
