"""Images of a PACS by DICOMweb (PS3.18): QIDO-RS lists them, WADO-RS sends each as it is stored.

::

    dicomweb://HOST[:PORT]/PATH/studies[?QUERY]                             all studies, or those that match
    dicomweb://HOST[:PORT]/PATH/studies/UID[/series/UID[/instances/UID]]    a study, a series, one instance

``dicomwebs://`` is the same by https. What a query says of series and instances is asked of each study's instances.
dicomweb-client, which the node sends with, holds a whole instance in memory and parses it in the process that asks:
here the content goes to a file piece by piece, within the limits, and is opened by the decoder processes alone.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from email.message import Message
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

from aeflow.archive.item import SCHEME, Item
from aeflow.archive.sources.fetched import Fetched
from aeflow.archive.sources.tries import FinalError, PassingError, copied, reason, tried
from aeflow.errors import DataError, SettingsError
from aeflow.imageio.limits import LIMITS
from aeflow.runtime.addresses import is_loopback
from aeflow.runtime.extras import extra
from aeflow.runtime.web_session import CREDENTIALS, web_session

if TYPE_CHECKING:
    import requests

SCHEMES = {"dicomweb": "http", "dicomwebs": "https"}
CREDENTIALS_FOR = f"{CREDENTIALS}_HOST"  # the host, and port if there is one, that alone gets the credentials
UID = r"[0-9][0-9.]{0,63}"
PLACE = re.compile(rf"(.*)/studies(?:/({UID})(?:/series/({UID})(?:/instances/({UID}))?)?)?/?")
SHAPE = "write dicomweb://HOST/PATH/studies, /studies/UID, or /studies/UID/series/UID"
STUDY_UID, SERIES_UID, INSTANCE_UID = "0020000D", "0020000E", "00080018"  # as DICOM JSON names attributes
# Attributes of series and instances that QIDO-RS matches (PS3.18, table 10.6.1-5). Studies do not have them: an Orthanc
# that is asked for studies of a Modality answers that there are none.
OF_INSTANCES = {
    *("Modality", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "BodyPartExamined", "StationName"),
    *("PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime", "Manufacturer", "ManufacturerModelName"),
    *("SOPClassUID", "SOPInstanceUID", "InstanceNumber", "ViewPosition", "ImageType"),
}
PAGE = 500  # results that are asked for at a time; a server may give fewer
CONNECT_SECONDS, SILENT_SECONDS = 10.0, 30.0
PIECE = 2**20  # bytes of an answer that are read at a time
MAX_HEAD = 2**16  # bytes before the content of an answer of several parts
JSON = "application/dicom+json"
STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'  # as it is stored, not recompressed
# Answers of which another try would get the same; all others, as 503, may pass.
FINAL = {
    400: "it does not understand the query",
    401: "it wants other credentials",
    403: "these credentials may not",
    404: "not there",
    406: "it cannot send that",
    410: "not there any more",
}
GONE = (404, 410)
NO_LIST = "answered with something else than a list of DICOM JSON"
Query = tuple[tuple[str, str], ...]


class GoneError(FinalError):
    """Answer that something is not there."""


@dataclass(frozen=True, slots=True)
class Place:
    """Address of studies, a study, a series or an instance."""

    scheme: str
    host: str  # and port, if there is one
    path: str  # before /studies
    study: str | None = None
    series: str | None = None
    instance: str | None = None
    query: Query = ()

    @classmethod
    def of(cls, url: str) -> Self:
        """Return the address that a URL is; DataError if it is none, or holds credentials, which are not repeated."""
        scheme, _, _ = url.partition(SCHEME)
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise DataError(f"{scheme}{SCHEME}...", "is no URL", SHAPE) from error
        if "@" in parts.netloc:
            found = "a URL with credentials, and it would stand in tables"
            raise DataError(f"{scheme}{SCHEME}...", found, f"give them in the environment, as {CREDENTIALS}_TOKEN")
        match = PLACE.fullmatch(parts.path)
        if match is None or not parts.hostname or parts.fragment:
            raise DataError(f"{scheme}{SCHEME}{parts.netloc}", "names no studies of a DICOMweb server", SHAPE)
        query = tuple(parse_qsl(parts.query, keep_blank_values=True))
        if not all(_matches(name) for name, _ in query):  # it may be a key, and is not repeated
            remedy = "write attributes of DICOM, as ?Modality=CR&StudyDate=20260101-"
            raise DataError(f"{scheme}{SCHEME}{parts.netloc}", "a query with something else than attributes", remedy)
        path, study, series, instance = match.groups()
        return cls(scheme.lower(), parts.netloc.lower(), path, study, series, instance, query)

    def url(self, scheme: str | None = None) -> str:
        """Return the URL, without a query; by another scheme if one is given."""
        levels = (("studies", self.study), ("series", self.series), ("instances", self.instance))
        below = "".join(f"/{level}/{uid}" for level, uid in levels if uid is not None) or "/studies"
        return f"{scheme or self.scheme}{SCHEME}{self.host}{self.path}{below}"

    @property
    def http(self) -> str:
        """The URL that a server is asked by."""
        return self.url(SCHEMES[self.scheme])


def items(source: str) -> Iterator[Item]:
    """Yield the instances of a URL in the server's order, study by study.

    A listing holds the instances of one study in memory. DataError if the server cannot be asked, or has no such study.
    """
    place = Place.of(source)
    try:
        if place.instance is not None:
            yield _item(place)
        elif place.study is not None:
            found = list(_instances(place))
            if not found:
                what = "series" if place.series is not None else "study"
                matching = " with instances that match" if place.query else ""
                raise DataError(source, f"there is no such {what}{matching}", "check the URL")
            yield from found
        else:
            of_studies = tuple(one for one in place.query if _keyword(one[0]) not in OF_INSTANCES)
            of_instances = tuple(one for one in place.query if one not in of_studies)
            narrowed = tuple(("ModalitiesInStudy", text) for name, text in place.query if _keyword(name) == "Modality")
            for study in _found(place, place.http, (*of_studies, *narrowed), STUDY_UID):
                yield from _instances(replace(place, study=study[STUDY_UID], query=of_instances))
    except (FinalError, PassingError, OSError, ValueError) as error:
        remedy = f"check the URL, and {CREDENTIALS}_HOST, _TOKEN, _USER and _PASSWORD in the environment; or repeat"
        raise DataError(source, f"cannot be listed ({reason(error)})", remedy) from error


def fetch(item: Item) -> Fetched:
    """Return an instance as a file; FileError if it cannot be had, ImageLimitError if it is too long."""
    place = Place.of(item.path)
    return copied(lambda: _content(place, place.http, STORED), item.name)


def _item(place: Place) -> Item:
    """Return an instance; its mark is its UID, since other pixels have another one (PS3.3, C.7.6.1.1.2)."""
    url = replace(place, query=()).url()
    return Item(url, url, version=place.instance)


def _instances(place: Place) -> Iterator[Item]:
    """Yield the instances of a study or a series that match; none if it is not there, or no more."""
    with suppress(GoneError):
        for one in _found(place, f"{place.http}/instances", place.query, SERIES_UID, INSTANCE_UID):
            yield _item(replace(place, series=one[SERIES_UID], instance=one[INSTANCE_UID]))


def _found(place: Place, url: str, query: Query, *uids: str) -> Iterator[dict[str, str]]:
    """Yield the unique identifiers ``uids`` of what a search finds, page by page; the last one tells results apart.

    Results that are there twice, because others came while they were listed, count once. A server that does not know
    pages gives everything in the first one.
    """
    offset, former = 0, set[str]()
    while True:
        asked = urlencode([*query, ("limit", PAGE), ("offset", offset), *(("includefield", uid) for uid in uids)])
        page = tried(lambda: _list(place, f"{url}?{asked}", uids))  # noqa: B023  # called here, and not later
        new = [one for one in page if one[uids[-1]] not in former]
        yield from new
        if not new:
            if page and offset == PAGE:
                raise FinalError("the server answers with the first page again where the second was asked for")
            return
        offset, former = offset + len(page), {one[uids[-1]] for one in page}


def _list(place: Place, url: str, uids: Iterable[str]) -> list[dict[str, str]]:
    """Return the unique identifiers in an answer; FinalError if it is no list of them."""
    content = b"".join(_bounded(_content(place, url, JSON)))
    try:
        rows = json.loads(content or b"[]")
        found = [{uid: row[uid]["Value"][0] for uid in uids} for row in rows]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise FinalError(NO_LIST) from error
    if not all(isinstance(uid, str) and re.fullmatch(UID, uid) for row in found for uid in row.values()):
        raise FinalError(NO_LIST)
    return found


def _content(place: Place, url: str, accept: str) -> Iterator[bytes]:
    """Yield the content of an answer, or of its first part if it has several; FinalError or PassingError if none is."""
    session = _session(place.scheme, place.host)
    headers = {"Accept": accept}
    with session.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, SILENT_SECONDS)) as answer:
        if answer.status_code >= 300:
            told = f"HTTP {answer.status_code}"
            if answer.status_code in FINAL:
                kind = GoneError if answer.status_code in GONE else FinalError
                raise kind(f"{told}: {FINAL[answer.status_code]}")
            raise PassingError(told)
        head = Message()
        head["Content-Type"] = answer.headers.get("Content-Type", "")
        pieces = answer.iter_content(PIECE)
        boundary = head.get_boundary()
        yield from pieces if boundary is None else first_part(pieces, boundary.encode())


def _bounded(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the pieces of a list; FinalError if it is longer than a file may be."""
    left = LIMITS.max_bytes
    for piece in pieces:
        yield piece
        left -= len(piece)
        if left < 0:
            raise FinalError("a list longer than the limit max_bytes")


