"""Way of an upload: kept under its checksum, decoded in a worker, scored, and put into the worklist as a whole.

An upload is known by its content: sent again, as after a broken connection, it is the same image, with the score that
it has. What is answered is on the disk: the file before the rows that name it, both before the answer.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aeflow.data.load_files import OpenedFile, open_file
from aeflow.data.loader import Decoded, decoded, in_colour
from aeflow.data.records import PATIENT, Record
from aeflow.data.slices import slice_records
from aeflow.errors import printable
from aeflow.imageio.decoder_pool import decoders
from aeflow.imageio.errors import EmptyImageError, ImageError
from aeflow.privacy import shown_key
from aeflow.results.score_table import score_row
from aeflow.runtime.files import sync_folder
from aeflow.scoring.scorer import Score, Scorer
from aeflow.serve import pictures
from aeflow.serve.scoring_queue import ScoringQueue
from aeflow.serve.worklist import NewImage, Worklist

THREADS = 8  # uploads that are decoded and stored at a time; more only wait for the decoders
AHEAD = 4  # slices of a volume that wait decoded
IMAGES, COMING = "images", "incoming"  # folders of what is kept, and of what is being sent


class BusyError(Exception):
    """Error of a queue that is full."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One file as it was sent."""

    name: str  # as the sender calls it
    content: bytes
    source: str
    who: str


@dataclass(frozen=True, slots=True)
class Former:
    """What is known of an image that a former model scored; its name is not."""

    patient: str  # pseudonyms
    study: str
    source: str
    path: str
    at: str  # when it came


