"""`POST /v1/corrections`: what a reader decided about the boxes of an image, from the page to the folder."""

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool

from cxr.config import UserError
from stage3_detect.serving.corrections.log import DiskFullError
from stage3_detect.serving.corrections.record import Reading
from stage3_detect.serving.corrections.store import CorrectionStore, Saved
from stage3_detect.serving.http.context import ServiceContext
from stage3_detect.serving.http.detections import STRICT_QUERY, UPLOAD_ERRORS
from stage3_detect.serving.http.errors import Refusal
from stage3_detect.serving.http.logs import log_error
from stage3_detect.serving.http.schemas import ErrorAnswer
from stage3_detect.serving.http.uploads import read_json
from stage3_detect.serving.interface import ModelFacts

_EXAMPLE: dict[str, Any] = {
    "image_sha256": 64 * "0",
    "name": "chest.dcm",
    "width_px": 2500,
    "height_px": 3000,
    "reader": "reader1",
    "consent": True,
    "complete": True,
    "seconds": 14.2,
    "clicks": 3,
}
_ERRORS = UPLOAD_ERRORS | {status: {"model": ErrorAnswer} for status in (404, 507)}


class CorrectionAnswer(BaseModel):
    """The reading is on disk."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": "000001", "image_kept": None}]}, use_attribute_docstrings=True
    )
    id: str
    image_kept: bool | None
    """Whether the image is stored too; null where the service keeps no images."""


def make_router(context: ServiceContext) -> APIRouter:
    """The route of corrections; 404 without a folder for them."""
    router = APIRouter()
    limits = context.settings.limits

    @router.post(
        "/v1/corrections", status_code=201, response_model=CorrectionAnswer, responses=_ERRORS, tags=["corrections"],
        dependencies=STRICT_QUERY,
        openapi_extra=_json_body(context.model.facts), summary="Save a reader's corrections",
    )  # fmt: skip
    async def save_correction(request: Request) -> CorrectionAnswer:
        """What a reader decided about the boxes of an image. It is on disk when the answer is sent.

        404 in a service without `--corrections`.
        """
        store = context.corrections
        if store is None:
            raise Refusal(404, "no_corrections", "This service takes no corrections; start it with --corrections.")
        reading = await read_json(request, Reading, limits)
        if reading.model_sha256 != context.model.facts.manifest_sha256:
            # its findings may be others, and `complete` would judge those that the reader never saw
            raise Refusal(
                422, "other_model", "The boxes are of another model than this service's; open the image again."
            )
        saved = await run_in_threadpool(_save, store, reading)
        for box in reading.boxes:
            context.monitoring.corrected(box.finding, box.action)
        return CorrectionAnswer(id=saved.id, image_kept=saved.image_kept)

    return router


def _save(store: CorrectionStore, reading: Reading) -> Saved:
    try:
        return store.save(reading)
    except UserError as error:
        raise Refusal(422, "corrections", error.problems[0]) from None
    except DiskFullError as error:
        raise Refusal(507, "disk_full", str(error)) from None
    except OSError as error:
        log_error(error, "corrections")
        sentence = "The reading cannot be written, so it was not saved; see the log of the service."
        raise Refusal(507, "disk_failed", sentence) from None


def _json_body(facts: ModelFacts) -> dict[str, Any]:
    """The body for OpenAPI; the route reads it itself, to keep its limits and errors those of the service."""
    schema = Reading.model_json_schema(ref_template="#/components/schemas/{model}")
    schema["properties"]["boxes"]["items"] = schema.pop("$defs")["ReadBox"]
    box = {"finding": facts.findings[0], "box_xyxy": [810, 1290, 2010, 2100], "action": "accepted", "score": 0.81}
    schema["examples"] = [{**_EXAMPLE, "model_sha256": facts.manifest_sha256, "boxes": [box]}]
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
