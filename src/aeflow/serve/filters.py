"""Filters of the worklist: which studies are shown, as an address and as conditions of a query."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import ColumnElement

from aeflow.errors import count
from aeflow.serve.tables import studies


@dataclass(frozen=True, slots=True)
class Filters:
    """What of the worklist is shown; empty: all."""

    verdict: str = ""  # normal, abnormal
    label: str = ""  # normal, abnormal, unsure; any: labelled; none: not labelled
    outside: str = ""  # yes, no
    since: str = ""  # a day, YYYY-MM-DD
    until: str = ""  # the last day
    source: str = ""
    former: str = ""  # yes: studies that former models scored, instead of those of the present one

    def query(self) -> dict[str, str]:
        """Return those that are set, as an address has them."""
        return {name: value for name, value in asdict(self).items() if value}

    def of_model(self, model: int) -> list[ColumnElement[bool]]:
        """Return the conditions on a study where ``model`` is the present one: p-values of two have no common order."""
        return [studies.c.model != model if self.former else studies.c.model == model, *self.conditions()]

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the conditions on a study, whichever model scored it."""
        found: list[ColumnElement[bool]] = []
        if self.verdict:
            found.append(studies.c.verdict == self.verdict)
        if self.label == "any":
            found.append(studies.c.label != "")
        elif self.label:
            found.append(studies.c.label == ("" if self.label == "none" else self.label))
        if self.outside:
            found.append(studies.c.outside.is_(self.outside == "yes"))
        if self.since:
            found.append(studies.c.at >= self.since)
        if self.until:
            found.append(studies.c.at < f"{self.until}U")  # U follows T, which ends a day in a time
        if self.source:
            found.append(studies.c.source == self.source)
        return found


def words(filters: Filters, counted: dict[str, int]) -> str:
    """Return how much of the worklist is shown."""
    every = count(counted["all"], "study", "studies")
    return f"{counted['shown']:,} of {every}" if filters.query() else every
