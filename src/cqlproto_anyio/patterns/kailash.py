"""The names of Kailash 2.65's nodes for databases and locking: change the import line of such code.

What differs: values keep their types; ``fetch_mode="one"`` without a row gives None; everything is
awaited, ``OptimisticLockingNode.execute`` too; errors are raised, with the types of this client. A
server doesn't tell how many rows a write changes: ``rows_affected`` is -1 but for conditions.
"""

from __future__ import annotations

from dataclasses import asdict, astuple
from typing import TYPE_CHECKING, Any

import anyio

from cqlproto_anyio.exceptions import CQLError
from cqlproto_anyio.patterns import _arguments as arguments
from cqlproto_anyio.patterns._errors import InvalidInput, RecordNotFound
from cqlproto_anyio.patterns._kailashdatabase import AsyncSQLDatabaseNode
from cqlproto_anyio.patterns._known import Known
from cqlproto_anyio.patterns._requests import RetryConfig
from cqlproto_anyio.patterns._schema import TableSchema, shape
from cqlproto_anyio.patterns._versions import History, LockStatus, Resolution
from cqlproto_anyio.patterns.database import Database
from cqlproto_anyio.patterns.versioned import Versioned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from cqlproto_anyio.patterns._arguments import Seconds
    from cqlproto_anyio.patterns._unit import UnitOfWork
    from cqlproto_anyio.patterns._versions import (
        Changes,
        Rule,
        UpdateOutcome,
        VersionedRow,
    )
    from cqlproto_anyio.session import Session

__all__ = [
    "AsyncSQLDatabaseNode", "ConflictResolution", "LockStatus", "NodeExecutionError",
    "OptimisticLockingNode", "RetryConfig",
]  # fmt: skip

ConflictResolution = Resolution
NodeExecutionError = CQLError

Result = dict[str, Any]


