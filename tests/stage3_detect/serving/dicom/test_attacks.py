"""Peers that break the rules: the node keeps nothing of what they sent, and goes on serving the others."""

import random
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from pynetdicom import AE

from stage3_detect.serving.dicom.node import DicomNode
from tests.benchmarks.dicom_kills import free_port, wait_for_port
from tests.paths import ROOT
from tests.stage3_detect.dicom_results.dicom_builders import DX
from tests.stage3_detect.dicom_results.viewer_rules import evidence
from tests.stage3_detect.serving.dicom.nodes import Peer, node, peer, store
from tests.stage3_detect.serving.dicom.small_node import FixedModel
from tests.stage3_detect.serving.dicom.test_node import image

NOTHING = {"images": 0, "results": 0}
_HUGE = struct.pack(">BBL", 4, 0, 0xFFFFFFF0)
"""The start of a piece of data of 4 GB."""


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DicomNode]:
    """A node that keeps what it accepts to itself: its destination is down."""
    with node(FixedModel(), tmp_path_factory.mktemp("queue"), "127.0.0.1:9:PACS") as started:
        yield started


@contextmanager
def cutting(port: int, num_bytes: int) -> Iterator[int]:
    """A connection to `port` that breaks after some bytes; yields the port to connect to."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def forward() -> None:
            client, _ = server.accept()
            with client, socket.create_connection(("127.0.0.1", port)) as node_side:
                back = threading.Thread(target=_copy, args=(node_side, client, 1 << 30), daemon=True)
                back.start()
                _copy(client, node_side, num_bytes)
                for one in (client, node_side):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        thread = threading.Thread(target=forward, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(10)
        assert not thread.is_alive()


def _copy(source: socket.socket, target: socket.socket, num_bytes: int) -> None:
    with suppress(OSError):  # the other end is closed
        while num_bytes > 0 and (data := source.recv(min(num_bytes, 65536))):
            target.sendall(data)
            num_bytes -= len(data)


@pytest.mark.parametrize("num_bytes", [1, 80, 600, 5_000, 200_000])
def test_nothing_is_kept_of_an_image_that_is_cut_off(opened: DicomNode, num_bytes: int):
    before = opened.queue.num_waiting()
    with cutting(opened.port, num_bytes) as port, suppress(OSError, RuntimeError, ValueError):  # the sender noticed
        assert store(port, image(7, study=70)) in ([], [None])
    assert opened.queue.num_waiting() == before


def is_closed(connection: socket.socket, *, within_s: float = 5) -> bool:
    """Whether the node ends the connection, perhaps after an answer."""
    connection.settimeout(within_s)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def wait_until_served(opened: DicomNode) -> None:
    end = time.monotonic() + 10
    while store(opened.port, image(1)) != [0]:
        assert time.monotonic() < end


def test_a_piece_that_claims_four_gigabytes_ends_the_connection(opened: DicomNode):
    with socket.create_connection(("127.0.0.1", opened.port)) as bare:
        bare.sendall(_HUGE + bytes(64))
        assert is_closed(bare)
    application = AE(ae_title="MODALITY")
    application.add_requested_context(DX)
    association = application.associate("127.0.0.1", opened.port, ae_title="RAYBOX")
    assert association.is_established
    association.dul.socket.socket.sendall(_HUGE + bytes(64))
    association.join(5)
    assert not association.is_alive()


def test_half_a_piece_does_not_keep_its_place_for_ever(tmp_path: Path):
    with node(FixedModel(), tmp_path, "127.0.0.1:9:PACS", network_timeout_s=0.5, max_associations=1) as opened:
        application = AE(ae_title="MODALITY")
        application.add_requested_context(DX)
        association = application.associate("127.0.0.1", opened.port, ae_title="RAYBOX")
        association.dul.socket.socket.sendall(struct.pack(">BBL", 4, 0, 1000) + bytes(10))  # and stays silent
        wait_until_served(opened)
        association.abort()


def test_garbage_does_not_stop_the_listener(tmp_path: Path):
    rng = random.Random(5)
    with node(FixedModel(), tmp_path, "127.0.0.1:9:PACS", network_timeout_s=1.0) as opened:
        for _ in range(25):
            kind, claimed = rng.randrange(9), rng.randrange(200)
            with socket.create_connection(("127.0.0.1", opened.port)) as bare:
                bare.sendall(struct.pack(">BBL", kind, 0, claimed) + rng.randbytes(rng.randrange(200)))
                bare.shutdown(socket.SHUT_WR)
                assert is_closed(bare)
        assert opened.queue.num_waiting() == NOTHING
        wait_until_served(opened)


@pytest.mark.parametrize(
    ("sop_class", "syntax"),
    [("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2"), (DX, "1.2.840.10008.1.2.4.100"), ("1.2.3", "1.2.3.4")],
)
def test_what_is_not_supported_is_not_negotiated(opened: DicomNode, sop_class: str, syntax: str):
    application = AE(ae_title="MODALITY")
    application.add_requested_context(sop_class, syntax)
    application.add_requested_context("1.2.840.10008.1.1")
    association = application.associate("127.0.0.1", opened.port, ae_title="RAYBOX")
    assert [str(context.abstract_syntax) for context in association.accepted_contexts] == ["1.2.840.10008.1.1"]
    association.release()


def test_silent_connections_do_not_keep_others_out(tmp_path: Path):
    few = {"max_associations": 2, "network_timeout_s": 2.0}
    with node(FixedModel(), tmp_path, "127.0.0.1:9:PACS", **few) as opened:
        address = ("127.0.0.1", opened.port)
        silent = [socket.create_connection(address) for _ in range(8)]
        end = time.monotonic() + 10
        while len(opened._server.active_associations) < 8:
            assert time.monotonic() < end
            time.sleep(0.01)
        with socket.create_connection(address) as one_more:
            assert is_closed(one_more, within_s=1)
        assert all(is_closed(one) for one in silent)
        wait_until_served(opened)


def test_a_flood_of_the_same_and_of_other_images_has_one_result_each(tmp_path: Path):
    files = [image(number) for number in (1, 1, 1, 1, 2, 3, 4, 1, 2, 3)]
    with peer() as pacs, node(FixedModel(), tmp_path, pacs.name, quiet_s=1) as opened:
        with ThreadPoolExecutor(len(files)) as pool:
            statuses = list(pool.map(lambda file: store(opened.port, file), files))
        assert statuses == [[0]] * len(files)
        results = pacs.wait_for(9)
        while opened.queue.num_waiting() != NOTHING:
            opened.queue.wait(opened.queue.version, 1)
    assert sorted(file.Modality for file in results) == ["OT"] * 4 + ["PR"] * 4 + ["SR"]
    (report,) = (file for file in results if file.Modality == "SR")
    assert len(evidence(report)) == 4
    assert len(pacs.files) == 9


def test_on_a_full_disk_images_are_refused_and_results_come_later(tmp_path: Path):
    """The system refuses every write beyond the present size of the files."""
    with peer() as pacs, small_node(tmp_path, pacs) as (process, port):
        assert store(port, image(1)) == [0]
        pacs.wait_for(3)
        size = max(path.stat().st_size for path in tmp_path.iterdir())
        unlimited = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        number = 2
        while store(port, image(number)) == [0]:
            number += 1
            assert number < 40
        assert store(port, image(number)) == [0xA700]
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, unlimited)
        assert store(port, image(number)) == [0]
        pacs.wait(lambda files: any(len(evidence(f)) == number for f in files if f.Modality == "SR"))
        pacs.wait(lambda files: [sum(f.Modality == kind for f in files) for kind in ("PR", "OT")] == [number, number])


@contextmanager
def small_node(folder: Path, pacs: Peer) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """A node in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "tests.stage3_detect.serving.dicom.small_node", str(folder), str(port), pacs.name]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        wait_for_port(port)
        yield process, port
    finally:
        process.terminate()
        process.wait(timeout=30)
