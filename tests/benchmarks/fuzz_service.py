"""Send broken requests of all kinds to a service: none may get a 5xx, hang, or make the service grow.

    python tests/benchmarks/fuzz_service.py RUN [--requests 10000] [--seed 0]

Starts the service on RUN (a stage 3 run or a bundle) in a process of its own, with short limits on time. Up to a
third of the requests comes from schemathesis, made from the OpenAPI description, half of them against its rules; the
others are damaged images, and headers, paths, bodies and clients that are wrong or slow. Prints a table and, as the
last line, one JSON object; ends with 1 after a finding.
"""

import argparse
import json
import random
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis.errors import Unsatisfiable
from rich.console import Console
from rich.table import Table

from tests.benchmarks.fuzz_requests import broken_image, png_of_size, raw_request, wrong_request
from tests.benchmarks.service_process import ServiceProcess, running_process

HANG_S = 20
SHORT_LIMITS = (
    "upload_grace_s=1", "min_upload_bytes_per_s=2000000", "header_timeout_s=1", "max_file_bytes=1000000",
    "max_request_bytes=2000000", "max_pixels=2000000", "processing_timeout_s=60",
)  # fmt: skip


@dataclass
class Findings:
    """Answers by kind of request and status, and what must not be."""

    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    slowest_s: float = 0

    def add(self, kind: str, status: int | None, seconds: float, about: str = "") -> None:
        """Record an answer. status: None if the connection was closed without one."""
        self.statuses[kind, "closed" if status is None else str(status)] += 1
        self.slowest_s = max(self.slowest_s, seconds)
        if status is not None and status >= 500:
            self.problems.append(f"{kind}: {status} {about}")
        if seconds > HANG_S:
            self.problems.append(f"{kind}: {seconds:.0f} s {about}")


def fuzz(service: ServiceProcess, *, num_requests: int, seed: int) -> Findings:
    """Send about `num_requests` requests."""
    found = Findings()
    _wait_for_maps(service)
    _from_schema(service, found, num_requests // 3, seed)
    rng = random.Random(seed)

    def images(rng: random.Random) -> None:
        _send_image(client, found, rng)

    kinds: list[tuple[int, Callable[[random.Random], None]]] = [
        (num_requests - sum(found.statuses.values()) - 2 * (num_requests // 6), images),
        (num_requests // 6, lambda rng: _send_wrong(client, found, rng)),
        (num_requests // 6, lambda rng: _send_raw(service.port, found, rng)),
    ]
    # a few at the same time: slow clients must not keep the others waiting
    with httpx.Client(base_url=service.url, timeout=2 * HANG_S) as client, ThreadPoolExecutor(8) as pool:
        tasks = [pool.submit(send, random.Random(rng.random())) for count, send in kinds for _ in range(count)]
        for task in tasks:
            task.result()
    begin = time.monotonic()
    found.add("afterwards", httpx.get(service.url + "/readyz", timeout=HANG_S).status_code, time.monotonic() - begin)
    if not service.process.is_running():
        found.problems.append("the service has ended")
    return found


def _wait_for_maps(service: ServiceProcess) -> None:
    """The first request waits until the classifier is loaded, longer than the short limits allow."""
    status = 503
    while status == 503:
        status = httpx.post(
            service.url + "/v1/maps", files={"file": png_of_size(9, 6, rows=6 * bytes([0, *range(9)]))}, timeout=120
        ).status_code


def _from_schema(service: ServiceProcess, found: Findings, num_requests: int, seed: int) -> None:
    schema = schemathesis.openapi.from_url(service.url + "/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    for operation in operations:
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            cases = operation.as_strategy(generation_mode=mode)
            _send_cases(
                service, found, cases, f"schema, {mode.value}", max(1, num_requests // (2 * len(operations))), seed
            )


def _send_cases(service: ServiceProcess, found: Findings, cases: object, kind: str, num_cases: int, seed: int) -> None:
    @hypothesis_seed(seed)
    @settings(max_examples=num_cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=cases)
    def send(case: schemathesis.Case) -> None:
        begin = time.monotonic()
        answer = case.call(base_url=service.url, timeout=2 * HANG_S)
        found.add(kind, answer.status_code, time.monotonic() - begin, f"{case.method} {case.path}")

    try:
        send()
    except (schemathesis.errors.SchemathesisError, Unsatisfiable):  # no request breaks the rules of a route without any
        found.statuses[kind, "not possible"] += 1


def _send_image(client: httpx.Client, found: Findings, rng: random.Random) -> None:
    kind, data = broken_image(rng)
    path, name = rng.choice([("/v1/detections", "files"), ("/v1/maps", "file"), ("/page/readings", "file")])
    begin = time.monotonic()
    answer = client.post(path, files={name: (rng.choice(["a.png", "a.dcm", "", "a"]), data)})
    found.add(f"image, {kind}", answer.status_code, time.monotonic() - begin, f"{path} {answer.text[:80]}")


def _send_wrong(client: httpx.Client, found: Findings, rng: random.Random) -> None:
    kind, request = wrong_request(rng, client)
    begin = time.monotonic()
    try:
        status: int | None = client.send(request).status_code
    except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):  # refused before the body was sent
        status = None
    found.add(kind, status, time.monotonic() - begin, f"{request.method} {request.url}")


def _send_raw(port: int, found: Findings, rng: random.Random) -> None:
    kind, pieces = raw_request(rng)
    begin = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=2 * HANG_S) as connection:
        found.add(kind, _exchange(connection, pieces), time.monotonic() - begin)


def _exchange(connection: socket.socket, pieces: Iterator[bytes]) -> int | None:
    """Send pieces until the other side closes; the status of its first answer."""
    answer = b""
    try:
        for piece in pieces:
            connection.sendall(piece)
        while chunk := connection.recv(1 << 16):
            answer += chunk
    except (BrokenPipeError, ConnectionResetError):
        pass
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given_ = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        running_process(
            given_.run, "--maps", "--corrections", f"{folder}/corrections", "--set", *SHORT_LIMITS
        ) as service,
    ):
        fuzz(service, num_requests=min(500, given_.requests), seed=given_.seed + 1)  # fills caches and pools
        before, begin = service.memory_mib(), time.monotonic()
        found = fuzz(service, num_requests=given_.requests, seed=given_.seed)
        seconds, after = time.monotonic() - begin, service.memory_mib()
        code = service.stop()
    _print(found)
    figures = {
        "requests": sum(found.statuses.values()), "problems": len(found.problems), "seconds": round(seconds),
        "slowest_s": round(found.slowest_s, 2), "memory_mib_before": round(before), "memory_mib_after": round(after),
        "exit_code": code,
    }  # fmt: skip
    sys.stdout.write(json.dumps(figures) + "\n")
    return 1 if found.problems or code else 0


def _print(found: Findings) -> None:
    shown = Table("kind", "answers (status: number)", title="Answers of the service")
    for kind in sorted({kind for kind, _ in found.statuses}):
        counts = {status: count for (of, status), count in found.statuses.items() if of == kind}
        shown.add_row(kind, "  ".join(f"{status}: {counts[status]}" for status in sorted(counts)))
    console = Console(width=110)
    console.print(shown)
    for problem in found.problems[:50]:
        console.print(problem, markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
