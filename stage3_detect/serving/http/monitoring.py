"""What the service counts, as Prometheus metrics. Labels come from fixed lists, never from a client."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from stage3_detect.image_quality.verdict import Quality
from stage3_detect.model.predictor import FoundBox
from stage3_detect.serving.http.workers import Workers

Phase = Literal["decode", "quality", "detect", "maps", "picture", "dicom"]

_SECONDS = (0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
_TENTHS = tuple(step / 10 for step in range(1, 11))


class Monitoring:
    """Metrics of one service."""

    def __init__(self, workers: Workers) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "raybox_requests", "Answered requests.", ["method", "route", "status"], registry=registry
        )
        self._request_s = Histogram(
            "raybox_request_seconds",
            "Seconds from a request's header to its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._images = Counter("raybox_images", "Images by result.", ["result"], registry=registry)
        self._phase_s = Histogram(
            "raybox_phase_seconds", "Seconds of one image in a phase.", ["phase"], buckets=_SECONDS, registry=registry
        )
        self._rejected = Counter("raybox_rejected", "Refused requests by reason.", ["reason"], registry=registry)
        self._unsuitable = Counter(
            "raybox_images_unsuitable", "Images that the quality gate does not pass, by reason.", ["reason"],
            registry=registry,
        )  # fmt: skip
        self._boxes = Counter(
            "raybox_boxes_shown", "Boxes that reach the operating point.", ["finding"], registry=registry
        )
        self._confidence = Histogram(
            "raybox_box_confidence",
            "Calibrated confidence of the boxes shown, or their score without calibration. A shift is a sign of drift.",
            ["finding"],
            buckets=_TENTHS,
            registry=registry,
        )
        self._corrections = Counter(
            "raybox_corrections", "Boxes in corrections by what the reader did.", ["finding", "action"],
            registry=registry,
        )  # fmt: skip
        self._accepted = Gauge(
            "raybox_accepted_share",
            "Share of the model's boxes that readers accepted as they were, over the last reading of each reader and "
            "image. Low or falling: the model does not fit these images.",
            ["finding"],
            registry=registry,
        )
        waiting = Gauge("raybox_images_waiting", "Images that wait for a thread.", registry=registry)
        waiting.set_function(lambda: workers.num_waiting)
        accepted = Gauge("raybox_requests_accepted", "Requests with a body in work.", registry=registry)
        accepted.set_function(lambda: workers.num_accepted)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(method, route, str(status)).inc()
        self._request_s.labels(route).observe(seconds)

    def rejected(self, reason: str) -> None:
        """Count a refusal."""
        self._rejected.labels(reason).inc()

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Measure a part of the work on one image."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._phase_s.labels(phase).observe(time.perf_counter() - begin)

    def unreadable(self) -> None:
        """Count an image that cannot be decoded."""
        self._images.labels("unreadable").inc()

    def found(self, boxes: Iterable[FoundBox], quality: Quality) -> None:
        """Count an image, what is wrong with it, and the boxes that it shows."""
        self._images.labels("answered").inc()
        for code in quality.codes:
            self._unsuitable.labels(code).inc()
        for box in boxes:
            if box.shown:
                self._boxes.labels(box.finding).inc()
                value = box.score if box.confidence is None else box.confidence
                self._confidence.labels(box.finding).observe(value)

    def corrected(self, finding: str, action: str) -> None:
        """Count a box of a correction. Both labels must be validated: a finding of the model, a known action."""
        self._corrections.labels(finding, action).inc()

    def accepted(self, shares: Mapping[str, float | None]) -> None:
        """State the share of accepted boxes of each finding; None for a finding that no reader judged."""
        for finding, share in shares.items():
            if share is not None:
                self._accepted.labels(finding).set(share)

    def text(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        return generate_latest(self._registry)
