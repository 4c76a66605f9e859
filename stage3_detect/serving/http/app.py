"""The application: all routes of the service around one model."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from cxr.config import UserError
from stage3_detect.serving.corrections.store import CorrectionStore
from stage3_detect.serving.http import corrections, detections, pages, stow
from stage3_detect.serving.http import dicom as dicom_results
from stage3_detect.serving.http.audit import Audit
from stage3_detect.serving.http.context import ServiceContext
from stage3_detect.serving.http.errors import Refusal, busy, error_response
from stage3_detect.serving.http.gate import Gate
from stage3_detect.serving.http.keys import KeyFile
from stage3_detect.serving.http.monitoring import Monitoring
from stage3_detect.serving.http.schemas import ErrorAnswer, StateAnswer
from stage3_detect.serving.http.workers import Workers
from stage3_detect.serving.interface import ServedModel
from stage3_detect.serving.records import open_records
from stage3_detect.serving.settings import ServiceSettings

if TYPE_CHECKING:
    from stage3_detect.serving.dicom.node import DicomNode


def make_app(model: ServedModel, settings: ServiceSettings, *, dicom: "DicomNode | None" = None) -> FastAPI:
    """The service as an ASGI application; its `state.context` is the `ServiceContext`.

    dicom: takes images that come by STOW-RS.

    Raises:
        UserError: files of the settings that cannot be read or written.
    """
    workers = Workers(settings.num_workers, settings.limits)
    context = ServiceContext(
        model=model,
        settings=settings,
        workers=workers,
        monitoring=Monitoring(workers),
        keys=KeyFile(settings.api_keys) if settings.api_keys else None,
        audit=Audit(settings.audit) if settings.audit else None,
        corrections=_open_corrections(model, settings),
        dicom=dicom,
        records=open_records(settings, model.facts),
    )
    app = FastAPI(
        title="raybox",
        description="Findings on chest radiographs, as boxes. For research only, not for diagnosis. "
        "A service with API keys needs the header Authorization: Bearer KEY.",
        docs_url=None,  # the pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        responses={422: {"model": ErrorAnswer}},
        lifespan=_closing(context),
        # an environment variable would make FastAPI send traces and messages of errors to a server
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
    )
    app.state.context = context
    makers = (
        _state_router,
        detections.make_router,
        dicom_results.make_router,
        stow.make_router,
        corrections.make_router,
        pages.make_router,
    )
    routers = [make_router(context) for make_router in makers]
    for router in routers:
        app.include_router(router)
    _add_error_handlers(app)
    paths = frozenset(route.path for router in routers for route in router.routes if isinstance(route, APIRoute))
    app.add_middleware(Gate, context=context, paths=paths | {"/openapi.json"})
    return app


def _open_corrections(model: ServedModel, settings: ServiceSettings) -> CorrectionStore | None:
    folder = settings.corrections
    if folder is None:
        return None
    try:
        facts = model.facts
        return CorrectionStore(folder, findings=facts.findings, parents=facts.parents, keep_images=settings.keep_images)
    except OSError as error:
        raise UserError(f"--corrections {folder}: {error.strerror}; give a folder that can be written") from None


def _closing(context: ServiceContext) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        context.workers.close()
        if context.corrections is not None:
            context.corrections.close()

    return lifespan


def _state_router(context: ServiceContext) -> APIRouter:
    router = APIRouter(tags=["state"])

    @router.get("/healthz", summary="Is the process alive?")
    async def healthz() -> StateAnswer:
        """Answers 200 as long as the process lives, also while it shuts down. Needs no API key."""
        return StateAnswer(status="ok")

    @router.get("/readyz", summary="Does the service take requests?")
    async def readyz() -> StateAnswer:
        """Answers 200, or 503 while the service shuts down. Needs no API key."""
        if context.workers.draining:
            limits = context.settings.limits
            raise busy(503, "draining", "The service is shutting down.", limits.retry_after_s)
        return StateAnswer(status="ok")

    @router.get("/metrics", response_class=Response, summary="Metrics for Prometheus")
    def metrics() -> Response:
        """Requests, times, queue, images, boxes and corrections since the start, in the text format of Prometheus."""
        if context.corrections is not None:
            context.monitoring.accepted(context.corrections.accepted_shares())
        return Response(context.monitoring.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        phrase = HTTPStatus(error.status_code).phrase
        return error_response(Refusal(error.status_code, "route", f"{phrase}.", headers=error.headers))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        return error_response(Refusal(422, "query", f"{where}: {problem['msg']}."))
