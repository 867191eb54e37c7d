"""Function that every engine runs: the files of a part to the rows of its table."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from aeflow.archive.item import Item, scheme_of
from aeflow.archive.sources import way_to
from aeflow.archive.sources.fetched import Fetched
from aeflow.backends.registry import GRAPH_BACKENDS
from aeflow.data.load_files import load_files
from aeflow.data.loader import ahead_of
from aeflow.data.records import Record, patient_of
from aeflow.deploy.open_model import open_model
from aeflow.errors import ArtifactError, printable
from aeflow.imageio.errors import FileError, ImageError
from aeflow.privacy import use_salt
from aeflow.results.score_table import ROW_GROUP, arrow_table, columns, score_row
from aeflow.results.unfinished_table import Row
from aeflow.scoring.scorer import Score, Scorer, score_images

if TYPE_CHECKING:
    import pyarrow as pa

# Beside the columns of a table of scores.
OF_FILE = {
    "sha256": "string",  # of the file's content that was scored; empty if it could not be read
    "bytes": "int64",
    "version": "string",  # time of change in ns since 1970, or the store's mark: as listed, or as read
    "revision": "int32",  # 1 for what was scored first, one more for each --since
}
UNCHANGED = b"unchanged"  # in a table's metadata: the files that were read and held what they had held before
Unchanged = tuple[str, str, int, str | None]  # name, SHA-256, bytes, version
FETCHERS = 8  # objects of a store that are asked for at a time
FETCHED_AHEAD = 16


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model is where it was opened, and what decides its scores and verdicts."""

    fingerprint: str  # SHA-256 of its model.json
    backend: str
    backend_version: str
    threshold: float
    rule: str
    false_positive_rate: float


@dataclass(frozen=True, slots=True)
class Opening:
    """All that a worker needs to score parts; it goes to other processes, and with Ray to other machines."""

    run: str  # absolute path
    backend: str = "auto"
    device: str = "auto"
    rate: float | None = None
    threshold: float | None = None
    uids: bool = False
    revision: int = 1
    images: int = 0  # how many are expected; see ``open_model``
    folders: tuple[str, ...] = ()  # of which every file is an item, so that a DICOMDIR there brings no new one
    fingerprint: str | None = None  # the model must be this one
    salt: bytes = field(default=b"", repr=False)

    def open(self) -> PartScorer:
        """Open the model; ArtifactError if it is another one than at the start."""
        if self.salt:
            use_salt(self.salt)
        scorer = open_model(Path(self.run), self.backend, self.device, self.images)
        if self.fingerprint not in (None, scorer.fingerprint):
            remedy = "put the former model back and repeat the command, or score all again with --overwrite"
            raise ArtifactError(self.run, "the model was replaced by another while it scored", remedy)
        if self.rate is not None:
            scorer = scorer.at_rate(self.rate)
        if self.threshold is not None:
            scorer = scorer.at_threshold(self.threshold)
        return PartScorer(self, scorer)


