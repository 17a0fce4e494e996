"""What a program is told while a session works: requests, hosts, connections.

A subclass of :class:`Hooks` overrides what it wants to hear of; metrics, spans and logs are made of
that. Hooks are plain functions, called where the thing happens: they must be quick, and can't wait.
What isn't overridden costs nothing, not even the record: :func:`active` says, once per session, for
each hook whether there is anyone to tell. A hook that raises is logged and harms no request.

Records hold no bound values: what is logged of them can't be a secret that was one's parameter.
A literal in the text of a statement is there, though; bind it instead.
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
    """Plain slots: a record is made per request where somebody listens."""

    __slots__: tuple[str, ...] = ()

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({shown})"


class RequestRecord(_Record):
    """A call that has ended.

    Attributes:
        verb: ``"execute"``, ``"page"``, ``"stream"`` (one record for each of its pages),
            ``"batch"`` or ``"prepare"``.
        query: the statement's text; of a batch, what it is and how many statements it has.
        keyspace: the keyspace of unqualified names, or None.
        consistency: what was asked for.
        host: the node that answered, or was asked last, as ``address:port``; empty if none was.
        elapsed: how long the call took, in seconds, with waiting, retries and all pages. It ended
            just now.
        attempts: how often it was sent: 0 if it never was, more than 1 after retries. Where a
            second node was asked because the first one was slow, those that failed count, and the
            one that answered.
        rows: how many rows came.
        error: what the caller gets, or None; when the call was cancelled, the cancellation.
        tracing_id: the id of the first page's trace, if one was asked for.
        warnings: what the server warned of, on all pages.
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
    """What has become of a node.

    Attributes:
        endpoint: where it listens.
        host_id: its id, which stays when its address changes.
        datacenter: its data centre.
        rack: its rack.
        error: why it counts as down, or None.
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
    """A connection that was opened, or lost.

    Attributes:
        endpoint: the node.
        version: the protocol's version.
        elapsed: seconds: how long opening it took, or how long it lived.
        in_flight: how many requests were under way on it when it was lost.
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
    """The control connection, by which a session learns of the cluster, is at another node now.

    Attributes:
        endpoint: the node that it is at.
        previous: the node that it was at before, or None when the session began.
        error: why it moved, or None.
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
    """The machine's clock is behind a timestamp that the session has given to a write.

    Attributes:
        drift: by how much, in seconds.
        stamping: whether the session goes on to make timestamps; if it is too much the nodes do.
    """

    __slots__ = ("drift", "stamping")

    def __init__(self, drift: float, stamping: bool) -> None:
        self.drift = drift
        self.stamping = stamping


class Hooks:
    """Override what you want to be told of; each is called in the thread of the session's loop."""

    def request_finished(self, record: RequestRecord) -> None:
        """A call has ended, well or not. Called in the task that made it, before it goes on."""

    def host_added(self, record: HostRecord) -> None:
        """A node has joined the cluster, or was found when the session began."""

    def host_removed(self, record: HostRecord) -> None:
        """A node has left the cluster."""

    def host_up(self, record: HostRecord) -> None:
        """A node can be used: a connection to it works, and none did before."""

    def host_down(self, record: HostRecord) -> None:
        """A node can't be used: the last connection to it is gone, or none could be made."""

    def connection_opened(self, record: ConnectionRecord) -> None:
        """A connection is ready for requests."""

    def connection_lost(self, record: ConnectionRecord) -> None:
        """A connection has ended that the session didn't mean to close."""

    def control_moved(self, record: ControlRecord) -> None:
        """The control connection was made, at first or anew."""

    def clock_drifted(self, record: ClockRecord) -> None:
        """The clock was set back behind the session's latest timestamp. Called once until it has
        caught up, and again if it gets twice as bad.
        """


R = TypeVar("R")

HOOKS = tuple(name for name in vars(Hooks) if not name.startswith("_"))


class Active:
    """For each hook a function that never raises, or None where nobody listens.

    Call one so: ``if (tell := active.host_up) is not None: tell(HostRecord(..))``.
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
    """Return what there is to call.

    Arguments:
        hooks: whom to tell: one, or several, who are told in this order; None for nobody.

    Raises:
        ConfigError: that is no Hooks, or one of its methods is a coroutine function, which nobody
            would await.
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
            raise ConfigError(f"hooks: a {type(each).__name__} is no Hooks")
    result = Active()
    for name in HOOKS:
        setattr(result, name, _joined([_guarded(each, name) for each in listeners]))
    return result


def _guarded(listener: Any, name: str) -> _Guarded[Any] | None:
    function = getattr(listener, name)
    if getattr(function, "__func__", function) is getattr(Hooks, name):
        return None
    if not callable(function):
        raise ConfigError(f"hooks: {type(listener).__name__}.{name} is no function")
    if inspect.iscoroutinefunction(function):
        raise ConfigError(
            f"hooks: {type(listener).__name__}.{name} is a coroutine function, and hooks are not"
            " awaited: make it a plain one that puts what it gets into a queue"
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

    Where it runs in the caller's own task, KeyboardInterrupt and SystemExit go on to the caller:
    the program is being ended there. Anywhere else they would end a task of the session's.
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
