"""Change feed of an Orthanc: studies that are stable there are fetched, as if their senders had sent them here.

Orthanc numbers its changes. The place in them moves on once all of a study is on the disk, so what a kill interrupts is
fetched again, and the queue knows the objects that it has. What was stable before the first contact is left alone.
"""

from __future__ import annotations

import sys
import threading
from typing import Annotated, TypeVar

import requests
from pydantic import BaseModel, Field, TypeAdapter

from aeflow.imageio.dicom.sop_classes import not_an_image
from aeflow.node.feed_place import FeedPlace
from aeflow.node.header import FullError, ObjectError, parts_of_file
from aeflow.node.intake import Intake
from aeflow.node.queue import Queue
from aeflow.node.settings import OrthancFeed
from aeflow.privacy import shown
from aeflow.results.dicom.identifiers import NAME
from aeflow.runtime.terminal import print
from aeflow.runtime.web_session import web_session

CREDENTIALS = "AEFLOW_ORTHANC"  # so their names in the environment begin
MANY = 100  # changes of one answer
CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 60.0
MAX_ANSWER = 2**26  # bytes of an answer that is no image
CHUNK = 2**20

# What is read of Orthanc's answers.
Number = Annotated[str, Field(pattern=r"^[0-9a-f-]{44}$")]
Answer = TypeVar("Answer")


class FeedError(Exception):
    """Error of a feed that another try may not meet."""


class _Change(BaseModel):
    ChangeType: str
    ID: str
    Seq: int


class _Changes(BaseModel):
    Changes: list[_Change]
    Last: int  # of this answer; without any change the last that there ever was


class _Study(BaseModel):
    IsStable: bool
    MainDicomTags: dict[str, str]


class _Series(BaseModel):
    ID: Number
    LastUpdate: str
    Instances: list[Number]
    MainDicomTags: dict[str, str]


CHANGES, STUDY = TypeAdapter(_Changes), TypeAdapter(_Study)
SERIES, METADATA = TypeAdapter(list[_Series]), TypeAdapter(dict[str, str])


class ChangeFeed:
    """Worker that follows an Orthanc; ``stop`` ends it between two objects."""

    def __init__(self, feed: OrthancFeed, intake: Intake, queue: Queue, stop: threading.Event) -> None:
        self.address, self.intake, self.queue, self.stop = feed.address, intake, queue, stop
        self.place = FeedPlace(queue, feed.address)
        self.http = web_session([CREDENTIALS])

    def follow(self) -> bool:
        """Take the next changes; return if there were any. FeedError if Orthanc or the disk has to be waited for."""
        if not self.intake.has_room():
            raise FeedError("the disk is full")
        since = self.place.get()
        if since is None:
            self.place.set(self._changes("last").Last)
            return True
        found = self._changes(f"since={since}&limit={MANY}")
        if not found.Changes:
            if found.Last < since:  # its data base is another one, whose numbers begin anew
                self.place.set(0)
            return found.Last < since
        for change in found.Changes:
            if change.ChangeType == "StableStudy":
                self._fetch_study(change.ID)
                if self.stop.is_set():
                    return False
                self.place.set(change.Seq)
        self.place.set(found.Last)
        return True

    def _changes(self, asked: str) -> _Changes:
        found = self._answer(f"/changes?{asked}", CHANGES)
        if found is None:
            raise FeedError("answered HTTP 404: is it an Orthanc?")
        return found

    def _fetch_study(self, number: str) -> None:
        """Fetch what is new of a study; one that has begun to grow again will be stable again."""
        study = self._answer(f"/studies/{number}", STUDY)
        if study is None or not study.IsStable:
            return
        for series in self._answer(f"/studies/{number}/series", SERIES) or ():
            ours = series.MainDicomTags.get("Manufacturer", "").strip().upper() == NAME.upper()
            if ours or self.place.has(series.ID, series.LastUpdate):
                continue
            for instance in series.Instances:
                if self.stop.is_set():
                    return
                self._fetch(instance, series.MainDicomTags)
            self.place.fetched(series.ID, series.LastUpdate)
        self.queue.complete(study.MainDicomTags.get("StudyInstanceUID", ""))

    def _fetch(self, instance: str, tags: dict[str, str]) -> None:
        """Fetch an object, unless it is no image or no rule wants it; one that is refused is passed over."""
        known = self._answer(f"/instances/{instance}/metadata?expand", METADATA)
        if known is None:  # deleted meanwhile
            return
        sop_class, source = known.get("SopClassUid", ""), known.get("RemoteAET", "").strip()
        modality, body_part = (tags.get(keyword, "").strip().upper() for keyword in ("Modality", "BodyPartExamined"))
        if not_an_image(sop_class) is not None or not self.intake.wants(modality, body_part, source, sop_class):
            return
        try:
            content = self._content(f"/instances/{instance}/file", self.intake.settings.limits.object_bytes)
            if content is None:
                return
            syntax, named, data = parts_of_file(content)
            self.intake.take(data, syntax, named, source, lambda: content)
        except FullError as error:
            raise FeedError(error.found) from None
        except ObjectError as error:
            series = shown(tags.get("SeriesInstanceUID", instance), "series")
            print(f"orthanc: an object of {series} is passed over: {error.found}", file=sys.stderr, flush=True)

    def _answer(self, path: str, form: TypeAdapter[Answer]) -> Answer | None:
        """Return an answer in its form; None for 404, which what was deleted has."""
        try:
            content = self._content(path, MAX_ANSWER)
            return None if content is None else form.validate_json(content)
        except (ValueError, ObjectError):  # the texts of pydantic's quote values
            raise FeedError("its answer has not the form of an Orthanc's") from None

    def _content(self, path: str, limit: int) -> bytes | None:
        """Return an answer's bytes, None for 404; ObjectError beyond a limit, FeedError for any other trouble."""
        wait = CONNECT_SECONDS, ANSWER_SECONDS
        try:
            # A redirection would take the credentials elsewhere.
            with self.http.get(f"{self.address}{path}", timeout=wait, stream=True, allow_redirects=False) as answer:
                if answer.status_code == requests.codes.not_found:
                    return None
                if answer.status_code != requests.codes.ok:
                    raise FeedError(f"answered HTTP {answer.status_code}")
                content = bytearray()
                for part in answer.iter_content(CHUNK):
                    content += part
                    if len(content) > limit:
                        raise ObjectError(f"more than {limit:,} bytes, the limit")
                return bytes(content)
        except requests.RequestException as error:
            raise FeedError(f"not reached ({type(error).__name__})") from None
