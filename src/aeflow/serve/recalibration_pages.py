"""Page of the recalibration: what it would take, how it went, what it changes, and the command that serves it."""

from __future__ import annotations

import shlex
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from aeflow.errors import SettingsError
from aeflow.serve import audit
from aeflow.serve.before_after import MOST as MOST_COMPARED
from aeflow.serve.filters import Filters
from aeflow.serve.recalibration import LEAST
from aeflow.serve.rendering import rendered
from aeflow.serve.schemas import filters
from aeflow.serve.service import Options, Service, service_of, who_of

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


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
        "most": MOST_COMPARED,
        "refused": refused,
    }
    answer = rendered(request, "recalibrate.html", status, **values)
    if service.recalibration.state.running:
        answer.headers["refresh"] = "3"
    return answer


def _command(service: Service) -> str:
    """Return the command that serves the run that was made last, with what is kept here."""
    options, out = service.options, service.recalibration.state.out
    words = ["aeflow", "serve", str(out), *kept_at(service), "--port", str(options.port)]
    if options.host != Options().host:
        words += ["--host", options.host]
    return shlex.join([*words, *(["--tls"] if options.secure else [])])


def kept_at(service: Service) -> list[str]:
    """Return the options that name this worklist; a password in the address of a database is left out."""
    where = service.database.engine.url
    address = (
        [] if where.get_backend_name() == "sqlite" else ["--database", where._replace(password=None).render_as_string()]
    )
    return ["--data", str(service.folder), *address]
