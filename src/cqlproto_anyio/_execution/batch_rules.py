"""Checks of a batch before it is sent.

The server makes the same checks, but later, and doesn't say which statement is wrong. Only certain
mistakes are refused here. Whether a statement writes a counter, and to which table it writes, is
known from the columns of its bind markers only. Of a statement without markers nothing is known,
and the server decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqlproto.cqltypes import NATIVE_TYPES
from cqlproto.enums import BatchKind
from cqlproto_anyio.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cqlproto.messages.results import Column
    from cqlproto_anyio._text import StatementText

__all__ = ["MAX_STATEMENTS", "check_batch", "check_item"]

# The number of statements is a [short] (v4 4.1.7).
MAX_STATEMENTS = 0xFFFF

_WRITES = frozenset({"INSERT", "UPDATE", "DELETE"})
_COUNTER = NATIVE_TYPES["counter"]


def check_item(kind: BatchKind, number: int, text: StatementText) -> None:
    """Check the text of a statement, before the statement is prepared.

    Arguments:
        kind: the kind of the batch.
        number: the statement's place in the batch, from 1.
        text: what its text says.

    Raises:
        UsageError: the statement can't be in this batch, or is one too many.
    """
    if number > MAX_STATEMENTS:
        raise UsageError(
            f"a batch has at most {MAX_STATEMENTS} statements (v4 section 4.1.7): send several"
        )
    verb = text.verb
    if verb not in _WRITES:
        raise UsageError(
            f"statement {number} of the batch is {verb or 'empty'}: a batch takes INSERT, UPDATE"
            " and DELETE"
        )
    if kind is BatchKind.COUNTER:
        if verb == "INSERT":
            raise UsageError(
                f"statement {number} of the batch is an INSERT, and counters are only updated:"
                " kind='counter' is for counters alone"
            )
        if text.conditional:
            raise UsageError(
                f"statement {number} of the batch has a condition (IF), which counters can't have"
            )


def check_batch(kind: BatchKind, items: Iterable[tuple[StatementText, Sequence[Column]]]) -> None:
    """Check the columns of the bind markers, before the batch is sent.

    Arguments:
        kind: the kind of the batch.
        items: what each statement's text says, and the columns of its bind markers.

    Raises:
        UsageError: counters and other columns are mixed, or a condition spans tables.
    """
    counter = ordinary = condition = 0
    tables: dict[tuple[str, str], int] = {}
    for number, (text, columns) in enumerate(items, 1):
        if text.conditional:
            condition = condition or number
        if text.conditional or text.verb == "INSERT":
            ordinary = ordinary or number
        if columns:
            tables.setdefault((columns[0].keyspace, columns[0].table), number)
            if not counter and any(column.type == _COUNTER for column in columns):
                counter = number
    if counter and kind is BatchKind.LOGGED:
        raise UsageError(
            f"statement {counter} of the batch updates a counter: that needs kind='counter', since"
            " a logged batch may be applied twice"
        )
    if counter and ordinary:
        raise UsageError(
            f"statement {counter} of the batch updates a counter, statement {ordinary} does not:"
            " they can't be in one batch"
        )
    if condition and len(tables) > 1:
        (first, one), (second, other) = list(tables.items())[:2]
        raise UsageError(
            f"statement {condition} of the batch has a condition (IF): all its statements must be"
            f" for one partition of one table, and statement {one} is for {'.'.join(first)},"
            f" statement {other} for {'.'.join(second)}"
        )
