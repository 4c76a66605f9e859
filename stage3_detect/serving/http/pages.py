"""The reading page and what it loads: its files, one upload's boxes and pixels in one answer, examples, true boxes."""

import json
from functools import partial
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict

from cxr.config import UserError
from cxr.imaging.files import is_dicom
from stage3_detect.serving.http.context import ServiceContext
from stage3_detect.serving.http.detections import STRICT_QUERY, UPLOAD_ERRORS, Point, asked_by, multipart_body
from stage3_detect.serving.http.errors import Refusal
from stage3_detect.serving.http.examine import Asked, check_point, examine
from stage3_detect.serving.http.schemas import model_identity
from stage3_detect.serving.http.uploads import Upload, read_files
from stage3_detect.serving.page.pictures import Shown, shown_pixels
from stage3_detect.serving.page.truth import Truth, TruthBox, read_truth

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_INDEX = "index.html"
_ALIGNMENT = 4


class Example(BaseModel):
    """An example image. has_truth: whether true boxes are known."""

    name: str
    has_truth: bool


class ExamplesAnswer(BaseModel):
    """Images that the page offers."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"examples": [{"name": "a.png", "has_truth": True}]}]})
    examples: list[Example]


class TruthAnswer(BaseModel):
    """True boxes of an image."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"boxes": [{"finding": "Nodule/Mass", "box_xyxy": [812, 1290, 1011, 1402]}]}]}
    )
    boxes: list[TruthBox]


class StaticFile:
    """A file of the page, in memory, with the headers that let a browser keep it until it changes."""

    def __init__(self, name: str, content: bytes) -> None:
        self._content = content
        self._media_type = MEDIA_TYPES[Path(name).suffix]
        self._headers = {"Cache-Control": "no-cache", "ETag": f'"{sha256(content).hexdigest()[:32]}"'}

    def response(self, request: Request) -> Response:
        """The file, or 304 for a browser that has it."""
        if request.headers.get("if-none-match") == self._headers["ETag"]:
            return Response(status_code=304, headers=self._headers)
        return Response(self._content, media_type=self._media_type, headers=self._headers)


def make_router(context: ServiceContext) -> APIRouter:
    """The routes of the page.

    Raises:
        UserError: the examples or the true boxes of the settings cannot be read.
    """
    router = APIRouter(tags=["page"])
    _add_files(router)
    _add_examples(router, context)
    limits = context.settings.limits

    @router.post(
        "/page/readings", response_class=Response, responses=_binary() | UPLOAD_ERRORS, dependencies=STRICT_QUERY,
        openapi_extra=multipart_body("file", several=False), summary="Boxes and pixels for the reading page",
    )  # fmt: skip
    async def readings(request: Request, point: Point = None) -> Response:
        """Boxes and pixels of one image, from one upload and one decoding.

        The answer is the length of a header (4 bytes, little-endian), the header in JSON, and the pixels, row by row,
        little-endian. The header has model and image as in /v1/detections, the hash of the file, and size and type of
        the pixels; for a file that cannot be read, model and image with the error alone.
        """
        check_point(context, point)
        (upload,) = await read_files(request, "file", limits, max_files=1)
        asked = asked_by(request, "/page/readings", 1)
        content = await context.workers.run(partial(_reading, context, upload, point, asked))
        return Response(content, media_type="application/octet-stream")

    return router


def _reading(context: ServiceContext, upload: Upload, point: str | None, asked: Asked) -> bytes:
    header: dict[str, Any] = {"model": model_identity(context.model.facts).model_dump()}
    try:
        examined = examine(context, upload, point, asked)
    except UserError as error:
        return _packed(header | {"image": {"name": upload.name, "error": error.problems[0]}}, None)
    with context.monitoring.phase("picture"):
        pixels = shown_pixels(examined.image.pixels)
    height, width = pixels.shape
    header["image"] = examined.answer(context.model.facts).model_dump()
    header["image_sha256"] = examined.image.sha256
    header["picture"] = {"width_px": width, "height_px": height, "dtype": pixels.dtype.name}
    return _packed(header, pixels)


def _packed(header: dict[str, Any], pixels: Shown | None) -> bytes:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _ALIGNMENT)  # the page reads the pixels in place, which needs an even offset
    values = b"" if pixels is None else pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()
    return len(text).to_bytes(_ALIGNMENT, "little") + text + values


def _add_files(router: APIRouter) -> None:
    folder = files("stage3_detect.serving.page") / "static"
    static = {entry.name: StaticFile(entry.name, entry.read_bytes()) for entry in folder.iterdir()}
    index = static.pop(_INDEX)

    @router.get("/", response_class=Response, include_in_schema=False)
    async def page(request: Request) -> Response:
        """The reading page."""
        return index.response(request)

    @router.get("/static/{name}", response_class=Response, include_in_schema=False)
    async def file(request: Request, name: str) -> Response:
        """A file of the page."""
        if name not in static:
            raise Refusal(404, "no_file", "The page has no such file.")
        return static[name].response(request)


def _add_examples(router: APIRouter, context: ServiceContext) -> None:
    settings = context.settings
    truth: Truth = read_truth(settings.truth) if settings.truth else {}
    paths = example_paths(settings.examples) if settings.examples else {}

    @router.get("/v1/examples", summary="Example images")
    async def examples() -> ExamplesAnswer:
        """Names of the images that the page offers; none in a service without `--examples`."""
        return ExamplesAnswer(examples=[Example(name=name, has_truth=name in truth) for name in paths])

    @router.get("/v1/examples/{name}", response_class=Response, responses=_binary(), summary="An example image")
    def example(name: str) -> Response:
        """The file as it is on the disk of the service."""
        if name not in paths:
            raise Refusal(404, "no_example", "There is no example of this name.")
        try:
            content = paths[name].read_bytes()
        except OSError:
            raise Refusal(404, "no_example", "The file of this example was removed.") from None
        return Response(content, media_type="application/octet-stream")

    @router.get("/v1/truth", summary="True boxes of an image")
    async def true_boxes(name: str) -> TruthAnswer:
        """Boxes of `--truth` for an image, by its file name; none if they are not known."""
        return TruthAnswer(boxes=truth.get(name, []))


def example_paths(folder: Path) -> dict[str, Path]:
    """The images of a folder, without its subfolders, by file name and in its order.

    Raises:
        UserError: no such folder, no image in it, or a file name that is not printable text.
    """
    if not folder.is_dir():
        raise UserError(f"--examples {folder}: no such folder")
    paths = {path.name: path for path in sorted(folder.iterdir()) if path.is_file() and _is_image(path)}
    for name in paths:
        if not name.isprintable():  # nor is half a pair, which stands for bytes that are not UTF-8
            raise UserError(f"--examples {folder}: JSON or a page cannot show the file name {name!r}; rename the file")
    if not paths:
        raise UserError(f"--examples {folder}: no PNG, JPEG or DICOM file in this folder")
    return paths


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in (".png", ".jpg", ".jpeg") or is_dicom(path)


def _binary() -> dict[int | str, dict[str, Any]]:
    schema = {"type": "string", "format": "binary"}
    return {200: {"content": {"application/octet-stream": {"schema": schema}}}}
