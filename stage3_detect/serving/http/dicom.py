"""`POST /v1/dicom-results`: a DICOM radiograph in; structured report, presentation state and secondary capture out."""

import zipfile
from datetime import datetime
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from io import BytesIO
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from cxr.config import UserError
from stage3_detect.serving.http.context import ServiceContext
from stage3_detect.serving.http.detections import STRICT_QUERY, UPLOAD_ERRORS, Point, asked_by, multipart_body
from stage3_detect.serving.http.errors import Refusal
from stage3_detect.serving.http.examine import Asked, Examined, check_point, examine
from stage3_detect.serving.http.schemas import ErrorAnswer
from stage3_detect.serving.http.uploads import Upload, read_files
from stage3_detect.serving.interface import ModelFacts

_PACKAGE = "highdicom"
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)

SrClass = Annotated[Literal["comprehensive", "comprehensive_3d"], Query(description="SOP class of the report.")]
Capture = Annotated[Literal["colour", "grey"], Query(description="Pixels of the secondary capture.")]

_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
        "description": "report.dcm, presentation_state.dcm and secondary_capture.dcm.",
    },
    404: {"model": ErrorAnswer},
}


def make_router(context: ServiceContext) -> APIRouter:
    """The route of DICOM results; 404 where the package for them is not installed."""
    router = APIRouter()
    limits = context.settings.limits

    @router.post(
        "/v1/dicom-results", response_class=Response, responses=UPLOAD_ERRORS | _ANSWER, tags=["images"],
        dependencies=STRICT_QUERY,
        openapi_extra=multipart_body("file", several=False), summary="DICOM results of a radiograph",
    )  # fmt: skip
    async def dicom_results(
        request: Request, point: Point = None, sr_class: SrClass = "comprehensive", capture: Capture = "colour"
    ) -> Response:
        """Structured report, presentation state and secondary capture on one DICOM radiograph, in a zip archive."""
        if find_spec(_PACKAGE) is None:
            raise Refusal(404, "no_dicom", "This service makes no DICOM results; install it with the extra 'dicom'.")
        check_point(context, point)
        (upload,) = await read_files(request, "file", limits, max_files=1)
        asked = asked_by(request, "/v1/dicom-results", 1)
        settings: dict[str, str] = {"sr_class": sr_class, "capture": capture}
        try:
            archive = await context.workers.run(partial(_archive, context, upload, point, (asked, settings)))
        except UserError as error:
            raise Refusal(422, "unreadable", error.problems[0]) from None
        return Response(archive, media_type="application/zip")

    return router


def _archive(context: ServiceContext, upload: Upload, point: str | None, how: tuple[Asked, dict[str, str]]) -> bytes:
    """The results as a zip archive, not compressed: most bytes are pixels."""
    asked, settings = how
    examined = examine(context, upload, point, asked)
    with context.monitoring.phase("dicom"):
        files = _results(examined, context.model.facts, point, settings)
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), data)
    return content.getvalue()


def _results(examined: Examined, facts: ModelFacts, point: str | None, settings: dict[str, str]) -> dict[str, bytes]:
    from stage3_detect.dicom_results.make import make_results  # takes a second, and a service may never need it
    from stage3_detect.dicom_results.report import Occasion
    from stage3_detect.dicom_results.result import Algorithm, image_result
    from stage3_detect.dicom_results.settings import ResultSettings
    from stage3_detect.dicom_results.source import read_source

    source = read_source(examined.image.data, "the file")
    algorithm = Algorithm(
        name=facts.name,
        version=version("raybox"),
        manifest_sha256=facts.manifest_sha256,
        point=point or facts.default_point,
        findings=facts.findings,
        synthetic=facts.synthetic,
        codes=facts.codes,
    )
    result = image_result(source, examined.boxes, examined.quality)
    chosen = ResultSettings.model_validate(settings)
    return make_results(result, examined.image.pixels, algorithm, chosen, Occasion(datetime.now()))
