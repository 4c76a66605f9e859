"""Starting and ending the service: what it says, and that it answers what it accepted."""

import socket
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest

from cxr.config import UserError
from stage3_detect.serving.settings import ServiceSettings
from stage3_detect.serving.start import ModelOptions, start
from tests.benchmarks.service_process import running_process
from tests.stage3_detect.serving.services import files, png


def test_a_negative_number_of_threads_is_refused() -> None:
    with socket.socket() as opened, pytest.raises(UserError, match="--threads -1"):
        start(ModelOptions(Path("run"), num_threads=-1), ServiceSettings(), opened)


def test_the_service_says_what_it_serves_and_answers_what_it_accepted(bundle_alone: Path) -> None:
    """SIGTERM while requests are in work: all are answered, then the process ends with 0."""
    large = [("files", ("a.png", png(seed=1, image_hw=(2500, 1900))))] * 4
    statuses: list[int] = []
    with running_process(bundle_alone, "--workers", "1", "--threads", "1") as service:
        for words in ("Nodule/Mass, Pleural Effusion", "openvino_fp32", "API keys:     off", "corrections:  off"):
            assert words in service.summary

        def ask() -> None:
            answer = httpx.post(service.url + "/v1/detections", files=large, timeout=60)
            statuses.append(answer.status_code)
            assert len(answer.json()["images"]) == len(large)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        with httpx.Client(base_url=service.url) as client:
            for thread in threads:
                thread.start()
            while "raybox_requests_accepted 4.0" not in client.get("/metrics").text:
                time.sleep(0.01)
            service.process.terminate()
            while client.get("/readyz").status_code == 200:
                time.sleep(0.01)
            refused = client.post("/v1/detections", files=files("a.png"))
        for thread in threads:
            thread.join()
        assert service.stop() == 0
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    assert statuses == [200] * 4


def test_no_file_is_written_and_no_connection_is_opened(bundle_alone: Path, tmp_path: Path) -> None:
    """An upload of many megabytes stays in memory."""
    with running_process(bundle_alone) as service:
        process = psutil.Process(service.process.pid)
        before = {file.path for file in process.open_files()}
        upload = [("files", ("a.png", png(image_hw=(2500, 1900)) + bytes(20_000_000)))]
        opened: set[str] = set()
        peers: set[object] = set()
        thread = threading.Thread(
            target=lambda: httpx.post(service.url + "/v1/detections", files=upload, timeout=60).raise_for_status()
        )
        thread.start()
        while thread.is_alive():
            opened |= {file.path for file in process.open_files()}
            peers |= {one.laddr.port for one in process.net_connections() if one.raddr}
        thread.join()
    assert opened <= before
    assert peers <= {service.port}
