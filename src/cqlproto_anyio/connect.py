"""``connect``, which opens a session: ``async with connect(..) as session``."""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import fields
from itertools import count
from typing import TYPE_CHECKING, Any, Never, NoReturn

import anyio

from cqlproto_anyio._eventloop.auto import current_backend
from cqlproto_anyio._execution.context import SessionContext
from cqlproto_anyio._instrumented import ObservedSession
from cqlproto_anyio._outcome import TRANSIENT
from cqlproto_anyio._settings.arguments import check_arguments, contact_points
from cqlproto_anyio._settings.profile import Options
from cqlproto_anyio.config import Auth, Config
from cqlproto_anyio.exceptions import (
    AuthenticationFailed,
    CQLError,
    NoHostAvailable,
    NotCQL,
    TLSFailed,
    UsageError,
    VersionRejected,
)
from cqlproto_anyio.exceptions._hints import connect_keyword
from cqlproto_anyio.policies.backoff import backoff
from cqlproto_anyio.session import Session

if TYPE_CHECKING:
    import ssl
    from collections.abc import Generator, Iterable, Sequence
    from types import TracebackType

    from cqlproto_anyio._eventloop.backend import Backend
    from cqlproto_anyio._settings.profile import Profile
    from cqlproto_anyio.endpoint import Endpoint

__all__ = ["Connecting", "connect"]


# Pauses between attempts to connect to a cluster that is starting, in seconds.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0


class Connecting(AbstractAsyncContextManager[Session], Awaitable[Session]):
    """What :func:`connect` returns: use it once, with ``async with`` or ``await``, to connect."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        profile: Profile | None,
        wait: float,
        made_at: tuple[str, int],
        **arguments: Any,
    ) -> None:
        self._endpoints = endpoints
        self._profile = profile
        self._wait = wait
        self._made_at = made_at
        self._arguments = arguments
        self._entered = False
        self._session: Session | None = None

    def __await__(self) -> Generator[Any, Any, Session]:
        return self._connect().__await__()

    async def __aenter__(self) -> Session:
        return await self._connect()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.aclose()

    async def _connect(self) -> Session:
        if self._entered:
            raise UsageError("connect() can be entered once: call it again for another session")
        self._entered = True
        backend = current_backend()
        until = backend.clock() + self._wait
        for failures in count(1):
            try:
                return await self._start(backend)
            except CQLError as exc:
                if not self._wait or not passes_with_time(exc):
                    raise
                left = until - backend.clock()
                if left <= 0:
                    exc.add_note(f"connect() has waited {self._wait:g} s for the cluster (wait=)")
                    raise
                _log_waiting(exc)
            pause = backoff(_FIRST_PAUSE, failures, _LONGEST_PAUSE)
            await anyio.sleep(min(pause, left))  # so the last attempt begins when the time is over
        raise AssertionError("unreachable: count() has no end")

    async def _start(self, backend: Backend) -> Session:
        context = SessionContext(
            self._endpoints, backend=backend, made_at=self._made_at, **self._arguments
        )
        kind = Session if context.tell.request_finished is None else ObservedSession
        self._session = session = kind(context, self._profile)
        try:
            await context.supervisor.start()
        except BaseException:
            self._session = None
            raise
        return session

    if not TYPE_CHECKING:  # type checkers report these mistakes themselves

        def __getattr__(self, name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            raise AttributeError(
                f"connect() has no {name!r} before it is awaited: write"
                " 'async with cql.connect(..) as session' or 'session = await cql.connect(..)'"
            )

        def __enter__(self) -> Any:
            raise TypeError("connect() needs 'async with', not 'with'")

        def __exit__(self, *_: Any) -> None:
            """Never called."""


def _refuse(misplaced: Sequence[object], unknown: Iterable[str]) -> NoReturn:
    """Raise TypeError for arguments that :func:`connect` doesn't have, with a hint."""
    if misplaced:
        hint = "port=" if isinstance(misplaced[0], int) else "pass several hosts as one list"
        raise TypeError(f"connect() takes the hosts, and all else by name: {hint}")
    name = min(unknown)
    config = [field.name for field in fields(Config)]
    hint = connect_keyword(name, config, Options.__annotations__)
    raise TypeError(f"connect() got an unexpected keyword argument {name!r}{hint}")


