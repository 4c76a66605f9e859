"""`POST /dicom-web/studies`: STOW-RS (PS3.18, 10.5). Accepted images go the way of those that come by C-STORE."""

import json
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from cxr.config import UserError
from stage3_detect.serving.http.context import ServiceContext
from stage3_detect.serving.http.detections import UPLOAD_ERRORS, asked_by
from stage3_detect.serving.http.errors import Refusal
from stage3_detect.serving.http.schemas import ErrorAnswer
from stage3_detect.serving.http.uploads import read_related

_CANNOT_UNDERSTAND, _OUT_OF_RESOURCES = 0xC000, 0xA700
_STORED, _FAILED = "00081199", "00081198"
"""ReferencedSOPSequence, FailedSOPSequence."""

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"multipart/related": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    status: {"content": {"application/dicom+json": {"schema": {"type": "object"}}}, "description": words}
    for status, words in ((200, "All stored."), (202, "Some stored."), (409, "None stored."))
}


def make_router(context: ServiceContext) -> APIRouter:
    """The route of STOW-RS; 404 without a DICOM network."""
    router = APIRouter()

    @router.post(
        "/dicom-web/studies", response_class=Response, tags=["images"], openapi_extra=_BODY,
        summary="Store radiographs (STOW-RS)",
        responses=UPLOAD_ERRORS | _ANSWERS | {404: {"model": ErrorAnswer}},
    )  # fmt: skip
    async def store(request: Request) -> Response:
        """The images are on disk when the answer is sent. Results go to the peers of `--send-to`.

        404 in a service without `--dicom-port`.
        """
        if context.dicom is None:
            raise Refusal(404, "no_dicom", "This service takes no DICOM images; start it with --dicom-port.")
        parts = await read_related(request, context.settings.limits)
        asked = asked_by(request, "/dicom-web/studies", len(parts))
        stored: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        for data in parts:
            reason = await run_in_threadpool(_accept, context, data, asked.key_name)
            item = _reference(data)
            if reason:
                failed.append(item | {"00081197": {"vr": "US", "Value": [reason]}})
            else:
                stored.append(item)
        sequences = {
            tag: {"vr": "SQ", "Value": items} for tag, items in ((_STORED, stored), (_FAILED, failed)) if items
        }
        status = 200 if not failed else 202 if stored else 409
        return Response(json.dumps(sequences), status, media_type="application/dicom+json")

    return router


def _accept(context: ServiceContext, data: bytes, sender: str) -> int:
    """Failure reason of an image; 0 if it is stored."""
    from stage3_detect.serving.dicom.store import FullError

    assert context.dicom is not None
    try:
        context.dicom.accept(data, sender)
    except UserError:
        return _CANNOT_UNDERSTAND
    except FullError:
        return _OUT_OF_RESOURCES
    return 0


def _reference(data: bytes) -> dict[str, Any]:
    """SOP class and instance of a file, as far as they can be read."""
    from stage3_detect.dicom_results.source import reference_of

    sop_class, instance = reference_of(data)
    return {"00081150": {"vr": "UI", "Value": [sop_class]}, "00081155": {"vr": "UI", "Value": [instance]}}
