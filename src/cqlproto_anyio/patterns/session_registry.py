"""Sessions that are shared by the parts of a program that connect with the same arguments."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from cqlproto_anyio._settings.arguments import contact_points
from cqlproto_anyio.exceptions import SessionClosed, UsageError
from cqlproto_anyio.patterns._arguments import integer
from cqlproto_anyio.patterns._errors import TooManySessions
from cqlproto_anyio.patterns._opening import ConnectArguments, Hosts, Opening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Unpack

    from cqlproto_anyio.session import Session

__all__ = ["SessionRegistry"]


@dataclass(eq=False)
class _Entry:
    """A session and the number of its users; the configuration is compared, and never shown."""

    configuration: dict[str, Any]
    opening: Opening
    users: int = 0


class SessionRegistry:
    """Sessions by configuration: who connects with the same arguments gets the same session.

    Guarantee: all arguments of ``connect`` but ``wait`` belong to the configuration: contact
    points, keyspace, credentials, TLS, profile and config. Different names, passwords or TLS
    contexts never share a session, nor do two event loops. The session is closed when its last user
    has released it, after its requests under way. A failed connection leaves nothing behind. A
    session that is handed in is borrowed, and never closed.

    Not guaranteed: equal settings are found by ``==``. Two SSL contexts, two functions or two
    credentials of a class without ``__eq__`` count as different, also if they do the same.

    Cost: nothing but the sessions.

    Arguments:
        max_sessions: how many sessions may be open, besides borrowed ones.
    """

    def __init__(self, *, max_sessions: int = 100) -> None:
        self._most = integer("max_sessions", max_sessions, least=1)
        self._entries: list[_Entry] = []
        self._borrowed: list[Session] = []
        self._closed = False

    def __len__(self) -> int:
        return len(self._entries)

    async def acquire(
        self,
        hosts: Hosts = "127.0.0.1",
        *,
        session: Session | None = None,
        **arguments: Unpack[ConnectArguments],
    ) -> Session:
        """Return the session of a configuration, and open it for its first user.

        Arguments:
            hosts, arguments: as for :func:`~cqlproto_anyio.connect`.
            session: a session of the caller's, which is returned as it is.

        Raises:
            TooManySessions: another session would be one too many.
            SessionClosed: the registry is closed.
            ConnectionFailed, NoHostAvailable, DatabaseError: what ``connect`` raises.
        """
        if self._closed:
            raise SessionClosed("the registry of sessions is closed")
        if session is not None:
            if (entry := self._entry_of(session)) is not None:
                entry.users += 1
            else:
                self._borrowed.append(session)
            return session
        entry = self._entry(hosts, arguments)
        entry.users += 1
        try:
            return await entry.opening.get()
        except BaseException:
            await self._leave(entry)
            raise

    async def release(self, session: Session) -> None:
        """Give a session back; the last user closes it. UsageError if it was not acquired here."""
        if (entry := self._entry_of(session)) is not None:
            await self._leave(entry)
        elif session in self._borrowed:  # sessions are equal only to themselves
            self._borrowed.remove(session)
        elif not self._closed:
            raise UsageError("release() got a session that this registry did not acquire()")

    @asynccontextmanager
    async def hold(
        self,
        hosts: Hosts = "127.0.0.1",
        *,
        session: Session | None = None,
        **arguments: Unpack[ConnectArguments],
    ) -> AsyncIterator[Session]:
        """Acquire a session for the time of a block; the arguments are those of :meth:`acquire`."""
        held = await self.acquire(hosts, session=session, **arguments)
        try:
            yield held
        finally:
            await self.release(held)

    async def aclose(self) -> None:
        """Close all sessions of this event loop but the borrowed ones, whoever uses them."""
        self._closed = True
        here = anyio.lowlevel.current_token()
        async with anyio.create_task_group() as group:
            for entry in [each for each in self._entries if each.configuration["loop"] == here]:
                self._entries.remove(entry)
                group.start_soon(entry.opening.aclose)

    def _entry(self, hosts: Hosts, arguments: ConnectArguments) -> _Entry:
        """Return the entry of a configuration, or make one."""
        configuration: dict[str, Any] = {
            name: value
            for name, value in arguments.items()
            if name not in ("wait", "port") and value is not None and value is not False
        }
        configuration["hosts"] = contact_points(hosts, arguments.get("port", 9042))
        configuration["loop"] = anyio.lowlevel.current_token()
        for entry in self._entries:
            session = entry.opening.session
            if entry.configuration == configuration and (session is None or not session.closed):
                return entry
        opening = Opening(hosts, **arguments)  # it checks the other arguments
        if len(self._entries) >= self._most:
            raise TooManySessions(self._most)
        self._entries.append(_Entry(configuration, opening))
        return self._entries[-1]

    def _entry_of(self, session: Session) -> _Entry | None:
        return next((each for each in self._entries if each.opening.session is session), None)

    async def _leave(self, entry: _Entry) -> None:
        entry.users -= 1
        if entry.users == 0 and entry in self._entries:
            self._entries.remove(entry)  # who comes now opens another one
            await entry.opening.aclose()
