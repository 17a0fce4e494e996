"""A cache in a table: entries with a TTL, loaded once for all who wait."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial, update_wrapper
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

import anyio

from cqlproto_anyio.exceptions import CQLError
from cqlproto_anyio.patterns._arguments import Seconds, seconds, text, ttl_seconds
from cqlproto_anyio.patterns._cachetable import Entries, Entry, table_schema
from cqlproto_anyio.patterns._codec import JSON, Codec
from cqlproto_anyio.patterns._errors import CorruptPayload, InvalidInput
from cqlproto_anyio.patterns._many import for_each
from cqlproto_anyio.patterns._retry import may_retry
from cqlproto_anyio.patterns._schema import create

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    from cqlproto_anyio.executor import Executor

__all__ = ["Cache", "Cached"]

T = TypeVar("T")
P = ParamSpec("P")

_OF_CACHE: Any = object()  # the TTL of a call that has none of its own
_MISS: Any = object()
_MOST_KEY = 8192  # bytes
_MOST_VALUE = (16 << 20) - (64 << 10)  # bytes; a server takes mutations of up to 16 MiB
_WRITERS = 16  # how many writes of set_many and delete_many run at once


class _Flight:
    """A call of a factory, for all who wait for it."""

    def __init__(self) -> None:
        self.landed = anyio.Event()
        self.value: Any = _MISS
        self.error: Exception | None = None


class Cache:
    """Values by key, for a time: ``await cache.get_or_set("user:1", load, ttl=60)``.

    Guarantee: tasks that miss a key at the same time call the factory once. What a factory has
    loaded is not kept if the key was set or deleted, or the namespace cleared, after its call
    began, in any program. None is a value. What fails isn't kept. An entry that can't be decoded is
    a miss. While Cassandra doesn't answer, ``get_or_set`` returns what the factory returns.

    Not guaranteed: that a factory runs once among several programs; that what it has loaded is
    kept.

    Cost: a hit is one read, of two rows. A miss, and ``set``, are one read and one LWT, ``delete``
    and ``clear`` are one LWT. A miss while another one ends is one read more.

    Table: ``cache``, a row for each key; that of a deleted key goes after two days.

    Arguments:
        ttl: for how many seconds entries are kept; None for ever.
        namespace: keys of other namespaces are other keys; each namespace is cleared by itself.
        jitter: the largest part by which a TTL is shortened at random, 0 to 1, so that entries that
            were written together don't expire together.
        codec: the codec of values.
    """

    def __init__(
        self,
        session: Executor,
        *,
        keyspace: str,
        table: str = "cache",
        ttl: Seconds | None = 300,
        namespace: str = "default",
        jitter: float = 0.1,
        codec: Codec = JSON,
    ) -> None:
        self._session = session
        self._schema = table_schema(keyspace, table)
        self._ttl = ttl
        self._lasting(ttl)
        part = seconds("jitter", jitter, most=1.0)
        self._entries = Entries(session, self._schema.name, text("namespace", namespace), part)
        self._codec = codec
        self._flights: dict[Any, _Flight] = {}
        self._landed = 0  # how many flights have landed so far

    @classmethod
    def schema_cql(cls, keyspace: str, *, table: str = "cache") -> tuple[str, ...]:
        """Return the statements that :meth:`create_schema` executes."""
        return (table_schema(keyspace, table).cql(),)

    async def create_schema(self) -> None:
        """Create the table if it doesn't exist; SchemaMismatch if it has another shape."""
        await create(self._session, [self._schema])

    async def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or the default if it is a miss."""
        (entry,) = await self._entries.read([_key(key)])
        return self._value(entry, default)

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the values of those keys that are not a miss."""
        entries = await self._entries.read(_keys(keys))
        values = {entry.key: self._value(entry, _MISS) for entry in entries}
        return {key: value for key, value in values.items() if value is not _MISS}

    async def set(self, key: str, value: Any, *, ttl: Seconds | None = _OF_CACHE) -> None:
        """Set the value of a key; the key has at most 8 KiB, the encoded value less than 16 MiB."""
        await self.set_many({key: value}, ttl=ttl)

    async def set_many(self, values: Mapping[str, Any], *, ttl: Seconds | None = _OF_CACHE) -> None:
        """Set the values of several keys, each by itself: after an error some may be set."""
        lasting = self._lasting(ttl)
        payloads = {_key(key): self._dump(value) for key, value in values.items()}

        async def store(entry: Entry) -> None:
            await self._entries.replace(entry, payloads[entry.key], lasting)

        entries = await self._entries.read([*payloads])
        await for_each(entries, store, concurrency=min(_WRITERS, len(entries)))

    async def delete(self, key: str) -> None:
        """Make a key a miss; what is being loaded for it won't be kept."""
        await self._entries.renew(_key(key))

    async def delete_many(self, keys: Iterable[str]) -> None:
        """Make several keys a miss, each by itself: after an error some may be deleted."""
        found = _keys(keys)
        await for_each(found, self._entries.renew, concurrency=min(_WRITERS, len(found)))

    async def clear(self) -> None:
        """Make all keys of the namespace a miss, at once; what is stored goes with its TTL."""
        await self._entries.renew("", 0)

    async def get_or_set(
        self, key: str, factory: Callable[[], Awaitable[T]], *, ttl: Seconds | None = _OF_CACHE
    ) -> T:
        """Return the value of a key; if it is a miss, what a factory returns, and keep that.

        Tasks that wait for one call of a factory get the same object, or the error that it raised.
        InvalidInput if the codec can't encode what the factory has returned.
        """
        lasting = self._lasting(ttl)
        _function("factory", factory)
        _key(key)
        while True:
            landed, began = self._landed, anyio.current_time()
            entry = await self._look(key)
            value: T = self._value(entry, _MISS)
            if value is not _MISS:
                return value
            place = (key, entry and entry[1:3])
            flight = self._flights.get(place)
            if flight is None:
                break
            await flight.landed.wait()
            if flight.error is not None:
                raise flight.error
            if flight.value is not _MISS:
                value = flight.value
                return value
            # its task was cancelled
        flight = self._flights[place] = _Flight()
        try:
            if entry and landed != self._landed:  # perhaps one for this key, after the read
                began, entry = anyio.current_time(), await self._look(key)
                value = self._value(entry, _MISS)
            if value is _MISS:
                value = await factory()
                payload = self._dump(value)
                with _outages_pass():
                    if entry is not None:
                        await self._entries.fill(entry, payload, lasting, began)
            flight.value = value
        except Exception as exc:
            flight.error = exc
            raise
        finally:
            del self._flights[place]
            self._landed += 1
            flight.landed.set()
        return value

    def cached(
        self, *, key: Callable[P, str], ttl: Seconds | None = _OF_CACHE
    ) -> Callable[[Callable[P, Awaitable[T]]], Cached[P, T]]:
        """Decorate an async function, whose results are cached.

        ``key`` is a function that takes the arguments of a call and returns the key.
        """
        self._lasting(ttl)
        _function("key", key)
        return lambda function: Cached(self, function, key, ttl)

    # -- beneath

    async def _look(self, key: str) -> Entry | None:
        """Read an entry; None if Cassandra doesn't answer."""
        with _outages_pass():
            return (await self._entries.read([key]))[0]
        return None

    def _value(self, entry: Entry | None, default: Any) -> Any:
        if entry is None or entry.payload is None:
            return default
        try:
            return self._codec.load(f"entry {entry.key!r}", entry.payload)
        except CorruptPayload:
            return default

    def _dump(self, value: Any) -> bytes:
        return self._codec.dump("value", value, most=_MOST_VALUE)

    def _lasting(self, ttl: Any) -> int:
        """Return a TTL in whole seconds; 0 for ever."""
        ttl = self._ttl if ttl is _OF_CACHE else ttl
        return 0 if ttl is None else ttl_seconds("ttl", ttl)


