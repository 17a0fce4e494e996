"""Contact points: the endpoints that the user named, resolved to addresses.

A name is resolved again each time, since its addresses change, and to all of its addresses, since a
name may stand for the whole cluster. An address keeps the name that it comes from: the node's
certificate is checked against the name.
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

PATIENCE = 0.5  # for how many seconds other names are awaited once one is resolved


class ContactPoints:
    """The contact points of a session.

    Arguments:
        points: as the user named them.
        clock: returns seconds.
        protected: makes a coroutine function one in which Ctrl-C is not raised.
        timeout: the time limit to resolve one name, in seconds.
        resolve: whether names are resolved; a custom connector gets them as they are.
        translate: ``Config.translate``, called with each point as it was named and with each
            address that a name resolves to; None to leave them as they are.

    Attributes:
        endpoints: the addresses, in the order of the points, as of the last time that any point
            could be resolved.
        late: whether the last :meth:`resolve` returned before some name was resolved.
        names: the contact points' names by address: those of the last resolution, and those that
            :meth:`resolve` was asked to keep.
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
            patient: whether to wait for all names; else the others get PATIENCE seconds once one is
                resolved.

        Returns:
            the errors of the names that could not be resolved.
        """
        found: list[list[Endpoint]] = [[] for _ in self._points]
        failures: list[ConnectionFailed] = []
        errors: list[Exception] = []
        left, ended = len(self._points), anyio.Event()

        async def resolve(number: int, point: Endpoint) -> None:
            nonlocal left
            try:
                found[number] = await self._addresses(point)
            except ConnectionFailed as exc:
                failures.append(exc)
            except Exception as exc:  # raised below: the task group would wrap it
                errors.append(exc)
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
        if errors:
            raise errors[0]
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
        """Return the translated addresses of a contact point."""
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
        except (OSError, ValueError, OverflowError) as exc:  # e.g. an empty label
            reason = "no answer in time" if isinstance(exc, TimeoutError) else None
            reason = reason or getattr(exc, "strerror", None) or str(exc)
            raise ConnectionFailed(
                f"{point.address!r} can't be resolved: {reason}",
                host=str(point),
                stage="resolve",
                elapsed=self._clock() - started,
            ) from exc
        name = point.server_name or point.address
        addresses = dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found)
        endpoints = [Endpoint(address, point.port) for address in addresses]
        if point == named:  # else it is translated already
            endpoints = [self._translated(endpoint) for endpoint in endpoints]
        return [
            each if each.server_name is not None else Endpoint(each.address, each.port, name)
            for each in endpoints
        ]


class Translation:
    """``Config.translate`` for contact points. Where it fails, a point is used as it was named.

    Arguments:
        function: ``Config.translate``, or None.
    """

    __slots__ = ("_function", "_report")

    def __init__(self, function: Callable[[Endpoint], Endpoint] | None) -> None:
        self._function = function
        self._report = Report("Config.translate, asked for a contact point,")

    def __call__(self, endpoint: Endpoint) -> Endpoint:
        """Return the endpoint to connect to; it keeps its server name unless it gets another."""
        if self._function is None:
            return endpoint
        try:
            found = self._function(endpoint)
            if not isinstance(found, Endpoint):
                raise ConfigError(f"it returned a {type(found).__name__}, not an Endpoint")
            checked_endpoint(found)
        except BaseException as exc:  # no cancellation: nothing was awaited
            self._report(exc)
            return endpoint
        if found.server_name is None and endpoint.server_name is not None:
            return Endpoint(found.address, found.port, endpoint.server_name)
        return found
