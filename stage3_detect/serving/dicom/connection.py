"""What every DICOM connection needs and pynetdicom does not do: send without delay, and do not wait for ever."""

import socket

from pynetdicom import evt

PDU_BYTES = 1 << 20
"""Longest piece (PDU) that a peer should send: large radiographs come in few pieces, and a piece is held in memory
before it is counted."""
_MAX_PDU_BYTES = 2 * PDU_BYTES
"""A peer that sends a longer piece ignores what was agreed."""


def prepare(event: evt.Event) -> None:
    """Handle `EVT_CONN_OPEN`.

    A request is several small pieces; by default each waits for the acknowledgement of the one before, up to 40 ms.
    pynetdicom takes a piece of up to 4 GB into memory before it looks at it, reads 4 kB at a time, and waits for ever
    for the rest of a piece, for instance from a modality that was switched off.
    """
    connection = event.assoc.dul.socket
    assert connection is not None and connection.socket is not None  # it was opened just now
    opened: socket.socket = connection.socket
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    opened.settimeout(event.assoc.network_timeout)

    def receive(num_bytes: int) -> bytearray:
        if num_bytes > _MAX_PDU_BYTES:
            raise OSError("the piece is too long")  # pynetdicom then ends the connection
        content = bytearray(num_bytes)
        received = 0
        while received < num_bytes and (more := opened.recv_into(memoryview(content)[received:])):
            received += more
        return content[:received]

    connection.recv = receive  # type: ignore[assignment,method-assign]
