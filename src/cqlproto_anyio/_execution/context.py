"""What the calls of a session share: its cluster, prepared statements, timestamps and counters."""

from __future__ import annotations

import logging
from time import time_ns
from typing import TYPE_CHECKING, Any

from cqlproto_anyio._checks.callables import Report
from cqlproto_anyio._cluster.cluster import Cluster
from cqlproto_anyio._eventloop.timer import Timer
from cqlproto_anyio._execution.supervisor import Supervisor
from cqlproto_anyio._execution.trackers import Trackers
from cqlproto_anyio._settings.resolved import Wires
from cqlproto_anyio._statements.preparer import Preparer
from cqlproto_anyio._statements.server_warnings import ServerWarnings
from cqlproto_anyio.exceptions import ClockDrifted
from cqlproto_anyio.hooks import ClockRecord, active
from cqlproto_anyio.policies.timestamps import MOST_AHEAD, Timestamps
from cqlproto_anyio.statistics import Statistics

if TYPE_CHECKING:
    import ssl
    from collections.abc import Collection, Sequence

    from cqlproto._events import ResponseReceived
    from cqlproto.enums import ProtocolVersion
    from cqlproto.messages.results import SchemaChange
    from cqlproto_anyio._eventloop.backend import Backend
    from cqlproto_anyio._eventloop.request import Request
    from cqlproto_anyio._network.connection import Connection
    from cqlproto_anyio._statements.statement import Statement
    from cqlproto_anyio.config import Auth, Config
    from cqlproto_anyio.endpoint import Endpoint

__all__ = ["SessionContext"]

logger = logging.getLogger("cqlproto_anyio")


