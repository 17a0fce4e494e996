"""TCP ports of the machine: free ones, and whether one is in use."""

from __future__ import annotations

import contextlib
import random
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["free_port", "in_use"]


def free_port(addresses: Sequence[str], count: int = 1) -> int:
    """Return a TCP port that is free on all addresses, and so are the `count` - 1 behind it.

    The port is below the system's range for outgoing connections. Within this range, a client that
    reconnects to a stopped node could connect to itself.
    """
    while True:
        port = random.randrange(10_000, 30_000)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for address in addresses:
                for number in range(count):
                    stack.enter_context(socket.socket()).bind((address, port + number))
            return port


def in_use(address: str, port: int) -> bool:
    """Return whether another program listens on a port, or the address is not this machine's."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((address, port))
        except OSError:
            return True
    return False
