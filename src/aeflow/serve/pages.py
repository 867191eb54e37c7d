"""Pages for readers, written by the server: worklist, study, what to label next, trends, recalibration, sign-in."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy import Row

from aeflow._version import __version__
from aeflow.artifacts.layout import read_metadata
from aeflow.errors import SettingsError, count
from aeflow.imageio.errors import ImageError
from aeflow.metrics.image import Metric
from aeflow.reporting.score_page import in_script
from aeflow.serve import audit, pictures
from aeflow.serve.accounts import LOCAL, SESSION_HOURS, TooManyError
from aeflow.serve.api import image_of, place_of
from aeflow.serve.charts import over_time as plot
from aeflow.serve.charts import place_among_normals
from aeflow.serve.database import FILE
from aeflow.serve.filters import Filters, words
from aeflow.serve.guard import COOKIE
from aeflow.serve.recalibration import LEAST
from aeflow.serve.rounds import rounds
from aeflow.serve.schemas import Identifier, filters
from aeflow.serve.service import Options, Service, service_of, who_of
from aeflow.serve.suggestions import suggested
from aeflow.serve.trends import MOST
from aeflow.serve.trends import trends as over_time
from aeflow.serve.worklist import PAGE

HERE = Path(__file__).parent


def with_interval(metric: Metric) -> str:
    """Return a figure with its interval, as pages write it; of few images it may have none.

    >>> with_interval({"value": 0.9, "low": 0.8, "high": 0.95}), with_interval({"value": 1, "low": None, "high": None})
    ('0.900 (0.800 to 0.950)', '1.000 (too few for an interval)')
    """
    if metric["low"] is None:
        return f"{metric['value']:.3f} (too few for an interval)"
    return f"{metric['value']:.3f} ({metric['low']:.3f} to {metric['high']:.3f})"


SUGGESTED = 12
router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
environment = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
environment.filters |= {
    "short": lambda value: f"{value:.3g}",
    "p": lambda value: f"{value:.2g}",
    "minute": lambda text: f"{text[:10]} {text[11:16]}",
    "number_of": count,
    "interval": with_interval,
    "json": in_script,
}


def rendered(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return a page; every text is escaped, a missing value is an error."""
    service, who = service_of(request), who_of(request)
    frame = {
        "version": __version__,
        "model": service.scorer.fingerprint,
        "who": who,
        "may_leave": who not in (LOCAL,) and bool(who.role),
        "here": request.url.path,
    }
    return HTMLResponse(environment.get_template(template).render(**frame, **values), status)


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
    if proposed:
        others = (one for one in _suggested(service, 2) if one.study != study)
        before, following = None, next((f"{one.study}?image={one.id}&{query}" for one in others), None)
    elif following:
        following += f"?{query}" * bool(query)
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
            "images": [_facts(service, one) for one in images],
        },
        strips=[place_among_normals(model.normals, one.score, model.threshold) for one in images],
        kinds=sorted({*service.labels.kinds(), *model.kinds}),
        before=before,
        following=following,
        place=f"{number + 1:,} of {service.worklist.number(chosen):,}" if not proposed else "proposed",
        list="/next" if proposed else f"/?{query}",
        query=query,
        lacks=service.nearest.lacks(),
        bar=pictures.colour_bar(),
        limits=service.scorer.calibration.map_limits["anomaly"] if row.model == service.worklist.model else None,
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
        "file": service.folder / FILE,
    }
    return rendered(request, "next.html", **values)


@router.get("/trends")
def trends(request: Request) -> HTMLResponse:
    """Show if normal images still look the same, over time and by source, and what to do if they do not."""
    service = service_of(request)
    found = over_time(service.database, service.worklist.model, read_metadata(service.run))
    rate = service.scorer.settings.false_positive_rate
    plots = [] if found is None else [(one, plot(one, found.drift.at, rate)) for one in found.drift.sources]
    return rendered(request, "trends.html", found=found, plots=plots, rate=rate, most=MOST, least=LEAST)


@router.get("/recalibrate")
def recalibration(request: Request, chosen: Annotated[Filters, Depends(filters)]) -> HTMLResponse:
    """Show how many normals are confirmed, and how the last recalibration went."""
    return _recalibration(request, chosen, "")


@router.post("/recalibrate")
def recalibrate(request: Request, chosen: Annotated[Filters, Depends(filters)]) -> HTMLResponse:
    """Begin a recalibration, as an admin may."""
    if not who_of(request).is_admin:
        return _recalibration(request, chosen, "Only an admin may make a new run.", 403)
    service = service_of(request)
    try:
        state = service.recalibration.start(chosen)
    except SettingsError as error:
        return _recalibration(request, chosen, f"{error.found}: {error.remedy}", 422)
    with service.database.writing() as connection:
        name = state.out.name if state.out else ""
        audit.record(connection, who_of(request).name, "recalibrated", "", out=name)
    return _recalibration(request, chosen, "")


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


def _recalibration(request: Request, chosen: Filters, refused: str, status: int = 200) -> HTMLResponse:
    service = service_of(request)
    values = {
        "lacks": service.recalibration.lacks(),
        "chosen": chosen,
        "query": urlencode(chosen.query()),
        "normals": len(service.recalibration.normals(chosen)),
        "least": LEAST,
        "state": service.recalibration.state,
        "serve": _command(service),
        "refused": refused,
    }
    answer = rendered(request, "recalibrate.html", status, **values)
    if service.recalibration.state.running:
        answer.headers["refresh"] = "3"
    return answer


def _command(service: Service) -> str:
    """Return the command that serves the run that was made last, with what is kept here."""
    options, out = service.options, service.recalibration.state.out
    words = ["aeflow", "serve", str(out), "--data", str(service.folder), "--port", str(options.port)]
    if options.host != Options().host:
        words += ["--host", options.host]
    return shlex.join([*words, *(["--tls"] if options.secure else [])])


def _suggested(service: Service, number: int) -> list[Row[Any]]:
    return suggested(service.database, service.worklist.model, service.scorer.settings.false_positive_rate, number)


def _facts(service: Service, row: Row[Any]) -> dict[str, Any]:
    """Return what the script of a study's page needs of an image."""
    given = service.labels.of(row.id) if row.label else []
    return {
        "id": row.id,
        "slice": row.slice,
        "score": row.score,
        "p": row.p_value,
        "verdict": row.verdict,
        "outside": row.outside,
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
