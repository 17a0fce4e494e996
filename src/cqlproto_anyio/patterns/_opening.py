"""A session that is opened when the first task asks for it, and closed when its requests ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Never, TypeAlias, TypedDict

import anyio

from cqlproto_anyio.connect import Connecting, connect
from cqlproto_anyio.exceptions import SessionClosed, copied
from cqlproto_anyio.patterns._retry import Attempts, Backoff

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence
    from typing import Unpack

    from cqlproto_anyio._settings.profile import Profile
    from cqlproto_anyio.config import Auth, Config
    from cqlproto_anyio.endpoint import Endpoint
    from cqlproto_anyio.session import Session

__all__ = ["ConnectArguments", "Hosts", "Opening"]

Hosts: TypeAlias = "str | Endpoint | Sequence[str | Endpoint]"
"""Contact points, as ``connect`` takes them."""

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


class Opening:
    """A session that the first :meth:`get` opens; it belongs to the event loop of that call.

    Arguments:
        hosts: the contact points, as for :func:`~cqlproto_anyio.connect`.
        arguments: the keywords of ``connect``.

    Raises:
        ConfigError, TypeError: an argument is wrong.
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
        self._failures = 0
        self._failure: Exception | None = None
        self.session: Session | None = None
        self.closed = False

    async def get(self) -> Session:
        """Return the session; the first call connects, and those that come meanwhile wait for it.

        Raises:
            SessionClosed: :meth:`aclose` was called.
            ConnectionFailed, NoHostAvailable, DatabaseError: what ``connect`` raises, for all that
                have waited for the attempt. The next call tries again.
        """
        if self._lock is None:
            self._lock = anyio.Lock()
        before = self._failures
        async with self._lock:
            if self.closed:
                raise SessionClosed("the shared session is closed")
            if self.session is not None and not self.session.closed:
                return self.session
            if self._failures != before:
                assert self._failure is not None
                raise copied(self._failure)
            return await self._open()

    async def _open(self) -> Session:
        """Open the session, until this task is cancelled or the session closed."""
        with anyio.CancelScope() as self._attempt:
            first, self._first = self._first, None
            try:
                self.session = await (first or connect(self._hosts, **self._arguments))
            except Exception as exc:
                self._failures += 1
                self._failure = copied(exc).with_traceback(None)
                raise
            else:
                self._failure = None
                return self.session
            finally:
                self._attempt = None
        raise SessionClosed("the shared session was closed while it was being opened")

    async def aclose(self) -> None:
        """Close the session when its requests under way have ended, after 10 seconds at most.

        Closing again, or what was never opened, does nothing. Cancellation ends the wait.
        """
        self.closed = True
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
