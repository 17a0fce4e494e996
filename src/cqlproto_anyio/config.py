"""How a session connects and works: frozen values, no behaviour."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Protocol

from cqlproto.connection import Authenticator, Limits, PlainAuthenticator
from cqlproto.enums import ProtocolVersion
from cqlproto_anyio._checks.values import (
    described,
    integer,
    number,
    plain_function,
    policy,
    seconds,
    shown,
    string_map,
    switch,
)
from cqlproto_anyio.endpoint import Endpoint
from cqlproto_anyio.exceptions import ConfigError
from cqlproto_anyio.hooks import Hooks
from cqlproto_anyio.policies import (
    ExponentialReconnection,
    Reconnection,
    Routing,
)

if TYPE_CHECKING:
    from anyio.abc import ByteStream


__all__ = ["Auth", "Config", "PlainAuth"]


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


Connector = Callable[[Endpoint], Awaitable["ByteStream"]]


_SECONDS = (
    "connect_timeout",
    "close_timeout",
    "heartbeat_interval",
    "heartbeat_timeout",
    "refresh_interval",
    "control_timeout",
)
_COUNTS = (
    ("connections_per_host", 1),
    ("max_connections_per_host", 1),
    ("grow_at", 1),
    ("max_connecting", 1),
    ("max_in_flight", 1),
    ("max_orphans", 1),
    ("max_waiting", 0),
    ("max_unsent", 1),
    ("max_prepared", 1),
)
_MOST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Config:
    """How a session works, beyond what its requests ask for.

    Attributes:
        connect_timeout: how long making one connection may take, in seconds: resolving, TCP, TLS,
            the handshake and choosing the keyspace.
        start_timeout: how long ``connect`` may take in all, in seconds, whatever the contact points
            do: resolving them, finding one that answers, reading what the cluster is, and the first
            connection for requests. None for three times ``connect_timeout`` and
            ``control_timeout`` together, which is 30 s unless they are changed.
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
        max_connections_per_host: up to how many it gets, under load, or to have one for each shard
            of a Scylla node. None for 4 under load, or ``connections_per_host`` if that is more,
            and for one for each shard up to 256.
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
        heartbeat_interval: after how many seconds without a reply a connection is asked whether it
            lives.
        heartbeat_timeout: how long the answer may take, in seconds. A reply that is still coming,
            with 64 KiB a second or more, is waited for.
        refresh_interval: after how many seconds the nodes are read again although no event came.
        control_timeout: how long a request of the session's own may take, in seconds: one on the
            control connection, or a PREPARE. A node that is silent for a tenth of that is no longer
            the only one that is asked to prepare a statement.
        schema_agreement_timeout: how long a statement that changes the schema waits for the nodes
            to agree on it, in seconds, after it has succeeded; 0 does not wait.
        client_timestamps: whether writes carry a timestamp of the session's, which only ever grows,
            so that two writes of one program can't be ordered otherwise by nodes whose clocks
            differ; False leaves it to the nodes. ``Profile.timestamp`` comes first.
        translate: changes the address that a node announces, or that a contact point has, into the
            one to connect to. A contact point for which it raises is used as it was named.
        hooks: called when requests end, nodes come and go, connections open and break.
        limits: what the protocol core accepts and sends.
        connector: opens the transport to a node, in place of TCP and TLS.
        application_name: shown in the server's list of clients.
        application_version: shown in the server's list of clients.
        startup_options: more options for STARTUP.
    """

    connect_timeout: float = 5.0
    start_timeout: float | None = None
    close_timeout: float = 2.0
    compression: str | None = None
    protocol_version: ProtocolVersion | None = None
    discovery: bool = True
    eager: bool = True
    connections_per_host: int = 1
    max_connections_per_host: int | None = None
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
        for name in _SECONDS:
            self._keep(name, seconds(name, getattr(self, name)))
        name = "schema_agreement_timeout"
        what = "a number of seconds, or 0 for no waiting"
        self._keep(name, number(name, getattr(self, name), 0.0, math.inf, what))
        if self.start_timeout is not None:
            self._keep("start_timeout", seconds("start_timeout", self.start_timeout))
        for name in ("discovery", "eager", "client_timestamps"):
            switch(name, getattr(self, name))
        for name, least in _COUNTS:
            if name == "max_connections_per_host" and self.max_connections_per_host is None:
                continue
            self._keep(
                name, integer(name, getattr(self, name), least, _MOST, f"an int from {least}")
            )
        most = self.max_connections_per_host
        if most is not None and self.connections_per_host > most:
            raise ConfigError(
                f"connections_per_host is {self.connections_per_host}, more than"
                f" max_connections_per_host, which is {most}"
            )
        self._check_objects()
        for name in ("application_name", "application_version"):
            value = getattr(self, name)
            if value is not None:
                string_map(name, {name: value}, str)
        self._keep("startup_options", string_map("startup_options", self.startup_options, str))
        if self.max_in_flight > self.limits.max_streams:
            raise ConfigError(
                f"max_in_flight is {self.max_in_flight}, more than the"
                f" {self.limits.max_streams} streams of a connection"
            )
        self._check_protocol()

    def _keep(self, name: str, value: object) -> None:
        """Set a field to its value, converted."""
        object.__setattr__(self, name, value)

    def _check_objects(self) -> None:
        if not isinstance(self.limits, Limits):
            raise ConfigError(f"limits must be Limits, got {described(self.limits)}")
        for each in fields(self.limits):
            name = f"limits.{each.name}"
            integer(name, getattr(self.limits, each.name), 1, _MOST, "an int of at least 1")
        if self.connector is not None and not callable(self.connector):
            raise ConfigError(f"connector must be a function, got {described(self.connector)}")
        if self.translate is not None:
            plain_function("translate", self.translate)
        if not isinstance(self.routing, Routing):
            raise ConfigError(f"routing must be a Routing, got {described(self.routing)}")
        policy("reconnection", self.reconnection, "delay")
        if self.hooks is not None and not isinstance(self.hooks, Hooks):
            raise ConfigError(f"hooks must be Hooks, got {described(self.hooks)}")

    def _check_protocol(self) -> None:
        compression, version = self.compression, self.protocol_version
        known = isinstance(compression, str) and compression in ("lz4", "snappy")
        if compression is not None and not known:
            raise ConfigError(
                f"compression must be 'lz4', 'snappy' or None, got {shown(compression)}"
            )
        if version is not None and type(version) is not ProtocolVersion:
            if type(version) is not int or version not in tuple(ProtocolVersion):
                names = ", ".join(f"{each:d}" for each in ProtocolVersion)
                raise ConfigError(
                    f"protocol_version must be a ProtocolVersion ({names}) or None,"
                    f" got {shown(version)}"
                )
            self._keep("protocol_version", ProtocolVersion(version))
        if compression == "snappy" and not self.highest_version.has_snappy:
            raise ConfigError(f"protocol v{version:d} knows no snappy compression, but lz4")

    @property
    def start_limit(self) -> float:
        """How long connecting may take in all, in seconds."""
        if self.start_timeout is not None:
            return self.start_timeout
        return 3 * (self.connect_timeout + self.control_timeout)

    @property
    def most_connections(self) -> int:
        """Up to how many connections a node gets under load."""
        if self.max_connections_per_host is not None:
            return self.max_connections_per_host
        return max(4, self.connections_per_host)

    @property
    def highest_version(self) -> ProtocolVersion:
        """The version that a session asks for first."""
        if self.protocol_version is not None:
            return self.protocol_version
        with_snappy = self.compression == "snappy"
        return max(each for each in ProtocolVersion if each.has_snappy or not with_snappy)