class Intake:
    """Receiver of uploads, with a bound on how many wait, and how large they are together: all lie in memory."""

    def __init__(self, scorer: Scorer, worklist: Worklist, folder: Path, most: int, most_bytes: int) -> None:
        self.scorer, self.worklist, self.folder = scorer, worklist, folder
        self.most, self.most_bytes = most, most_bytes
        self.waiting = self._bytes = 0
        self._one = threading.Lock()
        self.queue = ScoringQueue(scorer)
        self._threads = ThreadPoolExecutor(THREADS, "intake")
        for name in (IMAGES, COMING):
            (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in (folder / COMING).iterdir():  # by a process that was killed; nobody was told that it is there
            left.unlink()

    @contextmanager
    def place(self, size: int) -> Iterator[None]:
        """Hold a place among those who wait for a request of ``size`` bytes; BusyError if all are taken.

        One that is alone has its place, however large it is.
        """
        with self._one:
            if self.waiting >= self.most or (self.waiting and self._bytes + size > self.most_bytes):
                raise BusyError
            self.waiting += 1
            self._bytes += size
        try:
            yield
        finally:
            with self._one:
                self.waiting -= 1
                self._bytes -= size

    def submit(self, upload: Upload) -> Future[list[dict[str, Any]]]:
        """Score an upload; the future has its rows, see ``scored``."""
        return self._threads.submit(self.scored, upload)

    def close(self) -> None:
        """End the threads, after what waits."""
        self._threads.shutdown()
        self.queue.close()

    def path_of(self, content: str) -> Path:
        """Return where the file of a checksum is kept."""
        return self.folder / IMAGES / content[:2] / content

    def scored(self, upload: Upload) -> list[dict[str, Any]]:
        """Return the rows of the images of a file, as the worklist holds them; raises ImageError for the whole file."""
        content = hashlib.sha256(upload.content).hexdigest()
        if known := self.worklist.rows_of(content, upload.who):
            return known
        coming = self.folder / COMING / f"{content}-{threading.get_ident()}"
        try:
            return self._new(upload, content, coming)
        finally:
            coming.unlink(missing_ok=True)

    def again(self, content: str, former: Mapping[int, Former], who: str) -> None:
        """Score a file that is kept, which former models have scored; raises ImageError for the whole file."""
        path = self.path_of(content)
        opened = decoders().submit(open_file, path, self.scorer.backend.size, self.scorer.settings.slice_axis).result()
        record = Record(path, content, None, None, content, None, None)
        new, sources = [], set()
        for part, image, result in self._results(record, opened):
            if isinstance(result, ImageError) or (known := former.get(part.slice_number or 0)) is None:
                continue
            made = self._image(part, image, result, content)
            row = {**made.row, "path": known.path, "patient": known.patient}
            row["study"] = row["study"] and known.study
            new.append(replace(made, patient=known.patient, study=known.study, row=row, at=known.at))
            sources.add(known.source)
        if not new:
            raise ImageError(path, "holds no image that was scored before", "send it again")
        self.worklist.add(content, new, sources.pop(), who)

    def _new(self, upload: Upload, content: str, coming: Path) -> list[dict[str, Any]]:
        """Keep, score and store a file that is not known."""
        size, axis = self.scorer.backend.size, self.scorer.settings.slice_axis
        with coming.open("xb") as file:
            file.write(upload.content)
            file.flush()
            opening = decoders().submit(open_file, coming, size, axis)
            os.fsync(file.fileno())  # while a worker decodes
        base = Path(upload.name).name or "upload"
        named = PATIENT.match(base)
        record = Record(coming, content, None, None, named.group() if named else content, None, None)
        new, refused = [], []
        for part, image, result in self._results(record, opening.result()):
            if isinstance(result, ImageError):
                refused.append((part, result))
            else:
                new.append(self._image(part, image, result, base))
        if not new:
            raise refused[0][1] if refused else ImageError(coming, "holds no image", "send an image")
        self._keep(coming, content)
        rows = self.worklist.add(content, new, upload.source, upload.who)
        return rows + [self._row(part, error, base) for part, error in refused if _counts(part, error)]

    def _results(
        self, record: Record, opened: OpenedFile
    ) -> Iterator[tuple[Record, Decoded | ImageError, Score | ImageError]]:
        """Yield each image of an opened file decoded and with its score, or with the error that refused it."""
        if opened.listed:
            raise ImageError(record.path, "a DICOMDIR, which holds no image", "send the files that it lists")
        parts = slice_records(record, opened.header, self.scorer.settings.slice_axis)
        if opened.image is not None:
            found: Iterator[tuple[Record, Decoded | ImageError]] = iter([(parts[0], _whole(opened.image))])
        else:
            found = decoded(parts, self.scorer.backend.size, AHEAD)
        for part, image in found:
            if isinstance(image, ImageError):
                yield part, image, image
            else:
                yield part, image, self.queue.submit(part, image).result()

    def _image(self, part: Record, image: Decoded | ImageError, score: Score, base: str) -> NewImage:
        assert isinstance(image, Decoded)  # what was refused has no score
        height, width = image.acquisition.size or (0, 0)
        place = None if part.header is None else part.header.position
        return NewImage(
            slice=part.slice_number or 0,
            axis=(part.at.axis if part.at is not None else None) or "",
            position=float(part.slice_number or 0) if place is None else place,
            study=shown_key(part.study or part.name),
            patient=shown_key(part.patient),
            score=score,
            row=self._row(part, score, base),
            thumbnail=pictures.thumbnail(score),
            map=pictures.heat_map(score),
            features=pictures.features(score),
            height=height,
            width=width,
        )

    def _row(self, part: Record, result: Score | ImageError, base: str) -> dict[str, Any]:
        """Return the row that `aeflow score` writes, with the pseudonym of the name that the sender gave."""
        return {**score_row(part, result, names=False), "path": printable(shown_key(base))}

    def _keep(self, coming: Path, content: str) -> None:
        """Give a file that is on the disk its place under its checksum."""
        place = self.path_of(content)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        os.replace(coming, place)
        sync_folder(place.parent)


def _whole(image: Decoded | ImageError) -> Decoded | ImageError:
    return image if isinstance(image, ImageError) else in_colour(image)


def _counts(part: Record, error: ImageError) -> bool:
    """Return if a refusal is one: a slice above a head, which is empty, is none."""
    return part.at is None or not isinstance(error, EmptyImageError)
