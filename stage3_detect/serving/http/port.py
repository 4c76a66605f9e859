"""Open the port before anything heavy is loaded, so that an address in use is reported at once."""

import socket

from cxr.config import UserError

_BACKLOG = 1024
_RECEIVE_BUFFER_BYTES = 4 << 20
"""The system's default makes a client wait for each piece of a large file."""


def listen(host: str, port: int) -> socket.socket:
    """Open the port.

    Raises:
        UserError: the address is unknown or in use.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind, protocol)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)  # connections inherit it
        opened.bind(address)
        opened.listen(_BACKLOG)
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that cannot be one of a host
        reason = error.strerror if isinstance(error, OSError) else "no host name"
        raise UserError(f"--host {host} --port {port}: {reason}; give another address or port") from None
    return opened
