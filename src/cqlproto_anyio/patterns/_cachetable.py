"""The rows of a cache, and what makes an update win over what is loaded meanwhile.

An entry has a ``version``, and each update and each deletion gives it a new one. What a factory has
loaded is stored only if the entry still has the version that was read *before* the factory was
called. So an update while the factory runs, in any program, wins. All writes are conditional, so
they have one order, and no clocks are compared. In the same way a value belongs to a generation of
its namespace, which ``clear`` ends: the version of the row whose key is empty, which each read asks
for as well.

Versions expire after two days, so that deleted keys leave nothing behind; then a key has none, as
in the beginning. What was loaded for longer than a day is not stored, so nobody takes one for the
other.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

import anyio

from cqlproto_anyio.exceptions import CQLError
from cqlproto_anyio.patterns._errors import OutcomeUnknown
from cqlproto_anyio.patterns._lwt import bound
from cqlproto_anyio.patterns._retry import Attempts, Backoff
from cqlproto_anyio.patterns._schema import TableSchema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqlproto_anyio.executor import Executor
    from cqlproto_anyio.results import Result

__all__ = ["Entries", "Entry", "table_schema"]

_MOST_LOADING = 86_400  # seconds
_VERSION_TTL = 2 * _MOST_LOADING
_NONE = UUID(int=0)  # the generation of a namespace that was never cleared
_TAG = 16  # bytes of a value that tell its generation
_KEYS = 64  # how many keys one read asks for
_RETRIES = Backoff(first=0.05, longest=1.0)
_RETRYING = 15.0  # seconds


class Entry(NamedTuple):
    """What was read of an entry; ``payload`` is None if it is a miss."""

    key: str
    version: UUID | None
    generation: bytes
    payload: bytes | None


class Entries:
    """The entries of a namespace, whose TTLs are shortened at random by a part of up to jitter."""

    def __init__(self, executor: Executor, table: str, namespace: str, jitter: float) -> None:
        self._executor = executor
        self._namespace = namespace
        self._jitter = jitter
        where = "WHERE namespace = :namespace AND key"
        update = f"UPDATE {table} USING TTL"
        self._read = f"SELECT key, version, value FROM {table} {where} IN :keys"
        self._value = f"{update} :ttl SET value = :value {where} = :key"
        self._fill = f"{self._value} IF version = :before"
        self._advance = f"{update} :keep SET version = :version {where} = :key IF version = :before"
        self._renew = (
            f"{update} :keep SET version = :version, value = null {where} = :key"
            " IF version != :version"
        )

    async def read(self, keys: Sequence[str]) -> list[Entry]:
        """Read entries, in order."""
        entries = []
        for start in range(0, len(keys), _KEYS):
            some = keys[start : start + _KEYS]
            values = {"namespace": self._namespace, "keys": ["", *some]}
            found = await self._executor.execute(self._read, values)
            rows = {key: (version, value or b"") for key, version, value in found.rows}
            generation = (rows.get("", (None,))[0] or _NONE).bytes
            for key in some:
                version, value = rows.get(key, (None, b""))
                payload = value[_TAG:] if value.startswith(generation) else None
                entries.append(Entry(key, version, generation, payload))
        return entries

    async def fill(self, entry: Entry, payload: bytes, ttl: int, began: float) -> None:
        """Store what was loaded, unless the entry has another version than when it was read.

        TTLs are in seconds, 0 for ever. It was read at ``began``, by ``anyio.current_time()``.
        """
        if anyio.current_time() - began <= _MOST_LOADING:
            await self._executor.execute(*bound(self._fill, self._values(entry, payload, ttl)))

    async def replace(self, entry: Entry, payload: bytes, ttl: int) -> None:
        """Store a value with a new version, unless another update comes at the same time."""
        for _ in range(2):  # the read may have missed an older update, and so have its version
            values = self._values(entry, payload, ttl)
            result = await self._update([self._advance, self._value], values)
            if result.applied:
                return
            row = dict(zip(result.columns, result.rows[0], strict=True))
            entry = entry._replace(version=row.get("version"))

    async def renew(self, key: str, ttl: int = _VERSION_TTL) -> None:
        """Give a row a new version, for so many seconds, and no value; 0 for ever."""
        await self._update([self._renew], {"namespace": self._namespace, "key": key, "keep": ttl})

    async def _update(self, statements: list[str], values: dict[str, Any]) -> Result[Any]:
        """Give a row a new version, and repeat that until it is answered."""
        failure: CQLError | None = None
        version = uuid4()
        async for _ in Attempts(within=_RETRYING, backoff=_RETRIES):
            # always another one: a copy that comes late is refused, or makes one miss more
            version = uuid4()
            batch = [bound(each, {**values, "version": version}) for each in statements]
            try:
                return await self._executor.batch(batch, kind="unlogged")
            except CQLError as exc:
                if not exc.maybe_applied:
                    raise
                failure = exc
        raise OutcomeUnknown(f"update of {values['key']!r}", version, "no answer") from failure

    def _values(self, entry: Entry, payload: bytes, ttl: int) -> dict[str, Any]:
        ttl = ttl and max(1, ttl - int(ttl * random.uniform(0, self._jitter)))
        values = {"namespace": self._namespace, "key": entry.key, "before": entry.version}
        return {**values, "value": entry.generation + payload, "ttl": ttl, "keep": _VERSION_TTL}


def table_schema(keyspace: str, table: str) -> TableSchema:
    columns = {"namespace": "text", "key": "text", "version": "uuid", "value": "blob"}
    return TableSchema(keyspace, table, columns, key=("namespace", "key"))
