"""Requests that wait for a connection, when the session has none, and the hosts tried for them.

Hosts that are being connected to are waited for. Others are tried a few at a time, nearest data
centre first, until one works or none is left.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cqlproto_anyio.exceptions import ConnectionFailed, copied, overloaded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cqlproto_anyio._cluster.connections import Connections
    from cqlproto_anyio._cluster.host_pools import HostPools
    from cqlproto_anyio._eventloop.timer import Timer
    from cqlproto_anyio._eventloop.waiter import Waiter
    from cqlproto_anyio._network.pool import Pool
    from cqlproto_anyio.endpoint import Endpoint
    from cqlproto_anyio.exceptions import SessionClosed

__all__ = ["Waiters"]

# How many hosts of a data centre are tried at once, and after how many seconds without an answer as
# many more are.
AT_ONCE = 4
PATIENCE = 0.5
# How often waiters that have given up are removed when there are too many, in seconds.
COUNT_INTERVAL = 0.25


class Waiters:
    """Requests that wait for a connection.

    Arguments:
        hosts: the pools.
        connections: connects to hosts.
        timer: of the session.
        most: how many may wait.
        preferred: returns the endpoint to try first, that of the control connection, or None.

    Attributes:
        waiting: those that wait. Some may have given up.
    """

    def __init__(
        self,
        *,
        hosts: HostPools,
        connections: Connections,
        timer: Timer,
        most: int,
        preferred: Callable[[], Endpoint | None],
    ) -> None:
        self.waiting: list[Waiter] = []
        self._hosts = hosts
        self._connections = connections
        self._clock = timer.clock
        self._most = most
        self._preferred = preferred
        self._alarm = timer.alarm(self._try_more)
        self._rounds = 1  # AT_ONCE hosts are tried for each; 0: a single host
        self._tried: set[Pool] = set()
        self._counted_at = -math.inf
        self._closed: SessionClosed | None = None

    def add(self, waiter: Waiter) -> None:
        """Complete a waiter when there is a connection, or fail it when no host works.

        It fails with what :meth:`Cluster.start` raises, with SessionClosed, or with Overloaded when
        too many wait already.
        """
        if self._closed is not None:
            waiter.fail(copied(self._closed))
        elif self._are_too_many():
            waiter.fail(overloaded(len(self.waiting), "a connection", self._most))
        else:
            self.waiting.append(waiter)
            if len(self.waiting) == 1:  # the hosts that are tried for the first serve all
                self.try_hosts()

    def start_with_one(self) -> None:
        """Try a single host until it has failed or PATIENCE has passed: it is known to answer."""
        self._rounds = 0

    def complete(self) -> None:
        """There is a connection: complete all waiters."""
        for waiter in self._take_all():
            waiter.complete(None)

    def fail(self, error: BaseException) -> None:
        """Fail all waiters with copies of an error."""
        for waiter in self._take_all():
            waiter.fail(copied(error))

    def connect_failed(self, error: Exception | None) -> None:
        """Try other hosts after a failed attempt, or fail all waiters if other hosts can't help.

        Arguments:
            error: why it has failed; None if the host has left the cluster.
        """
        if error is not None and not isinstance(error, ConnectionFailed):
            self.fail(error)  # the keyspace or an option is wrong, which is not about this host
            return
        if error is not None:
            self._rounds = max(self._rounds, 1)
        self.try_hosts()

    def close(self, error: SessionClosed) -> None:
        """Fail all waiters, and those that come."""
        self.refuse(error)
        self._alarm.cancel()
        self.fail(error)

    def refuse(self, error: SessionClosed) -> None:
        """Fail the waiters that come from now on."""
        self._closed = error

    def try_hosts(self) -> None:
        """Connect to hosts while requests wait; fail the requests if no host is left to try.

        Hosts of another data centre are tried when no host of the nearer ones is being connected to
        that may work. A host that has failed before is no reason to wait.
        """
        if not self.waiting or self._closed is not None:
            return
        at_once = max(AT_ONCE * self._rounds, 1)
        for pools in self._hosts.by_distance():
            self._try(pools, at_once)
            self._connections.open_due()
            if any(pool.may_connect_soon for pool in pools):
                self._alarm.set(self._clock() + PATIENCE)
                return
            at_once = min(at_once, self._hosts.routing.remote_hosts)
        if not any(pool.may_connect for pool in self._hosts.by_id.values()):
            self.fail(self._hosts.unusable())

    def _try(self, pools: Sequence[Pool], at_once: int) -> None:
        """Connect to some of these hosts, so that ``at_once`` of them are being connected to."""
        connecting = sum(pool.state.opening > 0 for pool in pools)
        preferred = self._preferred()
        for pool in (*[each for each in pools if each.host.endpoint == preferred], *pools):
            if connecting >= at_once:
                break
            if pool not in self._tried and not pool.state.opening:
                self._tried.add(pool)
                connecting += self._connections.need(pool)

    def _try_more(self) -> None:
        """Try more hosts, since those that are being tried take long."""
        if self.waiting:
            self._rounds += 1
            self.try_hosts()

    def _are_too_many(self) -> bool:
        """Whether no more may wait. Those that have given up are removed first, now and then."""
        if len(self.waiting) > self._most and self._clock() >= self._counted_at + COUNT_INTERVAL:
            self._counted_at = self._clock()
            self.waiting = [each for each in self.waiting if not each.done]
        return len(self.waiting) > self._most

    def _take_all(self) -> list[Waiter]:
        waiting, self.waiting = self.waiting, []
        self._tried.clear()
        self._rounds = 1
        self._alarm.cancel()
        return waiting
