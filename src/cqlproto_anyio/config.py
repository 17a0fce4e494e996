"""How a session connects and what its requests ask for: frozen values, no behaviour.

A :class:`Profile` holds the defaults of a request, :class:`Options` the same names for one call.
:class:`Settings` is both, resolved: made once per combination and kept, because making it costs
more than a request may.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

from cqlproto.connection import Authenticator, Limits, PlainAuthenticator
from cqlproto.enums import Consistency, ProtocolVersion
from cqlproto.messages.requests import QueryParameters
from cqlproto_anyio.exceptions import ConfigError, UsageError
from cqlproto_anyio.hooks import Hooks
from cqlproto_anyio.policies import (
    DefaultRetry,
    ExponentialReconnection,
    Reconnection,
    RetryPolicy,
    Routing,
    Speculation,
)

if TYPE_CHECKING:
    from anyio.abc import ByteStream

__all__ = ["Auth", "Config", "Endpoint", "Options", "PlainAuth", "Profile", "Settings"]

MAX_PAGE_SIZE = 0x7FFFFFFF


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a node listens.

    Attributes:
        address: an IP address or a DNS name.
        port: the TCP port.
        server_name: the name that the node's certificate must bear, if it isn't the address.
    """

    address: str
    port: int = 9042
    server_name: str | None = None

    def __str__(self) -> str:
        shown = f"[{self.address}]" if ":" in self.address else self.address
        return f"{shown}:{self.port}"


class Auth(Protocol):
    """Makes an authenticator for each new connection."""

    async def authenticator(self, endpoint: Endpoint) -> Authenticator:
        """Return the client's side of the SASL exchange with this node."""
        ...


Secret = str | Callable[[], str] | Callable[[], Awaitable[str]]


class PlainAuth:
    """A user name and a password.

    Arguments:
        username: the role's name.
        password: the password, or a function, plain or async, that returns it. A function is called
            for each new connection, so that a rotated password is picked up.
    """

    __slots__ = ("_password", "username")

    def __init__(self, username: str, password: Secret) -> None:
        self.username = username
        self._password = password

    def __repr__(self) -> str:
        return f"PlainAuth({self.username!r}, ...)"

    async def authenticator(self, endpoint: Endpoint) -> Authenticator:
        """Ask for the password, if it is a function, and return SASL PLAIN with it."""
        password: Any = self._password
        if callable(password):
            password = password()
            if inspect.isawaitable(password):
                password = await password
        if not isinstance(password, str):
            raise ConfigError(f"the password is a {type(password).__name__}, not a str")
        return PlainAuthenticator(self.username, password)


