"""Interface for programs: scores of what is sent, the worklist, maps, labels, health and measures."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy import Row

from aeflow.imageio.decoder_pool import decoders
from aeflow.imageio.errors import ImageError, ImageLimitError
from aeflow.imageio.image import Slice
from aeflow.privacy import shown_key
from aeflow.serve import audit, measured, pictures
from aeflow.serve.filters import Filters
from aeflow.serve.intake import BusyError, Upload
from aeflow.serve.labels import ChangedError
from aeflow.serve.schemas import (
    SOURCE,
    Changed,
    Identifier,
    LabelIn,
    LabelOut,
    Problem,
    Scored,
    StudyDetail,
    StudyPage,
    StudyRow,
    filters,
)
from aeflow.serve.service import Service, service_of, who_of
from aeflow.serve.worklist import shown_row

MOST_FILES = 200  # of one request
FOREVER = {"cache-control": "private, max-age=31536000, immutable"}  # an identifier never shows anything else


def refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Return how the OpenAPI document describes refusals."""
    known = {
        400: "The request cannot be read.",
        401: "Nobody is signed in.",
        403: "Not allowed.",
        404: "There is no such thing.",
        413: "More than is taken at a time.",
        422: "What was sent cannot be used; the reason.",
        429: "Too many wait: come again.",
        503: "It took too long, or the service is not ready.",
    }
    return {code: {"model": Problem, "description": known[code]} for code in codes}


KNOWN = refusals(401, 403, 404)
PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}, "description": "PNG"}}
CHANGED: dict[int | str, dict[str, Any]] = {
    409: {"model": Changed, "description": "The sender labelled it elsewhere meanwhile; what is there now."}
}
UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                            "description": "images: DICOM, NIfTI, PNG, JPEG, TIFF, BMP",
                        },
                        "source": {"type": "string", "description": "what the sender calls itself", "maxLength": 40},
                    },
                }
            }
        },
    }
}
router = APIRouter(default_response_class=JSONResponse)


@router.post(
    "/api/score",
    summary="Score images",
    response_model=Scored,
    response_model_exclude_unset=True,
    responses=refusals(400, 401, 403, 413, 422, 429, 503),
    openapi_extra=UPLOAD,
)
async def score(request: Request) -> Response:
    """Score one file or many, and put them into the worklist; a file that was sent before keeps its score.

    Status 200 if any image has a score; what was refused is a row with an ``error``. 422 if none has, 413 if all
    were too large.
    """
    service, began = service_of(request), time.perf_counter()
    told = request.headers.get("content-length", "")  # whoever does not tell may send as much as is taken
    size = int(told) if told.isascii() and told.isdigit() else service.options.most_bytes
    try:
        with service.intake.place(size):
            async with asyncio.timeout(service.options.seconds):
                results, status = await _scored(request, service)
    except BusyError:
        return JSONResponse({"detail": "too many uploads wait; come again"}, 429, {"retry-after": "1"})
    except TimeoutError:
        return JSONResponse({"detail": f"took longer than {service.options.seconds:g} s; send less at a time"}, 503)
    refused = sum("error" in row and row["error"] is not None for row in results)
    service.measures.scored(len(results) - refused, refused, time.perf_counter() - began)
    return JSONResponse({"results": results}, status)


async def _scored(request: Request, service: Service) -> tuple[list[dict[str, Any]], int]:
    """Return the rows of all files, and the status of the answer."""
    async with request.form(max_files=MOST_FILES, max_fields=4) as form:
        files = [one for one in form.getlist("files") if not isinstance(one, str)]
        source = form.get("source") or "uploaded"
        if not files:
            raise HTTPException(422, "no file: send multipart/form-data with a part named files")
        if not isinstance(source, str) or not SOURCE.fullmatch(source):
            raise HTTPException(422, "source: letters, digits, blanks and . _ - alone, 40 at most")
        who = who_of(request).name
        uploads = [Upload(one.filename or "", await one.read(), source, who) for one in files]
    waiting = [asyncio.wrap_future(service.intake.submit(upload)) for upload in uploads]
    found = await asyncio.gather(*waiting, return_exceptions=True)
    rows: list[dict[str, Any]] = []
    large = 0
    for upload, result in zip(uploads, found, strict=True):
        if isinstance(result, list):
            rows += result
        elif isinstance(result, ImageError):
            large += isinstance(result, ImageLimitError)
            rows.append({"path": shown_key(upload.name), "error": f"{result.found}; {result.remedy}"})
        else:
            raise result
    if any(row.get("error") is None for row in rows):
        return rows, 200
    return rows, 413 if large == len(rows) else 422


