"""Hooks: methods that a session calls with records of requests, hosts and connections.

Override the methods of :class:`Hooks` that you need, for metrics, spans or logs. Hooks are
synchronous and are called where the event happens, so they must be quick. A hook that is not
overridden costs nothing: :func:`active` finds out once per session which ones are, and no record is
made for the others. A hook that raises is logged and harms no request.

Records have no bound values, except in an ``error`` about a value that does not fit its column, and
in texts of the server. Literals in the text of a statement are contained, so bind what is secret.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from cqlproto_anyio._checks.callables import Report
from cqlproto_anyio.exceptions import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from cqlproto.enums import Consistency, ProtocolVersion
    from cqlproto_anyio.endpoint import Endpoint

__all__ = [
    "Active",
    "ClockRecord",
    "ConnectionRecord",
    "ControlRecord",
    "Hooks",
    "HostRecord",
    "RequestRecord",
    "active",
]


class _Record:
    """A plain class with slots, since a record may be made per request."""

    __slots__: tuple[str, ...] = ()

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({shown})"


class RequestRecord(_Record):
    """A finished call.

    Attributes:
        verb: ``"execute"``, ``"page"``, ``"stream"`` (one record for each of its pages),
            ``"batch"``, ``"prepare"``, ``"execute_many"`` or ``"map"`` (one record for all rows).
        query: the statement's text; of a batch, its kind and its number of statements.
        keyspace: the keyspace of unqualified names, or None.
        consistency: the requested consistency.
        host: the node that answered, or that was asked last, as ``address:port``; empty if none.
        elapsed: how long the call took until now, in seconds, with waiting, retries and all pages.
        attempts: how many times the request was sent: 0 if never, more than 1 after retries. Of
            speculative attempts, those that failed and the one that answered count. Of
            ``execute_many``, how many rows have ended, of ``map``, how many results were read.
        rows: how many rows were received; of ``execute_many``, how many have succeeded.
        error: the error that the caller gets, or None; of a cancelled call, the cancellation.
        tracing_id: the id of the first page's trace, if tracing was requested.
        warnings: the server's warnings, of all pages.
        tracing_ids: the ids of the traces of all pages.
    """

    __slots__ = (
        "attempts",
        "consistency",
        "elapsed",
        "error",
        "host",
        "keyspace",
        "query",
        "rows",
        "tracing_id",
        "tracing_ids",
        "verb",
        "warnings",
    )

    def __init__(
        self,
        verb: str,
        query: str,
        keyspace: str | None,
        consistency: Consistency,
        host: str,
        elapsed: float,
        attempts: int = 1,
        rows: int = 0,
        error: BaseException | None = None,
        tracing_id: UUID | None = None,
        warnings: Sequence[str] = (),
        tracing_ids: Sequence[UUID] = (),
    ) -> None:
        self.verb = verb
        self.query = query
        self.keyspace = keyspace
        self.consistency = consistency
        self.host = host
        self.elapsed = elapsed
        self.attempts = attempts
        self.rows = rows
        self.error = error
        self.tracing_id = tracing_id
        self.warnings = warnings
        self.tracing_ids = tracing_ids


class HostRecord(_Record):
    """A node whose state has changed.

    Attributes:
        endpoint: the node's endpoint.
        host_id: its id, which stays when its address changes.
        datacenter: its data centre.
        rack: its rack.
        error: why it is down, or None.
    """

    __slots__ = ("datacenter", "endpoint", "error", "host_id", "rack")

    def __init__(
        self,
        endpoint: Endpoint,
        host_id: UUID,
        datacenter: str,
        rack: str,
        error: BaseException | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.host_id = host_id
        self.datacenter = datacenter
        self.rack = rack
        self.error = error


class ConnectionRecord(_Record):
    """A connection that was opened or lost.

    Attributes:
        endpoint: the node.
        version: the protocol version.
        elapsed: how long it took to open, or how long it was open, in seconds.
        in_flight: how many requests were under way when it was lost.
        error: why it was lost, or None.
    """

    __slots__ = ("elapsed", "endpoint", "error", "in_flight", "version")

    def __init__(
        self,
        endpoint: Endpoint,
        version: ProtocolVersion,
        elapsed: float,
        in_flight: int = 0,
        error: BaseException | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.version = version
        self.elapsed = elapsed
        self.in_flight = in_flight
        self.error = error


class ControlRecord(_Record):
    """The control connection, which keeps the topology up to date, is at another node now.

    Attributes:
        endpoint: its node.
        previous: its node before, or None when the session starts.
        error: why it has moved, or None.
    """

    __slots__ = ("endpoint", "error", "previous")

    def __init__(
        self,
        endpoint: Endpoint,
        previous: Endpoint | None = None,
        error: BaseException | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.previous = previous
        self.error = error


class ClockRecord(_Record):
    """The machine's clock is behind the latest client timestamp of the session.

    Attributes:
        drift: by how much, in seconds.
        stamping: whether the session still makes timestamps; if the drift is too large the
            coordinators make them.
    """

    __slots__ = ("drift", "stamping")

    def __init__(self, drift: float, stamping: bool) -> None:
        self.drift = drift
        self.stamping = stamping


class Hooks:
    """Override the methods you need. They are called in the thread of the session's event loop."""

    def request_finished(self, record: RequestRecord) -> None:
        """A call has succeeded or failed. Called in the caller's task, before the call returns."""

    def host_added(self, record: HostRecord) -> None:
        """A node has joined the cluster, or was found when the session started."""

    def host_removed(self, record: HostRecord) -> None:
        """A node has left the cluster."""

    def host_up(self, record: HostRecord) -> None:
        """A node can be used: a connection to it works, and none did before."""

    def host_down(self, record: HostRecord) -> None:
        """A node can't be used: its last connection was lost, or none could be opened."""

    def connection_opened(self, record: ConnectionRecord) -> None:
        """A connection is ready for requests."""

    def connection_lost(self, record: ConnectionRecord) -> None:
        """A connection was lost. Connections that the session closes itself are not reported."""

    def control_moved(self, record: ControlRecord) -> None:
        """The control connection is connected, for the first time or again."""

    def clock_drifted(self, record: ClockRecord) -> None:
        """The clock was set back behind the session's latest timestamp. Called once until the clock
        has caught up, and again each time the drift has doubled.
        """


