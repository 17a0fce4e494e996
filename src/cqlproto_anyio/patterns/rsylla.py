"""The names of rsylla 0.1.1, on a session of this client: change the import line of such code.

What differs: ``with_*`` return new objects and leave theirs alone; values keep their types; rows
have the names of their columns; a result can be read again; a session can be closed. Errors are
:class:`CQLError` and its subclasses; wrong settings are ``ValueError`` too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, Literal

from cqlproto_anyio.config import Config, PlainAuth
from cqlproto_anyio.connect import connect
from cqlproto_anyio.exceptions import CQLError, ParameterError
from cqlproto_anyio.patterns._identifiers import identifier
from cqlproto_anyio.patterns._rsyllatypes import (
    Batch,
    PreparedStatement,
    Query,
    QueryResult,
    Row,
    Tuned,
    Wrong,
    bound,
    named,
    positive,
)
from cqlproto_anyio.patterns._schema import agreement

if TYPE_CHECKING:
    from typing import Self

    from cqlproto_anyio._statements.statement import Prepared
    from cqlproto_anyio.session import Session as CQLSession

__all__ = [
    "Batch", "PreparedStatement", "Query", "QueryResult", "Row", "ScyllaError", "Session",
    "SessionBuilder",
]  # fmt: skip

ScyllaError = CQLError
Values = Mapping[str, Any] | None


class SessionBuilder:
    """The settings of a session; each method returns a new builder."""

    def __init__(self) -> None:
        self._nodes: tuple[str, ...] = ()
        self._arguments: dict[str, Any] = {}
        self._config: dict[str, Any] = {}

    def _with(self, config: Mapping[str, Any] = {}, **arguments: Any) -> SessionBuilder:
        new = copy(self)
        new._arguments = {**self._arguments, **arguments}
        new._config = {**self._config, **config}
        return new

    def known_node(self, hostname: str) -> SessionBuilder:
        return self.known_nodes([hostname])

    def known_nodes(self, hostnames: Sequence[str]) -> SessionBuilder:
        new = self._with()
        new._nodes = (*self._nodes, *hostnames)
        return new

    def use_keyspace(self, name: str, case_sensitive: bool = False) -> SessionBuilder:
        return self._with(keyspace=_keyspace(name, case_sensitive))

    def connection_timeout(self, duration_ms: int) -> SessionBuilder:
        return self._with({"connect_timeout": positive("duration_ms", duration_ms) / 1000})

    def pool_size(self, size: int) -> SessionBuilder:
        return self._with({"connections_per_host": positive("pool_size", size)})

    def user(self, username: str, password: str) -> SessionBuilder:
        return self._with(auth=PlainAuth(username, password))

    def compression(self, compression: Literal["lz4", "snappy"] | None) -> SessionBuilder:
        if compression not in ("lz4", "snappy", None):
            raise Wrong(f"compression must be 'lz4', 'snappy' or None, got {compression!r}")
        return self._with({"compression": compression})

    def tcp_nodelay(self, nodelay: bool) -> SessionBuilder:
        """Change nothing: this client always sends at once."""
        return self._with()

    def tcp_keepalive(self, interval_ms: int | None) -> SessionBuilder:
        """Change nothing: this client sends heartbeats."""
        return self._with()

    async def build(self) -> Session:
        session = await connect(self._nodes, config=Config(**self._config), **self._arguments)
        return Session(session)


class Session:
    """A session; ``session`` is the one of this client beneath it."""

    def __init__(self, session: CQLSession) -> None:
        self.session = self._opened = session
        self._keyspace = session.keyspace

    @staticmethod
    async def connect(nodes: Sequence[str]) -> Session:
        return await SessionBuilder().known_nodes(nodes).build()

    async def execute(self, query: str, values: Values = None) -> QueryResult:
        return await self.query(Query(query), values)

    async def query(self, query: Query, values: Values = None) -> QueryResult:
        text, given = query.get_contents(), named(values)
        if not given:
            return QueryResult(await self.session.execute(text, **query._for(text)))
        return await _execute(self.session, query, await self.session.prepare(text), given)

    async def prepare(self, query: str) -> PreparedStatement:
        return PreparedStatement(self.session, await self.session.prepare(query))

    async def execute_prepared(
        self, prepared: PreparedStatement, values: Values = None
    ) -> QueryResult:
        return await _execute(prepared._session, prepared, prepared._prepared, named(values))

    async def batch(self, batch: Batch, values: Sequence[Values]) -> QueryResult:
        statements, given = batch._statements, [named(each) for each in values]
        if len(given) != len(statements):
            counts = f"{len(statements)} statements, got {len(given)} values"
            raise ParameterError(f"the batch has {counts}")
        items: list[Any] = []
        for each, own in zip(statements, given, strict=True):
            prepared = await self.session.prepare(each) if isinstance(each, str) else each
            items.append((prepared, bound(prepared, own)))
        options = batch._for(*(prepared.query for prepared, _ in items))
        options.pop("page_size", None)
        return QueryResult(await self.session.batch(items, kind=batch._kind, **options))

    async def use_keyspace(self, name: str, case_sensitive: bool = False) -> None:
        """Use another keyspace, for all tasks that share this object; needs protocol v5."""
        self._keyspace = _keyspace(name, case_sensitive)
        self.session = self._opened.using(keyspace=self._keyspace)

    async def await_schema_agreement(self) -> bool:
        await agreement(self.session)
        return True

    def get_keyspace(self) -> str | None:
        return self._keyspace

    def get_cluster_data(self) -> str:
        return f"ClusterData(hosts={len(self.session.statistics().hosts)})"

    async def aclose(self) -> None:
        await self._opened.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *info: object) -> None:
        await self.aclose()


async def _execute(
    session: CQLSession, tuned: Tuned, prepared: Prepared[Any], values: Mapping[str, Any]
) -> QueryResult:
    options = tuned._for(prepared.query)
    return QueryResult(await session.execute(prepared, bound(prepared, values), **options))


def _keyspace(name: str, case_sensitive: bool) -> str:
    found = identifier("keyspace", name)
    return found if case_sensitive else found.lower()