class SessionContext:
    """What the calls of a session share, also with the sessions made by :meth:`Session.using`.

    Arguments:
        endpoints: the contact points.
        backend: the event loop.
        made_at: the file and line of the call of ``connect``.
        others: see :func:`connect`.

    Attributes:
        supervisor: the background task; says whether the session is open.
        timer: the clock, and the deadlines of all requests.
        cluster: connections to the hosts, and the choice among them.
        preparer: prepares statements.
        statements: the cache of prepared statements.
        wires: the options of calls as they are sent.
        stamps: the latest timestamp of a write.
        timestamps: makes the timestamp of a write; None leaves it to the servers.
        trackers: the latencies that speculation policies have observed.
        tell: the hooks.
        retries: how many times a request was sent again.
        speculative: how many times a request was sent to a second host as well.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        *,
        backend: Backend,
        made_at: tuple[str, int],
        config: Config,
        auth: Auth | None,
        tls: ssl.SSLContext | None,
        keyspace: str | None,
        local_dc: str | None,
    ) -> None:
        self.backend = backend
        self.timer = Timer(backend.clock)
        self.config = config
        self.keyspace = keyspace
        self.endpoints = endpoints
        self.request_class = backend.request_class
        self.tell = active(config.hooks)
        self.warnings = ServerWarnings()
        self.preparer = Preparer(
            config.max_prepared,
            keyspace,
            timeout=config.control_timeout,
            timer=self.timer,
            other=self._other_connection,
            request_class=backend.request_class,
            warnings=self.warnings,
        )
        self.statements = self.preparer.statements
        self.wires = Wires(keyspace)
        self.cluster: Cluster = Cluster(
            endpoints,
            backend=backend,
            config=config,
            auth=auth,
            tls=tls,
            keyspace=keyspace,
            local_dc=local_dc,
            timer=self.timer,
            tell=self.tell,
            schema_changed=self._schema_changed,
        )
        self.supervisor = Supervisor(backend, self.timer, self.cluster, made_at)
        self.stamps = Timestamps(time_ns, self._clock_drifted)
        self.timestamps = self.stamps.fresh if config.client_timestamps else None
        self.trackers = Trackers()
        self.report_values = Report("a value that was packed for another host")
        self.retries = 0
        self.speculative = 0

    # -- connections

    @property
    def version(self) -> ProtocolVersion:
        """The protocol version of the session."""
        return self.cluster.version

    async def any_connection(
        self,
        query: str,
        timeout: float | None,
        deadline: float,
        statement: Statement | None = None,
        values: Sequence[Any] = (),
    ) -> Connection:
        """Return the connection for a request; wait until there is one.

        Arguments:
            query: the text of the statement, for errors.
            timeout: the whole call's timeout, in seconds.
            deadline: when the timeout ends, in seconds of the session's clock.
            statement: the prepared statement to select the connection for, or None.
            values: its values.

        Raises:
            SessionClosed: the session is closed.
            RequestTimeout: the deadline has passed.
            ConnectionFailed, NoHostAvailable, DatabaseError, ConfigError: no host can be
                connected to.
        """
        self.supervisor.check_open()
        while (connection := self.cluster.selector.choose(statement, values)) is None:
            request = self.request_class(query, timeout)
            request.deadline = deadline
            self.timer.keep_deadline(request)
            self.cluster.wait(request)  # may fail at once, which removes the deadline
            await request
            self.supervisor.check_open()
        return connection

    def _other_connection(self, asked: Collection[Connection]) -> Connection | None:
        """Return a connection to a host other than those of these connections, or None."""
        cluster = self.cluster
        pools = [pool for each in asked if (pool := cluster.pool_of(each)) is not None]
        return next(cluster.selector.plan(None, (), pools), None)

    # -- replies

    def take_notes(self, request: Request, event: ResponseReceived) -> None:
        """Take the notes of a reply: log its warnings and learn the tablet of the row.

        Arguments:
            request: the request that the reply answers.
            event: the reply.
        """
        if event.warnings:
            self.warnings.log(event.warnings, request.query, request.host)
        if request.statement is not None:
            self.cluster.selector.learn(request.statement, event)

    def _schema_changed(self, change: SchemaChange) -> None:
        self.preparer.outdate(change.keyspace)
        tablets = self.cluster.selector.tablets
        if change.target == "KEYSPACE":
            tablets.forget_keyspace(change.keyspace)
        elif change.target == "TABLE" and change.name is not None:
            tablets.forget_table(change.keyspace, change.name)

    async def agree(
        self, change: SchemaChange, connection: Connection | None, deadline: float
    ) -> bool | None:
        """Wait for schema agreement, after a statement that has changed the schema.

        Arguments:
            change: the change.
            connection: the connection to the node that has made it.
            deadline: when the call ends, in seconds of the session's clock.

        Returns:
            whether the hosts agree; None if they were not asked.
        """
        self._schema_changed(change)
        control = self.cluster.control
        timeout = min(self.config.schema_agreement_timeout, deadline - self.timer.clock())
        if control is None or self.config.schema_agreement_timeout == 0:
            return None
        agreed = await control.agree(max(timeout, 0.0), connection)
        # Until now, hosts that didn't know of the change may have prepared statements.
        self._schema_changed(change)
        return agreed

    # -- timestamps of writes

    async def outlast_writes(self, request: Request) -> None:
        """Wait until the servers' clocks have passed the timestamps of all writes so far.

        This takes a millisecond at most, and no time if there was no write in this millisecond;
        longer after the clock was set back.

        A conditional statement gets its timestamp from a server, in whole milliseconds. After a
        plain write in the same millisecond, its timestamp would be the lower one: a row that was
        deleted and inserted again would stay deleted.

        Arguments:
            request: the request to pause on, which has the deadline.

        Raises:
            ClockDrifted: the clock is too far behind these timestamps to wait.
        """
        left = self.stamps.left() / 1e9
        if left <= 0:
            return
        clock = self.timer.clock
        began = clock()
        if left > MOST_AHEAD / 1e6 or left > max(request.deadline - began, 0.002):
            raise ClockDrifted(left)
        # The limit is for a clock that is set back again and again.
        while left > 0 and clock() - began < MOST_AHEAD / 1e6:
            await self.supervisor.pause(request, left)
            request.again()
            left = self.stamps.left() / 1e9

    def _clock_drifted(self, ahead: int) -> None:
        """Report that the latest timestamp is ``ahead`` microseconds ahead of the clock."""
        makes = ahead <= MOST_AHEAD
        logger.warning(
            "this machine's clock was set back: it is %.3f s behind the latest timestamp of a"
            " session's writes; until it has caught up %s",
            ahead / 1e6,
            "timestamps go on from that one, and conditional statements wait"
            if makes
            else "the nodes make the timestamps, and conditional statements raise ClockDrifted",
        )
        if (tell := self.tell.clock_drifted) is not None:
            tell(ClockRecord(ahead / 1e6, makes))

    def statistics(self) -> Statistics:
        """Return the state of hosts and connections, and the counters."""
        cluster = self.cluster
        control = None if cluster.control is None else cluster.control.endpoint
        return Statistics(
            hosts=tuple([pool.statistics() for pool in cluster.all_pools]),
            control=None if control is None else str(control),
            prepared=len(self.statements),
            retries=self.retries,
            speculative=self.speculative,
        )
