"""What each round of labels brought: how a model does on the images that readers labelled while it served.

A round is the time of one model. Labels that were given before it began do not count, since it may have learnt from
them; so its figures are those of images that are new to it, and those of two models are of different images.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from aeflow.metrics.image import Metric, auroc_metric
from aeflow.metrics.intervals import wilson
from aeflow.serve.database import Database
from aeflow.serve.tables import audit, images, labels, models, studies

READ = ("normal", "abnormal")


@dataclass(frozen=True, slots=True)
class Round:
    """Labels given while one model served."""

    model: str  # fingerprint
    since: str  # when it scored its first image
    normal: int
    abnormal: int
    right: int  # verdicts that readers agree with
    auroc: Metric | None  # of its scores; None while all labels are alike

    @property
    def share_right(self) -> Metric:
        """The share of verdicts that readers agree with, with its interval."""
        n = self.normal + self.abnormal
        low, high = wilson(self.right, n)
        return {"value": self.right / n, "low": low, "high": high, "interval": "wilson"}


def _began(connection: Connection, model: int) -> str | None:
    """Return when a model scored its first image, None if it has not; an image that is scored again came before."""
    first = select(audit.c.at).join(studies, studies.c.id == audit.c.subject)
    chosen = first.where(studies.c.model == model, audit.c.what == "scored").order_by(audit.c.number).limit(1)
    return connection.scalar(chosen)


def rounds(database: Database) -> list[Round]:
    """Return the rounds in which something was labelled, the last one first."""
    with database.reading() as connection:
        key = (images.c.content, images.c.slice)
        read = select(*key, func.max(labels.c.at).label("at")).join(images, images.c.id == labels.c.image)
        last = {(row.content, row.slice): row.at for row in connection.execute(read.group_by(*key))}
        columns = (*key, images.c.score, images.c.verdict, images.c.label, images.c.patient)
        found = []
        for model in connection.execute(select(models).order_by(models.c.id.desc())):
            since = _began(connection, model.id)
            if since is None:
                continue
            chosen = select(*columns).where(images.c.model == model.id, images.c.label.in_(READ))
            rows = [row for row in connection.execute(chosen) if last[row.content, row.slice] >= since]
            if not rows:
                continue
            abnormal = [row.label == READ[1] for row in rows]
            found.append(
                Round(
                    model.fingerprint,
                    since,
                    normal=len(rows) - sum(abnormal),
                    abnormal=sum(abnormal),
                    right=sum(row.verdict == row.label for row in rows),
                    auroc=auroc_metric([row.score for row in rows], abnormal, [row.patient for row in rows]),
                )
            )
    return found
