"""End of an archive: counts of what was scored, and the table of studies, from the parts in bounded memory."""

from __future__ import annotations

import csv
import heapq
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from aeflow.archive.folder import WORK
from aeflow.results.study_table import row_as_keyed, write_study_rows
from aeflow.results.table_rows import rows_of
from aeflow.results.unfinished_table import Row
from aeflow.runtime.files import replacing
from aeflow.runtime.folders import scratch
from aeflow.scoring.studies import ScoredSlice, Studies

COUNTED = ["path", "slice", "verdict", "outside", "error", "refusal"]
OF_STUDIES = ["study", "path", "revision", "patient", "label", "score", "p_value", "refusal"]
BYTES_AT_ONCE = 32 * 2**20  # of tables, some 250,000 rows, whose studies are computed together in some 100 MB
MAX_REFUSALS = 20  # that are kept to be shown; the table has all


@dataclass(slots=True)
class Counts:
    """Counts of an archive's rows."""

    images: int = 0
    verdicts: Counter[str] = field(default_factory=lambda: Counter(normal=0, abnormal=0))
    outside: Counter[str] = field(default_factory=Counter)  # by reasons
    outside_called: Counter[str] = field(default_factory=Counter)  # the same by verdict
    refused: int = 0
    refusals: list[tuple[str, str]] = field(default_factory=list)  # path and error of the first ones
    studies: int = 0
    abnormal_studies: int = 0

    def add(self, rows: Iterable[Row]) -> None:
        """Count rows of a table of scores."""
        for row in rows:
            if row["refusal"] is None:
                self.images += 1
                self.verdicts[row["verdict"]] += 1
                if row["outside"]:
                    self.outside[row["outside"]] += 1
                    self.outside_called[row["verdict"]] += 1
            elif row["refusal"] != "empty":
                self.refused += 1
                if len(self.refusals) < MAX_REFUSALS:
                    self.refusals.append((row["path"], row["error"]))


def write_studies_of(tables: Sequence[Path], out: Path, rate: float, work: Path) -> tuple[int, int]:
    """Write the table of studies of the rows of tables, one below the other; return how many there are, and abnormal.

    The slices of a study may lie anywhere. They are dealt by study to files in a temporary folder in ``work``, so that
    those of one file fit into memory; studies stand in the order of their first rows. ``rate``: of normals that
    exceed the threshold. Without studies there is no table.
    """
    files = 1 + sum(table.stat().st_size for table in tables) // BYTES_AT_ONCE
    with scratch(work, WORK) as folder, ExitStack() as stack:
        dealt = [stack.enter_context((folder / f"{i}.csv").open("w+", newline="")) for i in range(files)]
        _deal(tables, dealt)
        counted = Counter[str]()
        solved = [stack.enter_context((folder / f"{i}.jsonl").open("w+")) for i in range(files)]
        for slices, studies in zip(dealt, solved, strict=True):
            counted += _solve(slices, studies, rate)
        if counted.total():
            merged = heapq.merge(*map(_read_solved, solved), key=lambda found: found[0])
            with replacing(out) as file:
                write_study_rows((row for _, row in merged), file)
        else:
            out.unlink(missing_ok=True)
    return counted.total(), counted["abnormal"]


def _deal(tables: Iterable[Path], to: Sequence[IO[str]]) -> None:
    """Write the slices of each study to one of the files, with their rows in the whole table, from 1."""
    writers = [csv.writer(file) for file in to]
    row = 0
    for table in tables:
        for found in rows_of(table, OF_STUDIES):
            row += 1
            study = found["study"]
            if study is not None and found["refusal"] != "empty":
                numbers = (_text(found[name]) for name in ("revision", "label", "score", "p_value"))
                writers[hash(study) % len(to)].writerow([study, row, found["path"], found["patient"], *numbers])


def _solve(slices: IO[str], to: IO[str], rate: float) -> Counter[str]:
    """Write the studies of a file of slices, with their first rows; return the number of each verdict."""
    studies, first = Studies(rate), dict[str, int]()
    slices.seek(0)
    newest = {(study, path): revision for study, _, path, _, revision, *_ in csv.reader(slices)}
    slices.seek(0)
    for study, row, path, patient, revision, label, score, p_value in csv.reader(slices):
        if revision != newest[study, path]:  # the file has changed since
            continue
        if score:
            first.setdefault(study, int(row))
            found = ScoredSlice(int(row), patient, int(label) if label else None, float(score), float(p_value))
            studies.add_scored(study, found)
        else:
            studies.add_refused(study)
    counted = Counter[str]()
    for result in studies.results():
        counted[result.verdict] += 1
        to.write(json.dumps([first[result.study], row_as_keyed(result)]) + "\n")
    return counted


def _read_solved(file: IO[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    file.seek(0)
    for line in file:
        first, row = json.loads(line)
        yield first, row


def _text(value: Any) -> str:
    return "" if value is None else repr(value)
