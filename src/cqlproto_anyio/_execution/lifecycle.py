"""The life of a session: its state, its statistics, and how it is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqlproto_anyio._settings.cache import SettingsCache
from cqlproto_anyio._settings.profile import DEFAULTS, Profile, overlaid

if TYPE_CHECKING:
    from typing import Self

    from cqlproto.enums import ProtocolVersion
    from cqlproto_anyio._execution.context import SessionContext
    from cqlproto_anyio.statistics import Statistics

__all__ = ["SessionLifecycle"]


class SessionLifecycle:
    """The life of a session; the verbs are in :class:`Session`."""

    def __init__(self, context: SessionContext, profile: Profile | None) -> None:
        self._context = context
        context.supervisor.add_session()
        self._profile = overlaid(DEFAULTS, {"profile": profile})
        self._choose = context.cluster.selector.choose
        self._running = context.backend.current_loop
        self._home = context.backend.loop
        self._settings = SettingsCache(self._profile, context.wires, context.timestamps)
        self._default = self._settings.default
        self._resolve = self._settings.resolve

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        keyspace = "no keyspace" if self.keyspace is None else f"keyspace {self.keyspace!r}"
        hosts = ", ".join(map(str, self._context.endpoints))
        return f"<Session {state}, {keyspace}, hosts {hosts}>"

    @property
    def closed(self) -> bool:
        """Whether the session is closed, or has failed, and takes no more requests."""
        return self._context.supervisor.closed

    @property
    def keyspace(self) -> str | None:
        """The keyspace of unqualified names, from ``connect`` or ``using``; None without one."""
        return self._default.keyspace

    @property
    def profile(self) -> Profile:
        """The options of this session's requests, with the default of each that was not given."""
        return self._profile

    @property
    def protocol_version(self) -> ProtocolVersion:
        """The protocol version that is spoken with the cluster."""
        return self._context.version

    def statistics(self) -> Statistics:
        """Return the state of hosts, connections and requests now."""
        return self._context.statistics()

    async def aclose(self) -> None:
        """Close the session, from any task, within a bounded time.

        Requests under way raise SessionClosed. Closing a closed session does nothing.

        Raises:
            UsageError: the session belongs to another event loop.
        """
        await self._context.supervisor.aclose()

    async def __aenter__(self) -> Self:
        self._context.supervisor.check_open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        context = getattr(self, "_context", None)
        if context is not None:
            context.supervisor.drop_session(self)
