"""Contact points: what the user named, resolved to addresses, and the names that those bear.

A name is resolved anew each time, since what stands behind it changes, and to all its addresses: it
may stand for the whole cluster. An address keeps the name it comes from, for that is what a
certificate is checked against.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import anyio

from cqlproto_anyio._checks.callables import Report
from cqlproto_anyio._checks.values import checked_endpoint
from cqlproto_anyio.endpoint import Endpoint
from cqlproto_anyio.exceptions import ConfigError, ConnectionFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cqlproto_anyio._metadata.discovery import Address

__all__ = ["ContactPoints", "Translation"]

PATIENCE = 0.5  # how long a name may hold up others that are resolved already, in seconds


class ContactPoints:
    """The contact points of a session.

    Arguments:
        points: as the user named them.
        clock: returns seconds.
        protected: makes a coroutine function one in which Ctrl-C is not raised.
        timeout: for resolving one, in seconds.
        resolve: whether names are resolved; a custom connector knows what they mean.
        translate: asked for each point as it was named, and for each address that a name stands
            for; None leaves them.

    Attributes:
        endpoints: the addresses, in the order of the points, as of the last time that any point
            could be resolved.
        late: whether some name was not waited for, the last time.
        names: the names that addresses bear: of the last resolution, and what :meth:`resolve` was
            told to keep of those before.
    """

    def __init__(
        self,
        points: Sequence[Endpoint],
        *,
        clock: Callable[[], float],
        protected: Callable[[Any], Any],
        timeout: float,
        resolve: bool,
        translate: Callable[[Endpoint], Endpoint] | None = None,
    ) -> None:
        self.endpoints: tuple[Endpoint, ...] = ()
        self.names: dict[Address, str] = {}
        self.late = False
        self._points = tuple(points)
        self._clock = clock
        self._protected = protected
        self._timeout = timeout
        self._resolves = resolve
        self._translated = Translation(translate)

    async def resolve(
        self, keep: Iterable[Endpoint] = (), *, patient: bool = True
    ) -> list[ConnectionFailed]:
        """Resolve all points at once.

        Arguments:
            keep: endpoints whose addresses keep the names they have.
            patient: wait for all; else, as soon as one is resolved, only a moment for the others.

        Returns:
            what failed.
        """
        found: list[list[Endpoint]] = [[] for _ in self._points]
        failures: list[ConnectionFailed] = []
        bugs: list[Exception] = []
        left, ended = len(self._points), anyio.Event()

        async def resolve(number: int, point: Endpoint) -> None:
            nonlocal left
            try:
                found[number] = await self._addresses(point)
            except ConnectionFailed as exc:
                failures.append(exc)
            except Exception as exc:  # the group would wrap it
                bugs.append(exc)
            left -= 1
            ended.set()

        protected = self._protected(resolve)
        async with anyio.create_task_group() as group:
            for number, point in enumerate(self._points):
                group.start_soon(protected, number, point)
            until = self._clock() + PATIENCE
            while left and not patient:
                ended = anyio.Event()
                some = any(found)
                with anyio.move_on_after(max(until - self._clock(), 0.0) if some else None) as wait:
                    await ended.wait()
                if wait.cancelled_caught:
                    break
            self.late = left > 0 and not patient
            if self.late:
                group.cancel_scope.cancel()
        if bugs:
            raise bugs[0]
        endpoints = dict.fromkeys(endpoint for each in found for endpoint in each)
        if endpoints:
            self.endpoints = tuple(endpoints)
        kept = {(endpoint.address, endpoint.port) for endpoint in keep}
        self.names = {at: name for at, name in self.names.items() if at in kept}
        for endpoint in self.endpoints:
            if endpoint.server_name is not None:
                self.names[endpoint.address, endpoint.port] = endpoint.server_name
        return failures

    async def _addresses(self, named: Endpoint) -> list[Endpoint]:
        point = self._translated(named)
        if not self._resolves:
            return [point]
        with suppress(ValueError):
            ip_address(point.address)
            return [point]
        started = self._clock()
        try:
            with anyio.fail_after(self._timeout):
                found = await anyio.getaddrinfo(point.address, point.port, type=socket.SOCK_STREAM)
        except (OSError, ValueError, OverflowError) as exc:  # an impossible name is no OSError
            told = "no answer in time" if isinstance(exc, TimeoutError) else None
            told = told or getattr(exc, "strerror", None) or str(exc)
            raise ConnectionFailed(
                f"{point.address!r} can't be resolved: {told}",
                host=str(point),
                stage="resolve",
                elapsed=self._clock() - started,
            ) from exc
        name = point.server_name or point.address
        addresses = dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found)
        endpoints = [Endpoint(address, point.port) for address in addresses]
        if point == named:  # what was translated once is where to go
            endpoints = [self._translated(endpoint) for endpoint in endpoints]
        return [
            each if each.server_name is not None else Endpoint(each.address, each.port, name)
            for each in endpoints
        ]


class Translation:
    """``Config.translate``, for contact points: where it fails they are used as they were named.

    Arguments:
        function: what is asked, or None.
    """

    __slots__ = ("_function", "_report")

    def __init__(self, function: Callable[[Endpoint], Endpoint] | None) -> None:
        self._function = function
        self._report = Report("Config.translate, asked for a contact point,")

    def __call__(self, endpoint: Endpoint) -> Endpoint:
        """Return where to go for an endpoint; it keeps its server name, if it gets no other."""
        if self._function is None:
            return endpoint
        try:
            found = self._function(endpoint)
            if not isinstance(found, Endpoint):
                raise ConfigError(f"it returned a {type(found).__name__}, not an Endpoint")
            checked_endpoint(found)
        except BaseException as exc:  # it is not awaited: this is no cancellation
            self._report(exc)
            return endpoint
        if found.server_name is None and endpoint.server_name is not None:
            return Endpoint(found.address, found.port, endpoint.server_name)
        return found
