"""A batch: several statements in one request (v4 section 4.1.7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cqlproto.enums import BatchKind
from cqlproto.messages.requests import Batch, BatchStatement
from cqlproto.messages.results import Rows
from cqlproto.rows import Row
from cqlproto_anyio._checks import values as checking
from cqlproto_anyio._execution.attempts import MAX_PREPARATIONS, Attempts
from cqlproto_anyio._execution.batch_rules import check_batch, check_item
from cqlproto_anyio._execution.bound import BoundStatement
from cqlproto_anyio._execution.replies import columns_of, conditional_result, read_rows
from cqlproto_anyio._statements.parameters import Partial
from cqlproto_anyio._statements.statement import Prepared
from cqlproto_anyio.exceptions import UsageError
from cqlproto_anyio.policies.timestamps import ClockBehind
from cqlproto_anyio.results import Result

if TYPE_CHECKING:
    from cqlproto.enums import ProtocolVersion
    from cqlproto.messages.errors import Error
    from cqlproto_anyio._eventloop.request import Request
    from cqlproto_anyio._execution.attempts import Outcome
    from cqlproto_anyio._execution.context import SessionContext
    from cqlproto_anyio._network.connection import Connection
    from cqlproto_anyio._settings.resolved import Settings
    from cqlproto_anyio._statements.statement import Statement

__all__ = ["BatchCall"]


class BatchCall(Attempts):
    """A batch of statements.

    Arguments:
        context: the session's context.
        settings: the options.
        kind: ``"logged"``, ``"unlogged"`` or ``"counter"``.

    Attributes:
        size: how many statements were read so far.
    """

    def __init__(self, context: SessionContext, settings: Settings, kind: str) -> None:
        super().__init__(context, settings)
        self.query = "BATCH"
        self._timestamp = settings.timestamp  # one for all attempts
        self.conditional = self.reads = False
        try:
            self._kind = BatchKind[str.upper(kind)]
        except (KeyError, TypeError):
            raise UsageError(
                f"kind={checking.shown(kind)}: a batch is 'logged', 'unlogged' or 'counter'"
            ) from None
        self._items: list[BoundStatement] = []
        self._sent: dict[Any, Statement] = {}
        self.size = 0

    async def add(self, items: Iterable[Any], *, partial: bool = False) -> None:
        """Add the statements; prepare those that have parameters."""
        Partial.of(partial, None)
        if isinstance(items, (str, bytes, Prepared, Mapping)) or not isinstance(items, Iterable):
            raise TypeError(
                f"a batch takes a list of statements, not a {type(items).__name__}:"
                " batch([(query, parameters), ..])"
            )
        calls = []
        at_once = not isinstance(items, Sequence)  # an iterator may reuse what it has yielded
        for number, item in enumerate(items, 1):
            query, parameters = parts_of(item, number)
            parameters = Partial.of(partial, parameters)
            call = BoundStatement(self.context, query, parameters, self.settings)
            check_item(self._kind, number, call.text)
            call.refuse_timestamp()
            self.size = number
            if at_once:
                await self._take(call)
            else:
                calls.append(call)
        for call in calls:  # after all texts were checked
            await self._take(call)

    async def _take(self, call: BoundStatement) -> None:
        call.deadline = self.deadline
        await call.ready()
        self._items.append(call)
        if self.statement is None:  # the batch goes to a replica of its first partition
            self.statement, self.values = call.statement, call.values

    def fill(self, request: Request, paging_state: bytes | None, connection: Connection) -> None:
        version = connection.version
        self.settings.check(version)
        request.carry(self._message(version))

    def _message(self, version: ProtocolVersion) -> Batch:
        options = self.settings.parameters
        statements = []
        for item in self._items:
            statement = item.statement
            if statement is None:
                statements.append(BatchStatement(item.query, []))
            else:
                statement.set_version(version)
                cells = statement.binder(self.settings).cells(item.values)
                identity = statement.prepared.statement_id
                self._sent[identity] = statement
                statements.append(BatchStatement(identity, cells))
        return Batch(
            self._kind,
            statements,
            options.consistency,
            serial_consistency=options.serial_consistency,
            timestamp=self._timestamp,
            keyspace=self.settings.wire_keyspace(version),
            now_in_seconds=options.now_in_seconds,
        )

    async def run(self) -> Result[Row]:
        """Send the batch; raises what :meth:`answer` raises."""
        self.query = f"BEGIN {self._kind.name} BATCH of {len(self._items)}"
        texts = [item.text for item in self._items]
        check_batch(
            self._kind,
            [
                (text, () if item.statement is None else item.statement.prepared.bind.columns)
                for text, item in zip(texts, self._items, strict=True)
            ],
        )
        self.conditional = any(text.conditional for text in texts)
        timestamps = self.settings.timestamps
        if timestamps is not None and not self.conditional:
            with suppress(ClockBehind):  # the node makes it
                self._timestamp = timestamps()
        request = self.new_request()
        return await self._result(request, await self.first(request, None))

    async def resume(
        self, request: Request, outcome: Outcome, timestamp: int | None
    ) -> Result[Row]:
        """Continue with a request that was sent without this call.

        Arguments:
            request: the request.
            outcome: the reply, or the failure.
            timestamp: its timestamp, which further attempts have too; None if the node made it.
        """
        self.query = f"BEGIN {self._kind.name} BATCH of {len(self._items)}"
        self._timestamp = timestamp
        for item in self._items:
            if item.statement is not None:
                self._sent[item.statement.prepared.statement_id] = item.statement
        self.mark_tried(request.connection)
        return await self._result(request, outcome)

    async def _result(self, request: Request, outcome: Outcome) -> Result[Row]:
        event = await self.answer(request, outcome, None)
        message = event.message
        result: Result[Row] | None = None
        if type(message) is not Rows:
            result = Result([], (), event, request.host)
        else:
            if self.conditional:
                result = conditional_result(request, event, message, Row)
            if result is None:
                rows = read_rows(message, Row, request)
                result = Result(rows, columns_of(message), event, request.host)
        result._failures = tuple(self.failures)
        return result

    @property
    def most_preparations(self) -> int:
        # UNPREPARED names one statement, and the node may know none of them
        return len(self._items) + MAX_PREPARATIONS

    async def prepare_again(self, message: Error, connection: Connection) -> bool:
        # by the ids that were sent: another call may have got other ids meanwhile
        statement = self._sent.get(message.fields.get("statement_id"))
        if statement is None:
            return False
        await self.teach(statement, connection)
        for call in self._items:
            if call.statement is statement and call.fit(statement):
                self.change = call.change
        return True

    async def renewed(self) -> bool:
        changed = False
        for call in self._items:
            if await call.renewed():
                self.change = call.change
                changed = True
        return changed


def parts_of(item: Any, number: int) -> tuple[Any, Any]:
    """Return the statement and the parameters of an item of a batch.

    Raises:
        TypeError: the item is neither a statement nor a tuple of a statement and its parameters.
    """
    if isinstance(item, (str, Prepared)):
        return item, None
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], (str, Prepared)):
        return item
    hint = ""
    if isinstance(item, tuple) and len(item) > 2 and isinstance(item[0], (str, Prepared)):
        hint = f" of {len(item)}: the parameters are one sequence, (query, (1, 2))"
    elif number > 1 and isinstance(item, (tuple, list, Mapping)):
        hint = ": write batch([(query, parameters), ..])"
    raise TypeError(
        f"item {number} of a batch must be a statement or a tuple (statement, parameters), got a"
        f" {type(item).__name__}{hint}"
    )
