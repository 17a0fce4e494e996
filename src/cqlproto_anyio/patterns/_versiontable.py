"""The statements of versioned rows: each write is on the condition of a version."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from cqlproto_anyio.executor import Executor
from cqlproto_anyio.patterns._errors import InvalidInput, RecordExists, SchemaMismatch
from cqlproto_anyio.patterns._identifiers import quoted
from cqlproto_anyio.patterns._lwt import Outcome, Verdict, serial_level
from cqlproto_anyio.patterns._schema import TableSchema, agreement, change, opened, shape
from cqlproto_anyio.patterns._unit import Condition
from cqlproto_anyio.patterns._versions import VersionedRow
from cqlproto_anyio.patterns._writeerrors import VersionConflict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from uuid import UUID

    from cqlproto_anyio.patterns._lwt import Rows, Statement

__all__ = ["VersionTable"]

_LONGEST_NAME = 1024  # characters of a column's name
_VERSIONS = ("bigint", "int")


@dataclass
class VersionTable:
    """A table whose rows have a version.

    Attributes:
        session: the executor.
        keyspace, table: the names, without quotes.
        key: the columns of the primary key.
        version: the column of the version.
        writer: the column of the latest writer's operation id; None if there is none.
        columns: the type and place of each column, once they were read.
    """

    session: Executor
    keyspace: str
    table: str
    key: tuple[str, ...]
    version: str
    writer: str | None
    columns: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._schema = TableSchema(self.keyspace, self.table, {}, self.key)
        self.name = self._schema.name
        self.marks = (self.version,) if self.writer is None else (self.version, self.writer)
        for name in (*self.key, *self.marks):
            quoted("column", name, most=_LONGEST_NAME)

    def cql(self) -> tuple[str, ...]:
        """Return the statements that add the columns of the version and the writer."""
        kinds = zip(self.marks, ("bigint", "uuid"), strict=False)
        return tuple(
            f"ALTER TABLE {self.name} ADD IF NOT EXISTS {_quoted(name)} {kind}"
            for name, kind in kinds
        )

    async def create(self) -> None:
        """Add the columns that the table doesn't have; raises SchemaMismatch if it doesn't fit."""
        existing = await shape(self.session, self._schema)
        agreed = True
        for name, statement in zip(self.marks, self.cql(), strict=True):
            if existing and name not in existing:
                agreed = await change(self.session, statement) and agreed
        if not agreed:
            await agreement(self.session)
        await self._load()
        await opened(self.session, self.name, self.marks)

    async def check(self, name: str, names: Iterable[str] = ()) -> None:
        """Raise InvalidInput unless all names are of columns that an update may change.

        Raises:
            SchemaMismatch: the table has another shape.
        """
        names = set(names)
        if not self.columns or not names <= self.columns.keys():  # or columns were added since
            await self._load()
        for each in names - (self.columns.keys() - {*self.key, *self.marks}):
            kind = "the key" if each in self.key else "the version or the writer"
            other = f"is {kind}" if each in self.columns else f"isn't in {self.name}"
            raise InvalidInput(name, f"of columns that may be changed, and {each!r} {other}", each)

    async def _load(self) -> None:
        found = await shape(self.session, self._schema)
        keys = {
            each for each, place in found.items() if " partition_key" in place or " clus" in place
        }
        for name in sorted(keys ^ set(self.key)):
            expected = "part of the key" if name in self.key else "no part of the key"
            raise SchemaMismatch(self.name, name, expected, found.get(name))
        if found.get(self.version) not in _VERSIONS:
            raise SchemaMismatch(self.name, self.version, _VERSIONS[0], found.get(self.version))
        if self.writer is not None and found.get(self.writer) != "uuid":
            raise SchemaMismatch(self.name, self.writer, "uuid", found.get(self.writer))
        self.columns = found

    def row(self, key: tuple[Any, ...], row: Mapping[str, Any]) -> VersionedRow:
        values = {name: value for name, value in row.items() if name not in self.marks}
        return VersionedRow(key, values, row[self.version] or 0)

    async def find(self, key: tuple[Any, ...], *, serial: bool = True) -> VersionedRow | None:
        """Return a row, or None; with ``serial`` what all conditional writes have made of it."""
        options: dict[str, Any] = {"consistency": serial_level(self.session)} if serial else {}
        found = await self.session.execute(*self._select(key, "*"), **options)
        for row in found.rows:
            return self.row(key, dict(zip(found.columns, row, strict=True)))
        return None

    async def insert(self, key: tuple[Any, ...], values: Mapping[str, Any]) -> VersionedRow:
        """Insert a row with version 1; raises RecordExists."""
        operation = uuid4()
        row = {name: value for name, value in values.items() if value is not None}
        row |= dict(zip(self.marks, (1, operation), strict=False))
        markers = {f"v{at}": value for at, value in enumerate(row.values())}
        text = (
            f"INSERT INTO {self.name} ({', '.join(map(_quoted, row))})"
            f" VALUES ({', '.join(f':{marker}' for marker in markers)}) IF NOT EXISTS"
        )
        what = f"the insert of {key} into {self.name}"
        condition = self._condition(key, None, operation)
        outcome = await condition.write(self.session, [(text, markers)], what)
        if not outcome.applied:
            found = await self.find(key) if outcome.settled else self.row(key, outcome.row)
            raise RecordExists(self.name, key, {} if found is None else found.values)
        return self.row(key, dict.fromkeys(self.columns) | row)

    async def write(
        self,
        key: tuple[Any, ...],
        version: int,
        changes: Mapping[str, Any],
        row: VersionedRow | None,
    ) -> Outcome:
        """Update a row that has a version."""
        statement, condition = self.update(key, version, changes, row)
        what = f"the update of {key} in {self.name}"
        return await condition.write(self.session, [statement], what)

    def update(
        self,
        key: tuple[Any, ...],
        version: int,
        changes: Mapping[str, Any],
        row: VersionedRow | None,
        ended: Callable[[bool, VersionConflict | None], None] = lambda *_: None,
    ) -> tuple[Statement, Condition]:
        """Return the statement that updates a row, and how its outcome is found out.

        Arguments:
            key: the row's key.
            version: the version that it must have; 0 for null.
            changes: the new values.
            row: the row as it was read, needed for version 0.
            ended: as for ``Condition``.
        """
        operation = uuid4()
        assigned = {**changes, **dict(zip(self.marks, (version + 1, operation), strict=False))}
        values = {f"v{at}": value for at, value in enumerate(assigned.values())}
        sets = ", ".join(
            f"{_quoted(name)} = :{at}" for name, at in zip(assigned, values, strict=True)
        )
        condition = f"{_quoted(self.version)} = :expected"
        if version:
            values["expected"] = version
        else:  # a row that is gone has no version either, but no other value too
            condition = f"{_quoted(self.version)} = null AND {_quoted(self._witness(row))} != null"
        where, names = self._where(key)
        text = f"UPDATE {self.name} SET {sets} WHERE {where} IF {condition}"
        return (text, values | names), self._condition(key, version, operation, ended)

    def _condition(
        self,
        key: tuple[Any, ...],
        version: int | None,
        mine: UUID,
        ended: Callable[[bool, VersionConflict | None], None] = lambda *_: None,
    ) -> Condition:
        """Return how to find out about a write that needs a version; None for no row."""

        def verdict(rows: Rows) -> Verdict:
            if rows:
                actual = rows[0][self.version] or 0
                if actual == version:
                    return Verdict.OPEN
                if actual == (version or 0) + 1 and self.writer is not None:
                    return Verdict.APPLIED if rows[0][self.writer] == mine else Verdict.REFUSED
            return Verdict.UNKNOWN  # the row is gone, or another update is the latest

        def refusal(rows: Rows) -> VersionConflict | None:
            actual = None
            for row in rows:
                same = (row.get(n, v) == v for n, v in zip(self.key, key, strict=True))
                if self.version in row and all(same):
                    actual = row[self.version] or 0
            expected = version or 0
            return None if actual == expected else VersionConflict(self.name, key, expected, actual)

        read = self._select(key, *self.key, *self.marks)
        return Condition(mine, read, verdict, refusal, ended)

    def _witness(self, row: VersionedRow | None) -> str:
        """Return a column whose value tells a row without a version from one that is gone."""
        for name, value in () if row is None else row.values.items():
            place = self.columns.get(name, "")
            if value is not None and name not in self.key and not place.endswith(" static"):
                return name
        raise InvalidInput("expected", "a row with a version, or with a value in any column", row)

    def _select(self, key: tuple[Any, ...], *columns: str) -> Statement:
        where, names = self._where(key)
        what = ", ".join(name if name == "*" else _quoted(name) for name in columns)
        return f"SELECT {what} FROM {self.name} WHERE {where}", names

    def _where(self, key: tuple[Any, ...]) -> Statement:
        names = {f"k{at}": value for at, value in enumerate(key)}
        where = (f"{_quoted(name)} = :{at}" for name, at in zip(self.key, names, strict=True))
        return " AND ".join(where), names


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
