"""The options of a call, resolved, in the forms that sending it needs.

Making :class:`Settings` costs more than a request may, so a session keeps those that it has made.
What differs from call to call, a timeout or a timestamp, costs a copy (:meth:`Settings.varied`).
What is packed once for many calls, a statement's binder, is kept by :class:`Wire`: what the calls
say on the wire.
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

# How many combinations are kept ready; a program has a handful.
_MAX_WIRES = 256


class Wire:
    """What calls say on the wire besides their statement, values and paging state.

    Compared by identity, so that it is a cheap key; :class:`Wires` has one for each combination.

    Attributes:
        parameters: the options, without values, a timestamp and a keyspace: a prepared statement
            has its own.
        keyspace: the keyspace of unqualified names, or None.
        asks_keyspace: whether the options name it, or else ``connect``.
        stamped: whether the options have a timestamp, which is each call's own.
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
    """The combinations that a session's calls have had lately.

    Arguments:
        usual: the keyspace that ``connect`` named, or None.
    """

    __slots__ = ("_wires", "usual")

    def __init__(self, usual: str | None) -> None:
        self.usual = usual
        self._wires: dict[tuple[object, ...], Wire] = {}

    def wire(self, profile: Profile) -> Wire:
        """Return what calls with this profile say."""
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
                self.usual if asked is None else asked,
                asks_keyspace=asked is not None,
                stamped=stamped,
            )
            if len(self._wires) >= _MAX_WIRES:
                self._wires.clear()
            self._wires[key] = wire
        return wire


class Settings:
    """A profile with one call's options, in the forms that sending needs.

    Arguments:
        profile: the options, all of them given.
        wires: where what they say on the wire is kept.
        timestamps: makes timestamps for writes, in microseconds since 1970; None leaves them to the
            server.

    Attributes:
        binder_key: of the binder that packs these calls, or None if each call needs its own.
        keyspace: the keyspace of unqualified names, or None.
        fast_path: whether the short way through ``execute`` does for them.
        timestamp: what the options say, or None.
        timestamps: makes timestamps, or None where the options or the server say them.
        default_keyspace: whether the keyspace is the one that ``connect`` named.
    """

    __slots__ = (
        "_direct",
        "binder_key",
        "idempotent",
        "keyspace",
        "max_rows",
        "parameters",
        "payload",
        "fast_path",
        "retry",
        "speculation",
        "timeout",
        "timestamp",
        "timestamps",
        "trace",
        "default_keyspace",
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
        self.default_keyspace = self.keyspace == wires.usual
        self.timeout = profile.timeout
        self.max_rows = profile.max_rows
        self.trace = profile.trace
        self.payload = profile.payload
        self.timestamp = profile.timestamp
        self.timestamps = None if wire.stamped else timestamps
        self.idempotent = profile.idempotent
        self.retry = profile.retry
        self.speculation = profile.speculation
        self._direct = not profile.trace and profile.payload is None and profile.speculation is None
        self.fast_path = self._takes_fast_path()

    def _takes_fast_path(self) -> bool:
        # the short way keeps no timestamp, and finds that of an idempotent write by its deadline
        return self._direct and not (self.idempotent and self.timeout is None)

    def varied(self, timeout: float | None, timestamp: int | None) -> Settings:
        """Return the same with another timeout, and another timestamp if there is one."""
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
        other._direct = self._direct
        other.fast_path = other._takes_fast_path()
        return other

    @property
    def consistency(self) -> Consistency:
        """How many replicas must answer."""
        return self.parameters.consistency

    def check(self, version: ProtocolVersion) -> None:
        """Raise UsageError for an option that the version doesn't know."""
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
        """Return the keyspace that QUERY, PREPARE and BATCH carry, if the version lets them.

        On v3 and v4 the connection has it, by USE.
        """
        return self.keyspace if version.has_keyspace_option else None