@dataclass(frozen=True, slots=True)
class Profile:
    """The defaults of requests; every field is also a keyword of every verb.

    Attributes:
        timeout: how long a whole call may take, in seconds, with all its retries and pages; None
            for no deadline. A stream applies it to each page.
        consistency: how many replicas must answer.
        serial_consistency: the level of an LWT's Paxos phase; None leaves it to the server
            (SERIAL).
        page_size: how many rows the server sends at a time.
        max_rows: how many rows ``execute`` collects before it gives up with ResultTooLarge.
        idempotent: whether repeating the statement does no harm; lets it be sent again after it
            may have been carried out, and to a second node before the first has answered.
            Statements that only read are idempotent anyway; those with IF never are.
        retry: what is tried again after which failure; what must not be sent twice never is.
        speculation: when an idempotent statement that isn't answered yet is sent to another node
            too; None for never.
        timestamp: the writes' timestamp, in microseconds since 1970; None leaves it to the session
            (``Config.client_timestamps``).
        now_in_seconds: the server's idea of now, in seconds since 1970; needs protocol v5.
        keyspace: the keyspace of unqualified names; needs protocol v5.
        trace: whether the server shall trace the request.
        payload: a custom payload for the server.
    """

    timeout: float | None = 10.0
    consistency: Consistency = Consistency.LOCAL_QUORUM
    serial_consistency: Consistency | None = None
    page_size: int = 5000
    max_rows: int = 100_000
    idempotent: bool = False
    retry: RetryPolicy = field(default_factory=DefaultRetry)
    speculation: Speculation | None = None
    timestamp: int | None = None
    now_in_seconds: int | None = None
    keyspace: str | None = None
    trace: bool = False
    payload: Mapping[str, bytes] | None = None

    def __post_init__(self) -> None:
        if self.timeout is not None and not _is_seconds(self.timeout):
            raise ConfigError(f"timeout is {self.timeout!r}, not a positive number of seconds")
        if not isinstance(self.consistency, Consistency):
            raise ConfigError(f"consistency is {self.consistency!r}, not a Consistency")
        if self.serial_consistency is not None and not (
            isinstance(self.serial_consistency, Consistency) and self.serial_consistency.is_serial
        ):
            raise ConfigError(
                f"serial_consistency is {self.serial_consistency!r}, not SERIAL or LOCAL_SERIAL"
            )
        if type(self.page_size) is not int or not 1 <= self.page_size <= MAX_PAGE_SIZE:
            raise ConfigError(f"page_size is {self.page_size!r}, not a positive number of rows")
        if type(self.max_rows) is not int or self.max_rows < 1:
            raise ConfigError(f"max_rows is {self.max_rows!r}, not a positive number of rows")
        for name, bits in (("timestamp", 64), ("now_in_seconds", 32)):
            value = getattr(self, name)
            if value is not None and not _is_integer(value, bits):
                raise ConfigError(f"{name} is {value!r}, not an int of {bits} bits")
        for name in ("idempotent", "trace"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} is {getattr(self, name)!r}, not True or False")
        for name, method in (("retry", "decide"), ("speculation", "tracker")):
            policy = getattr(self, name)
            if not _is_policy(policy, method) and (name == "retry" or policy is not None):
                raise ConfigError(f"{name} can't be {_described(policy)}")
        if self.keyspace is not None and (not isinstance(self.keyspace, str) or not self.keyspace):
            raise ConfigError(f"keyspace is {self.keyspace!r}, not a name")
        if self.payload is not None and not _is_map(self.payload, bytes):
            raise ConfigError("payload is not a mapping of str to bytes")


def _is_seconds(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def _is_policy(value: object, method: str) -> bool:
    return hasattr(value, method) and not isinstance(value, type)


def _described(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}: make one, with brackets"
    return f"a {type(value).__name__}"


def _is_integer(value: object, bits: int) -> bool:
    # The lowest number is left out: servers keep it for "no timestamp" and refuse it.
    return type(value) is int and abs(value) < 1 << bits - 1


def _is_map(value: object, kind: type) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(key, str) and isinstance(item, kind) for key, item in value.items()
    )


class Options(TypedDict, total=False):
    """The keywords of every verb; :class:`Profile` says what they mean."""

    timeout: float | None
    consistency: Consistency
    serial_consistency: Consistency
    page_size: int
    max_rows: int
    idempotent: bool
    retry: RetryPolicy
    speculation: Speculation | None
    timestamp: int
    now_in_seconds: int
    keyspace: str
    trace: bool
    payload: Mapping[str, bytes]
    profile: Profile


Connector = Callable[[Endpoint], Awaitable["ByteStream"]]


