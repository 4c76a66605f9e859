"""Start the service: settings from the command line, the model, the port, and what is served in a few lines."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr.config import UserError, parse_overrides, parse_settings
from stage3_detect.serving.http.app import make_app
from stage3_detect.serving.http.logs import set_up_logs
from stage3_detect.serving.http.server import listen, serve
from stage3_detect.serving.interface import ModelFacts
from stage3_detect.serving.memory import keep_freed_memory
from stage3_detect.serving.model.bundle_model import open_model
from stage3_detect.serving.settings import Limits, ServiceSettings


def settings_of(given: Mapping[str, Any]) -> ServiceSettings:
    """The settings in a command line; `given["set"]` changes limits.

    Raises:
        UserError: values that do not validate; an address other than loopback without API keys.
    """
    values = {name: value for name, value in given.items() if name in ServiceSettings.model_fields}
    values["limits"] = parse_overrides(Limits, given["set"])
    settings = parse_settings(ServiceSettings, values, source="command line")
    if not settings.is_loopback and settings.api_keys is None:
        raise UserError(
            f"--host {settings.host}: others could use the service; give --api-keys FILE (--new-key FILE NAME makes it)"
        )
    if settings.keep_images and settings.corrections is None:
        raise UserError("--keep-images: images are kept with corrections only; give --corrections DIR too")
    return settings


@dataclass(frozen=True)
class ModelOptions:
    """What to serve; see `open_model`."""

    run: Path
    maps: bool = False
    points: str | None = None
    num_threads: int = 0


def start(options: ModelOptions, settings: ServiceSettings) -> None:
    """Serve until a signal.

    Raises:
        UserError: the run, a file of the settings or the address cannot be used.
    """
    if options.num_threads < 0:
        raise UserError(f"--threads {options.num_threads}: expected 0, which uses all cores, or more")
    keep_freed_memory()
    opened = listen(settings.host, settings.port)
    model = open_model(options.run, maps=options.maps, points=options.points, num_threads=options.num_threads)
    app = make_app(model, settings)
    set_up_logs()
    port = opened.getsockname()[1]
    sys.stdout.write(summary(model.facts, settings, port) + "\n")
    sys.stdout.flush()
    serve(app, opened)


def summary(facts: ModelFacts, settings: ServiceSettings, port: int) -> str:
    """What is served, in a few lines."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    synthetic = ", trained on synthetic images" if facts.synthetic else ""
    lines = {
        "model": f"{facts.name} ({facts.id}{synthetic})",
        "findings": ", ".join(facts.findings),
        "engine": facts.format,
        "maps": facts.map_method or "off",
        "corrections": f"{settings.corrections or 'off'}{', with the images' if settings.keep_images else ''}",
        "examples": str(settings.examples or "off"),
        "true boxes": str(settings.truth or "off"),
        "API keys": str(settings.api_keys or "off"),
        "audit": str(settings.audit or "off"),
        "page": f"http://{host}:{port}/",
        "service": f"http://{host}:{port}/v1/detections, described at http://{host}:{port}/openapi.json",
    }
    return "\n".join(f"{name + ':':<13}{value}" for name, value in lines.items())