class Cached(Generic[P, T]):
    """A function whose results are cached; made by :meth:`Cache.cached`."""

    def __init__(
        self,
        cache: Cache,
        function: Callable[P, Awaitable[T]],
        key: Callable[P, str],
        ttl: Seconds | None,
    ) -> None:
        update_wrapper(self, function)
        self._cache, self._function, self._key, self._ttl = cache, function, key, ttl

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what the function returns for these arguments, or has returned lately."""
        factory = partial(self._function, *args, **kwargs)
        return await self._cache.get_or_set(self._key(*args, **kwargs), factory, ttl=self._ttl)

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Forget what the function has returned for these arguments."""
        await self._cache.delete(self._key(*args, **kwargs))


@contextmanager
def _outages_pass() -> Iterator[None]:
    try:
        yield
    except CQLError as exc:
        if not may_retry(exc, idempotent=True):
            raise


def _function(name: str, value: object) -> None:
    if not callable(value):
        raise InvalidInput(name, "a function", value)


def _key(key: str) -> str:
    return text("key", key, most=_MOST_KEY)


def _keys(keys: Iterable[str]) -> list[str]:
    if isinstance(keys, str):
        raise InvalidInput("keys", "an iterable of keys", keys)
    return list(dict.fromkeys(map(_key, keys)))
