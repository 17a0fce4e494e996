"""The configuration of a session, and credentials."""

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
    policy,
    seconds,
    shown,
    string_map,
    switch,
    synchronous,
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
        """Return the client side of a SASL exchange with this node."""
        ...


Secret = str | Callable[[], str] | Callable[[], Awaitable[str]]


class PlainAuth:
    """A user name and a password.

    Arguments:
        username: the role's name.
        password: the password, or a function or coroutine function that returns it. A function is
            called for each new connection, so that a rotated password is picked up.
    """

    __slots__ = ("_password", "username")

    def __init__(self, username: str, password: Secret) -> None:
        self.username = username
        self._password = password

    def __repr__(self) -> str:
        return f"PlainAuth({self.username!r}, ...)"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return (self.username, self._password) == (other.username, other._password)

    def __hash__(self) -> int:
        return hash((type(self), self.username))

    async def authenticator(self, endpoint: Endpoint) -> Authenticator:
        """Return the client side of SASL PLAIN; call the password if it is a function.

        Raises:
            ConfigError: the password is not a str.
        """
        password: Any = self._password
        if callable(password):
            password = password()
            if inspect.isawaitable(password):
                password = await password
        if not isinstance(password, str):
            raise ConfigError(f"the password must be a str, got a {type(password).__name__}")
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
    """The configuration of a session; the options of requests are in :class:`Profile`.

    Attributes:
        connect_timeout: how long opening one connection may take, in seconds: resolving, TCP, TLS,
            the handshake and setting the keyspace.
        start_timeout: how long ``connect`` may take in all, in seconds: resolving the contact
            points, finding one that answers, reading the topology, and opening the first connection
            for requests. None is three times the sum of ``connect_timeout`` and
            ``control_timeout``, 30 s by default.
        close_timeout: how long closing may take, in seconds.
        compression: ``"lz4"``, ``"snappy"`` or None. Protocol v5 has no Snappy: with it, the
            session uses v4 at most.
        protocol_version: the only version to use; None uses the highest that the server supports,
            up to v5.
        discovery: whether to open a control connection, read the cluster's nodes over it, and
            listen for changes; False uses the contact points as the only nodes.
        eager: whether to connect to all nodes of the local data centre at the start, in the
            background; False connects to a node when it is first selected for a request.
        connections_per_host: the number of connections to each node.
        max_connections_per_host: the maximum number of connections to a node, under load, or to
            have one for each shard of a Scylla node. None is 4 under load, or
            ``connections_per_host`` if that is more, and one for each of up to 256 shards.
        grow_at: the number of requests in flight on a connection at which another one is opened.
        max_connecting: the maximum number of connections that the session opens at the same time,
            not counting those of the control connection.
        max_in_flight: the maximum number of requests in flight on a connection.
        max_orphans: the maximum number of abandoned requests of a connection whose replies have not
            come yet; with more of them, the connection is replaced.
        max_waiting: the maximum number of requests that wait for a connection or a stream id;
            beyond it, Overloaded is raised.
        max_unsent: the number of unsent bytes of a connection at which requests have to wait.
        max_prepared: the maximum number of cached prepared statements; the least recently used one
            is evicted first.
        routing: which nodes are preferred for a request.
        reconnection: how long to wait between attempts to connect to a node that is down.
        heartbeat_interval: after how many seconds without a reply a heartbeat is sent over a
            connection.
        heartbeat_timeout: how long the answer to a heartbeat may take, in seconds; longer while a
            reply is arriving with 64 KiB a second or more.
        refresh_interval: after how many seconds without an event the nodes are read again.
        control_timeout: how long the session's own requests may take, in seconds: those on the
            control connection, and PREPARE. If a node doesn't answer PREPARE within a tenth of
            this time, another node is asked too.
        schema_agreement_timeout: how long a statement that has changed the schema waits for the
            nodes to agree on it, in seconds; 0 does not wait.
        client_timestamps: whether the session makes the timestamps of writes. They always increase,
            so the writes of a session apply in order, although the nodes' clocks differ; False
            leaves timestamps to the nodes. ``Profile.timestamp`` takes precedence.
        translate: maps the address of a node or contact point to the one to connect to. If it
            raises for a contact point, the address is used as it is.
        hooks: called when requests end, nodes join or leave, connections open or break.
        limits: the limits of the protocol core.
        connector: opens the transport to a node, instead of TCP and TLS.
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
                name,
                integer(name, getattr(self, name), least, _MOST, f"an int of at least {least}"),
            )
        most = self.max_connections_per_host
        if most is not None and self.connections_per_host > most:
            raise ConfigError(
                f"connections_per_host must be at most max_connections_per_host ({most}),"
                f" got {self.connections_per_host}"
            )
        self._check_objects()
        for name in ("application_name", "application_version"):
            value = getattr(self, name)
            if value is not None:
                string_map(name, {name: value}, str)
        self._keep("startup_options", string_map("startup_options", self.startup_options, str))
        if self.max_in_flight > self.limits.max_streams:
            raise ConfigError(
                f"max_in_flight must be at most limits.max_streams ({self.limits.max_streams}),"
                f" got {self.max_in_flight}"
            )
        self._check_protocol()

    def _keep(self, name: str, value: object) -> None:
        """Set a field of the frozen dataclass to its converted value."""
        object.__setattr__(self, name, value)

    def _check_objects(self) -> None:
        if not isinstance(self.limits, Limits):
            raise ConfigError(f"limits must be Limits, got {described(self.limits)}")
        for each in fields(self.limits):
            name = f"limits.{each.name}"
            integer(name, getattr(self.limits, each.name), 1, _MOST, "an int of at least 1")
        if self.connector is not None and not callable(self.connector):
            raise ConfigError(f"connector must be a callable, got {described(self.connector)}")
        if self.translate is not None:
            synchronous("translate", self.translate)
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
            raise ConfigError(
                "compression must be 'lz4' or None with protocol v5, got 'snappy':"
                " pass protocol_version=4, or leave it out"
            )

    @property
    def start_limit(self) -> float:
        """How long ``connect`` may take in all, in seconds."""
        if self.start_timeout is not None:
            return self.start_timeout
        return 3 * (self.connect_timeout + self.control_timeout)

    @property
    def most_connections(self) -> int:
        """The maximum number of connections to a node under load."""
        if self.max_connections_per_host is not None:
            return self.max_connections_per_host
        return max(4, self.connections_per_host)

    @property
    def highest_version(self) -> ProtocolVersion:
        """The protocol version that the session tries first."""
        if self.protocol_version is not None:
            return self.protocol_version
        with_snappy = self.compression == "snappy"
        return max(each for each in ProtocolVersion if each.has_snappy or not with_snappy)