@dataclass(frozen=True, slots=True)
class Config:
    """How a session works, beyond what its requests ask for.

    Attributes:
        connect_timeout: how long making one connection may take, in seconds: resolving, TCP, TLS,
            the handshake and choosing the keyspace.
        close_timeout: how long closing may take, in seconds.
        compression: ``"lz4"``, ``"snappy"`` or None. v5 knows no Snappy: with it, v4 is the highest
            version that is asked for.
        protocol_version: the only version to speak; None takes the highest that the server does,
            from v5 down.
        discovery: whether to ask the cluster for its other nodes, and to listen for their coming
            and going, on a connection of its own; False takes the contact points for all there is.
        eager: whether to connect to all nodes of the local data centre from the start, in the
            background; False connects to a node when the first request is meant for it.
        connections_per_host: how many connections a node gets.
        max_connections_per_host: up to how many it gets under load.
        grow_at: how many requests in flight on a connection make another one be opened.
        max_connecting: how many connections of the session may be in the making at a time.
        max_in_flight: how many requests may be under way on a connection.
        max_orphans: how many of a connection's requests may have been given up while their replies
            are due; with more, it is replaced.
        max_waiting: how many more may wait for their turn before Overloaded is raised.
        max_unsent: how many bytes may wait to be written, before requests have to wait.
        max_prepared: how many prepared statements are kept; the least recently used one goes first.
        routing: which nodes are preferred for a request.
        reconnection: how long to wait between attempts to reach a node that is down.
        heartbeat_interval: after how many seconds of silence a node is asked whether it lives.
        heartbeat_timeout: how long the answer may take, in seconds.
        refresh_interval: after how many seconds the nodes are read again although no event came.
        control_timeout: how long a request on the control connection may take, in seconds.
        schema_agreement_timeout: how long a statement that changes the schema waits for the nodes
            to agree on it, in seconds, after it has succeeded; 0 does not wait.
        client_timestamps: whether writes carry a timestamp of the session's, which only ever grows,
            so that two writes of one program can't be ordered otherwise by nodes whose clocks
            differ; False leaves it to the nodes. ``Profile.timestamp`` comes first.
        translate: changes the address that a node announces into the one to connect to.
        hooks: called when requests end, nodes come and go, connections open and break.
        limits: what the protocol core accepts and sends.
        connector: opens the transport to a node, in place of TCP and TLS.
        application_name: shown in the server's list of clients.
        application_version: shown in the server's list of clients.
        startup_options: more options for STARTUP.
    """

    connect_timeout: float = 5.0
    close_timeout: float = 2.0
    compression: str | None = None
    protocol_version: ProtocolVersion | None = None
    discovery: bool = True
    eager: bool = True
    connections_per_host: int = 1
    max_connections_per_host: int = 4
    grow_at: int = 1024
    max_connecting: int = 16
    max_in_flight: int = 4096
    max_orphans: int = 1024
    max_waiting: int = 65_536
    max_unsent: int = 64 * 1024 * 1024
    max_prepared: int = 1000
    routing: Routing = field(default_factory=Routing)
    reconnection: Reconnection = field(default_factory=ExponentialReconnection)
    heartbeat_interval: float = 30.0
    heartbeat_timeout: float = 5.0
    refresh_interval: float = 60.0
    control_timeout: float = 5.0
    schema_agreement_timeout: float = 10.0
    client_timestamps: bool = True
    translate: Callable[[Endpoint], Endpoint] | None = None
    hooks: Hooks | None = None
    limits: Limits = field(default_factory=Limits)
    connector: Connector | None = None
    application_name: str | None = None
    application_version: str | None = None
    startup_options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (
            "connect_timeout",
            "close_timeout",
            "heartbeat_interval",
            "heartbeat_timeout",
            "refresh_interval",
            "control_timeout",
        ):
            if not _is_seconds(getattr(self, name)):
                raise ConfigError(f"{name} is {getattr(self, name)!r}, not a number of seconds")
        for name in ("discovery", "eager", "client_timestamps"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} is {getattr(self, name)!r}, not True or False")
        if self.schema_agreement_timeout != 0 and not _is_seconds(self.schema_agreement_timeout):
            raise ConfigError(
                f"schema_agreement_timeout is {self.schema_agreement_timeout!r}, not a number of"
                " seconds"
            )
        for name, least in (
            ("connections_per_host", 1),
            ("max_connections_per_host", self.connections_per_host),
            ("grow_at", 1),
            ("max_connecting", 1),
            ("max_in_flight", 1),
            ("max_orphans", 1),
            ("max_waiting", 0),
            ("max_unsent", 1),
            ("max_prepared", 1),
        ):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ConfigError(f"{name} is {value!r}, not a number of at least {least}")
        if not isinstance(self.limits, Limits):
            raise ConfigError(f"limits is a {type(self.limits).__name__}, not Limits")
        for name in ("connector", "translate"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise ConfigError(f"{name} is a {type(value).__name__}, not a function")
        for name, fits in (
            ("routing", isinstance(self.routing, Routing)),
            ("reconnection", _is_policy(self.reconnection, "delay")),
            ("hooks", isinstance(self.hooks, (Hooks, type(None)))),
        ):
            if not fits:
                raise ConfigError(f"{name} can't be {_described(getattr(self, name))}")
        for name in ("application_name", "application_version"):
            if not isinstance(getattr(self, name), (str, type(None))):
                raise ConfigError(f"{name} is {getattr(self, name)!r}, not a str")
        if not _is_map(self.startup_options, str):
            raise ConfigError("startup_options is not a mapping of str to str")
        if self.max_in_flight > self.limits.max_streams:
            raise ConfigError(
                f"max_in_flight is {self.max_in_flight}, more than the"
                f" {self.limits.max_streams} streams of a connection"
            )
        if self.compression not in (None, "lz4", "snappy"):
            raise ConfigError(f"compression is {self.compression!r}, not 'lz4', 'snappy' or None")
        version = self.protocol_version
        if version is not None and version not in tuple(ProtocolVersion):
            raise ConfigError(f"protocol_version is {version!r}, not a ProtocolVersion or None")
        if self.compression == "snappy" and not self.highest_version.has_snappy:
            raise ConfigError(f"protocol v{version:d} knows no snappy compression, but lz4")

    @property
    def highest_version(self) -> ProtocolVersion:
        """The version that a session asks for first."""
        if self.protocol_version is not None:
            return ProtocolVersion(self.protocol_version)
        with_snappy = self.compression == "snappy"
        return max(each for each in ProtocolVersion if each.has_snappy or not with_snappy)


class Settings:
    """A profile with one call's options, checked and in the forms that the wire needs.

    Compared by identity, so that it is a cheap key of what is made for it.

    Arguments:
        profile: the options.
        keyspace: the keyspace that :meth:`Session.using` named, or None.
        usual: the keyspace that ``connect`` named, or None.
        timestamps: makes timestamps for writes, in microseconds since 1970; None leaves them to the
            server.

    Attributes:
        keyspace: the keyspace of unqualified names, or None.
        usual: whether that is the one that ``connect`` named.
    """

    __slots__ = (
        "_asks_keyspace",
        "idempotent",
        "keyspace",
        "max_rows",
        "parameters",
        "payload",
        "plain",
        "profile",
        "retry",
        "speculation",
        "timeout",
        "timestamps",
        "trace",
        "usual",
    )

    def __init__(
        self,
        profile: Profile,
        keyspace: str | None,
        usual: str | None,
        timestamps: Callable[[], int] | None = None,
    ) -> None:
        asked = keyspace if profile.keyspace is None else profile.keyspace
        self._asks_keyspace = asked is not None
        self.keyspace = usual if asked is None else asked
        self.usual = self.keyspace == usual
        self.profile = profile
        self.timeout = profile.timeout
        self.max_rows = profile.max_rows
        self.trace = profile.trace
        # read once: a mapping of the user's may raise later, in a task that is not the caller's
        self.payload = None if profile.payload is None else dict(profile.payload)
        self.timestamps = timestamps if profile.timestamp is None else None
        self.idempotent = profile.idempotent
        self.retry = profile.retry
        self.speculation = profile.speculation
        # the short way through execute() does for these; it keeps no timestamp, and finds that of
        # an idempotent write by its deadline
        self.plain = (
            not profile.trace
            and profile.payload is None
            and profile.speculation is None
            and not (profile.idempotent and profile.timeout is None)
        )
        # without a keyspace: a prepared statement has its own
        self.parameters = QueryParameters(
            profile.consistency,
            page_size=profile.page_size,
            serial_consistency=profile.serial_consistency,
            timestamp=profile.timestamp,
            now_in_seconds=profile.now_in_seconds,
        )

    def check(self, version: ProtocolVersion) -> None:
        """Raise UsageError for an option that the version doesn't know."""
        if self._asks_keyspace and not version.has_keyspace_option:
            raise UsageError(
                f"keyspace= needs protocol v5, this connection speaks v{version:d}:"
                " pass keyspace= to connect(), or write keyspace.table"
            )
        if self.profile.now_in_seconds is not None and not version.has_now_in_seconds:
            raise UsageError(
                f"now_in_seconds= needs protocol v5, this connection speaks v{version:d}"
            )

    def wire_keyspace(self, version: ProtocolVersion) -> str | None:
        """Return the keyspace that QUERY, PREPARE and BATCH carry, if the version lets them.

        On v3 and v4 the connection has it, by USE.
        """
        return self.keyspace if version.has_keyspace_option else None


_FIELDS = frozenset(item.name for item in dataclasses.fields(Profile))


def merged(profile: Profile, options: Mapping[str, Any]) -> Profile:
    """Return the profile with a call's options in place.

    Raises:
        TypeError: there is no such option.
        ConfigError: an option has no such value.
    """
    options = dict(options)
    base = options.pop("profile", profile)
    if not isinstance(base, Profile):
        raise ConfigError(f"profile is a {type(base).__name__}, not a Profile")
    unknown = options.keys() - _FIELDS
    if unknown:
        raise TypeError(f"unexpected keyword argument {min(unknown)!r}")
    return dataclasses.replace(base, **options) if options else base
