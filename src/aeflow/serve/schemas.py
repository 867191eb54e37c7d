"""What the interface for programs takes and gives, as its OpenAPI document describes it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field, field_validator

from aeflow.errors import printable
from aeflow.serve.filters import Filters
from aeflow.serve.labels import Label

Identifier = Annotated[str, Field(pattern="^[0-9a-f]{16}$", description="As an earlier answer gave it.")]
Share = Annotated[float, Field(ge=0, le=1)]
Verdict = Literal["", "normal", "abnormal"]
LabelFilter = Literal["", "any", "none", "normal", "abnormal", "unsure"]
Day = Annotated[str, Query(pattern=r"^(\d{4}-\d{2}-\d{2})?$", description="YYYY-MM-DD")]
MOST_REGIONS = 50
MOST_NUMBER = 2**53 - 1  # of a label; the largest that JavaScript counts to
SOURCE = re.compile(r"[\w .-]{1,40}")


class ImageRow(BaseModel):
    """One image, with the columns that `aeflow score` writes; ``error`` says why one was refused."""

    model_config = ConfigDict(extra="allow")

    id: str | None = None
    study_id: str | None = None
    path: str = Field(description="pseudonym of the name that was sent")
    slice: int | None = None
    score: float | None = None
    p_value: float | None = None
    verdict: str | None = None
    threshold: float | None = None
    outside: str | None = None
    error: str | None = None
    map: str | None = Field(None, description="address of the anomaly map")
    page: str | None = Field(None, description="address of the page that shows it")
    sent_before: bool = Field(False, description="the same file was here already")


class Scored(BaseModel):
    """Images of all files that were sent, in their order."""

    results: list[ImageRow]


class StudyRow(BaseModel):
    """One row of the worklist."""

    id: str
    p_value: float
    score: float
    verdict: str
    outside: bool
    label: str | None
    images: int
    source: str
    at: str


class StudyPage(BaseModel):
    """Rows of the worklist, the most abnormal first."""

    studies: list[StudyRow]
    next: str | None = Field(description="value of `after` for the rows that follow; none after the last")


class StudyDetail(StudyRow):
    """A study with its images."""

    results: list[ImageRow]


class LabelIn(BaseModel):
    """What a reader says of an image."""

    model_config = ConfigDict(extra="forbid")

    label: Literal["normal", "abnormal", "unsure", "none"] = Field(description="none takes back what was said")
    kind: str = Field("", max_length=60, description="of abnormality, if it is abnormal")
    regions: list[tuple[Share, Share, Share, Share]] = Field(
        default=[],
        max_length=MOST_REGIONS,
        description="left, top, right and bottom of what is abnormal, as shares of the image's sides",
    )

    follows: int | None = Field(
        None,
        ge=0,
        le=MOST_NUMBER,
        description="number (`id`) of the sender's label of this image that this one replaces, as it was last seen; "
        "0: none was there. If it is another one by now, the answer is 409. Left out: whatever is there is replaced",
    )

    @field_validator("kind")
    @classmethod
    def _plain(cls, value: str) -> str:
        return printable(" ".join(value.split()))[:60]

    @field_validator("regions")
    @classmethod
    def _not_empty(cls, value: list[tuple[float, float, float, float]]) -> list[tuple[float, float, float, float]]:
        if any(left >= right or top >= bottom for left, top, right, bottom in value):
            raise ValueError("a region needs left < right and top < bottom")
        return value

    def checked(self) -> Label:
        """Return the label; ValueError if an image that is not abnormal has a kind or a region."""
        if self.label != "abnormal" and (self.kind or self.regions):
            raise ValueError("only an abnormal image has a kind or regions")
        return Label(self.label, self.kind, tuple(self.regions))


class LabelOut(BaseModel):
    """A label as it is kept."""

    id: int
    image: str
    reader: str
    label: str
    kind: str | None
    regions: list[list[float]]
    at: str


class Changed(BaseModel):
    """Why a label was not kept: its sender has labelled the image elsewhere meanwhile."""

    detail: str
    now: LabelOut | None = Field(description="the label that is there; none if it was taken back")


class Problem(BaseModel):
    """Why a request was refused."""

    detail: Any


def filters(
    verdict: Verdict = "",
    label: LabelFilter = "",
    outside: Literal["", "yes", "no"] = "",
    since: Day = "",
    until: Day = "",
    source: Annotated[str, Query(max_length=40)] = "",
    former: Annotated[Literal["", "yes"], Query(description="yes: studies of former models instead")] = "",
) -> Filters:
    """Return what of the worklist is asked for."""
    return Filters(verdict, label, outside, since, until, source, former)
