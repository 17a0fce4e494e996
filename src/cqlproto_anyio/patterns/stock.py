"""A stock of items: reserved, sold and given back by operations that may be repeated.

The partition of an item has a row for its level, whose ``operation`` is empty, and one for each
operation. Every change is one conditional batch of that partition::

    UPDATE stock SET quantity = 10, reserved = 7, version = 43 .. IF version = 42
    INSERT INTO stock (item, operation, amount, state, writer) VALUES (..)

The arithmetic is done here, on the level at version 42. The version only grows, so of all copies of
a batch one at most is applied. A second table has the item of each operation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from uuid import uuid4

from cqlproto_anyio.patterns._arguments import integer, text
from cqlproto_anyio.patterns._errors import InvalidInput, PatternError, RecordNotFound
from cqlproto_anyio.patterns._lwt import Rows, Verdict, bound, conditional_write, serial_level
from cqlproto_anyio.patterns._retry import Attempts, Backoff
from cqlproto_anyio.patterns._schema import TableSchema, create
from cqlproto_anyio.patterns._turns import Turns
from cqlproto_anyio.patterns._writeerrors import OperationConflict, OutOfStock

if TYPE_CHECKING:
    from cqlproto_anyio._settings.profile import Options
    from cqlproto_anyio.executor import Executor

__all__ = ["Reservation", "Stock", "StockLevel"]

_MOST = 2**63 - 1  # a bigint
_RACES = Backoff(first=0.005, longest=0.25)
_REPEATED = ("committed", "reserved")  # a late repetition of a reservation changes nothing
_UNNAMED_TTL = 86_400  # seconds for which a delivery without a name is remembered, to settle it


@dataclass(frozen=True, slots=True)
class StockLevel:
    """How much of an item there is; ``quantity`` has what is reserved as well."""

    item: str
    quantity: int
    reserved: int

    @property
    def available(self) -> int:
        """How much can be reserved."""
        return self.quantity - self.reserved


@dataclass(frozen=True, slots=True)
class Reservation:
    """What an operation has reserved; ``committed`` has left the stock, ``released`` is back."""

    operation: str
    item: str
    quantity: int
    state: Literal["reserved", "committed", "released"]


class _Item(NamedTuple):
    """The level of an item at a version, and what an operation has done, if anything."""

    item: str
    operation: str
    quantity: int
    reserved: int
    version: int | None
    amount: int | None
    state: Any

    def level(self) -> StockLevel:
        return StockLevel(self.item, self.quantity, self.reserved)

    def reservation(self) -> Reservation:
        return Reservation(self.operation, self.item, self.amount or 0, self.state)


class Stock:
    """The stock of items: ``await stock.reserve("tea", 2, "order-7")``, then commit or release.

    Guarantee: ``0 <= reserved <= quantity`` at any time, so nobody sells what isn't there. Every
    call with the id of an operation may be repeated, also after OutcomeUnknown: it takes effect
    once. A release that comes before its reservation makes that one fail. An id that is used for
    something else, or after its opposite, raises OperationConflict.

    Not guaranteed: several items at once; they are several operations. A reservation doesn't
    expire: an order that is given up must be released, for example by a saga.

    Cost: reserving and releasing are two LWTs and one read, committing is one LWT and two reads,
    adding one of each; a refusal costs another read. Changes of one item wait for each other.

    Tables: ``stock``, a partition for each item with some 100 bytes for each operation, which stay;
    ``stock_operations``, a row for each operation.
    """

    def __init__(self, session: Executor, *, keyspace: str, table: str = "stock") -> None:
        self._session = session
        self._tables = _tables(keyspace, table)
        self._turns = Turns()
        stock, operations = (each.name for each in self._tables)
        where = "WHERE item = :item AND operation"
        columns = "operation, quantity, reserved, version, amount, state, writer"
        self._read = f"SELECT {columns} FROM {stock} {where} IN ('', :operation)"
        self._update = (
            f"UPDATE {stock} SET quantity = :quantity, reserved = :reserved, version = :version"
            f" {where} = '' IF version = :before"
        )
        self._insert = (
            f"INSERT INTO {stock} (item, operation, amount, state, writer)"
            " VALUES (:item, :operation, :amount, :state, :writer) USING TTL :ttl"
        )
        self._claim = (
            f"INSERT INTO {operations} (operation, item, writer)"
            " VALUES (:operation, :item, :writer) IF NOT EXISTS"
        )
        self._find = f"SELECT item FROM {operations} WHERE operation = :operation"

    @classmethod
    def schema_cql(cls, keyspace: str, *, table: str = "stock") -> tuple[str, ...]:
        """Return the statements that :meth:`create_schema` executes."""
        return tuple(each.cql() for each in _tables(keyspace, table))

    async def create_schema(self) -> None:
        """Create the tables if they don't exist; SchemaMismatch if one has another shape."""
        await create(self._session, self._tables)

    async def level(self, item: str) -> StockLevel:
        """Return how much of an item there is: zeros if it is unknown. One read."""
        return (await self._item(text("item", item), "")).level()

    async def add(self, item: str, quantity: int, *, operation: str | None = None) -> StockLevel:
        """Add to the stock of an item, at least 1, and return its level.

        The id of the delivery, ``operation``, adds nothing to the same item again. Without it,
        repeating the call adds again. InvalidInput if the sum is beyond a bigint.
        """
        ttl = _UNNAMED_TTL if operation is None else 0
        operation = f"add {uuid4()}" if operation is None else operation
        _check(item, quantity, operation)
        return (await self._change(item, operation, "added", quantity, ttl)).level()

    async def reserve(self, item: str, quantity: int, operation: str) -> Reservation:
        """Reserve some of an item, at least 1, all of it or nothing.

        Returns the reservation, as it is now; the same one if it was made before. OutOfStock if
        less is available.
        """
        _check(item, quantity, operation)
        if (other := await self._claimed(operation, item)) != item:
            actual = f"for {other!r}" if other else "released before it was reserved"
            raise OperationConflict(operation, f"{quantity} of {item!r} reserved", actual)
        return (await self._change(item, operation, "reserved", quantity)).reservation()

    async def commit(self, operation: str) -> Reservation:
        """Take what an operation has reserved out of the stock; RecordNotFound if it hasn't."""
        values = {"operation": text("operation", operation)}
        level = serial_level(self._session)
        row = (await self._session.execute(self._find, values, consistency=level)).first()
        if row is None:
            raise RecordNotFound(self._tables[1].name, (operation,))
        if not row["item"]:
            raise OperationConflict(operation, "committed", "released")
        return (await self._change(row["item"], operation, "committed")).reservation()

    async def release(self, operation: str) -> Reservation | None:
        """Give back what an operation has reserved; it can't reserve anything after that.

        Returns the reservation; None if the operation had reserved nothing.
        """
        if not (item := await self._claimed(text("operation", operation), "")):
            return None
        released = await self._change(item, operation, "released")
        return released.reservation() if released.amount else None

    async def _change(
        self, item: str, operation: str, state: str, amount: int | None = None, ttl: int = 0
    ) -> _Item:
        """Bring an operation into a state, unless it is there already; return what there is then.

        The amount is the quantity that the operation is about, None for the one that it has.
        """
        async with self._turns.turn(item):
            async for attempt in Attempts(backoff=_RACES):
                found = await self._item(item, operation, serial=attempt > 1)
                try:
                    change = self._planned(found, state, amount)
                except PatternError:
                    if attempt > 1:
                        raise
                    continue  # a replica may lag: a SERIAL read decides
                if change is found or await self._apply(change, ttl):
                    return change
        raise AssertionError("attempts without a limit have ended")

    def _planned(self, found: _Item, state: str, amount: int | None) -> _Item:
        """Return what an item becomes by an operation; ``found`` if nothing is to be done."""
        item, operation, quantity, reserved, version, known, before = found
        if before is None:
            known = amount or 0  # a release of nothing keeps a reservation out that comes late
            if state == "committed":
                raise RecordNotFound(self._tables[0].name, (operation,))
            if state == "added" and (quantity := quantity + known) > _MOST:
                raise InvalidInput("quantity", f"at most {_MOST - found.quantity}", amount)
            if state == "reserved" and (reserved := reserved + known) > quantity:
                raise OutOfStock(item, known, found.level().available)
        elif before == "reserved" and state in ("committed", "released"):
            reserved -= known or 0
            quantity -= (known or 0) if state == "committed" else 0
        elif amount in (None, known) and (before, state) in {(state, state), _REPEATED}:
            return found
        else:
            expected = state if amount is None else f"{amount} {state}"
            raise OperationConflict(operation, expected, f"{known} {before}")
        return _Item(item, operation, quantity, reserved, version, known, state)

    async def _apply(self, change: _Item, ttl: int) -> bool:
        """Write what was planned; False if it is written already, or others were faster."""
        before, writer = change.version, uuid4()

        def verdict(rows: Rows) -> Verdict:
            version = next((row["version"] for row in rows if not row["operation"]), None)
            return Verdict.OPEN if version == before else Verdict.REFUSED

        values = change._asdict() | {"writer": writer, "before": before, "ttl": ttl}
        values["version"] = (before or 0) + 1
        outcome = await conditional_write(
            self._session,
            [bound(self._update, values), bound(self._insert, values)],
            operation=writer,
            read=bound(self._read, values),
            verdict=verdict,
            what=f"operation {change.operation!r} {change.state}",
        )
        return outcome.applied

    async def _item(self, item: str, operation: str, *, serial: bool = False) -> _Item:
        values = {"item": item, "operation": operation}
        options: Options = {"consistency": serial_level(self._session)} if serial else {}
        found = await self._session.execute(self._read, values, **options)
        rows = {row["operation"]: row._asdict() for row in found}
        level, own = rows.get("", {}), rows.get(operation, {})
        numbers = level.get("quantity") or 0, level.get("reserved") or 0, level.get("version")
        return _Item(item, operation, *numbers, own.get("amount"), own.get("state"))

    async def _claimed(self, operation: str, item: str) -> str:
        """Say what item an operation is about, unless that is said already; return what is said."""
        writer = uuid4()
        values = {"operation": operation, "item": item, "writer": writer}
        outcome = await conditional_write(
            self._session,
            [bound(self._claim, values)],
            operation=writer,
            read=bound(self._find, values),
            verdict=lambda rows: Verdict.REFUSED if rows else Verdict.OPEN,
            what=f"claim of operation {operation!r}",
            refusals_tell=True,
        )
        return item if outcome.applied else outcome.row["item"]


def _check(item: str, quantity: int, operation: str) -> None:
    text("item", item)
    integer("quantity", quantity, least=1, most=_MOST)
    text("operation", operation)


def _tables(keyspace: str, table: str) -> tuple[TableSchema, TableSchema]:
    numbers = dict.fromkeys(("quantity", "reserved", "version", "amount"), "bigint")
    stock = {"item": "text", "operation": "text", **numbers, "state": "text", "writer": "uuid"}
    operations = {"operation": "text", "item": "text", "writer": "uuid"}
    return (
        TableSchema(keyspace, table, stock, key=("item",), clustering=("operation",)),
        TableSchema(keyspace, f"{table}_operations", operations, key=("operation",)),
    )
