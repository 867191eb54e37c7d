"""Table of scores, one row per image in input order, written row by row: CSV for people, Parquet for programs."""

from __future__ import annotations

import csv
import io
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self

from aeflow.calibration.input_guard import INPUT_COLUMNS
from aeflow.data.parquet import schema_of
from aeflow.data.records import Record
from aeflow.errors import DataError, OutputError, count, printable
from aeflow.imageio.errors import EmptyImageError, FileError, ImageError
from aeflow.model.terms import TERMS
from aeflow.privacy import shown_key
from aeflow.reporting.p_value import p_words
from aeflow.results.pictures import picture_name
from aeflow.results.study_table import check_studies, remove_studies, study_table_of
from aeflow.results.unfinished_table import Row, UnfinishedTable, rows_file, task_file
from aeflow.runtime.extras import extra
from aeflow.runtime.files import UNENCODABLE, encodable, refuse_former, replacing
from aeflow.runtime.locks import exclusive
from aeflow.runtime.terminal import print
from aeflow.scoring.score_files import Sink
from aeflow.scoring.scorer import Score

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP = 1024  # rows that are written to Parquet at once
KNOWN_BY = ("path", "score", "verdict", "error")  # columns by which a table of scores is known


# Of a DICOM image, and empty for any other file; they lead to the patient for whoever has the archive.
UIDS = {
    "sop_instance_uid": "string",
    "study_instance_uid": "string",
    "series_instance_uid": "string",
    "frame": "int32",  # from 1
}


def columns(uids: bool = False) -> dict[str, str]:
    """Return the columns of the table, with their types in Parquet; those of ``UIDS`` only if asked for."""
    return {
        "path": "string",  # as the user gave it; a salted hash where ``names`` are not asked for
        "slice": "int32",  # from 1, of a file that holds several images
        "label": "int8",  # 0 normal, 1 abnormal, empty unknown
        "patient": "string",  # salted hash, or the key with --identify
        "study": "string",  # likewise, if the file names one
        "score": "float64",
        "p_value": "float64",
        "verdict": "string",
        "threshold": "float64",  # above it an image is called abnormal
        "outside": "string",  # why the image is outside the intended input, empty if it is not
        **dict.fromkeys(TERMS, "float64"),
        "posterior": "float64",  # the term of the classes, as the two before it
        "p_abnormal": "float64",  # probability of the classes; empty if the model has none
        **dict.fromkeys(INPUT_COLUMNS.values(), "float64"),  # exposure and framing of the image, for `aeflow drift`
        "model": "string",  # which model scored: the first digits of its fingerprint
        "map": "string",  # file of the picture in the folder of maps, else of the volume's map; empty if there is none
        "error": "string",  # why the image was refused; the score is empty then
        "refusal": "string",  # of what: file, image, or empty, a slice of nothing that counts as no refusal
        **(UIDS if uids else {}),
    }


def score_row(
    record: Record, result: Score | ImageError, names: bool = True, picture: str | None = None, uids: bool = False
) -> Row:
    """Return one row of the table; names stand in it in their ``printable`` form.

    Without ``names`` the path is a pseudonym, as a patient's key always is. ``picture`` is the name of the file that
    shows the score's maps.
    """
    line: Row = dict.fromkeys(columns(uids))
    study = None if record.study is None else printable(shown_key(record.study))
    path = printable(record.name if names else shown_key(record.name))
    line |= {"path": path, "slice": record.slice_number, "label": record.label}
    line |= {"patient": printable(shown_key(record.patient)), "study": study}
    line |= uids_of(record) if uids else {}
    if isinstance(result, ImageError):
        return {**line, "error": printable(f"{result.found}; {result.remedy}"), "refusal": refusal_of(record, result)}
    line |= {"score": result.value, "p_value": result.p_value, "verdict": result.verdict, **result.terms}
    line |= {"threshold": result.threshold, "outside": ", ".join(result.outside), "map": picture}
    line |= {**result.inputs, "model": result.model or None}
    return {**line, "p_abnormal": 1 - result.posterior["normal"] if result.posterior else None}


