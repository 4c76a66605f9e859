"""Start the service: the model, the application, and what is served in a few lines."""

import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cxr.config import UserError
from stage3_detect.image_quality.verdict import DEFAULT_MODE, GateMode
from stage3_detect.serving.dicom.settings import DicomSettings, require_packages
from stage3_detect.serving.http.app import make_app
from stage3_detect.serving.http.audit import Audit
from stage3_detect.serving.http.logs import set_up_logs
from stage3_detect.serving.http.server import serve
from stage3_detect.serving.interface import ModelFacts, ServedModel
from stage3_detect.serving.memory import keep_freed_memory
from stage3_detect.serving.model.bundle_model import open_model
from stage3_detect.serving.records import open_records
from stage3_detect.serving.settings import ServiceSettings

if TYPE_CHECKING:
    from stage3_detect.serving.dicom.node import DicomNode


@dataclass(frozen=True)
class ModelOptions:
    """What to serve; see `open_model`."""

    run: Path
    maps: bool = False
    points: str | None = None
    num_threads: int = 0
    quality_gate: GateMode = DEFAULT_MODE


def start(options: ModelOptions, settings: ServiceSettings, opened: socket.socket) -> None:
    """Serve until a signal. opened: the port, from `listen`.

    Raises:
        UserError: the run or a file of the settings cannot be used.
    """
    if options.num_threads < 0:
        raise UserError(f"--threads {options.num_threads}: expected 0, which uses all cores, or more")
    keep_freed_memory()
    model = open_model(
        options.run,
        maps=options.maps,
        points=options.points,
        num_threads=options.num_threads,
        quality_gate=options.quality_gate,
    )
    node = open_node(model, settings)
    app = make_app(model, settings, dicom=node)
    set_up_logs()
    port = opened.getsockname()[1]
    sys.stdout.write(summary(model.facts, settings, port) + "\n")
    sys.stdout.flush()
    try:
        serve(app, opened)
    finally:
        if node is not None:
            node.close()


def open_node(model: ServedModel, settings: ServiceSettings) -> "DicomNode | None":
    """The DICOM network; None where it is switched off. UserError as `DicomNode`."""
    if settings.dicom is None:
        return None
    require_packages("--dicom-port")
    from stage3_detect.serving.dicom.node import DicomNode  # takes a second

    audit = Audit(settings.audit) if settings.audit else None
    return DicomNode(model, settings.dicom, settings.limits, audit, open_records(settings, model.facts))


def summary(facts: ModelFacts, settings: ServiceSettings, port: int) -> str:
    """What is served, in a few lines."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    synthetic = ", trained on synthetic images" if facts.synthetic else ""
    lines = {
        "model": f"{facts.name} ({facts.id}{synthetic})",
        "findings": ", ".join(facts.findings),
        "engine": facts.format,
        "maps": facts.map_method or "off",
        "quality gate": facts.quality_gate,
        "corrections": f"{settings.corrections or 'off'}{', with the images' if settings.keep_images else ''}",
        "examples": str(settings.examples or "off"),
        "true boxes": str(settings.truth or "off"),
        "API keys": str(settings.api_keys or "off"),
        "audit": str(settings.audit or "off"),
        "records": str(settings.records or "off"),
        "DICOM": _dicom_words(settings.dicom),
        "page": f"http://{host}:{port}/",
        "service": f"http://{host}:{port}/v1/detections, described at http://{host}:{port}/openapi.json",
    }
    return "\n".join(f"{name + ':':<14}{value}" for name, value in lines.items())


def _dicom_words(dicom: DicomSettings | None) -> str:
    if dicom is None:
        return "off"
    return f"{dicom.ae} on {dicom.host}:{dicom.port}, results to {', '.join(dicom.send_to)}, queue in {dicom.folder}"
