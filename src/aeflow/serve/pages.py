"""Pages for readers, written by the server: worklist, study, what to label next, trends, recalibration, sign-in."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy import Row

from aeflow.artifacts.layout import read_metadata
from aeflow.imageio.errors import ImageError
from aeflow.reporting.p_value import p_words
from aeflow.serve import audit, pictures
from aeflow.serve.accounts import SESSION_HOURS, TooManyError
from aeflow.serve.api import image_of, place_of
from aeflow.serve.charts import over_time as plot
from aeflow.serve.charts import place_among_normals
from aeflow.serve.database import FILE
from aeflow.serve.filters import Filters, words
from aeflow.serve.guard import COOKIE
from aeflow.serve.recalibration import LEAST
from aeflow.serve.recalibration_pages import kept_at
from aeflow.serve.rendering import meaning, rendered
from aeflow.serve.rounds import rounds
from aeflow.serve.schemas import Identifier, filters
from aeflow.serve.service import Service, service_of, who_of
from aeflow.serve.suggestions import suggested
from aeflow.serve.trends import MOST
from aeflow.serve.trends import trends as over_time
from aeflow.serve.worklist import PAGE

SUGGESTED = 12
FAR = 5.0  # times the rate of false alarms, or a part of it: a p-value beyond is far from the boundary
router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/")
def worklist(
    request: Request,
    chosen: Annotated[Filters, Depends(filters)],
    after: Annotated[str, Query(pattern="^([0-9a-f]{16})?$")] = "",
) -> HTMLResponse:
    """Show studies, the most abnormal first; after one of them only the rows that follow."""
    service = service_of(request)
    rows = service.worklist.page(chosen, after)
    more = len(rows) > PAGE
    rows = rows[:PAGE]
    values: dict[str, Any] = {
        "rows": rows,
        "first": service.worklist.first_images([row.id for row in rows]),
        "marks": service.labels.marks([row.id for row in rows]),
        "query": urlencode(chosen.query()),
        "more": urlencode({**chosen.query(), "after": rows[-1].id}) if more else "",
    }
    if after:
        return rendered(request, "rows.html", **values)
    found = service.worklist.counted(chosen)
    shown: dict[str, Any] = {"chosen": chosen, "words": words(chosen, found), "empty": not found["all"]}
    shown |= {"former": found["former"], "sources": service.worklist.sources()}
    shown |= {"unscored": service.rescoring.waiting() if found["former"] else 0, "again": service.rescoring.progress}
    return rendered(request, "worklist.html", **values, **shown, calibration=service.scorer.calibration)


@router.post("/rescore")
def rescore(request: Request) -> Response:
    """Begin to score with this model what only former ones have scored."""
    service, who = service_of(request), who_of(request)
    service.rescoring.start(who.name)
    return RedirectResponse("/", 303)


@router.get("/studies/{study}")
def study_page(
    request: Request,
    study: Identifier,
    chosen: Annotated[Filters, Depends(filters)],
    image: str = "",
    proposed: Literal["", "yes"] = "",
) -> HTMLResponse:
    """Show the images of a study with their maps; of a ``proposed`` one the next proposal follows."""
    service = service_of(request)
    found = service.worklist.study(study)
    if found is None:
        return rendered(request, "missing.html", 404)
    row, images = found
    model = service.worklist.model_of(row.model)
    if row.model != service.worklist.model:
        chosen = replace(chosen, former="yes")
    query = urlencode(chosen.query() | ({"proposed": proposed} if proposed else {}))
    before, following, number = service.worklist.beside(study, chosen)
    every = service.worklist.number(chosen)
    # who labels what has no label sees the list get shorter, and no position in it
    place = f"{every:,} not labelled" if chosen.label == "none" else f"{number + 1:,} of {every:,}"
    if proposed:
        before, following, place = _among_proposals(service, study, image, query)
    elif query:
        before, following = (one and f"{one}?{query}" for one in (before, following))
    highest = max(range(len(images)), key=lambda i: images[i].score)
    at = next((i for i, one in enumerate(images) if one.id == image), highest)
    with service.database.writing() as connection:
        audit.record(connection, who_of(request).name, "saw", study)
    return rendered(
        request,
        "study.html",
        study=row,
        images=images,
        at=at,
        model_row=model,
        facts={
            "reader": who_of(request).name,
            "labelled": bool(row.label),
            "left": service.worklist.number(Filters(label="none")),
            "at": at,
            "images": [_facts(service, one, 1 / (len(model.normals) + 1)) for one in images],
        },
        strips=[place_among_normals(model.normals, one.score, model.threshold) for one in images],
        kinds=sorted({*service.labels.kinds(), *model.kinds}),
        before=before,
        following=following,
        place=place,
        list="/next" if proposed else f"/?{query}#{study}",
        lacks=service.nearest.lacks(),
        bar=pictures.colour_bar(),
    )


@router.get("/images/{image}/nearest")
def nearest(request: Request, image: Identifier) -> HTMLResponse:
    """Show the train normals most like an image, as a part of a page."""
    service, row = service_of(request), image_of(request, image)
    try:
        found = service.nearest.of(service.intake.path_of(row.content), place_of(row))
    except ImageError as error:
        raise HTTPException(422, error.found) from error
    return rendered(request, "nearest.html", found=found)


@router.get("/next")
def next_to_label(request: Request) -> HTMLResponse:
    """Show which images are worth most to label next."""
    service = service_of(request)
    found = _suggested(service, SUGGESTED)
    agreed, disputed = service.labels.agreed()
    given = {label: sum(one.label == label for one in agreed) for label in ("normal", "abnormal")}
    marked = sum(bool(one.regions) for one in agreed)
    values: dict[str, Any] = {
        "found": found,
        "none_left": not service.worklist.number(Filters(label="none")),
        "given": given,
        "disputed": disputed,
        "marked": marked,
        "rounds": rounds(service.database),
        "rate": (rate := service.scorer.calibration.rate),
        "far": bool(found) and all(max(row.p_value / rate, rate / row.p_value) > FAR for row in found),
        "file": service.folder / FILE,
        "verify": shlex.join(["aeflow", "serve", *kept_at(service), "--verify-audit"]),
    }
    return rendered(request, "next.html", **values)


@router.get("/trends")
def trends(request: Request) -> HTMLResponse:
    """Show if normal images still look the same, over time and by source, and what to do if they do not."""
    service = service_of(request)
    found = over_time(service.database, service.worklist.model, read_metadata(service.run))
    rate = service.scorer.calibration.rate
    plots = [] if found is None else [(one, plot(one, found.drift.at, rate)) for one in found.drift.sources]
    return rendered(request, "trends.html", found=found, plots=plots, rate=rate, most=MOST, least=LEAST)


@router.get("/sign-in")
def sign_in_page(request: Request, next: str = "/") -> HTMLResponse:
    """Ask for name and password."""
    return rendered(request, "sign_in.html", there=_inner(next), wrong="")


@router.post("/sign-in")
def sign_in(
    request: Request,
    name: Annotated[str, Form(max_length=64)],
    password: Annotated[str, Form(max_length=1024)],
    next: Annotated[str, Form(max_length=2000)] = "/",
) -> Response:
    """Begin a session."""
    service = service_of(request)
    try:
        cookie = service.accounts.sign_in(name.strip(), password)
    except TooManyError:
        wrong = "Too many wrong passwords: wait ten minutes."
        return rendered(request, "sign_in.html", 429, there=_inner(next), wrong=wrong)
    if cookie is None:
        return rendered(request, "sign_in.html", 401, there=_inner(next), wrong="Wrong name or password.")
    answer = RedirectResponse(_inner(next), 303)
    secure = service.options.secure
    answer.set_cookie(COOKIE, cookie, SESSION_HOURS * 3600, httponly=True, samesite="strict", secure=secure)
    return answer


@router.post("/sign-out")
def sign_out(request: Request) -> Response:
    """End the session."""
    if cookie := request.cookies.get(COOKIE):
        service_of(request).accounts.sign_out(cookie)
    answer = RedirectResponse("/sign-in", 303)
    answer.delete_cookie(COOKIE)
    return answer


def _among_proposals(service: Service, study: str, image: str, query: str) -> tuple[str | None, str | None, str]:
    """Return the addresses of the proposals before and after a study, and its place among them.

    A label takes its image off the proposals, and leaves the others in their order: whatever follows one that was
    passed over follows it still. One that is labelled already is followed by the first.
    """
    found = _suggested(service, SUGGESTED)
    own = [i for i, one in enumerate(found) if one.study == study]
    at = next((i for i in own if found[i].id == image), own[0] if own else -1)
    before = [one for one in found[: max(at, 0)] if one.study != study]
    others = [one for one in found[at + 1 :] if one.study != study]
    place = f"proposal {at + 1} of {len(found)}" if own else "proposed"

    def address(one: Row[Any]) -> str:
        return f"{one.study}?image={one.id}&{query}"

    return (address(before[-1]) if before else None), (address(others[0]) if others else None), place


def _suggested(service: Service, number: int) -> list[Row[Any]]:
    return suggested(service.database, service.worklist.model, service.scorer.calibration.rate, number)


def _facts(service: Service, row: Row[Any], least: float) -> dict[str, Any]:
    """Return what the script of a study's page needs of an image; ``least`` is the smallest p-value of its model."""
    given = service.labels.of(row.id) if row.label else []
    return {
        "id": row.id,
        "slice": row.slice,
        "file": row.row["path"],
        "score": row.score,
        "p": p_words(row.p_value, least),
        "verdict": row.verdict,
        "outside": meaning(row.outside),
        "label": row.label,
        "given": [{"number": one.id, "reader": one.reader, "label": one.label, "kind": one.kind} for one in given],
        "regions": [region for one in given for region in one.regions],
    }


def _inner(there: str) -> str:
    """Return an address within this service; its first page for any other.

    >>> _inner("//elsewhere.org"), _inner("/studies/1?label=none")
    ('/', '/studies/1?label=none')
    """
    inner = there.startswith("/") and not there.startswith(("//", "/\\")) and there.isprintable()
    return there if inner else "/"
