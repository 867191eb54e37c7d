"""The application: guard, interface for programs, pages and their files, around one service."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from aeflow._version import __version__
from aeflow.runtime.terminal import print
from aeflow.serve import api, pages, recalibration_pages
from aeflow.serve.guard import Guard
from aeflow.serve.rendering import rendered
from aeflow.serve.service import Service

STATIC = Path(__file__).parent / "static"
ABOUT = """Scores how abnormal a medical image is, and shows where. Research use, not a medical device.

Send `Authorization: Bearer TOKEN` if the service was started with a token. Files have pseudonyms in all answers.
"""


def make_app(service: Service) -> ASGIApp:
    """Return the application around a service, which it closes when it ends."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    inner = FastAPI(
        title="aeflow", version=__version__, description=ABOUT, docs_url=None, redoc_url=None, lifespan=lifespan
    )
    inner.state.service = service
    inner.include_router(api.router)
    inner.include_router(pages.router)
    inner.include_router(recalibration_pages.router)
    inner.mount("/static", StaticFiles(directory=STATIC), name="static")
    inner.add_exception_handler(RequestValidationError, _refused)
    inner.add_exception_handler(HTTPException, _missing)
    inner.add_exception_handler(ClientDisconnect, _gone)
    for kind in (OSError, OperationalError):
        inner.add_exception_handler(kind, _unwritable)
    return Guard(inner, service)


async def _missing(request: Request, error: Exception) -> Response:
    """Show people a page where there is none; programs get it as JSON, as any other refusal."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404 and _for_people(request):
        return rendered(request, "missing.html", 404)
    return await http_exception_handler(request, error)


def _for_people(request: Request) -> bool:
    """Return if a request is a browser's for a page."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")


async def _refused(request: Request, error: Exception) -> Response:
    """Say what is wrong with a request, without what was sent: it may hold a name."""
    assert isinstance(error, RequestValidationError)
    if request.method == "GET" and _for_people(request):  # an address that somebody typed
        return rendered(request, "missing.html", 404)
    found = [{"where": list(map(str, one["loc"])), "found": one["msg"]} for one in error.errors()]
    return JSONResponse({"detail": found}, 422)


async def _gone(_: Request, error: Exception) -> Response:
    """End the request of a sender who went away, as by closing the page: nobody reads the answer."""
    assert isinstance(error, ClientDisconnect)
    return Response(status_code=400)


async def _unwritable(_: Request, error: Exception) -> JSONResponse:
    """Say that the disk takes nothing, here and in the log, without what was to be written."""
    found = (error.strerror if isinstance(error, OSError) else str(getattr(error, "orig", ""))) or type(error).__name__
    print(f"a request was refused: cannot be written ({found})", file=sys.stderr, flush=True)
    return JSONResponse({"detail": f"cannot be written ({found}); free some space where the service runs"}, 503)
