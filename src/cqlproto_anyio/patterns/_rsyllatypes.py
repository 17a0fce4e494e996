"""Statements, batches, rows and results with the names of rsylla."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from cqlproto.enums import Consistency
from cqlproto_anyio._text import read_statement
from cqlproto_anyio.exceptions import ParameterError, UsageError

if TYPE_CHECKING:
    from typing import Self

    from cqlproto_anyio._statements.statement import Prepared
    from cqlproto_anyio.results import Result
    from cqlproto_anyio.session import Session as CQLSession

__all__ = [
    "Batch", "PreparedStatement", "Query", "QueryResult", "Row", "Tuned", "Wrong", "bound",
    "named", "positive",
]  # fmt: skip

_LEVELS = {level.name.replace("_", ""): level for level in Consistency}


class Wrong(UsageError, ValueError):
    """A setting is wrong."""


def _level(name: str, value: str, *, serial: bool = False) -> Consistency:
    found = _LEVELS.get(str(value).upper().replace("_", ""))
    if found is not None and (found.is_serial or not serial):
        return found
    raise Wrong(f"{name} must be a consistency level such as LOCAL_QUORUM, got {value!r}")


def positive(name: str, value: int) -> int:
    if type(value) is int and value > 0:
        return value
    raise Wrong(f"{name} must be an int of at least 1, got {value!r}")


class Tuned:
    """What has options; each method returns a new object with another option."""

    _options: Mapping[str, Any] = {}

    def _with(self, **options: Any) -> Self:
        new = copy(self)
        new._options = {**self._options, **options}
        return new

    def with_consistency(self, consistency: str) -> Self:
        return self._with(consistency=_level("consistency", consistency))

    def with_serial_consistency(self, consistency: str) -> Self:
        level = _level("serial_consistency", consistency, serial=True)
        return self._with(serial_consistency=level)

    def with_page_size(self, page_size: int) -> Self:
        return self._with(page_size=positive("page_size", page_size))

    def with_timestamp(self, timestamp: int) -> Self:
        """Set the timestamp, in microseconds; conditional statements ignore it."""
        return self._with(timestamp=timestamp)

    def with_timeout(self, timeout_ms: int) -> Self:
        return self._with(timeout=positive("timeout_ms", timeout_ms) / 1000)

    def with_tracing(self, tracing: bool) -> Self:
        return self._with(trace=bool(tracing))

    def set_idempotent(self, idempotent: bool) -> Self:
        return self._with(idempotent=bool(idempotent))

    def is_idempotent(self) -> bool:
        return bool(self._options.get("idempotent", False))

    def _for(self, *texts: str) -> dict[str, Any]:
        options = dict(self._options)
        if any(read_statement(text).conditional for text in texts):
            options.pop("timestamp", None)
        return options


class Query(Tuned):
    def __init__(self, query: str) -> None:
        self._query = query

    def get_contents(self) -> str:
        return self._query


class PreparedStatement(Tuned):
    """A prepared statement; it belongs to the keyspace that it was prepared in."""

    def __init__(self, session: CQLSession, prepared: Prepared[Any]) -> None:
        self._session = session
        self._prepared = prepared

    def get_statement(self) -> str:
        return self._prepared.query

    def get_id(self) -> bytes:
        return self._prepared.statement_id


class Batch(Tuned):
    def __init__(self, batch_type: Literal["logged", "unlogged", "counter"] = "logged") -> None:
        if batch_type not in ("logged", "unlogged", "counter"):
            raise Wrong(f"batch_type must be 'logged', 'unlogged' or 'counter', got {batch_type!r}")
        self._kind = batch_type
        self._statements: list[str | Prepared[Any]] = []

    def append_statement(self, statement: str) -> None:
        self._statements.append(statement)

    def append_query(self, query: Query) -> None:
        self._statements.append(query.get_contents())

    def append_prepared(self, prepared: PreparedStatement) -> None:
        self._statements.append(prepared._prepared)

    def statements_count(self) -> int:
        return len(self._statements)

    def _with(self, **options: Any) -> Self:
        new = super()._with(**options)
        new._statements = list(self._statements)
        return new


class Row(Sequence[Any]):
    """A row: its columns by position, and by name with :meth:`as_dict`."""

    def __init__(self, names: Sequence[str], values: Sequence[Any]) -> None:
        self._names, self._values = names, tuple(values)

    def columns(self) -> list[Any]:
        return list(self._values)

    def as_dict(self) -> dict[str, Any]:
        return dict(zip(self._names, self._values, strict=True))

    def get(self, index: int) -> Any:
        return self._values[index]

    def __getitem__(self, index: Any) -> Any:
        return self._values[index]

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Row(columns={len(self)})"


class QueryResult:
    """All rows of a request; they can be read any number of times."""

    def __init__(self, result: Result[Any]) -> None:
        self._result = result
        self._rows = [Row(result.columns, row) for row in result.rows]

    def rows(self) -> list[Row]:
        return list(self._rows)

    def first_row(self) -> Row | None:
        return self._rows[0] if self._rows else None

    def single_row(self) -> Row:
        if len(self._rows) != 1:
            raise Wrong(f"one row was expected, there are {len(self._rows)}")
        return self._rows[0]

    def rows_typed(self) -> list[dict[str, Any]]:
        return [row.as_dict() for row in self._rows]

    def first_row_typed(self) -> dict[str, Any] | None:
        return self._rows[0].as_dict() if self._rows else None

    def col_specs(self) -> list[dict[str, str]]:
        result = self._result
        pairs = zip(result.columns, result.column_types, strict=True)
        return [{"name": name, "typ": kind} for name, kind in pairs]

    def tracing_id(self) -> str | None:
        found = self._result.tracing_id
        return None if found is None else str(found)

    def warnings(self) -> list[str]:
        return list(self._result.warnings)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __bool__(self) -> bool:
        return bool(self._rows)


def named(values: object) -> Mapping[str, Any]:
    """Return values, which are by name; TypeError if not, as rsylla raises it."""
    if values is None or isinstance(values, Mapping):
        return values or {}
    raise TypeError(f"values must be a dict, got a {type(values).__name__}")


def bound(prepared: Prepared[Any], given: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the values in the order of the markers.

    A value belongs to the marker of its name; ``ttl`` means ``[ttl]`` if no other marker is called
    ``ttl``, and one value is for all markers of its name. If some names are no marker's, the values
    are taken in their order, unless one of them stands in the place of another marker.
    """
    own = {column.name for column in prepared.parameters}
    names = [column.name for column in prepared.parameters]
    names = [each if each in given or each[1:-1] in own else each.strip("[]") for each in names]
    if given.keys() == set(names):
        return _converted(prepared, [given[name] for name in names])
    same = len(given) == len(names)
    misplaced = [
        name for name, place in zip(given, names, strict=False) if name in names and name != place
    ]
    if not same or misplaced:
        wrong = f"{', '.join(misplaced)} not in its place" if same else f"got {', '.join(given)}"
        raise ParameterError(f"values must be for {', '.join(names) or 'no marker'}, {wrong}")
    return _converted(prepared, list(given.values()))


def _converted(prepared: Prepared[Any], values: list[Any]) -> tuple[Any, ...]:
    """Return values as this client takes them: rsylla's pages pass UUIDs as text, dates as days."""
    for at, (column, value) in enumerate(zip(prepared.parameters, values, strict=True)):
        kind = str(column.type)
        try:
            if kind in ("uuid", "timeuuid") and isinstance(value, str):
                values[at] = UUID(value)
            elif kind == "date" and type(value) is int:
                values[at] = date(1970, 1, 1) + timedelta(days=value)
        except (ValueError, OverflowError) as exc:
            raise ParameterError(f"{column.name} must be a {kind}, got {value!r}") from exc
    return tuple(values)
