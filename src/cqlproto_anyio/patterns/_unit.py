"""A unit of work: writes that are buffered, and sent as one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

from cqlproto.cqltypes import NATIVE_TYPES
from cqlproto_anyio._text import administration, read_statement, tokens
from cqlproto_anyio.exceptions import CQLError, InvalidQuery
from cqlproto_anyio.patterns._arguments import integer
from cqlproto_anyio.patterns._errors import InvalidInput, OutcomeUnknown
from cqlproto_anyio.patterns._lwt import Outcome, Rows, Statement, Verdict, conditional_write
from cqlproto_anyio.patterns._writeerrors import ConditionFailed, UnitRefused, VersionConflict

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from cqlproto_anyio._statements.statement import Prepared
    from cqlproto_anyio.executor import BatchName, Executor

__all__ = ["Condition", "UnitOfWork", "require"]

_COUNTER = NATIVE_TYPES["counter"]
_MOST = 0xFFFF  # statements of a batch: their number is a [short]
_NEW, _OPEN, _ENDED = range(3)


@dataclass(frozen=True, slots=True)
class Condition:
    """What a recipe knows of its conditional statement in a unit.

    Attributes:
        operation, read, verdict: as for ``conditional_write``.
        refusal: takes the rows that have refused the unit; returns the error, or None if this
            condition held.
        ended: is told whether the unit was applied, and what ``refusal`` has returned.
    """

    operation: UUID
    read: Statement
    verdict: Callable[[Rows], Verdict]
    refusal: Callable[[Rows], VersionConflict | None]
    ended: Callable[[bool, VersionConflict | None], None]

    async def write(self, session: Executor, statements: Sequence[Any], what: str) -> Outcome:
        """Execute statements with this condition, and find out whether they were applied."""
        return await conditional_write(
            session,
            statements,
            operation=self.operation,
            read=self.read,
            verdict=self.verdict,
            what=what,
        )


class _Item(NamedTuple):
    query: Any
    parameters: Any
    text: str
    conditional: bool
    condition: Condition | None


class UnitOfWork:
    """Writes that belong together: ``async with UnitOfWork(session) as unit: unit.add(..)``.

    Guarantee: nothing is sent before the block ends, and nothing if it ends with an error. The
    writes are one LOGGED batch: all of them take effect in the end, or none. With a condition (IF)
    they take effect together or not at all, in the same moment; all must be for one partition. What
    can't be in one batch is refused before anything is written. A commit whose outcome can't be
    told raises OutcomeUnknown.

    Not guaranteed: isolation. Others may see some of the writes before the rest; a reader inside
    the block doesn't see its own. After the commit there is no way back. If the block is cancelled
    during its commit, the writes may have been applied.

    Cost: one batch, which the coordinator writes to two other nodes first; one LWT with a
    condition; one write for a single statement. Each text with parameters is prepared once.

    Arguments:
        session: the session, or another Executor.
        max_size: the limit of the values and literals of all statements, in bytes. Servers refuse
            batches of more than 50 KiB by default (``batch_size_fail_threshold``).

    Raises:
        InvalidInput: an argument is wrong.
    """

    def __init__(self, session: Executor, *, max_size: int = 50 * 1024) -> None:
        self._session = session
        self._max_size = integer("max_size", max_size, least=1)
        self._items: list[_Item] = []
        self._state = _NEW

    def __len__(self) -> int:
        return len(self._items)

    def add(self, query: str | Prepared[Any], parameters: Any = None) -> None:
        """Add a write.

        Arguments:
            query: an INSERT, UPDATE or DELETE, as text or prepared.
            parameters: its parameters, as for ``session.execute``.

        Raises:
            UnitRefused: the unit isn't open, or can't hold this statement.
        """
        _add(self, query, parameters, None)

    async def __aenter__(self) -> Self:
        if self._state != _NEW:
            raise UnitRefused("a unit is used once: make a new UnitOfWork")
        self._state = _OPEN
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Commit, unless the block has raised an error.

        Raises:
            UnitRefused: the statements can't be one batch; nothing was written.
            VersionConflict: a versioned update did not find its version; nothing was written.
            ConditionFailed: another condition did not hold; nothing was written.
            OutcomeUnknown: the writes may or may not have been applied.
        """
        self._state = _ENDED
        if error is None and self._items:
            await self._check()
            try:
                await self._commit()
            except InvalidQuery as exc:
                raise UnitRefused(f"the server refuses the batch: {exc.message}") from exc

    async def _check(self) -> None:
        """Raise UnitRefused for what the statements' tables tell: counters, size, partitions."""
        size = 0
        places: dict[tuple[Any, ...], str] = {}
        prepared: dict[str, Prepared[Any]] = {}
        for query, parameters, text, _, _ in self._items:
            size += sum(len(part) for kind, part in tokens(text) if kind in ("string", "number"))
            if parameters is None:
                continue
            if text not in prepared:
                given = isinstance(query, str)
                prepared[text] = await self._session.prepare(text) if given else query
            statement = prepared[text]
            columns = statement.parameters
            if any(column.type == _COUNTER for column in columns):
                raise UnitRefused("a unit can't hold a counter: it might be counted twice", text)
            cells = statement.cells(parameters)
            size += sum(len(cell) for cell in cells if isinstance(cell, bytes))
            key = tuple(cells[each] for each in statement.key_positions)
            if key:
                places.setdefault((columns[0].keyspace, columns[0].table, key), text)
        if size > self._max_size:
            raise UnitRefused(
                f"the unit has a size of {size:,} bytes, and max_size is {self._max_size:,}: make"
                " several units, or write without one"
            )
        conditional = next((each.text for each in self._items if each.conditional), None)
        if conditional is not None and len(places) > 1:
            other = list(places.values())[1]
            raise UnitRefused(
                "a unit with a condition (IF) must be for one partition of one table, and"
                f" {other!r} is for another partition than the first statement",
                conditional,
            )

    async def _commit(self) -> None:
        statements = [(query, parameters) for query, parameters, _, _, _ in self._items]
        conditions = [each.condition for each in self._items if each.condition is not None]
        what = f"the commit of {len(self)} statements"
        try:
            if conditions:
                outcome = await conditions[0].write(self._session, statements, what)
            else:
                outcome = await self._send(statements)
        except BaseException as exc:
            for condition in conditions:
                condition.ended(False, None)
            if not isinstance(exc, CQLError) or not exc.maybe_applied or conditions:
                raise
            reason = f"{type(exc).__name__}: {exc}"
            raise OutcomeUnknown(what, uuid4(), reason) from exc
        found: VersionConflict | None = None
        for condition in conditions:
            refused = None if outcome.applied else condition.refusal(outcome.rows)
            condition.ended(outcome.applied, refused)
            found = found or refused
        if not outcome.applied:
            raise found or ConditionFailed(outcome.rows)

    async def _send(self, statements: list[Any]) -> Outcome:
        conditional = any(each.conditional for each in self._items)
        if len(statements) == 1:
            result = await self._session.execute(*statements[0])
        else:
            kind: BatchName = "unlogged" if conditional else "logged"
            result = await self._session.batch(statements, kind=kind)
        if not conditional or result.applied:
            return Outcome(True)
        rows = [dict(zip(result.columns, row, strict=True)) for row in result.rows]
        return Outcome(False, tuple(rows))