R = TypeVar("R")

HOOKS = tuple(name for name in vars(Hooks) if not name.startswith("_"))


class Active:
    """For each hook a function that never raises, or None if the hook is not overridden.

    Usage: ``if (tell := active.host_up) is not None: tell(HostRecord(..))``.
    """

    __slots__ = HOOKS

    request_finished: Callable[[RequestRecord], None] | None
    host_added: Callable[[HostRecord], None] | None
    host_removed: Callable[[HostRecord], None] | None
    host_up: Callable[[HostRecord], None] | None
    host_down: Callable[[HostRecord], None] | None
    connection_opened: Callable[[ConnectionRecord], None] | None
    connection_lost: Callable[[ConnectionRecord], None] | None
    control_moved: Callable[[ControlRecord], None] | None
    clock_drifted: Callable[[ClockRecord], None] | None


def active(hooks: Hooks | Iterable[Hooks] | None) -> Active:
    """Return the hooks to call.

    Arguments:
        hooks: one :class:`Hooks`, or several, which are called in this order; None for none.

    Raises:
        ConfigError: an object is no :class:`Hooks`, or one of its methods is not a function or is
            a coroutine function.
    """
    listeners: tuple[object, ...]
    if hooks is None:
        listeners = ()
    elif isinstance(hooks, Iterable) and not isinstance(hooks, Hooks):
        listeners = tuple(hooks)
    else:
        listeners = (hooks,)
    for each in listeners:
        if not isinstance(each, Hooks):
            raise ConfigError(f"hooks must be Hooks objects, got a {type(each).__name__}")
    result = Active()
    for name in HOOKS:
        setattr(result, name, _joined([_guarded(each, name) for each in listeners]))
    return result


def _guarded(listener: Any, name: str) -> _Guarded[Any] | None:
    function = getattr(listener, name)
    if getattr(function, "__func__", function) is getattr(Hooks, name):
        return None
    if not callable(function):
        raise ConfigError(f"hooks: {type(listener).__name__}.{name} must be a function")
    if inspect.iscoroutinefunction(function):
        raise ConfigError(
            f"hooks: {type(listener).__name__}.{name} is a coroutine function, and hooks are not"
            " awaited: make it a plain function that puts its record into a queue"
        )
    shown = f"{type(listener).__name__}.{name}"
    return _Guarded(function, shown, by_caller=name == "request_finished")


def _joined(functions: Iterable[_Guarded[Any] | None]) -> Callable[[Any], None] | None:
    some = [each for each in functions if each is not None]
    if not some:
        return None
    if len(some) == 1:
        return some[0]

    def tell_all(record: Any) -> None:
        for each in some:
            each(record)

    return tell_all


class _Guarded(Generic[R]):
    """A hook whose exceptions are logged.

    If it runs in the caller's task, KeyboardInterrupt and SystemExit are raised to the caller: they
    end the program. Anywhere else they would end one of the session's tasks.
    """

    __slots__ = ("_function", "_passed", "_report")

    def __init__(self, function: Callable[[R], object], name: str, *, by_caller: bool) -> None:
        self._function = function
        self._report = Report(f"the hook {name}")
        self._passed = (KeyboardInterrupt, SystemExit) if by_caller else ()

    def __call__(self, record: R) -> None:
        try:
            self._function(record)
        except self._passed:
            raise
        except BaseException as exc:
            self._report(exc)
