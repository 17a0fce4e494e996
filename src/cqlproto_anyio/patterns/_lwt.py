"""Conditional writes whose outcome is always known: applied, refused, or settled by a read.

A conditional statement (LWT) that ends in a timeout or with a lost connection may have been
applied. Each write here leaves an operation id of its own in the table, and after such an error a
read at SERIAL looks for the id. A SERIAL read is a Paxos round with a higher ballot: it completes a
proposal that some replicas have accepted, and no proposal of a lower ballot can be accepted by a
majority after it. So the read sees the write if the write's round was ahead of it.

The read doesn't see a write that comes *after* it: the coordinator may still try with a higher
ballot, or may get the request only now. So "not there" alone decides nothing. Together with the
condition of the write it does:

- The condition is false, and will never hold again, since it compares something that only moves on
  (a version, a fence, the id of the last operation). Then a copy that comes late is refused by it:
  the write is *refused*, for ever.
- The condition still holds. Then a copy may be applied yet: the outcome is *open*, and the write is
  sent again, with the same id. One of all copies at most is applied, since it makes the condition
  false. If the new copy is refused, a read says whether an older copy or another writer was faster.

So the condition of a write must become false when the write is applied, and must never hold again.
For other conditions (``IF EXISTS``, ``IF NOT EXISTS`` on rows that are deleted) use
``cqlproto_anyio.settle``, which waits until the coordinator has given up.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from cqlproto.enums import Consistency
from cqlproto_anyio._text import marker_names
from cqlproto_anyio.exceptions import CQLError
from cqlproto_anyio.patterns._errors import OutcomeUnknown
from cqlproto_anyio.patterns._retry import Attempts, Backoff, may_retry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from cqlproto_anyio.executor import Executor
    from cqlproto_anyio.results import Result

__all__ = [
    "Outcome", "Rows", "Statement", "Verdict", "bound", "conditional_write", "serial_level",
]  # fmt: skip

Statement: TypeAlias = tuple[str, dict[str, Any]]
"""The text of a statement with ``:name`` markers, and its parameters."""

Rows: TypeAlias = "Sequence[dict[str, Any]]"
"""Rows, each a dict by column name."""

_SETTLING = 15.0  # seconds that settling an unknown outcome may take
_BACKOFF = Backoff(first=0.02, longest=0.5)


class Verdict(Enum):
    """What the rows that a SERIAL read has found say about a write with an unknown outcome."""

    APPLIED = "the rows bear the id of the operation"
    REFUSED = "it was not applied and can't be any more: its condition is false for ever"
    OPEN = "it was not applied yet, but its condition still holds"
    UNKNOWN = "another writer has overwritten the place where the id would be"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a conditional write.

    If it was refused, ``rows`` are those that refused it, by column name: what the server has
    returned, or the SERIAL read. Empty if it was applied, or if there is no such row.
    """

    applied: bool
    rows: tuple[dict[str, Any], ...] = ()
    settled: bool = False  #: whether a read had to find out

    @property
    def row(self) -> dict[str, Any]:
        """The first of ``rows``; empty if there is none."""
        return self.rows[0] if self.rows else {}


_names = lru_cache(maxsize=4096)(marker_names)


def bound(query: str, values: Mapping[str, Any]) -> Statement:
    """Return a statement with those of the values that its ``:name`` markers ask for."""
    return query, {name: values[name] for name in _names(query)}


def serial_level(executor: Executor) -> Consistency:
    """Return the consistency of a read that sees all conditional writes of an executor.

    It is LOCAL_SERIAL if the executor's profile says so for conditional writes, else SERIAL.
    """
    level = getattr(getattr(executor, "profile", None), "serial_consistency", None)
    return level if isinstance(level, Consistency) else Consistency.SERIAL


async def conditional_write(
    executor: Executor,
    statements: Sequence[Statement],
    *,
    operation: UUID,
    read: Statement,
    verdict: Callable[[Rows], Verdict],
    what: str,
    refusals_tell: bool = False,
    within: float = _SETTLING,
) -> Outcome:
    """Execute a conditional write, and find out whether it was applied.

    Costs one LWT. An outcome that isn't known costs a SERIAL read, and maybe further LWTs.

    Arguments:
        executor: the session.
        statements: one conditional statement, or several for one conditional batch, which must be
            about one partition. The condition must become false when the write is applied, and must
            never hold again.
        operation: the id that the statements leave in the table; made for this write.
        read: a SELECT of what ``verdict`` needs.
        verdict: what the rows of ``read`` say about the write.
        what: the name of the write, for errors: ``append to stream 'order-7'``.
        refusals_tell: whether ``verdict`` can decide by the rows that a refusal returns as well.
        within: for how long to settle an unknown outcome, in seconds.

    Raises:
        OutcomeUnknown: the outcome could not be settled.
        CQLError: the write has failed, and certainly wasn't applied.
    """
    try:
        result = await _send(executor, statements)
    except CQLError as error:
        if not error.maybe_applied:
            raise
        doubt = error
    else:
        return Outcome(True) if result.applied else Outcome(False, _rows(result))
    reason = "no read succeeded in time"
    with anyio.move_on_after(within):
        async for _ in Attempts(within=within, backoff=_BACKOFF):
            try:
                level = serial_level(executor)
                found = _rows(await executor.execute(*read, consistency=level, idempotent=True))
                said = verdict(found)
                if said is Verdict.OPEN:
                    result = await _send(executor, statements)
                    if result.applied:
                        return Outcome(True, settled=True)
                    if refusals_tell:
                        found = _rows(result)
                        said = verdict(found)
            except CQLError as error:
                if not error.maybe_applied and not may_retry(error):
                    reason = f"{type(error).__name__}: {error}"
                    break
                continue
            if said is Verdict.APPLIED:
                return Outcome(True, settled=True)
            if said is Verdict.REFUSED:
                return Outcome(False, found, settled=True)
            reason = said.value
            if said is Verdict.UNKNOWN:
                break
    raise OutcomeUnknown(what, operation, reason) from doubt


async def _send(executor: Executor, statements: Sequence[Statement]) -> Result[Any]:
    if len(statements) == 1:
        return await executor.execute(*statements[0])
    # a conditional batch is one Paxos round on one partition, which no batch log makes more atomic
    return await executor.batch(statements, kind="unlogged")


def _rows(result: Result[Any]) -> tuple[dict[str, Any], ...]:
    """Return the rows of a read, or those that have refused a write, by column name."""
    rows = [dict(zip(result.columns, row, strict=True)) for row in result.rows]
    for row in rows:
        row.pop("[applied]", None)
    return tuple(row for row in rows if row)
