"""The way in: ``async with connect(..) as session``."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from cqlproto_anyio._backend import current_backend
from cqlproto_anyio.arguments import check_arguments, parse_endpoint
from cqlproto_anyio.config import Auth, Config, Endpoint
from cqlproto_anyio.exceptions import ConfigError, UsageError
from cqlproto_anyio.observed import ObservedSession
from cqlproto_anyio.runtime import Runtime
from cqlproto_anyio.session import Session

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence
    from types import TracebackType

    from cqlproto_anyio.profile import Profile

__all__ = ["connect"]


class _Connecting(AbstractAsyncContextManager[Session]):
    """What :func:`connect` returns; entering it connects."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        profile: Profile | None,
        **arguments: Any,
    ) -> None:
        self._endpoints = endpoints
        self._profile = profile
        self._arguments = arguments
        self._session: Session | None = None

    async def __aenter__(self) -> Session:
        if self._session is not None:
            raise UsageError("connect() is entered once: call it again for another session")
        runtime = Runtime(self._endpoints, backend=current_backend(), **self._arguments)
        kind = Session if runtime.tell.request_finished is None else ObservedSession
        self._session = kind(runtime, self._profile)
        await runtime.start()
        return self._session

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.aclose()


def connect(
    hosts: str | Sequence[str] = "127.0.0.1",
    *,
    port: int = 9042,
    keyspace: str | None = None,
    auth: Auth | None = None,
    tls: ssl.SSLContext | bool = False,
    local_dc: str | None = None,
    profile: Profile | None = None,
    config: Config | None = None,
) -> AbstractAsyncContextManager[Session]:
    """Connect to a cluster: ``async with connect("db1") as session``.

    Arguments:
        hosts: the contact points, as addresses or names, each with a port of its own if need be
            (``"db1:9043"``, ``"[::1]:9043"``).
        port: the port of those without one.
        keyspace: the keyspace of unqualified names.
        auth: credentials, such as ``PlainAuth("name", "password")``.
        tls: True for TLS that verifies certificates and host names as the system is set up to, or a
            context of one's own.
        local_dc: the data centre to prefer; others are used as ``Config.routing`` says. It can be
            left out when all contact points are in one.
        profile: the defaults of requests.
        config: everything else.

    Raises:
        ConfigError: an argument is wrong (at once).
        ConnectionFailed, NoHostAvailable: no node could be reached (when entered), within
            ``config.connect_timeout`` seconds each.
        DatabaseError: the keyspace can't be used (when entered).
    """
    check_arguments(hosts, port, keyspace, auth, tls, local_dc, profile, config)
    names = [hosts] if isinstance(hosts, str) else list(hosts)
    if not names:
        raise ConfigError("hosts is empty: name at least one contact point")
    context = None
    if tls is True:
        import ssl

        context = ssl.create_default_context()
    elif tls is not False:
        context = tls
    return _Connecting(
        [parse_endpoint(name, port) for name in names],
        profile,
        config=config if config is not None else Config(),
        auth=auth,
        tls=context,
        keyspace=keyspace,
        local_dc=local_dc,
    )