class PartScorer:
    """An open model that scores parts."""

    def __init__(self, opening: Opening, scorer: Scorer) -> None:
        self._opening, self._scorer = opening, scorer
        self._columns = columns(opening.uids) | OF_FILE
        backend = scorer.backend.name
        package = GRAPH_BACKENDS[backend].packages[-1] if backend in GRAPH_BACKENDS else backend
        calibration = scorer.calibration
        self.facts = ModelFacts(
            scorer.fingerprint,
            backend,
            version(package),
            calibration.threshold,
            calibration.rule,
            scorer.calibration.rate,
        )

    def __call__(self, items: Sequence[Item]) -> pa.Table:
        """Return the rows of files in their order; files that hold what they held before are in its metadata."""
        import pyarrow as pa

        tables, rows = [arrow_table([], self._columns)], list[Row]()
        unchanged: list[Unchanged] = []
        for row in self._rows(items, unchanged):
            rows.append(row)
            if len(rows) == ROW_GROUP:
                tables.append(arrow_table(rows, self._columns))
                rows.clear()
        table = pa.concat_tables([*tables, arrow_table(rows, self._columns)]).combine_chunks()
        return table.replace_schema_metadata({UNCHANGED: json.dumps(unchanged).encode()})

    def refused(self, item: Item, error: ImageError) -> pa.Table:
        """Return the one row of a file that could not be scored at all."""
        record = _record(item, Path(item.path))
        return arrow_table([self._row(record, error, item)], self._columns)

    def _rows(self, items: Sequence[Item], unchanged: list[Unchanged]) -> Iterator[Row]:
        """Yield the rows; while those of a file come, the copies of files before it are let go."""
        under_way: deque[tuple[Item, Fetched]] = deque()
        unfetched: dict[Path, ImageError] = {}
        named: dict[Path, Item] = {}

        def records() -> Iterator[Record]:
            files = ahead_of(items, fetch, FETCHED_AHEAD)
            for number, (item, fetched) in enumerate(files):
                if isinstance(fetched, ImageError):
                    file = Fetched(Path(os.devnull, str(number)))  # no file; its reader's refusal gives way to this one
                    unfetched[file.path] = fetched
                else:
                    file = fetched
                named[file.path] = item
                under_way.append((item, file))
                yield _record(item, file.path)

        def passed_over(record: Record) -> bool:
            item, state = named.get(record.path), record.state
            if item is None or state is None or item.former != state.sha256:
                return False
            unchanged.append((printable(item.name), state.sha256, state.bytes, _version(item, record)))
            return True

        def fetch(item: Item) -> Future[Fetched]:
            return threads.submit(way_to(item.path).fetch, item)

        with ThreadPoolExecutor(FETCHERS) as threads:
            images = load_files(
                records(),
                self._scorer.backend.size,
                self._scorer.settings.slice_axis,
                known=_Listed(items, self._opening.folders),
                passed_over=passed_over,
            )
            try:
                for _, found in groupby(score_images(self._scorer, images), key=lambda scored: scored[0].path):
                    of_file = list(found)
                    path = of_file[0][0].path
                    while under_way and path in named and under_way[0][1].path != path:
                        _, file = under_way.popleft()
                        named.pop(file.path, None)
                        file.close()
                    if len(of_file) > 1 and path not in unfetched and _changed(of_file[0][0]):
                        changed = FileError(path, "changed while it was read", "score it with --since")
                        of_file = [(replace(of_file[0][0], at=None, state=None), changed)]
                    for record, result in of_file:
                        yield self._row(record, unfetched.get(path, result), named.get(path))
            finally:
                for _, file in under_way:
                    file.close()

    def _row(self, record: Record, result: Score | ImageError, item: Item | None) -> Row:
        row = score_row(record, result, uids=self._opening.uids)
        if item is not None and item.patient is not None:
            row["patient"] = item.patient  # is a pseudonym already
        state = record.state
        size = state.bytes if state is not None else None if item is None else item.bytes
        row |= {"sha256": None if state is None else state.sha256, "bytes": size, "version": _version(item, record)}
        return row | {"revision": self._opening.revision}


class _Listed:
    """Container of the paths that come anyway, so that no DICOMDIR brings them once more."""

    def __init__(self, items: Sequence[Item], folders: Sequence[str]) -> None:
        self._paths = {item.path for item in items}
        self._folders = tuple(folder.rstrip(os.sep) + os.sep for folder in folders)
        self._remote = any(scheme_of(item.path) for item in items)

    def __contains__(self, path: object) -> bool:
        return self._remote or str(path) in self._paths or str(path).startswith(self._folders)


def _record(item: Item, path: Path) -> Record:
    patient = item.patient or patient_of(item.name)
    return Record(path, item.name, None, item.label, patient, None, None)


def _version(item: Item | None, record: Record) -> str | None:
    """Return the mark of the state that a file was read in; of an object in a store, that of its listing."""
    if item is not None and (scheme_of(item.path) or record.state is None):
        return item.version
    return None if record.state is None else str(record.state.modified)


def _changed(record: Record) -> bool:
    """Return if a file is not as it was opened any more: its slices may be of several states."""
    try:
        status = os.stat(record.path)
    except OSError:
        return True
    return record.state is not None and (status.st_size, status.st_mtime_ns) != (
        record.state.bytes,
        record.state.modified,
    )
