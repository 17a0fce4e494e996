"""Statements that change a schema, each applied once to a keyspace, by one program at a time.

A table in the keyspace has a row for each statement that was begun, and a lease. Before a statement
is executed, its row gets a digest of the keyspace's schema; afterwards the time. So a program that
dies in between leaves a trace: if the next one finds that the server refuses the statement, and
that the schema has changed since that digest, then the statement was applied.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import anyio

from cqlproto_anyio.exceptions import AlreadyExists, CQLError
from cqlproto_anyio.patterns._arguments import utc_now
from cqlproto_anyio.patterns._errors import LockTimeout
from cqlproto_anyio.patterns._held import Held
from cqlproto_anyio.patterns._lease import LEASE_COLUMNS, Lease, Leases
from cqlproto_anyio.patterns._retry import Attempts, Backoff
from cqlproto_anyio.patterns._schema import TableSchema, agreement, create

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqlproto_anyio.executor import Executor

__all__ = ["Migration", "log_table"]

_LEASE = "lease"  # the row of the lease; no statement has this text
_TTL = 30.0  # seconds that a lease lasts
_PATIENCE = 120.0  # seconds to wait for another program
_POLLS = Backoff(first=0.05, longest=1.0)


def log_table(keyspace: str) -> TableSchema:
    """Return the table of the statements that were applied to a keyspace."""
    columns = {"name": "text", **LEASE_COLUMNS, "before": "text", "applied_at": "timestamp"}
    return TableSchema(keyspace, "tenant_migrations", columns, key=("name",))


class Migration:
    """Applies statements to a keyspace, in a session that is ``scoped`` to it.

    Attributes:
        statement: the statement that was worked on last.
    """

    def __init__(self, executor: Executor, scoped: Executor, keyspace: str) -> None:
        self.statement = ""
        self._executor = executor
        self._scoped = scoped
        self._keyspace = keyspace
        self._log = log_table(keyspace)
        name = self._log.name
        self._read = f"SELECT name, before, applied_at FROM {name} WHERE name IN :names"
        self._begin = f"UPDATE {name} SET before = :before WHERE name = :name"
        self._end = f"UPDATE {name} SET applied_at = :applied_at WHERE name = :name"
        self._forget = f"DELETE FROM {name} WHERE name = :name"

    async def run(self, statements: Sequence[str], *, lenient: bool = False) -> bool:
        """Apply the statements that were not applied yet, in order.

        Arguments:
            statements: the statements, with unqualified names.
            lenient: whether a table that exists already counts as created.

        Returns:
            whether there were any.

        Raises:
            CQLError: what has stopped it; ``statement`` was not applied, or maybe.
        """
        self.statement = statements[0] if statements else ""
        await create(self._executor, [self._log])
        if not await self._pending(statements):
            return False
        async with Held(self._lease):
            for statement, before in (await self._pending(statements)).items():
                self.statement = statement
                await self._apply(statement, before, lenient)
        return True

    async def _pending(self, statements: Sequence[str]) -> dict[str, str | None]:
        """Return the statements that were not applied, and what is known from before."""
        rows = (await self._executor.execute(self._read, {"names": list(statements)})).rows
        begun = {name: (before, applied_at) for name, before, applied_at in rows}
        found = {each: begun.get(each, (None, None)) for each in statements}
        return {each: before for each, (before, applied_at) in found.items() if applied_at is None}

    async def _apply(self, statement: str, before: str | None, lenient: bool) -> None:
        schema = await self._digest()
        key = {"name": statement}
        if before is None:
            await self._executor.execute(self._begin, {**key, "before": schema}, idempotent=True)
        try:
            result = await self._scoped.execute(statement)
        except CQLError as exc:
            if exc.maybe_applied:
                raise
            interrupted = before is not None and before != schema
            if not (interrupted or (lenient and isinstance(exc, AlreadyExists))):
                await self._executor.execute(self._forget, key, idempotent=True)
                raise
        else:
            if result.schema_agreed is False:
                await agreement(self._executor)
        await self._executor.execute(self._end, {**key, "applied_at": utc_now()}, idempotent=True)

    async def _digest(self) -> str:
        """Return a digest of all that is defined in the keyspace."""
        query = f'DESCRIBE KEYSPACE "{self._keyspace}"'
        digest = hashlib.sha256()
        for row in (await self._executor.execute(query)).rows:
            digest.update(repr(tuple(row)).encode())
        return digest.hexdigest()

    async def _lease(self) -> Lease:
        leases, began = Leases(self._executor, self._log.name), anyio.current_time()
        holder = None
        async for _ in Attempts(within=_PATIENCE, backoff=_POLLS):
            found = await leases.acquire(_LEASE, ttl=_TTL, owner="a migration")
            if isinstance(found, Lease):
                return found
            holder = found.owner
        raise LockTimeout(self._log.name, anyio.current_time() - began, holder)
