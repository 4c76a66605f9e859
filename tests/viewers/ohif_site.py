"""A web server on loopback: the files of OHIF's npm package, and Orthanc's DICOMweb service below the same address."""

import json
import mimetypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx

_WEB = "/dicom-web"

CONFIG = {
    "routerBasename": None,
    "extensions": [],
    "modes": [],
    "showStudyList": False,
    "showCPUFallbackMessage": False,
    "investigationalUseDialog": {"option": "never"},
    "maxNumberOfWebWorkers": 1,
    "defaultDataSourceName": "dicomweb",
    "dataSources": [
        {
            "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
            "sourceName": "dicomweb",
            "configuration": {
                "friendlyName": "Orthanc",
                "name": "orthanc",
                "wadoUriRoot": _WEB,
                "qidoRoot": _WEB,
                "wadoRoot": _WEB,
                "imageRendering": "wadors",
                "thumbnailRendering": "wadors",
                "enableStudyLazyLoad": True,
                "supportsWildcard": True,
                "omitQuotationForMultipartRequest": True,
                "bulkDataURI": {"enabled": True},
            },
        }
    ],
}
"""As OHIF's own configuration for Orthanc, with DICOMweb below the page's address."""


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: Path
    orthanc: str

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path.startswith(_WEB):
            self._forward()
        elif path == "/app-config.js":
            self._answer(200, "text/javascript", f"window.config = {json.dumps(CONFIG)};".encode())
        else:
            file = (self.files / path.lstrip("/")).resolve()
            if not (file.is_file() and file.is_relative_to(self.files)):
                file = self.files / "index.html"  # the application has pages of its own
            self._answer(200, mimetypes.guess_type(file.name)[0] or "application/octet-stream", file.read_bytes())

    def do_POST(self) -> None:
        self._forward()

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kept = {name: self.headers[name] for name in ("Accept", "Content-Type") if name in self.headers}
        # Orthanc names its own address in its answers; this makes it the page's
        kept["Forwarded"] = f"host={self.headers['Host']};proto=http"
        answer = httpx.request(self.command, self.orthanc + self.path, headers=kept, content=body, timeout=60)
        self._answer(answer.status_code, answer.headers.get("Content-Type", ""), answer.content)

    def _answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@contextmanager
def ohif_site(files: Path, orthanc: str) -> Iterator[str]:
    """Serve the folder `dist` of the package, with the DICOMweb service of an Orthanc; yields the address."""
    handler = type("Answers", (_Answers,), {"files": files.resolve(), "orthanc": orthanc})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