class OptimisticLockingNode:
    """:class:`Versioned` updates of tables with the columns ``version`` and, best, ``writer``.

    RETRY with values is VERSION_CONFLICT after the first attempt: values that are sent again would
    overwrite what others wrote. With a function of the current values in ``update_data`` it tries
    again. MERGE compares with the row that this node has read.

    Arguments:
        name: a label.
        version_field: the column of the version.
        max_retries: how often an update is tried again.
        retry_delay: the pause before the first retry: a timedelta or seconds.
        retry_backoff_multiplier: each pause is this many times the one before it.
        default_conflict_resolution: what calls do that don't say.
    """

    def __init__(
        self,
        name: str = "locking",
        *,
        version_field: str = "version",
        max_retries: int = 3,
        retry_delay: Seconds = 0.1,
        retry_backoff_multiplier: float = 2.0,
        default_conflict_resolution: Resolution | str = Resolution.RETRY,
    ) -> None:
        self.name = name
        self._version = version_field
        self._resolution = _resolution(default_conflict_resolution)
        self._history = History(1000, arguments.utc_now)
        self._options: dict[str, Any] = {
            "max_retries": max_retries, "retry_delay": retry_delay,
            "backoff": retry_backoff_multiplier,
        }  # fmt: skip
        self._tables: Known[tuple[Any, ...], Versioned] = Known(100)
        self._reads: Known[tuple[Versioned, str], VersionedRow] = Known(1000)  # to merge with

    async def execute(
        self,
        *,
        action: str,
        connection: AsyncSQLDatabaseNode | Database | Session | None = None,
        table_name: str | None = None,
        record_id: Any = None,
        update_data: Changes | None = None,
        batch_updates: Sequence[Mapping[str, Any]] = (),
        expected_version: int | None = None,
        conflict_resolution: Resolution | str | None = None,
        version_field: str | None = None,
        id_field: str = "id",
        merge_strategy: Mapping[str, Any] | None = None,
        transaction: UnitOfWork | None = None,
    ) -> Result:
        """Do what ``action`` says; returns the words of the guide and those of Kailash's code.

        Arguments:
            action: ``read_with_version``, ``update_with_version``, ``batch_update``,
                ``get_metrics`` or ``analyze_conflicts``.
            connection: a node, a Database, or a session.
            table_name: the table, or ``keyspace.table``.
            record_id: the row's key, as for :class:`Versioned`.
            update_data: the new values, or a function that makes them of the current ones.
            batch_updates: mappings with record_id, update_data and expected_version.
            expected_version: the version that the caller has read.
            conflict_resolution, version_field: in place of the node's.
            id_field: the column of the key.
            merge_strategy: ``{"default": rule, "fields": {field: rule}}``, rules as for Versioned.
            transaction: a unit of work, which the update is added to; its status is ``pending``.

        Raises:
            InvalidInput: an argument is wrong.
            CQLError: as for :class:`Versioned`.
        """
        began = anyio.current_time()
        if action == "get_metrics":
            found: Result = {"success": True, "status": LockStatus.SUCCESS, **self.get_metrics()}
        elif action == "analyze_conflicts":
            analysis = asdict(self._history.analysis())
            found = {"success": True, "status": LockStatus.SUCCESS, **analysis}
        elif action in ("read_with_version", "update_with_version", "batch_update"):
            name = version_field or self._version
            wanted = _resolution(conflict_resolution or self._resolution)
            table = await self._versioned(connection, table_name, id_field, name)
            if action == "read_with_version":
                found = await self._read(table, record_id, name)
            elif action == "update_with_version":
                one = {"record_id": record_id, "update_data": update_data}
                one["expected_version"] = expected_version
                found = await self._update(table, one, wanted, merge_strategy, transaction)
            else:
                found = await self._batch(table, batch_updates, wanted, merge_strategy)
        else:
            raise InvalidInput("action", "an action of the locking node", action)
        elapsed = anyio.current_time() - began
        return {**found, "lock_status": found["status"], "execution_time": elapsed}

    execute_async = execute

    def get_metrics(self) -> Result:
        """Return the fields of :class:`~cqlproto_anyio.patterns.VersionedMetrics`."""
        return asdict(self._history.metrics())

    def get_conflict_history(self, limit: int = 10) -> list[Result]:
        """Return the latest conflicts, newest first."""
        newest = list(reversed(self._history.conflicts))
        return [_conflict(*astuple(each)) for each in newest[: arguments.integer("limit", limit)]]

    async def _versioned(
        self, connection: Any, table_name: str | None, id_field: str, version: str
    ) -> Versioned:
        if not isinstance(table_name, str):
            raise InvalidInput("table_name", "the name of a table", table_name)
        if isinstance(connection, AsyncSQLDatabaseNode):
            connection = await connection.connect()
        session: Any = connection.session if isinstance(connection, Database) else connection
        if session is None:
            raise InvalidInput("connection", "a node, a Database or a session", connection)
        keyspace, _, table = table_name.rpartition(".")
        keyspace = keyspace or session.keyspace
        if not keyspace:
            raise InvalidInput("table_name", "keyspace.table, without a keyspace", table_name)
        key = (session, keyspace, table, id_field, version)
        found = self._tables.get(key)
        if found is None:
            columns = await shape(session, TableSchema(keyspace, table, {}, (id_field,)))
            writer = "writer" if columns.get("writer") == "uuid" else None
            names: Result = {"keyspace": keyspace, "table": table, "key": [id_field]}
            names |= {"version": version, "writer": writer}
            found = Versioned(session, **names, **self._options)
            found._history = self._history  # of all tables
            self._tables.set(key, found)
        return found

    async def _read(self, table: Versioned, record_id: Any, version: str) -> Result:
        try:
            row = await table.read(record_id)
        except RecordNotFound:
            status = LockStatus.RECORD_NOT_FOUND
            return {"success": False, "status": status, "record": None, "data": None}
        self._reads.set((table, repr(record_id)), row)
        record = {**row.values, version: row.version}
        found = {"record": record, "data": record, "version": row.version}
        return {"success": True, "status": LockStatus.SUCCESS, **found}

    async def _update(
        self,
        table: Versioned,
        one: Mapping[str, Any],
        resolution: Resolution,
        merge_strategy: Mapping[str, Any] | None,
        unit: UnitOfWork | None,
    ) -> Result:
        key, changes, expected = await self._arguments(table, one, resolution)
        if unit is not None:
            await table.update(key, changes, expected=expected, unit=unit)
            return {"success": True, "status": "pending", "updated": False, "rows_affected": 0}
        if resolution is Resolution.RETRY and not callable(changes):
            resolution = Resolution.FAIL_FAST  # values that were made of a stale row
        rules = _rules(merge_strategy, changes) if resolution is Resolution.MERGE else None
        outcome = await table.update(
            key, changes, expected=expected, resolution=resolution, merge=rules
        )
        return self._told(outcome, resolution)

    async def _batch(
        self,
        table: Versioned,
        batch: Sequence[Mapping[str, Any]],
        resolution: Resolution,
        merge_strategy: Mapping[str, Any] | None,
    ) -> Result:
        results = [
            await self._update(table, one, resolution, merge_strategy, None) for one in batch
        ]
        updated = sum(each["success"] for each in results)
        conflicts = sum(each["status"] in _CONFLICTS for each in results)
        return {
            "success": updated == len(results), "status": "batch_completed", "results": results,
            "total_operations": len(results), "total_updated": updated,
            "total_conflicts": conflicts, "success_rate": updated / (len(results) or 1),
        }  # fmt: skip

    async def _arguments(
        self, table: Versioned, one: Mapping[str, Any], resolution: Resolution
    ) -> tuple[Any, Any, VersionedRow | int | None]:
        """Return the key, the changes, and for MERGE the row that the changes were made of."""
        key, changes = one.get("record_id"), one.get("update_data")
        version = one.get("expected_version")
        if resolution is not Resolution.MERGE or version is None:
            return key, changes, version
        row = self._reads.get((table, repr(key)))
        if row is None or row.version != version:
            row = await table.read(key)
        if row.version != version:
            what = "the version of a row that this node has read, for MERGE"
            raise InvalidInput("expected_version", what, version)
        return key, changes, row

    def _told(self, outcome: UpdateOutcome, resolution: Resolution) -> Result:
        """Return an outcome in the words of Kailash."""
        told: Result = {
            "success": outcome.ok, "status": outcome.status, "updated": outcome.ok,
            "rows_affected": int(outcome.ok), "retry_count": outcome.retries,
        }  # fmt: skip
        if outcome.ok:
            told["new_version"] = outcome.version
            if resolution is Resolution.LAST_WRITER_WINS:
                told["forced_update"] = outcome.retries > 0
        elif outcome.status in _CONFLICTS:
            told |= {"expected_version": outcome.expected, "current_version": outcome.version}
            told["conflict_info"] = _conflict(
                self._history.clock(), outcome.table, outcome.key, outcome.expected,
                outcome.version, outcome.retries, resolution,
            )  # fmt: skip
            try:
                outcome.raise_for_status()
            except CQLError as exc:
                told["error"] = str(exc)
        return told


_CONFLICTS = (
    LockStatus.VERSION_CONFLICT, LockStatus.RETRY_EXHAUSTED, LockStatus.MERGE_CONFLICT,
)  # fmt: skip


def _resolution(value: Resolution | str) -> Resolution:
    try:
        return Resolution(value)
    except ValueError:
        raise InvalidInput("conflict_resolution", ", ".join(Resolution), value) from None


def _rules(strategy: Mapping[str, Any] | None, changes: Any) -> dict[str, Rule]:
    strategy = strategy or {}
    default = strategy.get("default")
    rules = {} if default is None or callable(changes) else dict.fromkeys(changes or (), default)
    return {**rules, **strategy.get("fields", {})}


def _conflict(
    at: datetime, table: str, key: tuple[Any, ...], expected: int | None, actual: int | None,
    retries: int, resolution: Resolution,
) -> Result:  # fmt: skip
    (record_id,) = key
    return {
        "timestamp": at, "table_name": table, "record_id": record_id, "expected_version": expected,
        "current_version": actual, "retry_count": retries, "resolution_strategy": resolution,
    }  # fmt: skip