def passes_with_time(error: BaseException) -> bool:
    """Return whether waiting may help: the cluster may still be starting.

    It doesn't help against wrong credentials, an untrusted certificate, a missing keyspace or a
    wrong setting.
    """
    if isinstance(error, NoHostAvailable):
        return all(map(passes_with_time, error.attempts))
    if isinstance(error, AuthenticationFailed):
        # A node that can't read its roles yet says so; a provider of secrets may be starting too.
        is_early = "Unable to perform authentication" in error.reason
        return is_early or isinstance(error.__cause__, OSError)
    if isinstance(error, TLSFailed):
        import ssl

        return not isinstance(error.__cause__, ssl.SSLError)
    return isinstance(error, TRANSIENT) and not isinstance(error, (NotCQL, VersionRejected))


def _log_waiting(error: CQLError) -> None:
    import logging

    with suppress(BaseException):  # a user's log filter or handler may raise
        logging.getLogger("cqlproto_anyio").info("waiting for the cluster: %s", error)


def connect(
    hosts: str | Endpoint | Sequence[str | Endpoint] = "127.0.0.1",
    *misplaced: Never,
    port: int = 9042,
    keyspace: str | None = None,
    auth: Auth | None = None,
    tls: ssl.SSLContext | bool = False,
    local_dc: str | None = None,
    profile: Profile | None = None,
    config: Config | None = None,
    wait: float = 0.0,
    **unknown: Never,
) -> Connecting:
    """Connect to a cluster: ``async with connect("db1") as session``.

    In a REPL, a notebook or a framework's start-up hook, ``session = await connect("db1")`` opens a
    session as well. Close it with ``await session.aclose()`` or ``async with session``; a session
    that is garbage-collected without being closed gives a ResourceWarning.

    Arguments:
        hosts: the contact points: addresses or names, with an optional port (``"db1:9043"``,
            ``"[::1]:9043"``). One string, with commas between several contact points, or a sequence
            of strings and of :class:`Endpoint`, which can name the host to verify for TLS.
        port: the port of contact points without one.
        keyspace: the keyspace of unqualified names.
        auth: credentials, such as ``PlainAuth("name", "password")``.
        tls: True for TLS that verifies certificates and host names with the system's certificate
            authorities, or an SSLContext.
        local_dc: the preferred data centre; ``Config.routing`` says how others are used. May be
            left out if all contact points are in one data centre.
        profile: the default options of requests.
        config: everything else.
        wait: for how many seconds to retry while the cluster can't be reached because it is
            starting; no attempt begins later. Errors that waiting doesn't help against are raised
            at once: wrong credentials, an untrusted certificate, a missing keyspace, a wrong
            setting.

    Raises:
        ConfigError: an argument is invalid (raised by the call itself).
        ConnectionFailed, NoHostAvailable: no node could be reached (raised when entered), within
            ``config.connect_timeout`` seconds each and ``config.start_timeout`` in all.
        DatabaseError: the keyspace can't be used (raised when entered).
    """
    if misplaced or unknown:
        _refuse(misplaced, unknown)
    check_arguments(hosts, port, keyspace, auth, tls, local_dc, profile, config, wait)
    endpoints = contact_points(hosts, port)
    ssl_context = None
    if tls is True:
        import ssl

        ssl_context = ssl.create_default_context()
    elif tls is not False:
        ssl_context = tls
    caller = sys._getframe(1)
    return Connecting(
        endpoints,
        profile,
        wait,
        (caller.f_code.co_filename, caller.f_lineno),
        config=config if config is not None else Config(),
        auth=auth,
        tls=ssl_context,
        keyspace=keyspace,
        local_dc=local_dc,
    )
