"""Scoring of a quiet study: its objects by rules, through the loop of ``score_files``, to results in the queue."""

from __future__ import annotations

import shutil
import sqlite3
import sys
import uuid
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from pydicom.dataset import Dataset

from aeflow.data.records import Record
from aeflow.errors import AeflowError, count
from aeflow.node.queue import Queue
from aeflow.node.rules import rule_for
from aeflow.node.settings import NodeSettings, Rule
from aeflow.node.store import Store
from aeflow.node.tables import DIGEST, NewResult, QueuedObject, QueuedStudy
from aeflow.privacy import shown
from aeflow.results.dicom.identifiers import ModelIdentity
from aeflow.results.dicom.study_results import Made, StudyResults
from aeflow.runtime.files import digest, sync_folder
from aeflow.runtime.progress import listening
from aeflow.runtime.terminal import print
from aeflow.scoring.score_files import score_files
from aeflow.scoring.scorer import Scorer

MAX_ATTEMPTS = 5  # of a study whose scoring ended without a word, as when the process was killed
MOST_REASONS = 3  # that a line on refused images names


class StudyScorer:
    """Worker that scores studies; ``scorers`` has the model of each run that a rule names, and of None."""

    def __init__(
        self, settings: NodeSettings, queue: Queue, store: Store, scorers: Mapping[Path | None, Scorer]
    ) -> None:
        self.settings, self.queue, self.store, self.scorers = settings, queue, store, scorers
        self._unnoted: Counter[int] = Counter()  # failures of studies of which the full disk took no note

    def score_next(self) -> bool:
        """Score the study that is due, if there is one; return if there was."""
        study = self.queue.next_study()
        if study is None:
            return False
        name = shown(study.uid, "study")
        if study.attempts - self._unnoted[study.id] >= MAX_ATTEMPTS:
            reason = f"begun {study.attempts} times and never ended"
            self.queue.finish(study, "dead", reason)
            print(f"{name} is a dead letter: {reason}", file=sys.stderr, flush=True)
            return True
        try:
            self._score(study, name)
        except sqlite3.OperationalError:
            self._unnoted[study.id] += 1
            raise
        self._unnoted.pop(study.id, None)
        return True

    def _score(self, study: QueuedStudy, name: str) -> None:
        """Score one study, and put what comes of it into the queue."""
        scratch = None
        try:
            scratch = self.store.scratch()
            state, reason, results = self._scored(study, scratch)
        except (OSError, AeflowError) as error:  # a disk that is full, a model that fails: not the images' fault
            self.queue.postpone_study(study, str(error), 3600 * self.settings.give_up_hours)
            print(f"{name} is tried again: {error}", file=sys.stderr, flush=True)
        else:
            self.store.forget((), self.queue.finish(study, state, reason, results))
            note = f" ({reason})" if reason else ""
            print(f"{name}: {count(len(study.objects), 'object')}, {state}{note}", file=sys.stderr, flush=True)
        finally:
            if scratch is not None:
                shutil.rmtree(scratch, ignore_errors=True)

    def _scored(self, study: QueuedStudy, scratch: Path) -> tuple[str, str, list[NewResult]]:
        """Return how a study ended, why, and its results, whose files are in the store."""
        by_rule: dict[int, tuple[Rule, list[QueuedObject]]] = {}
        for one in study.objects:
            rule = rule_for(self.settings.rule, one.modality, one.body_part, one.source, one.sop_class)
            if rule is not None and rule.action == "score":
                by_rule.setdefault(id(rule) if self.settings.rule else 0, (rule, []))[1].append(one)
        results: list[NewResult] = []
        refused: Counter[str] = Counter()
        scored = withheld = empty = 0
        for number, (rule, objects) in enumerate(by_rule.values()):
            folder = scratch / str(number)
            folder.mkdir()
            scorer = self.scorers[rule.run]
            found = self._results(study, rule, objects, scorer, folder)
            results += [self._kept(one, _model(scorer, rule), rule) for one in found[1]]
            refused.update(f"{error.found}" for error in found[0].refused)
            scored += found[0].scored
            withheld += found[0].withheld
            empty += found[0].empty
        if results:
            sync_folder(self.store.folder / "results")
        notes = [f"{n} refused: {found}" for found, n in refused.most_common(MOST_REASONS)]
        if withheld:
            notes.insert(0, f"{withheld} outside the intended input, no results on them")
        reason = "; ".join(notes)
        if results:
            return "scored", reason, results
        if not by_rule:
            return "skipped", "no rule fits", results
        if withheld and withheld == scored:
            return "withheld", reason, results
        return "dead", reason or f"{count(empty, 'image')} in which every pixel is the same, and no other", results

    def _results(
        self, study: QueuedStudy, rule: Rule, objects: list[QueuedObject], scorer: Scorer, folder: Path
    ) -> tuple[StudyResults, list[Made]]:
        """Return what was made of the objects of one rule."""
        files = {self.store.path_of(one.name): one for one in objects}
        records = [Record(path, path.name, None, None, study.uid, None, None) for path in files]
        model = ModelIdentity(scorer.fingerprint, scorer.calibration)
        contents = {path: one.name[:DIGEST] for path, one in files.items()}
        rate = scorer.calibration.rate
        sink = StudyResults(folder, model, rule.send, contents, rate, rule.outside == "send")
        with listening(_unheard):
            score_files(scorer, records, [sink])
        former = self.queue.report_of(study.id, _model(scorer, rule))
        return sink, sink.finish([] if former is None else [_keys(study, former)])

    def _kept(self, made: Made, model: str, rule: Rule) -> NewResult:
        """Move the file of a result, which is on the disk, to its place."""
        name = uuid.uuid4().hex
        made.file.rename(self.store.result(name))
        all_of_them = tuple(one.name for one in self.settings.destination)
        to = all_of_them if rule.to is None else rule.to
        keys = made.keys
        return NewResult(model, made.kind, keys.SOPInstanceUID, keys.SeriesInstanceUID, keys.SOPClassUID, name, to)


def _model(scorer: Scorer, rule: Rule) -> str:
    """Return by what a report is known that a later one replaces: of the same model and the same rule."""
    asked = rule.model_dump(mode="json", include={"modality", "body_part", "source", "sop_class"})
    return f"{scorer.fingerprint} {digest(asked)[:12]}"


def _keys(study: QueuedStudy, row: sqlite3.Row) -> Dataset:
    """Return the UIDs of a former report."""
    keys = Dataset()
    keys.StudyInstanceUID, keys.SeriesInstanceUID = study.uid, row["series"]
    keys.SOPInstanceUID, keys.SOPClassUID = row["instance"], row["sop_class"]
    return keys


def _unheard(done: int, total: int, what: str) -> None:
    """Show no bar for each study."""
