"""Images over time as ``aeflow drift`` sees them: all that one model scored here, in the order they came, by source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import Connection, select

from aeflow.drift.charts import Alarm
from aeflow.drift.drift import Drift, drift_of
from aeflow.drift.score_rows import ScoreRows
from aeflow.drift.source import Source
from aeflow.drift.words import Finding, findings
from aeflow.errors import DataError
from aeflow.serve.database import Database
from aeflow.serve.filters import Filters
from aeflow.serve.tables import images, studies

MOST = 20_000  # images, the last ones: who looks waits for them (docs/review.md)
SOURCE, AT = "source", "received"  # columns beside those of `aeflow score`


@dataclass(frozen=True, slots=True)
class Change:
    """Source whose normal images do not look as they did, and the day by which they certainly had changed."""

    source: str  # empty: all of them
    since: str  # YYYY-MM-DD

    @property
    def filters(self) -> str:
        """The images received since, as an address has them."""
        return urlencode(Filters(since=self.since, source=self.source).query())


@dataclass(frozen=True, slots=True)
class Trends:
    """What the charts say of the images of one model, in words and by source."""

    drift: Drift
    findings: list[Finding]
    apart: str  # why sources have no charts of their own, or empty
    cut: bool  # if there are more images than were looked at

    @property
    def changes(self) -> list[Change]:
        """The sources that changed; all together only if none of them did by itself."""
        found = [(one, one.other_images.alarms) for one in self.drift.sources]
        named = [Change(_name(one), _day(self.drift, one, alarms[0])) for one, alarms in found if alarms]
        return [one for one in named if one.source] or named


def trends(database: Database, model: int, metadata: dict[str, Any]) -> Trends | None:
    """Return what became of the images that a model scored; None if there are none."""
    with database.reading() as connection:
        found = list(_rows(connection, model))[::-1]
    if not found:
        return None
    names = dict.fromkeys(name for row in found for name in row)
    columns = {name: [row.get(name) for row in found] for name in names}
    rows = ScoreRows(columns, [Path("worklist")] * len(found), refused=0, repeated=0)
    several, apart = len(set(columns[SOURCE])) > 1, ""
    try:
        drift = drift_of(rows, metadata, by=SOURCE if several else None, order=AT)
    except DataError as error:  # too many of them, or hardly an image each
        drift, apart = drift_of(rows, metadata, order=AT), error.found
    return Trends(drift, findings(drift), apart, len(found) == MOST)


def _rows(connection: Connection, model: int) -> Iterator[dict[str, Any]]:
    """Yield the row of each image as `aeflow score` writes it, with its source and when it came, the last first."""
    columns = (images.c.id, images.c.row, images.c.at, studies.c.source)
    chosen = select(*columns).join(studies, studies.c.id == images.c.study).where(images.c.model == model)
    for row in connection.execute(chosen.order_by(images.c.at.desc(), images.c.slice.desc()).limit(MOST)):
        # two files may have one name: the identifier tells them apart
        yield {**row.row, "path": row.id, SOURCE: row.source, AT: f"{row.at[:10]} {row.at[11:16]}"}


def _name(source: Source) -> str:
    """Return the name of a source as its sender calls it; empty for all together."""
    return source.name.removeprefix(f"{SOURCE} ") if source.name.startswith(f"{SOURCE} ") else ""


def _day(drift: Drift, source: Source, alarm: Alarm) -> str:
    return drift.at[source.rows[round(alarm.onset.high)]][:10]