def require(unit: UnitOfWork, statement: Statement, condition: Condition) -> None:
    """Add a conditional statement of a recipe to a unit.

    Raises:
        UnitRefused: the unit isn't open.
    """
    _add(unit, *statement, condition)


def _add(unit: UnitOfWork, query: Any, parameters: Any, condition: Condition | None) -> None:
    text = getattr(query, "query", query)
    if not isinstance(text, str):
        raise InvalidInput("query", "the text of a statement, or a prepared one", query)
    if unit._state != _OPEN:
        done = "the unit has ended" if unit._state == _ENDED else "open it by async with"
        raise UnitRefused(f"{done}: nothing can be added", text)
    said = read_statement(text)
    administered = administration(text)
    if said.verb not in ("INSERT", "UPDATE", "DELETE") or administered:
        verb = administered or ("BATCH" if said.verb == "BEGIN" else said.verb)
        raise UnitRefused(f"a unit takes INSERT, UPDATE and DELETE, not {verb or 'nothing'}", text)
    if len(unit) == _MOST:
        raise UnitRefused(f"a unit holds {_MOST:,} statements at most", text)
    if isinstance(parameters, Mapping):  # the caller may change what it has passed
        parameters = dict(parameters)
    elif isinstance(parameters, list):
        parameters = tuple(parameters)
    unit._items.append(_Item(query, parameters, text, said.conditional, condition))
