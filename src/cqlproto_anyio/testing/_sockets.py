"""Sockets that read only when :meth:`BareStream.receive` is called.

anyio's streams on asyncio read before the first ``receive`` and never pause then, so a client that
sends without end would fill the memory of a paused proxy.
"""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import anyio.lowlevel
from anyio.abc import SocketAttribute

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["BareStream", "Listener"]

_BACKLOG = 1024


class BareStream(anyio.abc.ByteStream):
    """A stream on a connected socket.

    Arguments:
        raw: the socket; the stream closes it.
    """

    def __init__(self, raw: socket.socket) -> None:
        raw.setblocking(False)
        self._raw = raw

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {SocketAttribute.raw_socket: lambda: self._raw}

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        while True:
            await anyio.wait_readable(self._raw)
            try:
                data = self._raw.recv(max_bytes)
            except BlockingIOError:
                continue
            except OSError as exc:
                raise anyio.BrokenResourceError from exc
            if not data:
                raise anyio.EndOfStream
            return data

    async def send(self, item: bytes) -> None:
        rest = memoryview(item)
        while rest:
            await anyio.wait_writable(self._raw)
            try:
                rest = rest[self._raw.send(rest) :]
            except BlockingIOError:
                continue
            except OSError as exc:
                raise anyio.BrokenResourceError from exc

    async def send_eof(self) -> None:
        self._raw.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        self._raw.close()
        await anyio.lowlevel.checkpoint()


class Listener:
    """A listening socket that can refuse connections without losing its port.

    Arguments:
        address: the IP address to listen on.
        port: the port; 0 for a free port.

    Attributes:
        port: the port in use.

    Raises:
        OSError: the address or the port can't be used.
    """

    def __init__(self, address: str, port: int) -> None:
        self._family = socket.AF_INET6 if ":" in address else socket.AF_INET
        if port or sys.platform != "linux":
            self._raw = self._bound(address, port)
        else:
            # On Linux, a socket bound to port 0 loses its port when it stops listening; one bound
            # to a given port keeps it.
            with self._bound(address, 0) as found:
                self._raw = self._bound(address, found.getsockname()[1])
        self.port: int = self._raw.getsockname()[1]
        try:
            self._raw.listen(_BACKLOG)
        except OSError:
            self._raw.close()
            raise

    def _bound(self, address: str, port: int) -> socket.socket:
        raw = socket.socket(self._family)
        try:
            raw.setblocking(False)
            if sys.platform != "win32":
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            raw.bind((address, port))
        except BaseException:
            raw.close()
            raise
        return raw

    def set_listening(self, value: bool) -> None:
        """Accept connections, or refuse them where the system can, as on Linux."""
        try:
            if value:
                self._raw.listen(_BACKLOG)
            else:
                self._raw.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # not supported: the caller of accept() closes what it gets

    async def accept(self) -> BareStream:
        """Return the next connection.

        Raises:
            OSError: connections are refused, or no file descriptor is left.
        """
        while True:
            await anyio.wait_readable(self._raw)
            try:
                raw, _ = self._raw.accept()
            except BlockingIOError:
                continue
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return BareStream(raw)

    def close(self) -> None:
        """Stop listening; no task may be waiting in :meth:`accept`."""
        self._raw.close()
