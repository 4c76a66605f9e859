"""Bodies of requests: multipart files, kept in memory, and JSON. Nothing is written to disk."""

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from stage3_detect.serving.http.errors import Refusal
from stage3_detect.serving.settings import Limits

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks  # exists for type checkers only

AnyModel = TypeVar("AnyModel", bound=BaseModel)

_NAME_CHARACTERS = 255


@dataclass(frozen=True)
class Upload:
    """One file of a request. name: as the client calls it, without folders."""

    name: str
    data: bytes


async def read_files(request: Request, field: str, limits: Limits, *, max_files: int | None = None) -> list[Upload]:
    """The files of a multipart request, all in the field `field`.

    max_files: instead of the limit in `limits`.

    Raises:
        Refusal: 415 for another kind of body, 400 if it is damaged, 413 beyond a limit, 422 for other fields or none.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or b"boundary" not in options:
        raise Refusal(415, "media_type", "The body must be multipart/form-data with a boundary.")
    form = _Form(field, limits.max_file_bytes, max_files or limits.max_files)
    await _parse(request, form, options[b"boundary"])
    if not form.uploads:
        raise Refusal(422, "no_file", f"The body has no file; send at least one in the field '{field}'.")
    return form.uploads


async def read_related(request: Request, limits: Limits) -> list[bytes]:
    """The parts of a multipart/related request of DICOM files, as STOW-RS sends them. Refusal as `read_files`."""
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/related" or options.get(b"type") != b"application/dicom" or b"boundary" not in options:
        sentence = 'The body must be multipart/related; type="application/dicom" with a boundary.'
        raise Refusal(415, "media_type", sentence)
    form = _Related("", limits.max_file_bytes, limits.max_files)
    await _parse(request, form, options[b"boundary"])
    if not form.uploads:
        raise Refusal(400, "no_file", "The body has no part.")
    return [upload.data for upload in form.uploads]


async def _parse(request: Request, form: "_Form", boundary: bytes) -> None:
    """Feed the body to a form. Refusal: 400 if it is damaged."""
    try:
        parser = MultipartParser(boundary, form.callbacks())
        async for chunk in request.stream():
            parser.write(chunk)
        parser.finalize()
    except FormParserError:
        raise Refusal(400, "multipart", "The multipart body is damaged.") from None
    if not form.is_complete:
        raise Refusal(400, "multipart", "The multipart body ends before its last boundary.")


async def read_json(request: Request, model: type[AnyModel], limits: Limits) -> AnyModel:
    """The JSON body of a request.

    Raises:
        Refusal: 415 for another kind of body, 413 beyond the limit, 422 if it does not fit `model`.
    """
    kind, _ = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"application/json":
        raise Refusal(415, "media_type", "The body must be application/json.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limits.max_json_bytes:
            raise Refusal(413, "bytes", f"A JSON body has at most {limits.max_json_bytes} bytes.")
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, problem["loc"]))[:_NAME_CHARACTERS] or "body"
        raise Refusal(422, "json", f"{where}: {problem['msg'].removeprefix('Value error, ')}.") from None


class _Form:
    """Collects the parts of a multipart body while it arrives."""

    def __init__(self, field: str, max_file_bytes: int, max_files: int) -> None:
        self._field = field
        self._max_file_bytes = max_file_bytes
        self._max_files = max_files
        self._header = bytearray()
        self._value = bytearray()
        self._disposition = b""
        self._name = ""
        self._data = BytesIO()
        self.uploads: list[Upload] = []
        self.is_complete = False

    def callbacks(self) -> "MultipartCallbacks":
        """Functions that the parser calls."""
        return {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

    def _on_part_begin(self) -> None:
        if len(self.uploads) >= self._max_files:
            raise Refusal(413, "files", f"A request to this route has at most {self._max_files} files.")
        self._disposition = b""
        self._data = BytesIO()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if options.get(b"name") != self._field.encode() or b"filename" not in options:
            raise Refusal(422, "field", f"Each part must be a file with a name, in the field '{self._field}'.")
        self._name = _base_name(options[b"filename"])

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._data.tell() + end - start > self._max_file_bytes:
            raise Refusal(413, "bytes", f"A file has at most {self._max_file_bytes} bytes.")
        self._data.write(memoryview(data)[start:end])

    def _on_part_end(self) -> None:
        self.uploads.append(Upload(self._name, self._data.getvalue()))  # not a copy: the bytes are cut to size
        self._data = BytesIO()

    def _on_end(self) -> None:
        self.is_complete = True


class _Related(_Form):
    """Parts that have no names."""

    def _on_headers_finished(self) -> None:
        self._name = ""


def _base_name(raw: bytes) -> str:
    name = raw.decode("utf-8", "replace").replace("\\", "/").rpartition("/")[2]
    return name[:_NAME_CHARACTERS]
