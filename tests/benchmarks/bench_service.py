"""What the service adds to the engine, its throughput, its memory, and whether SIGTERM loses an answer.

    python tests/benchmarks/bench_service.py RUN [--rounds 100] [--seconds 20] [--requests 20000] [--threads 2]

RUN is a stage 3 run or a bundle. The service runs in a process of its own; clients are threads of this one, with
connections on loopback that stay open. The engine alone decodes and detects in this process, with as many threads;
blocks of its calls alternate with requests, so that both meet the same load of the machine. The images are smooth noise
of the usual sizes.
Prints tables and, as the last line, one JSON object.
"""

import argparse
import http.client
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from cxr.phantom.dicom import DicomFacts, write_dicom
from stage3_detect.serving.model.bundle_model import open_model
from stage3_detect.serving.model.images import decode_image
from tests.benchmarks.service_process import ServiceProcess, running_process

BOUNDARY = "0123456789abcdef0123456789abcdef"
HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
MAX_PIXELS = 64_000_000
BLOCK = 10
"""Calls in a row of the engine, then as many requests: the threads of an engine spin for a while after each call."""
console = Console(width=110)


def radiograph(height: int, width: int) -> np.ndarray:
    """Smooth shapes with a little noise in [0, 1]; compresses as radiographs do."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(size=(12, 10)).astype(np.float32)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image + 0.01 * rng.standard_normal((height, width)), 0, 1).astype(np.float32)


def example_images(folder: Path) -> dict[str, bytes]:
    """Files of the usual kinds."""
    large, small = radiograph(3000, 2500), radiograph(1024, 880)
    facts = DicomFacts("bench", "F", 50, inverted=False, low=100, high=4000, pixel_spacing_mm=0.14)
    write_dicom(folder / "large.dcm", large, facts)
    eight = (255 * small).astype(np.uint8)
    return {
        "JPEG 880 x 1024": cv2.imencode(".jpg", eight)[1].tobytes(),
        "PNG 880 x 1024": cv2.imencode(".png", eight)[1].tobytes(),
        "JPEG 2500 x 3000": cv2.imencode(".jpg", (255 * large).astype(np.uint8))[1].tobytes(),
        "DICOM 2500 x 3000, 15 MB": (folder / "large.dcm").read_bytes(),
    }


def body_of(data: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    return head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


@dataclass
class Answers:
    """What clients got. lost: requests that were sent and not answered."""

    seconds: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    lost: int = 0

    def percentile_ms(self, percent: float) -> float:
        return float(1000 * np.percentile(self.seconds, percent))


def send(connection: http.client.HTTPConnection, body: bytes, answers: Answers) -> None:
    begin = time.perf_counter()
    connection.request("POST", "/v1/detections", body, HEADERS)
    answer = connection.getresponse()
    answer.read()
    answers.seconds.append(time.perf_counter() - begin)
    answers.statuses.append(answer.status)


def bench_added(
    service: ServiceProcess, engine: Callable[[bytes], None], images: dict[str, bytes], rounds: int
) -> dict:
    """Median time of one image through the service and through the engine alone."""
    shown = Table("image", "engine ms", "service ms", "added", "99th percentile ms", title="One client")
    figures = {}
    for name, data in images.items():
        connection, body = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60), body_of(data)
        answers, alone = Answers(), []
        for block in range(1 + rounds // BLOCK):
            if block == 1:  # the first block warms up
                answers, alone = Answers(), []
            for _ in range(BLOCK):
                begin = time.perf_counter()
                engine(data)
                alone.append(time.perf_counter() - begin)
            for _ in range(BLOCK):
                send(connection, body, answers)
        assert set(answers.statuses) == {200}
        base, served = 1000 * float(np.median(alone)), answers.percentile_ms(50)
        figures[name] = {"engine_ms": base, "service_ms": served, "added_percent": 100 * (served / base - 1)}
        shown.add_row(
            name,
            f"{base:.1f}",
            f"{served:.1f}",
            f"{100 * (served / base - 1):.1f} %",
            f"{answers.percentile_ms(99):.1f}",
        )
    console.print(shown)
    return figures


def many_clients(service: ServiceProcess, body: bytes, num_clients: int, go_on: Callable[[Answers], bool]) -> Answers:
    """Clients that send one request after the other while `go_on`; those that are refused end."""
    answers = Answers()

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
        while go_on(answers):
            try:
                send(connection, body, answers)
            except (http.client.HTTPException, ConnectionError, TimeoutError):
                answers.lost += 1
                return

    threads = [threading.Thread(target=work) for _ in range(num_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def bench_throughput(service: ServiceProcess, data: bytes, seconds: float) -> dict:
    shown = Table("clients", "images/s", "median ms", "99th percentile ms", "other than 200", title="Throughput")
    figures = {}
    for num_clients in (1, 8, 64):
        end = time.perf_counter() + seconds
        answers = many_clients(service, body_of(data), num_clients, lambda _, end=end: time.perf_counter() < end)
        other = sum(status != 200 for status in answers.statuses) + answers.lost
        rate = len(answers.seconds) / seconds
        figures[str(num_clients)] = {"images_per_s": rate, "p99_ms": answers.percentile_ms(99), "other": other}
        shown.add_row(
            str(num_clients), f"{rate:.1f}", f"{answers.percentile_ms(50):.0f}", f"{answers.percentile_ms(99):.0f}",
            str(other),
        )  # fmt: skip
    console.print(shown)
    return figures


def bench_memory(service: ServiceProcess, images: dict[str, bytes], num_requests: int) -> dict:
    """Memory of the service after each tenth of many requests from eight clients."""
    bodies = [body_of(data) for data in images.values()]
    levels = [service.memory_mib()]
    for tenth in range(10):
        left = num_requests * (tenth + 1) // 10 - num_requests * tenth // 10
        answers = many_clients(service, bodies[tenth % len(bodies)], 8, lambda got, n=left: len(got.statuses) < n)
        assert set(answers.statuses) <= {200}
        levels.append(service.memory_mib())
    console.print(f"MiB after each tenth of {num_requests} requests: {' '.join(f'{level:.0f}' for level in levels)}")
    return {"requests": num_requests, "mib": levels}


def bench_end(run: Path, data: bytes, threads: int) -> dict:
    """SIGTERM amid requests of 16 clients: answers that the service logged against those that the clients read."""
    with tempfile.TemporaryFile() as log:
        with running_process(run, "--threads", str(threads), stderr=log) as service:
            got: dict[str, Answers] = {}
            clients = threading.Thread(
                target=lambda: got.update(
                    all=many_clients(service, body_of(data), 16, lambda answers: 503 not in answers.statuses)
                )
            )
            clients.start()
            time.sleep(2)
            begin = time.perf_counter()
            code = service.stop()
            seconds = time.perf_counter() - begin
            clients.join()
        log.seek(0)
        lines = [json.loads(line) for line in log.read().splitlines()]
    logged = sum(line["status"] == 200 for line in lines)
    read = got["all"].statuses.count(200)
    console.print(f"SIGTERM: {logged} answered, {read} read by clients, exit code {code}, ended after {seconds:.2f} s")
    return {"answered": logged, "read": read, "exit_code": code, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    for name, default in (("rounds", 100), ("seconds", 20), ("requests", 20_000), ("threads", 2), ("workers", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    model = open_model(given.run, num_threads=given.threads)

    def engine(data: bytes) -> None:
        model.detect(decode_image(data, "a", max_pixels=MAX_PIXELS))

    figures: dict[str, object] = {"format": model.facts.format}
    with tempfile.TemporaryDirectory() as folder:
        images = example_images(Path(folder))
    small = images["JPEG 880 x 1024"]
    arguments = ("--threads", str(given.threads), "--workers", str(given.workers))
    with running_process(given.run, *arguments) as service:
        figures["started_s"] = service.started_s
        console.print(f"{model.facts.format}, {given.threads} threads; started in {service.started_s:.2f} s")
        figures["added"] = bench_added(service, engine, images, given.rounds)
        figures["throughput"] = bench_throughput(service, small, given.seconds)
        figures["memory"] = bench_memory(service, {"small": small, "PNG": images["PNG 880 x 1024"]}, given.requests)
    figures["end"] = bench_end(given.run, small, given.threads)
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