def first_part(pieces: Iterable[bytes], boundary: bytes) -> Iterator[bytes]:
    """Yield the content of the first part of a multipart message (RFC 2046, 5.1.1); PassingError if it is cut off.

    >>> message = b"--b\\r\\nContent-Type: application/dicom\\r\\n\\r\\nDICM\\r\\n--b--"
    >>> b"".join(first_part([message[:9], message[9:]], b"b"))
    b'DICM'
    """
    delimiter, held, begun = b"\r\n--" + boundary, b"\r\n", False
    for piece in pieces:
        held += piece
        if not begun:
            end = held.find(b"\r\n\r\n", max(0, held.find(delimiter)))
            if delimiter not in held or end < 0:
                if len(held) > MAX_HEAD:
                    break
                continue
            held, begun = held[end + 4 :], True
        at = held.find(delimiter)
        if at >= 0:
            yield held[:at]
            return
        safe = max(0, len(held) - len(delimiter))  # what follows may be the beginning of the delimiter
        yield held[:safe]
        held = held[safe:]
    raise PassingError("the answer is cut off")


@functools.cache
def _session(scheme: str, host: str) -> requests.Session:
    """Return the session with a server, with the credentials if they are for this one.

    SettingsError if they do not say which host they are for, or would be sent unencrypted to another machine.
    """
    with extra("remote"):
        import requests  # noqa: F401
    given = any(os.environ.get(f"{CREDENTIALS}_{part}") for part in ("TOKEN", "USER"))
    for_host = os.environ.get(CREDENTIALS_FOR)
    if given and not for_host:
        found = "not set beside credentials, which no other host may see"
        raise SettingsError(CREDENTIALS_FOR, found, f"name the host that they are for, as {CREDENTIALS_FOR}={host}")
    theirs = given and for_host is not None and for_host.lower() == host
    if theirs and SCHEMES[scheme] == "http" and not is_loopback(urlsplit(f"//{host}").hostname or ""):
        raise SettingsError(f"{scheme}{SCHEME}{host}", "would send credentials unencrypted", "write dicomwebs://")
    return web_session([CREDENTIALS] if theirs else [])


def _matches(name: str) -> bool:
    """Return if a query may hold a name: attributes, of sequences as well, and if names may be matched loosely."""
    return name == "fuzzymatching" or all(_keyword(part) for part in name.split("."))


def _keyword(name: str) -> str:
    """Return the keyword of an attribute that is named by it or by its tag; empty if there is none."""
    from pydicom.datadict import keyword_for_tag, tag_for_keyword  # half a second, which other sources do without

    if re.fullmatch(r"[0-9a-fA-F]{8}", name):
        return keyword_for_tag(int(name, 16)) or name
    return name if tag_for_keyword(name) is not None else ""
