"""Worklist: scored studies and images, the most abnormal first, page by page by the last row of the page before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, insert, select, tuple_, update

from aeflow.scoring.scorer import Score, Scorer
from aeflow.scoring.studies import TOP_SHARE, simes
from aeflow.serve import audit
from aeflow.serve.database import Database
from aeflow.serve.filters import Filters
from aeflow.serve.tables import images, models, new_id, now, pictures, studies

PAGE = 50  # rows


@dataclass(frozen=True, slots=True)
class NewImage:
    """One scored image, to be put into the worklist."""

    slice: int
    axis: str
    position: float
    study: str  # pseudonym
    patient: str  # pseudonym
    score: Score
    row: dict[str, Any]
    thumbnail: bytes
    map: bytes
    features: bytes
    height: int
    width: int
    at: str = ""  # when it came, if not now


class Worklist:
    """Studies and images that one model scores; those of former models stay and are shown."""

    def __init__(self, database: Database, scorer: Scorer) -> None:
        self.database, self.scorer = database, scorer
        with database.writing() as connection:
            self.model = _model(connection, scorer)

    def rows_of(self, content: str, who: str) -> list[dict[str, Any]]:
        """Return the rows of a file that this model has scored before; none if it has not."""
        with self.database.reading() as connection:
            chosen = select(images).where(images.c.content == content, images.c.model == self.model)
            found = connection.execute(chosen.order_by(images.c.slice)).all()
        if not found:
            return []
        with self.database.writing() as connection:
            audit.record(connection, who, "sent again", found[0].study, images=len(found))
        return [{**shown_row(row), "sent_before": True} for row in found]

    def add(self, content: str, new: Sequence[NewImage], source: str, who: str) -> list[dict[str, Any]]:
        """Put the images of a file into the worklist, all of them or none; return their rows."""
        at = new[0].at or now()
        with self.database.writing() as connection:
            chosen = select(images.c.slice).where(images.c.content == content, images.c.model == self.model)
            known = set(connection.scalars(chosen))  # sent twice at a time
            study = self._study(connection, new[0], source, at)
            read = select(images.c.slice, images.c.label).where(images.c.content == content, images.c.label != "")
            labels = {row.slice: row.label for row in connection.execute(read)}  # an image keeps its label
            rows = [
                {**_image_row(image, content, study, self.model, image.at or at), "label": labels.get(image.slice, "")}
                for image in new
                if image.slice not in known
            ]
            if rows:
                connection.execute(insert(images), rows)
                drawn = {image.slice: image for image in new}
                connection.execute(
                    insert(pictures),
                    [
                        {"image": row["id"], "thumbnail": (of := drawn[row["slice"]]).thumbnail, "map": of.map}
                        for row in rows
                    ],
                )
                summarise(connection, study, self.scorer.calibration.rate)
            audit.record(connection, who, "scored", study, images=len(rows))
            chosen_rows = select(images).where(images.c.content == content, images.c.model == self.model)
            return [shown_row(row) for row in connection.execute(chosen_rows.order_by(images.c.slice))]

    def page(self, filters: Filters, after: str = "", limit: int = PAGE) -> list[Row[Any]]:
        """Return the rows that follow the study ``after``, or the first ones; one more than ``limit`` if there are."""
        with self.database.reading() as connection:
            chosen = _ordered(select(studies.c.id).where(*filters.of_model(self.model)))
            if after and (place := _place(connection, after)) is not None:
                chosen = chosen.where(_key() > place)
            ids = list(connection.scalars(chosen.limit(limit + 1)))
            rows = connection.execute(_ordered(select(studies).where(studies.c.id.in_(ids)))).all()
        return list(rows)

    def beside(self, study: str, filters: Filters) -> tuple[str | None, str | None, int]:
        """Return the studies before and after one in the order of the worklist, and how many come before it."""
        with self.database.reading() as connection:
            place = _place(connection, study)
            if place is None:
                return None, None, 0
            conditions = filters.of_model(self.model)
            kept = select(studies.c.id).where(*conditions)
            number = select(func.count()).select_from(studies).where(*conditions, _key() < place)
            order = (studies.c.p_value, studies.c.order, studies.c.id)
            before = kept.where(_key() < place).order_by(*(one.desc() for one in order)).limit(1)
            following = connection.scalar(_ordered(kept.where(_key() > place)).limit(1))
            return connection.scalar(before), following, connection.scalar(number) or 0

    def counted(self, filters: Filters) -> dict[str, int]:
        """Return the number of studies under the filters, of this model, and of former ones."""
        of = {"shown": filters, "all": Filters(former=filters.former), "former": Filters(former="yes")}
        return {name: self.number(one) for name, one in of.items()}

    def number(self, filters: Filters) -> int:
        """Return the number of studies under the filters."""
        with self.database.reading() as connection:
            chosen = select(func.count()).select_from(studies).where(*filters.of_model(self.model))
            return connection.scalar(chosen) or 0

    def sources(self) -> list[str]:
        """Return the names of all sources."""
        with self.database.reading() as connection:
            return list(connection.scalars(select(studies.c.source).distinct().order_by(studies.c.source)))

    def study(self, study: str) -> tuple[Row[Any], list[Row[Any]]] | None:
        """Return a study and its images, in the order of their slices; None if there is none."""
        with self.database.reading() as connection:
            found = connection.execute(select(studies).where(studies.c.id == study)).first()
            if found is None:
                return None
            chosen = select(images).where(images.c.study == study).order_by(images.c.position, images.c.at)
            return found, list(connection.execute(chosen).all())

    def image(self, image: str) -> Row[Any] | None:
        """Return an image; None if there is none."""
        with self.database.reading() as connection:
            return connection.execute(select(images).where(images.c.id == image)).first()

    def picture(self, image: str, kind: str) -> bytes | None:
        """Return the ``thumbnail`` or the ``map`` of an image."""
        with self.database.reading() as connection:
            found: bytes | None = connection.scalar(select(pictures.c[kind]).where(pictures.c.image == image))
            return found

    def first_images(self, found: Sequence[str]) -> dict[str, Row[Any]]:
        """Return of each study the image that scores highest, which stands for it."""
        with self.database.reading() as connection:
            columns = (images.c.study, images.c.id, images.c.row)
            chosen = select(*columns).where(images.c.study.in_(found)).order_by(images.c.score)
            rows: list[Row[Any]] = list(connection.execute(chosen))
        return {row.study: row for row in rows}

    def model_of(self, number: int) -> Row[Any]:
        """Return a model that scored something here."""
        with self.database.reading() as connection:
            return connection.execute(select(models).where(models.c.id == number)).one()

    def _study(self, connection: Connection, first: NewImage, source: str, at: str) -> str:
        """Return the study that images belong to, which is made if it is new."""
        same = and_(studies.c.key == first.study, studies.c.model == self.model)
        known: str | None = connection.scalar(select(studies.c.id).where(same))
        if known is not None:
            return known
        study = new_id()
        connection.execute(
            insert(studies).values(
                {
                    "id": study,
                    "key": first.study,
                    "model": self.model,
                    "patient": first.patient,
                    "source": source,
                    "p_value": 1.0,
                    "order": 0.0,
                    "verdict": "normal",
                    "outside": False,
                    "label": "",
                    "images": 0,
                    "at": at,
                }
            )
        )
        return study


def summarise(connection: Connection, study: str, rate: float | None = None) -> None:
    """Set the row of a study from its images, as ``scoring.studies`` does; without ``rate`` only its label."""
    chosen = select(images.c.p_value, images.c.score, images.c.verdict, images.c.outside, images.c.label)
    found = connection.execute(chosen.where(images.c.study == study)).all()
    values: dict[str, Any] = {"label": label_of([row.label for row in found])}
    if rate is not None:
        scores = sorted((row.score for row in found), reverse=True)
        p = simes([row.p_value for row in found])
        several = "abnormal" if p <= rate else "normal"
        values |= {
            "p_value": p,
            "order": -float(np.mean(scores[: max(1, math.ceil(TOP_SHARE * len(scores)))])),
            "verdict": found[0].verdict if len(found) == 1 else several,
            "outside": any(row.outside for row in found),
            "images": len(found),
        }
    connection.execute(update(studies).where(studies.c.id == study).values(values))


def label_of(found: Sequence[str]) -> str:
    """Return the label of a study from those of its images.

    >>> label_of(["", "abnormal", "normal"]), label_of(["normal", "normal"]), label_of(["normal", ""])
    ('abnormal', 'normal', '')
    """
    if "abnormal" in found:
        return "abnormal"
    if "unsure" in found:
        return "unsure"
    return "normal" if found and all(label == "normal" for label in found) else ""


def shown_row(row: Row[Any]) -> dict[str, Any]:
    """Return an image as the interface for programs gives it: the columns of `aeflow score`, and where the rest is."""
    return {
        "id": row.id,
        "study_id": row.study,
        **row.row,
        "reader_label": row.label or None,
        "map": f"/api/images/{row.id}/map.png",
        "page": f"/studies/{row.study}?image={row.id}",
    }


def _image_row(image: NewImage, content: str, study: str, model: int, at: str) -> dict[str, Any]:
    return {
        "id": new_id(),
        "study": study,
        "model": model,
        "content": content,
        "slice": image.slice,
        "axis": image.axis,
        "position": image.position,
        "patient": image.patient,
        "score": image.score.value,
        "p_value": image.score.p_value,
        "verdict": image.score.verdict,
        "outside": ", ".join(image.score.outside),
        "row": image.row,
        "height": image.height,
        "width": image.width,
        "label": "",
        "features": image.features,
        "at": at,
    }


def _model(connection: Connection, scorer: Scorer) -> int:
    """Return the number of a model with its threshold, which is noted if it is new."""
    calibration, rate = scorer.calibration, scorer.calibration.rate
    known: int | None = connection.scalar(select(models.c.id).where(models.c.fingerprint == scorer.fingerprint))
    if known is not None:
        return known
    posterior = calibration.posterior
    values = {
        "fingerprint": scorer.fingerprint,
        "threshold": calibration.threshold,
        "rule": calibration.rule,
        "rate": rate,
        "normals": list(calibration.scores),
        "kinds": [] if posterior is None else list(posterior.kinds),
    }
    made = connection.execute(insert(models).values(values).returning(models.c.id))
    return int(made.scalar_one())


def _key() -> ColumnElement[Any]:
    return tuple_(studies.c.p_value, studies.c.order, studies.c.id)


def _place(connection: Connection, study: str) -> tuple[float, float, str] | None:
    """Return where a study stands in the order of the worklist."""
    chosen = select(studies.c.p_value, studies.c.order, studies.c.id).where(studies.c.id == study)
    found = connection.execute(chosen).first()
    return None if found is None else (found.p_value, found.order, found.id)


def _ordered(chosen: Select[Any]) -> Select[Any]:
    return chosen.order_by(studies.c.p_value, studies.c.order, studies.c.id)
