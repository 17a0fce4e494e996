"""Sending rows of one partition that follow each other as one unlogged batch.

A batch begins with a row and takes those that follow, while they belong to the same partition and
the batch isn't full. It is sent at once when its end is known, and otherwise after ``LINGER``: an
asynchronous source may be silent for long. A batch occupies one slot; the limit on rows under way
counts all of its rows.

If the server refuses a batch without writing anything, because one row is wrong or the batch is too
large, its rows are executed one by one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from cqlproto.cqltypes import NATIVE_TYPES
from cqlproto.enums import BatchKind
from cqlproto.messages.requests import Batch, BatchStatement
from cqlproto.routing import key_function
from cqlproto_anyio._execution.batch import BatchCall
from cqlproto_anyio._execution.batch_rules import MAX_STATEMENTS, check_item
from cqlproto_anyio._execution.bulk.engine import BulkCall
from cqlproto_anyio._execution.bulk.load import Load
from cqlproto_anyio._execution.bulk.underway import SLICE
from cqlproto_anyio._statements.parameters import Partial
from cqlproto_anyio.exceptions import (
    InvalidQuery,
    Overloaded,
    ParameterError,
    RequestTooLarge,
    SessionClosed,
    UsageError,
    ValueConversionError,
)
from cqlproto_anyio.policies.timestamps import ClockBehind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqlproto_anyio._execution.bulk.slot import Slot

__all__ = ["LINGER", "BatchLoad"]

# How long a batch waits for another row, in seconds.
LINGER = 0.001
# A batch that fails so may be taken row by row: nothing was written.
_REFUSALS = (InvalidQuery, ParameterError, RequestTooLarge, ValueConversionError)
_COUNTER = NATIVE_TYPES["counter"]


class BulkBatchCall(BatchCall):
    """A batch on the slow path; see :class:`BulkCall`."""

    reconnects = True


class BatchLoad(Load):
    """The rows of one call of ``execute_many(.., batch=..)``.

    Arguments:
        batch: the most rows of a batch.
        others: as for :class:`Load`.
    """

    def __init__(self, *arguments: Any, batch: int, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._most = min(batch, MAX_STATEMENTS)
        self._pending: Slot | None = None  # of the batch that may take more rows
        self._is_overloaded = False  # that batch must wait: the client is overloaded
        self._items: list[tuple[int, Any, Any]] = []  # its rows
        self._statements: list[BatchStatement] = []
        self._partition: bytes | None = None
        self._without_slot = 0  # rows under way that have no slot of their own
        self._linger = self.context.timer.alarm(self.flush)

    async def ready(self) -> None:
        await super().ready()
        statement = self.statement
        bind = statement.prepared.bind
        counter = any(column.type == _COUNTER for column in bind.columns)
        self._kind = BatchKind.COUNTER if counter else BatchKind.UNLOGGED
        try:
            check_item(self._kind, 1, statement.text)
            if statement.conditional:
                raise UsageError("batch= can't go with a condition (IF): leave batch= out")
            if not bind.key_indices:
                raise UsageError(
                    "batch= needs a statement that binds the whole partition key, and protocol v4"
                    " or higher: leave it out"
                )
        except UsageError:
            self.close()
            raise

    # -- starting rows

    def has_room(self) -> bool:
        if self._is_overloaded:
            self.flush()
            if self._is_overloaded:
                return False
        return super().has_room() and self.busy + self._without_slot < self._concurrency

    def _start(self, rows: Iterator[Any]) -> bool:
        statement = self.statement
        if not statement.fast_path:
            self.flush()
            return super()._start(rows)
        key_of = statement.key(key_function)
        binder = statement.binder(self.settings)
        clock = self.context.timer.clock
        end = clock() + LINGER
        left = SLICE
        for row in rows:
            index = self.index
            self.index += 1
            try:
                values = statement.values(Partial.of(self._partial, row))
                cells = binder.cells(values)
            except Exception as exc:
                self._fail_alone(index, row, exc)
            else:
                partition = key_of(values)
                if self._pending is None or partition != self._partition or partition is None:
                    self.flush()
                    if self._is_overloaded:
                        self._held.append(row)
                        return False
                    self._begin(partition, clock())
                self._items.append((index, row, values))
                identity = statement.prepared.statement_id
                self._statements.append(BatchStatement(identity, cells))
                if len(self._items) > 1:
                    self._without_slot += 1
                if len(self._items) >= self._most:
                    self.flush()
            left -= 1
            if self.stopping or not self.has_room():
                self.flush()
                return False
            if left <= 0 or clock() > end:
                return False
        return True

    def _fail_alone(self, index: int, row: Any, error: Exception) -> None:
        """A row can't be packed."""
        slot = self.free.pop()
        slot.index, slot.row = index, row
        self._set_deadline(slot)
        self._stamp(slot)
        self._failed_attempt(slot, error)

    def _begin(self, partition: bytes | None, now: float) -> None:
        """Begin a batch."""
        if not self.free:
            self._add_slots()
        self._pending = self.free.pop()
        self._partition = partition
        self._items, self._statements = [], []
        self._linger.set(now + LINGER)

    def _set_deadline(self, slot: Slot) -> None:
        timeout = self.settings.timeout
        now = self.context.timer.clock()
        slot.deadline = math.inf if timeout is None else now + timeout
        if slot.deadline < self._alarm.deadline:
            self._alarm.set(slot.deadline)

    def flush(self) -> None:
        """Send the batch that was begun, if there is one."""
        slot, self._pending = self._pending, None
        if slot is None or self.closed:
            return
        self._linger.cancel()
        self._is_overloaded = False
        slot.items = self._items if len(self._items) > 1 else ()
        slot.index, slot.row, slot.values = self._items[0]
        self._set_deadline(slot)
        connection = None
        if self.settings.fast_path:
            connection = self.context.cluster.selector.choose(self.statement, slot.values)
        if connection is None or connection.version is not self.statement.version:
            self._stamp(slot)
            self._hand_over(slot, None)
            return
        try:
            if slot.items:
                slot.carry(self._message(connection.version))
            else:
                slot.bind(self.statement.binder(self.settings), slot.values)
            slot.stream_id = 0
            slot.done = False
            connection.submit(slot)
            if slot.stream_id:
                slot.stamp = self.context.stamps.last
            else:
                self._stamp(slot)
                self._queued = slot
        except Overloaded:
            slot.abandon()
            slot.done = True
            self._pending = slot
            self._is_overloaded = True
            self._retry_soon()
        except Exception as exc:
            self._refused(slot, exc)

    def _message(self, version: Any) -> Batch:
        settings = self.settings
        options = settings.parameters
        timestamp = settings.timestamp
        if settings.timestamps is not None:
            try:
                timestamp = settings.timestamps()
            except ClockBehind:  # the node makes it
                timestamp = None
        return Batch(
            self._kind,
            self._statements,
            options.consistency,
            serial_consistency=options.serial_consistency,
            timestamp=timestamp,
            keyspace=settings.wire_keyspace(version),
            now_in_seconds=options.now_in_seconds,
        )

    # -- the end of batches

    def _rows(self, slot: Slot) -> list[tuple[int, Any]]:
        return [(index, row) for index, row, _ in slot.items] or super()._rows(slot)

    def _clear(self, slot: Slot) -> None:
        if slot.items:
            self._without_slot -= len(slot.items) - 1
            slot.message = None  # it has the cells
        super()._clear(slot)

    async def _call(self, slot: Slot, outcome: Any) -> Any:
        if not slot.items:
            return await super()._call(slot, outcome)
        try:
            return await self._call_batch(slot, outcome)
        except _REFUSALS as exc:
            if exc.maybe_applied:
                raise
        return await self._call_each(slot)

    async def _call_batch(self, slot: Slot, outcome: Any) -> Any:
        """Go on with a batch as ``Session.batch`` would."""
        call = BulkBatchCall(self.context, self.settings, self._kind.name)
        call.deadline = slot.deadline
        await call.add([(self._query, values) for _, _, values in slot.items])
        if outcome is None:
            return await call.run()
        request = slot.awaitable(self.context.request_class)
        request.carry(slot.message)
        return await call.resume(request, outcome, slot.message.timestamp)

    async def _call_each(self, slot: Slot) -> Any:
        """Execute the rows of a batch one by one; those that fail are counted here."""
        context = self.context
        items, slot.items = slot.items, ()
        left = len(items)
        for index, row, values in items:
            call = BulkCall(context, self._query, values, self.target, self.settings)
            try:
                await call.ready()
                await call.fetch()
            except SessionClosed:
                raise
            except Exception as exc:
                self._fail(index, row, exc)
            else:
                self.count += 1
            left -= 1
            if left:
                self._without_slot -= 1
        self.count -= 1  # succeeded() counts the slot
        return None

    def close(self) -> None:
        super().close()
        self._linger.cancel()
