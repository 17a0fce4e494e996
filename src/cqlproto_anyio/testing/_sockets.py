"""Sockets that read nothing before they are asked to.

anyio's streams on asyncio do: where bytes come before the first ``receive`` reading is never
paused, and a client that sends without end would fill the memory of a proxy that relays nothing.
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
    """A connected socket.

    Arguments:
        raw: the socket, which the stream owns.
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
    """A listening socket that can refuse connections and keeps its port meanwhile.

    Arguments:
        address: the IP address to listen on.
        port: the port; 0 for any that is free.

    Attributes:
        port: the port.

    Raises:
        OSError: it can't listen there.
    """

    def __init__(self, address: str, port: int) -> None:
        self._family = socket.AF_INET6 if ":" in address else socket.AF_INET
        if port or sys.platform != "linux":
            self._raw = self._bound(address, port)
        else:
            # A socket that has asked Linux for any port loses it when it stops listening; one that
            # has asked for this port doesn't.
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
        """Let the system accept connections, or refuse them if it can, as Linux does."""
        try:
            if value:
                self._raw.listen(_BACKLOG)
            else:
                self._raw.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it can't: whoever calls accept() closes what comes

    async def accept(self) -> BareStream:
        """Return the next connection.

        Raises:
            OSError: there is none to be had, for connections are refused, or there is no room.
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
        """Listen no more; nobody may wait in :meth:`accept`."""
        self._raw.close()