@router.get("/api/studies", summary="The worklist", response_model=StudyPage, responses=refusals(401, 422))
def list_studies(
    request: Request,
    chosen: Annotated[Filters, Depends(filters)],
    after: Annotated[str, Query(pattern="^([0-9a-f]{16})?$")] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> dict[str, Any]:
    """Return studies, the most abnormal first, after the one that is named."""
    rows = service_of(request).worklist.page(chosen, after, limit)
    more = len(rows) > limit
    return {"studies": [_study(row) for row in rows[:limit]], "next": rows[limit - 1].id if more else None}


@router.get("/api/studies/{study}", summary="One study", response_model=StudyDetail, responses=KNOWN | refusals(422))
def get_study(request: Request, study: Identifier) -> dict[str, Any]:
    """Return a study and its images."""
    service = service_of(request)
    found = service.worklist.study(study)
    if found is None:
        raise HTTPException(404, "no such study")
    with service.database.writing() as connection:
        audit.record(connection, who_of(request).name, "saw", study)
    return {**_study(found[0]), "results": [shown_row(row) for row in found[1]]}


@router.get(
    "/api/images/{image}/map.png",
    summary="The anomaly map of an image",
    response_class=Response,
    responses=KNOWN | refusals(422) | PNG,
)
def get_map(request: Request, image: Identifier) -> Response:
    """Return the anomaly map in the colours of the model's fixed scale, clear where an image is as normals are."""
    return _picture(request, image, "map", "image/png")


@router.get("/api/images/{image}/thumbnail.jpg", include_in_schema=False)
def get_thumbnail(request: Request, image: Identifier) -> Response:
    """Return a small picture of an image."""
    return _picture(request, image, "thumbnail", "image/jpeg")


@router.get("/api/images/{image}/pixels", include_in_schema=False)
def get_pixels(request: Request, image: Identifier) -> Response:
    """Return an image as it is shown: grey in 16 bits, little-endian, or colour in 8; sizes stand in the headers."""
    service, row = service_of(request), image_of(request, image)
    try:
        path, at = service.intake.path_of(row.content), place_of(row)
        found = decoders().submit(pictures.load_pixels, path, at).result()
    except ImageError as error:
        raise HTTPException(422, f"{error.found}; {error.remedy}") from error
    sizes = {"x-height": found.height, "x-width": found.width, "x-channels": found.channels}
    headers = {**{name: str(value) for name, value in sizes.items()}, **FOREVER}
    return Response(found.content, media_type="application/octet-stream", headers=headers)


@router.post(
    "/api/images/{image}/label",
    summary="Label an image",
    response_model=LabelOut,
    responses=KNOWN | refusals(400, 413, 422) | CHANGED,
)
def label_image(request: Request, image: Identifier, given: LabelIn) -> Any:
    """Keep what a reader says of an image. The last label of a reader counts; sent again, it is the same one.

    With ``follows`` it replaces no label that its sender has not seen.
    """
    service, who = service_of(request), who_of(request)
    try:
        label = given.checked()
    except ValueError as error:
        raise HTTPException(422, str(error)) from error
    try:
        found = service.labels.give(image, who.name, label, given.follows)
    except ChangedError as error:
        return JSONResponse({"detail": str(error), "now": error.now}, 409)
    if found is None:
        raise HTTPException(404, "no such image")
    service.measures.labelled(label.label)
    return found


@router.get("/health", summary="Whether the service scores as it should", responses=refusals(503))
def health(request: Request) -> JSONResponse:
    """Return 200 once decoders and model did what they did where they were made."""
    found = service_of(request).health
    return JSONResponse(found.shown(), 200 if found.healthy else 503)


@router.get("/metrics", summary="Measures for Prometheus", response_class=Response, responses=refusals(401))
def metrics(request: Request) -> Response:
    """Return counters since the start."""
    service = service_of(request)
    text = service.measures.text(service.intake.waiting, service.health.healthy)
    return Response(text, media_type=measured.TYPE)


def image_of(request: Request, image: str) -> Row[Any]:
    """Return an image; HTTPException if there is none."""
    found = service_of(request).worklist.image(image)
    if found is None:
        raise HTTPException(404, "no such image")
    return found


def place_of(row: Row[Any]) -> Slice | None:
    """Return the place of an image in its file; None if the file holds one image."""
    return Slice(row.slice - 1, row.axis or None) if row.slice else None


def _picture(request: Request, image: str, kind: str, media: str) -> Response:
    found = service_of(request).worklist.picture(image, kind)
    if found is None:
        raise HTTPException(404, "no such image")
    return Response(found, media_type=media, headers=FOREVER)


def _study(row: Row[Any]) -> dict[str, Any]:
    values = StudyRow(
        id=row.id,
        p_value=row.p_value,
        score=-row._mapping["order"],
        verdict=row.verdict,
        outside=row.outside,
        label=row.label or None,
        images=row.images,
        source=row.source,
        at=row.at,
    )
    return values.model_dump()
