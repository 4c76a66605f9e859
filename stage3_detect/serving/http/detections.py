"""Routes /v1/model, /v1/detections and /v1/maps."""

import asyncio
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from cxr.config import UserError
from stage3_detect.serving.http.context import ServiceContext
from stage3_detect.serving.http.errors import Refusal
from stage3_detect.serving.http.examine import Asked, check_point, examine, examine_maps
from stage3_detect.serving.http.gate import KEY_NAME, NUM_IMAGES
from stage3_detect.serving.http.schemas import (
    DetectionsAnswer,
    ErrorAnswer,
    ImageAnswer,
    ImageError,
    MapsAnswer,
    MeasuredAnswer,
    ModelAnswer,
    PointAnswer,
    model_identity,
)
from stage3_detect.serving.http.uploads import Upload, read_files
from stage3_detect.serving.interface import MapsError, ModelFacts
from stage3_detect.serving.settings import ServiceSettings

READER_NOTE = "for research only, not for diagnosis"
Point = Annotated[str | None, Query(max_length=40, description="Operating point that decides `shown`.")]

_ERRORS = (400, 401, 403, 408, 411, 413, 415, 422, 429, 503)
UPLOAD_ERRORS: dict[int | str, dict[str, Any]] = {status: {"model": ErrorAnswer} for status in _ERRORS}


def multipart_body(field: str, *, several: bool) -> dict[str, Any]:
    """A multipart body of files for OpenAPI; the route reads it itself, to keep files in memory."""
    file: dict[str, Any] = {"type": "string", "format": "binary"}
    value = {"type": "array", "items": file, "minItems": 1} if several else file
    schema = {"type": "object", "required": [field], "properties": {field: value}, "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def asked_by(request: Request, route: str, num_images: int) -> Asked:
    """Who sent a request, for the audit trail; notes the number of images for the log."""
    setattr(request.state, NUM_IMAGES, num_images)
    return Asked(route, getattr(request.state, KEY_NAME))


def check_query(request: Request) -> None:
    """Refuse a query that has no effect, such as ?points=f1 in place of ?point=f1.

    Raises:
        Refusal: 422 for a parameter that the route does not have, or that is given twice.
    """
    known = {parameter.alias for parameter in request.scope["route"].dependant.query_params}
    given = [name for name, _ in request.query_params.multi_items()]
    if set(given) - known or len(set(given)) < len(given):
        sentence = f"The query may have, each once: {', '.join(sorted(known)) or 'nothing'}."
        raise Refusal(422, "query", sentence)


STRICT_QUERY = [Depends(check_query)]


def make_router(context: ServiceContext) -> APIRouter:
    """The routes of one service."""
    router = APIRouter()
    facts = context.model.facts
    limits = context.settings.limits

    @router.get("/v1/model", response_model=ModelAnswer, tags=["model"], summary="The served model")
    async def model() -> Response:
        """Findings and their ancestors, operating points with their thresholds, licence and model card."""
        described = _described(context.model.facts, context.settings)
        return _json(described.model_dump_json().encode())

    @router.post(
        "/v1/detections", response_model=DetectionsAnswer, responses=UPLOAD_ERRORS, tags=["images"],
        dependencies=STRICT_QUERY,
        openapi_extra=multipart_body("files", several=True), summary="Find boxes on images",
    )  # fmt: skip
    async def detections(request: Request, point: Point = None) -> Response:
        """Boxes and quality of one or more images (PNG, JPEG, DICOM), in the order of the files.

        All candidate boxes are in the answer; use those that are `shown`. A file that cannot be read has an `error`
        in place of boxes, and the others are answered.
        """
        check_point(context, point)
        uploads = await read_files(request, "files", limits)
        asked = asked_by(request, "/v1/detections", len(uploads))
        work = (context.workers.run(partial(_answered, context, upload, point, asked)) for upload in uploads)
        results = await asyncio.gather(*work, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        images = [result for result in results if not isinstance(result, BaseException)]
        return _json(DetectionsAnswer(model=model_identity(facts), images=images).model_dump_json().encode())

    @router.post(
        "/v1/maps", response_model=MapsAnswer, responses=UPLOAD_ERRORS | {404: {"model": ErrorAnswer}}, tags=["images"],
        dependencies=STRICT_QUERY,
        openapi_extra=multipart_body("file", several=False), summary="Heat maps of an image",
    )  # fmt: skip
    async def maps(request: Request) -> Response:
        """A heat map for each finding of the classifier. 404 in a service that was started without `--maps`."""
        if not facts.map_method:
            raise Refusal(404, "no_maps", "This service has no maps; it was started without --maps.")
        (upload,) = await read_files(request, "file", limits, max_files=1)
        asked = asked_by(request, "/v1/maps", 1)
        try:
            answer = await context.workers.run(partial(examine_maps, context, upload, asked), is_map=True)
        except UserError as error:
            raise Refusal(422, "unreadable", error.problems[0]) from None
        except MapsError as error:
            raise Refusal(503, "maps_failed", str(error)) from None
        return _json(answer.model_dump_json().encode())

    return router


def _answered(context: ServiceContext, upload: Upload, point: str | None, asked: Asked) -> ImageAnswer | ImageError:
    try:
        return examine(context, upload, point, asked).answer(context.model.facts)
    except UserError as error:
        return ImageError(name=upload.name, error=error.problems[0])


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")


def _described(facts: ModelFacts, settings: ServiceSettings) -> ModelAnswer:
    points = {
        name: PointAnswer(
            about=point.about,
            scores={finding: point.scores.get(finding) for finding in facts.findings},
            confidence=facts.point_confidences.get(name),
            measured=None if point.measured is None else MeasuredAnswer(**asdict(point.measured)),
        )
        for name, point in facts.points.items()
    }
    return ModelAnswer(
        **model_identity(facts).model_dump(),
        parents={finding: list(facts.parents.get(finding, ())) for finding in facts.findings},
        format=facts.format,
        licence=facts.licence,
        card=facts.card,
        points=points,
        default_point=facts.default_point,
        map_method=facts.map_method,
        synthetic=facts.synthetic,
        quality_gate=facts.quality_gate,
        corrections=settings.corrections is not None,
        images_kept=settings.keep_images,
        reader_note=READER_NOTE,
        version=version("raybox"),
    )
