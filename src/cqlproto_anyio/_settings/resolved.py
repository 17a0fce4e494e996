"""The resolved options of a call.

Making :class:`Settings` is expensive, so a session caches them. For options that often differ from
call to call, the timeout and the timestamp, a copy is made (:meth:`Settings.varied`).

A :class:`Wire` is the part of the options that is sent. A statement caches one binder for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqlproto.messages.requests import QueryParameters
from cqlproto_anyio.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cqlproto.enums import Consistency, ProtocolVersion
    from cqlproto_anyio._settings.profile import Profile
    from cqlproto_anyio.policies import RetryPolicy, Speculation

__all__ = ["Settings", "Wire", "Wires"]

# Upper bound on the cached combinations; a program has a handful.
_MAX_WIRES = 256


class Wire:
    """What a request carries besides its statement, values, timestamp and paging state.

    :class:`Wires` makes one object for each combination, so it is compared by identity and is a
    cheap key.

    Attributes:
        parameters: the options as they are sent, without values, timestamp and keyspace.
        keyspace: the keyspace of unqualified names, or None.
        asks_keyspace: whether the options name the keyspace; otherwise ``connect`` does.
        stamped: whether the options have a timestamp.
    """

    __slots__ = ("asks_keyspace", "keyspace", "parameters", "stamped")

    def __init__(
        self,
        parameters: QueryParameters,
        keyspace: str | None,
        *,
        asks_keyspace: bool,
        stamped: bool,
    ) -> None:
        self.parameters = parameters
        self.keyspace = keyspace
        self.asks_keyspace = asks_keyspace
        self.stamped = stamped


class Wires:
    """The combinations of options that a session has sent.

    Arguments:
        default_keyspace: the keyspace given to ``connect``, or None.
    """

    __slots__ = ("_wires", "default_keyspace")

    def __init__(self, default_keyspace: str | None) -> None:
        self.default_keyspace = default_keyspace
        self._wires: dict[tuple[object, ...], Wire] = {}

    def wire(self, profile: Profile) -> Wire:
        """Return the combination of a profile."""
        asked = profile.keyspace
        stamped = profile.timestamp is not None
        key = (
            profile.consistency,
            profile.page_size,
            profile.serial_consistency,
            profile.now_in_seconds,
            asked,
            stamped,
        )
        wire = self._wires.get(key)
        if wire is None:
            parameters = QueryParameters(
                profile.consistency,
                page_size=profile.page_size,
                serial_consistency=profile.serial_consistency,
                now_in_seconds=profile.now_in_seconds,
            )
            wire = Wire(
                parameters,
                self.default_keyspace if asked is None else asked,
                asks_keyspace=asked is not None,
                stamped=stamped,
            )
            if len(self._wires) >= _MAX_WIRES:
                self._wires.clear()
            self._wires[key] = wire
        return wire


class Settings:
    """The options of a call.

    Arguments:
        profile: the options, with a value for each.
        wires: the session's combinations.
        timestamps: makes timestamps for writes, in microseconds since 1970; None leaves them to the
            server.

    Attributes:
        wire: the options that are sent.
        binder_key: the key of a statement's binder for these options; None if the call needs one of
            its own, because of its timestamp.
        parameters: ``wire.parameters``.
        keyspace: the keyspace of unqualified names, or None.
        default_keyspace: whether that is the keyspace given to ``connect``.
        fast_path: whether the fast path of ``execute`` may be used.
        timestamp: the timestamp option, or None.
        timestamps: makes timestamps; None if the option or the server does.
    """

    __slots__ = (
        "binder_key",
        "default_keyspace",
        "fast_path",
        "idempotent",
        "keyspace",
        "max_rows",
        "parameters",
        "payload",
        "retry",
        "speculation",
        "timeout",
        "timestamp",
        "timestamps",
        "trace",
        "wire",
    )

    timeout: float | None
    max_rows: int
    idempotent: bool
    trace: bool
    payload: Mapping[str, bytes] | None
    retry: RetryPolicy
    speculation: Speculation | None

    def __init__(
        self, profile: Profile, wires: Wires, timestamps: Callable[[], int] | None = None
    ) -> None:
        self.wire = wire = wires.wire(profile)
        self.binder_key = None if wire.stamped else wire
        self.parameters = wire.parameters
        self.keyspace = wire.keyspace
        self.default_keyspace = self.keyspace == wires.default_keyspace
        self.timeout = profile.timeout
        self.max_rows = profile.max_rows
        self.trace = profile.trace
        self.payload = profile.payload
        self.timestamp = profile.timestamp
        self.timestamps = None if wire.stamped else timestamps
        self.idempotent = profile.idempotent
        self.retry = profile.retry
        self.speculation = profile.speculation
        self.fast_path = (
            not profile.trace and profile.payload is None and profile.speculation is None
        )

    def varied(self, timeout: float | None, timestamp: int | None) -> Settings:
        """Return a copy with another timeout and timestamp."""
        other = Settings.__new__(Settings)
        other.wire = self.wire
        other.binder_key = self.binder_key
        other.parameters = self.parameters
        other.keyspace = self.keyspace
        other.default_keyspace = self.default_keyspace
        other.timeout = timeout
        other.max_rows = self.max_rows
        other.trace = self.trace
        other.payload = self.payload
        other.timestamp = timestamp
        other.timestamps = self.timestamps
        other.idempotent = self.idempotent
        other.retry = self.retry
        other.speculation = self.speculation
        other.fast_path = self.fast_path
        return other

    @property
    def consistency(self) -> Consistency:
        """The consistency level."""
        return self.parameters.consistency

    def check(self, version: ProtocolVersion) -> None:
        """Raise UsageError for an option that the protocol version doesn't have."""
        if self.wire.asks_keyspace and not version.has_keyspace_option:
            raise UsageError(
                f"keyspace= needs protocol v5, this connection speaks v{version:d}:"
                " pass keyspace= to connect(), or write keyspace.table"
            )
        if self.parameters.now_in_seconds is not None and not version.has_now_in_seconds:
            raise UsageError(
                f"now_in_seconds= needs protocol v5, this connection speaks v{version:d}"
            )
        if self.payload is not None and not version.has_warnings:
            raise UsageError(f"payload= needs protocol v4, this connection speaks v{version:d}")

    def wire_keyspace(self, version: ProtocolVersion) -> str | None:
        """Return the keyspace to send in QUERY, PREPARE and BATCH; None before v5.

        On v3 and v4, USE has set the keyspace of the connection.
        """
        return self.keyspace if version.has_keyspace_option else None
