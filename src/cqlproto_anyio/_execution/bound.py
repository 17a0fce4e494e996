"""A statement with its parameters: prepares the statement if needed, matches and packs the values.

Parameters are matched to the bind markers of the PREPARED message. The markers can change while a
session runs: a type is altered, and the client may miss the event. If a value doesn't fit, the
statement is prepared again before the value is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cqlproto.messages.requests import Execute, Query, QueryParameters
from cqlproto_anyio._execution.attempts import Attempts
from cqlproto_anyio._statements.parameters import is_read_once
from cqlproto_anyio._statements.statement import Prepared, Statement, refuse_use
from cqlproto_anyio._text import read_statement, shown
from cqlproto_anyio.exceptions import UsageError, ValueConversionError
from cqlproto_anyio.policies.timestamps import ClockBehind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqlproto import messages
    from cqlproto.messages.errors import Error
    from cqlproto.messages.results import Column
    from cqlproto.wire import Unset
    from cqlproto_anyio._eventloop.request import Request
    from cqlproto_anyio._execution.context import SessionContext
    from cqlproto_anyio._network.connection import Connection
    from cqlproto_anyio._settings.resolved import Settings

__all__ = ["BoundStatement"]


class BoundStatement(Attempts):
    """A statement, its parameters and its options.

    Arguments:
        context: the session's context.
        query: text, or what ``prepare`` returned.
        parameters: the parameters, or None.
        settings: the options.
        statement: the prepared statement of a text, if it is known.
        unfit: the error of matching the parameters to that statement, if the caller got one.
    """

    def __init__(
        self,
        context: SessionContext,
        query: Any,
        parameters: Any,
        settings: Settings,
        statement: Statement | None = None,
        unfit: ValueConversionError | None = None,
    ) -> None:
        super().__init__(context, settings)
        self._parameters = parameters
        self._unfit = unfit
        self._markers: Sequence[Column] | None = None
        if isinstance(query, Prepared):
            self.query = query.query
            statement = query._statement
        elif isinstance(query, str):
            self.query = query
        else:
            raise TypeError(
                f"a query is a str or what prepare() returned, not a {type(query).__name__}"
            )
        self.statement = statement
        if statement is not None:
            if unfit is not None:
                self._markers = statement.prepared.bind.columns
            elif not statement.stale and isinstance(query, Prepared):
                self._take_values(statement)
        self._stamp = settings.timestamp
        self.text = text = read_statement(self.query) if statement is None else statement.text
        if text.verb == "USE":
            refuse_use(self.query)
        self.conditional = text.conditional
        self.reads = text.reads

    def refuse_timestamp(self) -> None:
        """Raise UsageError for a timestamp on a conditional statement: servers ignore it."""
        if self.text.conditional and self.settings.timestamp is not None:
            raise UsageError(
                f"timestamp={self.settings.timestamp} can't go with a condition (IF): the server"
                " makes the timestamp itself, and ignores this one; pass timestamp=None to"
                f" override a profile: {shown(self.query)}"
            )

    async def ready(self) -> None:
        """Prepare the statement if it is outdated, or has parameters and isn't prepared yet.

        Raises:
            UsageError: a conditional statement has a timestamp.
        """
        self.refuse_timestamp()
        statement = self.statement
        if statement is None and self._parameters is None:
            return
        if statement is None:
            statement = self.statement = await self._prepared(None)
        elif statement.stale:
            await self._prepared(statement)
            self.fit(statement)
        if self._unfit is None and self._markers is None:
            self._take_values(statement)
        if (unfit := self._unfit) is not None and not await self.renewed():
            self.attach_attempts(unfit)
            raise unfit

    def _take_values(self, statement: Statement) -> None:
        """Match the parameters to the markers; keep the error if one doesn't fit."""
        self._markers = statement.prepared.bind.columns
        try:
            self.values = statement.values(self._parameters)
        except ValueConversionError as exc:
            self._unfit = exc

    async def prepare(self) -> Statement:
        """Prepare the statement at any host; raises what :meth:`learn` does."""
        return await self._prepared(None)

    async def _prepared(self, renew: Statement | None) -> Statement:
        """Return the statement, prepared at any host.

        No connection is chosen for a known statement. Hosts are chosen in turn, so a choice here
        and one for the request would send all requests to the same host of two.
        """
        if renew is None:
            self.context.supervisor.check_open()
            known = self.context.preparer.known(self.query, self.settings.keyspace)
            if known is not None:
                return known
        return await self.learn(await self.connection(), renew)

    async def prepare_again(self, message: Error, connection: Connection) -> bool:
        statement = self.statement
        if statement is None:
            return False
        await self.teach(statement, connection)
        self.fit(statement)
        return True

    async def renewed(self) -> bool:
        statement = self.statement
        if statement is None:
            return False
        known = statement.prepared.bind.columns is self._markers
        if known and self.context.timer.clock() < statement.sound_until:
            return False
        if is_read_once(self._parameters):
            # the iterator may be half read: the next call gets the new markers
            if not known or await self.renew(statement):
                self.record_change(statement, self._markers or ())
            return False
        if not known and self.fit(statement):  # another call has prepared it anew
            return True
        return await self.renew(statement) and self.fit(statement)

    def fit(self, statement: Statement) -> bool:
        """Match the parameters again if the markers have changed; return whether they have.

        Raises:
            ParameterError, ValueConversionError: the parameters don't fit.
        """
        if self._markers is None or not self.record_change(statement, self._markers):
            return False
        self._unfit = None
        again = self.values if is_read_once(self._parameters) else self._parameters
        self._markers = statement.prepared.bind.columns
        self.values = statement.values(again)
        return True

    # -- sending

    def _repeats(self) -> bool:
        """Whether the write may be repeated, so that all attempts need the same timestamp."""
        return self.text.stamped and self.settings.idempotent

    def stamp(self) -> int | None:
        """Return the timestamp for all attempts; None if the packer or the server makes it."""
        timestamps = self.settings.timestamps
        if self._stamp is None and timestamps is not None and self.text.stamped:
            if self.settings.fast_path and self.statement is not None and not self._repeats():
                return None
            if not self.unstamped:
                try:
                    self._stamp = timestamps()
                except ClockBehind:
                    self.unstamped = True
        return self._stamp

    def cells(self) -> list[bytes | None | Unset]:
        """Return the bound values, encoded."""
        if self.statement is None:
            return []
        return self.statement.binder(self.settings).cells(self.values)

    def fill(self, request: Request, paging_state: bytes | None, connection: Connection) -> None:
        """Set the request's message: for the first page, or for the page of a paging state.

        Raises:
            UsageError: the protocol version or the statement doesn't allow an option.
            ValueConversionError: a value doesn't fit its column.
        """
        statement = self.statement
        settings = self.settings
        version = connection.version
        stamp = self.stamp()
        if statement is not None:
            statement.set_version(version)
            packed = (stamp is None and not self.unstamped) or settings.timestamp is not None
            if paging_state is None and settings.fast_path and packed:
                request.bind(statement.binder(settings), self.values)
                return
        settings.check(version)
        message: messages.Request
        if statement is None:
            parameters = with_values(settings.parameters, None, paging_state, stamp)
            parameters.keyspace = settings.wire_keyspace(version)
            message = Query(self.query, parameters)
            request.carry(message)
            return
        parameters = with_values(settings.parameters, self.cells(), paging_state, stamp)
        parameters.skip_metadata = statement.skips_metadata
        prepared = statement.prepared
        message = Execute(prepared.statement_id, parameters, prepared.result_metadata_id)
        request.carry(message, prepared.result)


def with_values(
    parameters: QueryParameters,
    values: Sequence[bytes | None | Unset] | None,
    paging_state: bytes | None,
    timestamp: int | None,
) -> QueryParameters:
    """Return a copy of the options with values, a paging state and a timestamp."""
    return QueryParameters(
        parameters.consistency,
        values=values,
        page_size=parameters.page_size,
        paging_state=paging_state,
        serial_consistency=parameters.serial_consistency,
        timestamp=timestamp,
        now_in_seconds=parameters.now_in_seconds,
    )
