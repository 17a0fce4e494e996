"""Tenants: a keyspace for each, and migrations of all of them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cqlproto_anyio.patterns._arguments import integer
from cqlproto_anyio.patterns._errors import InvalidInput
from cqlproto_anyio.patterns._identifiers import decoded, encoded
from cqlproto_anyio.patterns._known import Known
from cqlproto_anyio.patterns._many import for_each
from cqlproto_anyio.patterns._migrations import Migration, log_table
from cqlproto_anyio.patterns._pages import Fetched
from cqlproto_anyio.patterns._schema import agreement, change
from cqlproto_anyio.patterns._turns import Turns

if TYPE_CHECKING:
    from cqlproto_anyio.executor import Executor

__all__ = ["MigrationFailure", "MigrationReport", "Tenants"]

_ALL = "SELECT keyspace_name FROM system_schema.keyspaces"
_ONE = f"{_ALL} WHERE keyspace_name = :name"
_PREFIX = re.compile(r"[a-z0-9_]{0,40}")
_LONGEST = 60_000  # bytes of a statement


@dataclass(frozen=True, slots=True)
class MigrationFailure:
    """A tenant whose migration has stopped.

    Attributes:
        tenant: the tenant.
        statement: the statement at which it has stopped.
        error: what has stopped it; if ``error.maybe_applied``, the next run finds out.
    """

    tenant: str
    statement: str
    error: Exception


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What a migration has done.

    Attributes:
        migrated: the tenants to which a statement was applied.
        unchanged: the tenants that had all of them.
        failed: the tenants whose migration has stopped, and where.
    """

    migrated: tuple[str, ...]
    unchanged: tuple[str, ...]
    failed: tuple[MigrationFailure, ...]