def refusal_of(record: Record, error: ImageError) -> str:
    """Return what an error refuses; see ``data.slices.refusals_among``."""
    if record.at is not None and isinstance(error, EmptyImageError):
        return "empty"
    return "file" if isinstance(error, FileError) else "image"


def uids_of(record: Record) -> Row:
    """Return the columns of ``UIDS`` for an image; none for a file that is not DICOM or whose header is not known."""
    if record.header is None or (found := record.header.uids) is None:
        return {}
    values = [None if uid is None else printable(uid) for uid in (found.instance, found.study, found.series)]
    return dict(zip(UIDS, [*values, record.slice_number or 1], strict=True))


class ScoreTable(Sink):
    """A table of scores, ``.csv`` or ``.parquet``, in full float precision: one row for each image, in input order.

    Until its end it is ``part_of(path)``; after an error, Ctrl-C or a kill that file stays with the rows so far, and a
    former table as it was. With the former table its table of studies goes.

    ``names``: whoever asked for the table gave the files, and is to find them in it again. ``maps``: the scores have
    pictures, which it names. ``volumes``: files of maps by row, which are written by the time when this table ends,
    and until then its rows wait. ``former`` is what was left of it, whose rows come first, and without which nobody
    can go on.
    """

    def __init__(
        self,
        path: Path,
        names: bool = True,
        maps: bool = False,
        uids: bool = False,
        overwrite: bool = False,
        former: UnfinishedTable | None = None,
        volumes: Mapping[int, str] | None = None,
    ) -> None:
        if path.suffix not in (".csv", ".parquet"):
            raise DataError(path, "the name says neither CSV nor Parquet", "end it in .csv or .parquet")
        if path.suffix == ".parquet":
            with extra("parquet"):
                import pyarrow.parquet  # noqa: F401
        self.path, self.names, self.maps, self.uids, self.overwrite = path, names, maps, uids, overwrite
        self._former, self._volumes = former, volumes
        self._open = ExitStack()
        self._rows = 0

    def check(self) -> None:
        studies = study_table_of(self.path)
        for place in (self.path, studies):
            self.inputs.spare(place)
        if not _replaceable(self.path):
            found = "is there already, and is no table of scores"
            raise OutputError(self.path, found, "move it away, or name another file")
        check_studies(studies)
        for place in (self.path, studies):
            refuse_former(place, self.overwrite)

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            file = stack.enter_context(replacing(self.path, keep=True))
            stack.push(self._before_its_end)
            names = columns(self.uids)
            self._write = stack.enter_context(row_writer(self.path, file, names))
            if self._volumes is not None:
                self._waiting = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))
                stack.push(self._name_volumes)
            if self._former is None:
                task_file(self.path).unlink(missing_ok=True)
            else:
                self._former.begin()
                for row in self._former.kept():
                    self._write(row)
                    self._rows += 1
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)
        if error is None:
            task_file(self.path).unlink(missing_ok=True)
            if self.path.suffix == ".parquet":
                rows_file(self.path).unlink(missing_ok=True)

    def add(self, number: int, record: Record, result: Score | ImageError) -> None:
        picture = picture_name(number) if self.maps else None
        row = score_row(record, result, self.names, picture, self.uids)
        if self._volumes is None:
            self._write(row)
        else:
            print(json.dumps(row, allow_nan=False), file=self._waiting)
        self._rows += 1

    def _name_volumes(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the rows that waited, with the file of each volume's map; after an error, without."""
        self._waiting.seek(0)
        for number, line in enumerate(self._waiting, 1):
            row = json.loads(line)
            if error is None and self._volumes is not None and row["score"] is not None:
                row["map"] = row["map"] or self._volumes.get(number)
            self._write(row)

    def _before_its_end(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the studies of the former table; or after an error, say what is there."""
        if error is None:
            remove_studies(study_table_of(self.path))
        elif (part := rows_file(self.path)).exists():
            there = "is as it was" if self.path.exists() else "is not there"
            on = "" if self._former is None else ", and the same command goes on from them"
            error.add_note(f"{part} holds the first {count(self._rows, 'row')}, {self.path} {there}{on}")


class ScoreLines(Sink):
    """Lines on stdout, by the names that the user gave: JSON objects for programs, scores and refusals for people."""

    def __init__(self, as_json: bool = False, maps: bool = False, uids: bool = False) -> None:
        self.as_json, self.maps, self.uids = as_json, maps, uids
        self._refused: Path | None = None  # the file that was refused as a whole last

    def add(self, number: int, record: Record, result: Score | ImageError) -> None:
        row = score_row(record, result, picture=picture_name(number) if self.maps else None, uids=self.uids)
        if self.as_json:
            print(json.dumps(row, allow_nan=False))
            return
        at = f", slice {row['slice']}" if row["slice"] else ""
        if row["refusal"] == "image":
            print(f"refused   {row['path']}{at}: {row['error']}")
        elif row["refusal"] == "file" and record.path != self._refused:
            self._refused = record.path
            print(f"refused   {row['path']}: {row['error']}")
        elif isinstance(result, Score):
            p = p_words(result.p_value, result.smallest_p, ".4f").replace("≤ ", "≤")
            outside = f"  (outside intended input: {row['outside']})" if row["outside"] else ""
            found = f"{row['verdict']:8}  score {row['score']:8.3f}  p{p:>7}  {row['path']}"
            print(found + at + outside)


def _replaceable(path: Path) -> bool:
    """Return if a file may give way to a table of scores: another one, or an empty file; pipes and devices take it."""
    if not path.is_file() or not path.stat().st_size:
        return True
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            return set(KNOWN_BY) <= set(next(csv.reader([file.readline()]), []))
    import pyarrow as pa

    try:
        return set(KNOWN_BY) <= set(schema_of(path).names)
    except pa.ArrowInvalid:
        return False


def row_writer(table: Path, file: BinaryIO, names: dict[str, str]) -> AbstractContextManager[Callable[[Row], None]]:
    """Return the context of what takes the rows of a table, ``.csv`` or ``.parquet``, whose file is open already."""
    return _csv(file, names) if table.suffix == ".csv" else _parquet(file, names, rows_file(table))


@contextmanager
def _csv(file: BinaryIO, names: dict[str, str]) -> Iterator[Callable[[Row], None]]:
    text = io.TextIOWrapper(file, encoding="utf-8", errors=UNENCODABLE, newline="")
    lines = csv.DictWriter(text, list(names), lineterminator="\n")
    try:
        lines.writeheader()
        yield lines.writerow
    finally:
        text.detach()  # flushes it, and leaves the file open


def arrow_table(rows: Sequence[Row], names: dict[str, str]) -> pa.Table:
    """Return rows as a table of Arrow; ``names`` are its columns with their types."""
    import pyarrow as pa  # takes a third of a second to import, and CSV does without

    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in names.items()])
    lines = [{name: encodable(v) if isinstance(v, str) else v for name, v in row.items()} for row in rows]
    return pa.Table.from_pylist(lines, schema)


@contextmanager
def _parquet(file: BinaryIO, names: dict[str, str], waiting: Path) -> Iterator[Callable[[Row], None]]:
    """Yield what takes rows, which wait as JSON lines in a file: Parquet cannot be read before it is whole."""
    import pyarrow.parquet as pq

    with exclusive(waiting, waiting) as to:
        text = io.TextIOWrapper(to, encoding="utf-8")
        try:
            yield lambda row: print(json.dumps(row, allow_nan=False), file=text)
        finally:
            text.detach()  # flushes it, and leaves the file open
        to.flush()
        schema = arrow_table([], names).schema
        writer = pq.ParquetWriter(file, schema, write_page_checksum=True)
        with waiting.open(encoding="utf-8") as lines, writer as parquet:
            while rows := [json.loads(line) for line in itertools.islice(lines, ROW_GROUP)]:
                parquet.write_table(arrow_table(rows, names))
