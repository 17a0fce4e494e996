"""Sessions that the parts of a program share: one for all, or one for each configuration."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Never, TypeAlias, TypedDict

import anyio
import anyio.lowlevel

from cqlproto_anyio._settings.arguments import contact_points
from cqlproto_anyio.connect import Connecting, connect
from cqlproto_anyio.exceptions import SessionClosed, UsageError, copied
from cqlproto_anyio.patterns._arguments import integer
from cqlproto_anyio.patterns._errors import TooManySessions
from cqlproto_anyio.patterns._retry import Attempts, Backoff

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Sequence
    from typing import Unpack

    from cqlproto_anyio._settings.profile import Profile
    from cqlproto_anyio.config import Auth, Config
    from cqlproto_anyio.endpoint import Endpoint
    from cqlproto_anyio.session import Session

__all__ = ["SessionRegistry", "SharedSession"]

Hosts: TypeAlias = "str | Endpoint | Sequence[str | Endpoint]"

_DRAINING = 10.0  # seconds that requests under way have to end
_POLLS = Backoff(first=0.005, longest=0.1)


class ConnectArguments(TypedDict, total=False):
    """The keywords of :func:`~cqlproto_anyio.connect`."""

    port: int
    keyspace: str | None
    auth: Auth | None
    tls: ssl.SSLContext | bool
    local_dc: str | None
    profile: Profile | None
    config: Config | None
    wait: float


class SharedSession:
    """One session for an application: ``session = await shared.get()``, from any task.

    A session is a pool of connections already. This opens it when it is needed first, so that it
    can be made where no event loop runs, such as in a module.

    Guarantee: however many tasks call :meth:`get` at once, one connects. If that fails, it fails
    for all that have waited for it, and the next call tries again; a task that is cancelled fails
    for itself only. Closing waits for requests under way, and may be repeated.

    Not guaranteed: a task that has got the session may use it after it was closed, and gets
    SessionClosed from its requests. The session belongs to the event loop in which it was opened.

    Cost: nothing but the session. No table.

    Arguments:
        hosts, arguments: as for :func:`~cqlproto_anyio.connect`.

    Attributes:
        session: the session; None before it is opened.
    """

    def __init__(
        self,
        hosts: Hosts = "127.0.0.1",
        *misplaced: Never,
        **arguments: Unpack[ConnectArguments],
    ) -> None:
        # checks the arguments, and opens nothing before it is awaited
        self._first: Connecting | None = connect(hosts, *misplaced, **arguments)
        self._hosts = hosts
        self._arguments = arguments
        self._lock: anyio.Lock | None = None  # made in the event loop
        self._attempt: anyio.CancelScope | None = None
        self._failures: tuple[int, Exception | None] = (0, None)
        self.session: Session | None = None
        self._closed = False

    async def get(self) -> Session:
        """Return the session; the first call connects, and those that come meanwhile wait for it.

        Raises:
            SessionClosed: :meth:`aclose` was called.
            CQLError: what ``connect`` raises, for all that have waited for the attempt.
        """
        self._lock = self._lock or anyio.Lock()
        before, _ = self._failures
        async with self._lock:
            failures, failure = self._failures
            if self._closed:
                raise SessionClosed("the shared session is closed")
            if self.session is not None and not self.session.closed:
                return self.session
            if failure is not None and failures != before:
                raise copied(failure)
            with anyio.CancelScope() as self._attempt:
                first, self._first = self._first, None
                try:
                    self.session = await (first or connect(self._hosts, **self._arguments))
                except Exception as exc:
                    self._failures = failures + 1, copied(exc).with_traceback(None)
                    raise
                else:
                    return self.session
                finally:
                    self._attempt = None
            raise SessionClosed("the shared session was closed while it was being opened")

    async def aclose(self) -> None:
        """Close the session when its requests under way have ended, after 10 seconds at most.

        Closing again, or what was never opened, does nothing. Cancellation ends the wait.
        """
        self._closed = True
        if self._attempt is not None:
            self._attempt.cancel()
        try:
            async for _ in Attempts(within=_DRAINING, backoff=_POLLS):
                if self.session is None or self.session.closed:
                    break
                now = self.session.statistics()
                if not now.in_flight + now.waiting:
                    break
        finally:
            with anyio.CancelScope(shield=True):
                async with self._lock or anyio.Lock():  # an attempt ends, it was cancelled
                    if self.session is not None:
                        await self.session.aclose()

    async def __aenter__(self) -> Session:
        return await self.get()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class _Entry(SharedSession):
    """A session of a registry; its configuration is compared, and never shown."""

    configuration: dict[str, Any]
    users = 0


class SessionRegistry:
    """Sessions by configuration: who connects with the same arguments gets the same session.

    Guarantee: all arguments of ``connect`` but ``wait`` belong to the configuration: contact
    points, keyspace, credentials, TLS, profile and config. Different names, passwords or TLS
    contexts never share a session, nor do two event loops. The session is closed when its last user
    has released it, after its requests under way. A failed connection leaves nothing behind. A
    session that is handed in is borrowed, and never closed.

    Not guaranteed: equal settings are found by ``==``. Two SSL contexts, two functions or two
    credentials of a class without ``__eq__`` count as different, also if they do the same.

    Cost: nothing but the sessions. No table.

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
            return await entry.get()
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
                group.start_soon(entry.aclose)

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
            gone = entry.session is not None and entry.session.closed
            if entry.configuration == configuration and not gone:
                return entry
        made = _Entry(hosts, **arguments)  # it checks the other arguments
        made.configuration = configuration
        if len(self._entries) >= self._most:
            raise TooManySessions(self._most)
        self._entries.append(made)
        return made

    def _entry_of(self, session: Session) -> _Entry | None:
        return next((each for each in self._entries if each.session is session), None)

    async def _leave(self, entry: _Entry) -> None:
        entry.users -= 1
        if entry.users == 0 and entry in self._entries:
            self._entries.remove(entry)  # who comes now opens another one
            await entry.aclose()