class Tenants:
    """A keyspace per tenant: ``await tenants.create("acme")``, ``tenants.session("acme")``.

    Guarantee: ids that differ have keyspaces that differ, also if they differ in case only, and no
    id reaches a keyspace without the prefix. A statement of ``schema``, or of a migration, is
    applied once to each tenant, by one program at a time; after a crash the next run goes on where
    the last one has stopped. All nodes know a tenant when ``create`` returns.

    Not guaranteed: that a tenant which is dropped and created at the same time is whole.

    Cost: creating a tenant costs its statements, two LWTs, and some reads and writes for each
    statement; creating it again five reads. A cluster bears some thousand tables; for more
    tenants, put the tenant into the partition key instead.

    Tables: ``tenant_migrations`` in each keyspace, a row per statement.

    Arguments:
        session: the session. It needs protocol v5, which has the keyspace as an option of requests.
        prefix: what the keyspaces begin with: lower-case letters, digits and underscores.
        replication: the replication of the keyspaces:
            ``{"class": "NetworkTopologyStrategy", "dc1": 3}``.
        schema: the statements that a new tenant begins with, with unqualified names. Migrations
            that are added to them are applied to new tenants at once.
        max_sessions: how many tenants' sessions are kept.
    """

    def __init__(
        self,
        session: Executor,
        *,
        prefix: str = "tenant_",
        replication: Mapping[str, str | int],
        schema: Sequence[str] = (),
        max_sessions: int = 1000,
    ) -> None:
        if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
            raise InvalidInput("prefix", "up to 40 of the characters a-z, 0-9 and _", prefix)
        using: Any = getattr(session, "using", None)
        if using is None:
            raise InvalidInput("session", "a session, which has using(keyspace=)", session)
        self._session = session
        self._using = using
        self._prefix = prefix
        self._replication = _map("replication", replication)
        self._schema = _statements("schema", schema)
        most = integer("max_sessions", max_sessions, least=1)
        self._sessions: Known[str, Executor] = Known(most)
        self._turns = Turns()

    def keyspace(self, tenant: str) -> str:
        """Return the name of a tenant's keyspace: ``tenant_acme_2dco`` for ``acme-co``.

        Arguments:
            tenant: its id, of letters, digits, ``_`` and ``-``. Lower-case letters and digits stay
                as they are, ``_`` is doubled, others become ``_`` and two hexadecimal digits.

        Raises:
            InvalidInput: the id has other characters, or the name is longer than 48 characters.
        """
        name = encoded("tenant", tenant, prefix=self._prefix)
        if _reserved(name):
            raise InvalidInput("tenant", f"another one: {name} is a keyspace of the server", tenant)
        return name

    def session(self, tenant: str) -> Executor:
        """Return a session in a tenant's keyspace, on the same connections; sends nothing."""
        name = self.keyspace(tenant)
        found = self._sessions.get(name)
        if found is None:
            found = self._using(keyspace=name)
            self._sessions.set(name, found)
        return found

    def schema_cql(self, tenant: str) -> tuple[str, ...]:
        """Return the statements that :meth:`create` executes."""
        name = self.keyspace(tenant)
        keyspace = f'CREATE KEYSPACE IF NOT EXISTS "{name}" WITH replication = {self._replication}'
        return keyspace, log_table(name).cql(), *self._schema

    async def create(self, tenant: str) -> None:
        """Create a tenant's keyspace and tables, unless they exist; all nodes know them then.

        May be called again, at any time, from many tasks and programs at once.

        Raises:
            SchemaMismatch: ``tenant_migrations`` is another table.
            LockTimeout: another program has worked on this tenant all the time.
        """
        async with self._turns.turn(tenant):
            if not await self.exists(tenant):
                await change(self._session, self.schema_cql(tenant)[0])
            await self._migration(tenant).run(self._schema, lenient=True)

    async def drop(self, tenant: str) -> None:
        """Drop a tenant's keyspace with all its data, if it exists."""
        name = self.keyspace(tenant)
        async with self._turns.turn(tenant):
            if not await change(self._session, f'DROP KEYSPACE IF EXISTS "{name}"'):
                await agreement(self._session)
            self._sessions.set(name, None)

    async def exists(self, tenant: str) -> bool:
        """Return whether a tenant's keyspace exists. One read."""
        result = await self._session.execute(_ONE, {"name": self.keyspace(tenant)})
        return result.first() is not None

    def list(self) -> AsyncIterator[str]:
        """Iterate over the ids of all tenants; other keyspaces are skipped."""
        pages = self._session.stream(_ALL).pages()

        async def fetch() -> Iterable[str] | None:
            rows = await anext(pages, None)
            if rows is None:
                return None
            names = [name for (name,) in rows if not _reserved(name)]
            return [id for name in names if (id := decoded(name, prefix=self._prefix)) is not None]

        return Fetched(fetch)

    async def migrate(
        self,
        statements: Sequence[str],
        *,
        concurrency: int = 8,
        tenants: Iterable[str] | None = None,
    ) -> MigrationReport:
        """Apply statements to all tenants; each tenant stops at its first failure.

        May be called again: statements that were applied to a tenant are skipped.

        Arguments:
            statements: the statements, with unqualified names, in order. Their texts identify them.
            concurrency: how many tenants are worked on at a time.
            tenants: the ids of the tenants, to begin with some; None for all.

        Raises:
            InvalidInput: an argument is wrong.
            CQLError: the list of tenants can't be read.
        """
        wanted = _statements("statements", statements)
        integer("concurrency", concurrency, least=1, most=1000)
        if tenants is None:
            tenants = [tenant async for tenant in self.list()]
        if isinstance(tenants, str) or not isinstance(tenants, Iterable):
            raise InvalidInput("tenants", "the ids of tenants, in an iterable", tenants)
        ids = list(dict.fromkeys(tenants))
        for tenant in ids:
            self.keyspace(tenant)
        outcomes: dict[str, bool | MigrationFailure] = {}

        async def migrate(tenant: str) -> None:
            migration = self._migration(tenant)
            try:
                outcomes[tenant] = await migration.run(wanted)
            except Exception as exc:
                outcomes[tenant] = MigrationFailure(tenant, migration.statement, exc)

        await for_each(ids, migrate, concurrency=concurrency)
        found = [(tenant, outcomes[tenant]) for tenant in ids]
        return MigrationReport(
            tuple(tenant for tenant, outcome in found if outcome is True),
            tuple(tenant for tenant, outcome in found if outcome is False),
            tuple(outcome for _, outcome in found if isinstance(outcome, MigrationFailure)),
        )

    def _migration(self, tenant: str) -> Migration:
        return Migration(self._session, self.session(tenant), self.keyspace(tenant))


def _reserved(keyspace: str) -> bool:
    return keyspace == "system" or keyspace.startswith("system_")


def _map(name: str, value: object) -> str:
    """Return a mapping of texts and numbers as CQL."""
    items = list(value.items()) if isinstance(value, Mapping) else []
    right = [isinstance(key, str) and type(each) in (str, int) for key, each in items]
    if not items or not all(right):
        raise InvalidInput(name, "a mapping such as {'class': .., 'dc1': 3}", value)
    texts = [(key.replace("'", "''"), str(each).replace("'", "''")) for key, each in items]
    return "{" + ", ".join(f"'{key}': '{each}'" for key, each in texts) + "}"


def _statements(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        found = tuple(value)
        if all(isinstance(each, str) and 0 < len(each) <= _LONGEST for each in found):
            return found
    raise InvalidInput(name, "a sequence of statements, which are texts", value)
