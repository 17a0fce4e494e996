"""The level of an item, and the arithmetic of operations on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from cqlproto_anyio.patterns._errors import (
    InvalidInput,
    OperationConflict,
    OutOfStock,
    RecordNotFound,
)  # fmt: skip

__all__ = ["MOST", "Item", "Reservation", "StockLevel", "planned"]

MOST = 2**63 - 1  # a bigint
_STATES = ("added", "reserved", "committed", "released")
# the state that an operation has, and the one that a call asks for, if there is nothing to do
_REPEATED = {*zip(_STATES, _STATES, strict=True), ("committed", "reserved")}


@dataclass(frozen=True, slots=True)
class StockLevel:
    """How much of an item there is.

    Attributes:
        item: the item.
        quantity: how much there is, with what is reserved.
        reserved: how much of it is reserved.
    """

    item: str
    quantity: int
    reserved: int

    @property
    def available(self) -> int:
        """How much can be reserved."""
        return self.quantity - self.reserved


@dataclass(frozen=True, slots=True)
class Reservation:
    """What an operation has reserved.

    Attributes:
        operation, item, quantity: the id of the operation, and how much of which item it is about.
        state: ``reserved``, ``committed`` (it has left the stock), ``released`` (given back).
    """

    operation: str
    item: str
    quantity: int
    state: Literal["reserved", "committed", "released"]


class Item(NamedTuple):
    """The level of an item at a version, and what an operation has done, if anything."""

    quantity: int
    reserved: int
    version: int | None
    amount: int | None
    state: Any


def planned(
    found: Item, table: str, item: str, operation: str, state: str, amount: int | None
) -> Item:
    """Return what an item becomes when an operation gets a state; ``found`` if it has it already.

    Arguments:
        found: the item, and what the operation has done.
        table, item, operation: what is asked for, for errors.
        state: the state that the operation is to have.
        amount: the quantity that the operation is about; None for the one that it has.
    """
    quantity, reserved, version, known, before = found
    if before is None:
        known = amount or 0  # a release of nothing keeps a reservation out that comes late
        if state == "committed":
            raise RecordNotFound(table, (operation,))
        if state == "added" and (quantity := quantity + known) > MOST:
            raise InvalidInput("quantity", f"at most {MOST - found.quantity}", amount)
        if state == "reserved" and (reserved := reserved + known) > quantity:
            raise OutOfStock(item, known, quantity - found.reserved)
    elif before == "reserved" and state in ("committed", "released"):
        reserved -= known or 0
        quantity -= (known or 0) if state == "committed" else 0
    elif amount in (None, known) and (before, state) in _REPEATED:
        return found
    else:
        expected = state if amount is None else f"{amount} {state}"
        raise OperationConflict(operation, expected, f"{known} {before}")
    return Item(quantity, reserved, version, known, state)
