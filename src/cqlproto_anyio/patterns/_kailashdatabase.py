"""The database node of Kailash, on :class:`Database`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import anyio

from cqlproto_anyio._text import read_statement
from cqlproto_anyio.config import PlainAuth
from cqlproto_anyio.patterns._errors import InvalidInput
from cqlproto_anyio.patterns._requests import RetryConfig
from cqlproto_anyio.patterns._writeerrors import TransactionError
from cqlproto_anyio.patterns.database import Database
from cqlproto_anyio.patterns.shared_session import SessionRegistry

if TYPE_CHECKING:
    from cqlproto_anyio.patterns._breaker import CircuitBreaker
    from cqlproto_anyio.patterns._unit import UnitOfWork
    from cqlproto_anyio.patterns.database import Mode
    from cqlproto_anyio.session import Session

__all__ = ["AsyncSQLDatabaseNode"]

Result = dict[str, Any]

_SHARED = SessionRegistry()  # of nodes with share_pool=True, as Kailash has one for each process
_WRITES = frozenset({"INSERT", "UPDATE", "DELETE", "BEGIN"})


class AsyncSQLDatabaseNode:
    """A :class:`Database`, with a session that nodes of the same configuration share.

    Arguments:
        name: a label.
        database_type: a label.
        host, port, database, user, password: the contact point, the keyspace and the credentials.
        session: a session of the caller's instead, which is never closed.
        query, params, fetch_mode, fetch_size, parameter_types: of calls that pass none.
        transaction_mode: as :class:`Database` has it; a transaction belongs to the task that began.
        share_pool: whether nodes of the same configuration share a session.
        timeout: seconds for each call with its retries; None for none.
        validate_queries, allow_admin, breaker: as for :class:`Database`.
        retry_config: a RetryConfig, or its fields in a mapping.
        max_retries, retry_delay: the retries, and seconds before the first, without retry_config.

    Raises:
        InvalidInput: an argument is wrong.
    """

    def __init__(
        self,
        name: str = "database",
        *,
        database_type: str = "cassandra",
        host: str = "127.0.0.1",
        port: int = 9042,
        database: str | None = None,
        user: str | None = None,
        password: str | None = None,
        session: Session | None = None,
        query: str | None = None,
        params: Any = None,
        fetch_mode: Literal["one", "all", "many"] = "all",
        fetch_size: int | None = None,
        parameter_types: Mapping[str, str] | None = None,
        transaction_mode: Mode = "auto",
        share_pool: bool = True,
        timeout: float | None = 60.0,
        validate_queries: bool = True,
        allow_admin: bool = False,
        retry_config: RetryConfig | Mapping[str, Any] | None = None,
        max_retries: int = 3,
        retry_delay: float = 1.0,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        if retry_config is None:
            retry_config = RetryConfig(max_retries, retry_delay)
        elif not isinstance(retry_config, RetryConfig):
            retry_config = RetryConfig(**retry_config)
        self.name, self.database_type = name, database_type
        self._connect: dict[str, Any] = {"hosts": host, "port": port, "keyspace": database}
        if user is not None:
            self._connect["auth"] = PlainAuth(user, password or "")
        if session is not None:
            self._connect = {"session": session}
        self._run = {
            "query": query, "params": params, "fetch_mode": fetch_mode, "fetch_size": fetch_size,
            "parameter_types": parameter_types,
        }  # fmt: skip
        self._timeout = timeout
        self._mode: Mode = transaction_mode
        self._options: dict[str, Any] = {
            "mode": transaction_mode, "retry": retry_config, "validate_queries": validate_queries,
            "allow_admin": allow_admin, "breaker": breaker,
        }  # fmt: skip
        nobody: Any = None
        Database(nobody, **self._options)  # checks them
        self._registry = _SHARED if share_pool else SessionRegistry()
        self._opening = anyio.Lock()
        self._session: Session | None = None
        self._database: Database | None = None

    def __repr__(self) -> str:
        return f"<AsyncSQLDatabaseNode {self.name!r}>"

    async def connect(self) -> Database:
        """Acquire the session, as calls do when they need it; raises what ``connect`` raises."""
        async with self._opening:
            if self._database is None:
                self._session = await self._registry.acquire(**self._connect)
                self._database = Database(self._session, **self._options)
        return self._database

    async def async_run(self, **inputs: Any) -> Result:
        """Execute a statement; returns ``{"result": {"data": .., "row_count": ..}}``.

        Arguments:
            inputs: query, params (a mapping, a sequence, or one value), fetch_mode, fetch_size,
                parameter_types; those of the node otherwise.

        Raises:
            InvalidInput: an argument is wrong.
            CQLError: as for :meth:`Database.run`.
        """
        if unknown := inputs.keys() - self._run.keys():
            raise InvalidInput("inputs", f"some of {', '.join(self._run)}", sorted(unknown))
        query, params, fetch, size, types = {**self._run, **inputs}.values()
        limit: Any = size if fetch == "many" else None
        database = await self.connect()
        found: Any = await database.run(
            query,
            _parameters(params),
            fetch=fetch,
            size=limit,
            parameter_types=types,
            timeout=self._timeout,
        )
        text = read_statement(query)
        rows = [] if found is None else [found] if isinstance(found, dict) else found
        if text.verb in _WRITES:
            applied = rows[0].get("[applied]") if rows else None
            found = rows = [{"rows_affected": -1 if applied is None else int(applied)}]
        return self._envelope(data=found, row_count=len(rows), query=query)

    async def process(self, inputs: Mapping[str, Any]) -> Result:
        """Execute a statement; the same as ``async_run(**inputs)``."""
        return await self.async_run(**inputs)

    execute_async = async_run

    async def execute_many_async(self, query: str, params_list: Sequence[Any]) -> Result:
        """Execute a statement for each of many parameters.

        They are one LOGGED batch in the mode ``auto``, are added to the transaction in the mode
        ``manual``, and are executed one by one in the mode ``none``, which has no limit.

        Raises:
            UnitRefused: they can't be one batch; nothing was written.
            CQLError: as for :meth:`Database.execute_many`.
        """
        database = await self.connect()
        rows = [_parameters(each) for each in params_list]
        if self._mode == "manual":
            for row in rows:
                await database.run(query, row)
        else:
            await database.execute_many(query, rows, atomic=self._mode == "auto")
        return self._envelope(affected_rows=len(rows), batch_size=len(rows), query=query)

    async def begin_transaction(self) -> None:
        """Begin a transaction of this task; raises TransactionError if it can't."""
        await (await self.connect()).begin()

    async def commit(self) -> None:
        """Commit the transaction of this task; raises TransactionError if it has none."""
        await (await self.connect()).commit()

    async def rollback(self) -> None:
        """Discard the transaction of this task; raises TransactionError if it has none."""
        await (await self.connect()).rollback()

    async def health_check(self) -> Any:
        """Return the :class:`~cqlproto_anyio.patterns.Health` of the server."""
        return await (await self.connect()).health()

    def get_metrics(self) -> Result:
        """Return the fields of :class:`~cqlproto_anyio.patterns.DatabaseMetrics`."""
        return asdict(self._database.metrics()) if self._database is not None else {}

    async def cleanup(self) -> None:
        """Give the session back; its last user closes it. The next call opens one again."""
        session, self._session, self._database = self._session, None, None
        if session is not None:
            await self._registry.release(session)

    def _envelope(self, **result: Any) -> Result:
        return {"result": {**result, "database_type": self.database_type}}

    @property
    def _adapter(self) -> Transactions:
        return Transactions(self)


class Transactions:
    """The transactions of a node, as the guide's code begins and ends them by ``_adapter``."""

    def __init__(self, node: AsyncSQLDatabaseNode) -> None:
        self._node = node

    async def begin_transaction(self) -> UnitOfWork:
        """Return a unit of work, which ``OptimisticLockingNode.execute`` takes."""
        return await (await self._node.connect()).transaction().__aenter__()

    async def commit_transaction(self, transaction: UnitOfWork) -> None:
        """Commit a unit of work; raises what :meth:`UnitOfWork.commit` raises."""
        await transaction.__aexit__(None, None, None)

    async def rollback_transaction(self, transaction: UnitOfWork) -> None:
        """Discard a unit of work."""
        error = TransactionError("the transaction was rolled back")
        await transaction.__aexit__(None, error, None)


def _parameters(params: Any) -> Any:
    """Return parameters as ``execute`` takes them: a value alone is that of the only marker."""
    if (
        params is None
        or isinstance(params, (Mapping, Sequence))
        and not isinstance(params, str | bytes | bytearray)
    ):
        return params
    return (params,)
