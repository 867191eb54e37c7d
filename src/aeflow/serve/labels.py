"""Labels that readers give: kept one after another, the last of each reader counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, insert, select, update

from aeflow.serve import audit
from aeflow.serve.database import Database
from aeflow.serve.tables import images, labels, now
from aeflow.serve.worklist import summarise

Region = tuple[float, float, float, float]  # left, top, right, bottom, as shares of the image's sides
CONFLICT = "unsure"  # of an image about which readers do not agree
TAKEN_BACK = "none"


@dataclass(frozen=True, slots=True)
class Label:
    """What a reader says of an image."""

    label: str  # normal, abnormal, unsure; none: the reader takes back what was said
    kind: str = ""  # of abnormality
    regions: tuple[Region, ...] = ()


@dataclass(frozen=True, slots=True)
class AgreedLabel:
    """An image about which all its readers agree."""

    image: Row[Any]
    label: str
    kind: str
    regions: tuple[Region, ...]  # of all readers


@dataclass(frozen=True, slots=True)
class Marks:
    """What readers said of the abnormal images of a study."""

    kinds: list[str]
    regions: int


class ChangedError(Exception):
    """Error of a label that would replace one its reader has not seen."""

    def __init__(self, now: dict[str, Any] | None) -> None:
        super().__init__("labelled elsewhere meanwhile")
        self.now = now  # what is there; None: nothing


class Labels:
    """Labels in the worklist."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def give(self, image: str, reader: str, given: Label, follows: int | None = None) -> dict[str, Any] | None:
        """Add a label, and return it as kept; None if there is no such image.

        The same label sent again, as after a broken connection, is the one that is there. ``follows`` is the number of
        the reader's label that it replaces, 0 for none: ChangedError if that is not the last one.
        """
        with self.database.writing() as connection:
            if connection.scalar(select(images.c.id).where(images.c.id == image)) is None:
                return None
            chosen = select(labels).where(labels.c.image.in_(same_image(image)), labels.c.reader == reader)
            last = connection.execute(chosen.order_by(labels.c.id.desc()).limit(1)).first()
            regions = [list(region) for region in given.regions]
            if last is not None and (last.label, last.kind, last.regions) == (given.label, given.kind, regions):
                return kept(last)
            there = None if last is None or last.label == TAKEN_BACK else last
            if follows is not None and follows != (0 if there is None else there.id):
                raise ChangedError(None if there is None else kept(there))
            values = {"image": image, "reader": reader, "label": given.label, "kind": given.kind, "regions": regions}
            made = connection.execute(insert(labels).values(**values, at=now()).returning(*labels.c)).one()
            agreed = agreed_of(of_image(connection, image))
            same = images.c.id.in_(list(connection.scalars(same_image(image))))
            connection.execute(update(images).where(same).values(label=agreed))
            for study in connection.scalars(select(images.c.study).where(same).distinct()).all():
                summarise(connection, study)
            detail = {"label": given.label, "kind": given.kind, "regions": len(regions), "number": made.id}
            audit.record(connection, reader, "labelled", image, **detail)
            return kept(made)

    def of(self, image: str) -> list[Row[Any]]:
        """Return the last label of each reader of an image."""
        with self.database.reading() as connection:
            return of_image(connection, image)

    def marks(self, studies: Sequence[str]) -> dict[str, Marks]:
        """Return what readers said of the abnormal images of each study; nothing of a study without any."""
        own = select(images.c.study, images.c.content, images.c.slice).where(images.c.study.in_(studies)).subquery()
        same = and_(images.c.content == own.c.content, images.c.slice == own.c.slice)
        columns = (own.c.study, own.c.content, own.c.slice, labels.c.reader, labels.c.label)
        chosen = select(*columns, labels.c.kind, labels.c.regions).select_from(own).join(images, same)
        with self.database.reading() as connection:
            chosen = chosen.join(labels, labels.c.image == images.c.id).order_by(labels.c.id)
            given: list[Row[Any]] = list(connection.execute(chosen))
        last = {(row.study, row.content, row.slice, row.reader): row for row in given}
        found: dict[str, list[Row[Any]]] = defaultdict(list)
        for row in last.values():
            if row.label == "abnormal":
                found[row.study].append(row)
        return {
            study: Marks(sorted({row.kind for row in rows if row.kind}), sum(len(row.regions) for row in rows))
            for study, rows in found.items()
        }

    def kinds(self) -> list[str]:
        """Return the kinds of abnormality that readers have named."""
        with self.database.reading() as connection:
            chosen = select(labels.c.kind).where(labels.c.kind != "").distinct().order_by(labels.c.kind)
            return list(connection.scalars(chosen))

    def agreed(self) -> tuple[list[AgreedLabel], int]:
        """Return the images that are normal or abnormal to all who read them, and how many are disputed or unsure.

        An image that several models scored is one image: its labels count together.
        """
        with self.database.reading() as connection:
            read = connection.execute(
                select(images).where(images.c.id.in_(select(labels.c.image))).order_by(images.c.content, images.c.slice)
            ).all()
            given: dict[str, dict[str, Row[Any]]] = defaultdict(dict)
            one = {row.id: f"{row.content}/{row.slice}" for row in read}
            for label in connection.execute(select(labels).order_by(labels.c.id)):
                given[one[label.image]][label.reader] = label
        found, disputed = [], 0
        for key, row in {one[row.id]: row for row in read}.items():
            last = [label for label in given[key].values() if label.label != TAKEN_BACK]
            if not last:
                continue
            if (agreed := agreed_of(last)) not in ("normal", "abnormal"):
                disputed += 1
                continue
            kinds = sorted({one.kind for one in last if one.kind})
            regions = tuple(tuple(region) for one in last for region in one.regions)
            found.append(AgreedLabel(row, agreed, kinds[0] if len(kinds) == 1 else "", regions))
        return found, disputed


def same_image(image: str) -> Select[Any]:
    """Return the query for an image as each model scored it: its labels are the image's, whoever scores."""
    one = select(images.c.content, images.c.slice).where(images.c.id == image).subquery()
    return select(images.c.id).where(images.c.content == one.c.content, images.c.slice == one.c.slice)


def of_image(connection: Connection, image: str) -> list[Row[Any]]:
    """Return the last label of each reader of an image, in the order in which they were given."""
    found = connection.execute(select(labels).where(labels.c.image.in_(same_image(image))).order_by(labels.c.id))
    last: dict[str, Row[Any]] = {}
    for row in found:
        last.pop(row.reader, None)
        last[row.reader] = row
    return [row for row in last.values() if row.label != TAKEN_BACK]


def agreed_of(found: Sequence[Row[Any]]) -> str:
    """Return the label on which the last labels of all readers agree; ``unsure`` if they do not."""
    given = {row.label for row in found}
    return next(iter(given)) if len(given) == 1 else CONFLICT if given else ""


def kept(row: Row[Any]) -> dict[str, Any]:
    """Return a label as the interface for programs gives it."""
    return {
        "id": row.id,
        "image": row.image,
        "reader": row.reader,
        "label": row.label,
        "kind": row.kind or None,
        "regions": row.regions,
        "at": row.at,
    }
