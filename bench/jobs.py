"""Jobs, their outcomes, and the statements and values that all clients share.

A `Job` is sent to a worker process as a line of JSON; the `Outcome` comes back as another.

All clients do the same work: the same statements on the same tables with the same Python values.
The columns only have types that every client maps to the same Python type (text, bigint, float,
boolean). A uuid, for instance, is a `UUID` for one client and a `str` for another.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import random
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Work: TypeAlias = Literal[
    "setup",
    "drop",
    "load",
    "write",
    "read",
    "mixed",
    "scan",
    "stream",
    "list",
    "bulk",
    "recipe",
    "keys",
]
ItemRow: TypeAlias = tuple[str, str, int, float, bool]
Key: TypeAlias = tuple[str]

KEYSPACE = os.environ.get("CQLPROTO_BENCH_KEYSPACE", "cqlproto_bench")
ITEM_ROWS = 20_000
"""Rows of the table that reads and scans use."""
STREAM_PARTITIONS = 100

_ITEM_COLUMNS = "id text PRIMARY KEY, name text, amount bigint, price float, active boolean"
_READING_COLUMNS = "part int, seq int, sensor text, amount bigint, PRIMARY KEY (part, seq)"
TABLES = (
    f"CREATE TABLE IF NOT EXISTS {KEYSPACE}.items ({_ITEM_COLUMNS})",
    # Writes go to a separate table, so that the table for reads and scans stays as loaded.
    f"CREATE TABLE IF NOT EXISTS {KEYSPACE}.written ({_ITEM_COLUMNS})",
    f"CREATE TABLE IF NOT EXISTS {KEYSPACE}.readings ({_READING_COLUMNS})",
    f"CREATE TABLE IF NOT EXISTS {KEYSPACE}.loaded (name text PRIMARY KEY, rows int)",
)
NAMES = ("id", "name", "amount", "price", "active")
_COLUMNS = ", ".join(NAMES)
_VALUES = f"({_COLUMNS}) VALUES (?, ?, ?, ?, ?)"
FILL = f"INSERT INTO {KEYSPACE}.items {_VALUES}"
WRITE = f"INSERT INTO {KEYSPACE}.written {_VALUES}"
READ = f"SELECT {_COLUMNS} FROM {KEYSPACE}.items WHERE id = ?"
READ_WRITTEN = f"SELECT {_COLUMNS} FROM {KEYSPACE}.written WHERE id = ?"
SCAN = f"SELECT {_COLUMNS} FROM {KEYSPACE}.items"
READING_NAMES = ("part", "seq", "sensor", "amount")
LOAD = f"INSERT INTO {KEYSPACE}.readings ({', '.join(READING_NAMES)}) VALUES (?, ?, ?, ?)"
STREAM = f"SELECT {', '.join(READING_NAMES)} FROM {KEYSPACE}.readings"
LOADED = f"SELECT rows FROM {KEYSPACE}.loaded WHERE name = 'readings'"
SET_LOADED = f"INSERT INTO {KEYSPACE}.loaded (name, rows) VALUES ('readings', ?)"
RELEASE = "SELECT release_version FROM system.local"
DROP = f"DROP KEYSPACE IF EXISTS {KEYSPACE}"


def schema(replicas: int) -> list[str]:
    """Return the statements that create the keyspace and its tables, with `replicas` per row."""
    replication = f"{{'class': 'NetworkTopologyStrategy', 'replication_factor': {replicas}}}"
    return [
        f"CREATE KEYSPACE IF NOT EXISTS {KEYSPACE} WITH replication = {replication}",
        *TABLES,
    ]


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """One measurement.

    `operations` is the number of requests for reads and writes, of passes for a scan, of rows for
    load, stream, list and bulk. If it is missing, the worker determines how many take `seconds`.
    `one_key` makes all requests read the same row, because the canned server has one answer.
    `timed` asks for the latency of each request as well. `replicas` is the replication factor of a
    setup. `recipe` is a key of `bench.patterns.work.WORKS`.
    """

    client: str
    work: Work
    host: str
    port: int
    operations: int = 0
    seconds: float = 0.5
    in_flight: int = 128
    page_size: int = 5_000
    one_key: bool = False
    timed: bool = False
    replicas: int = 1
    recipe: str = ""

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        return cls(**json.loads(text))


@dataclasses.dataclass(slots=True)
class Outcome:
    """Figures from a worker: seconds, bytes, and the `count` of requests or rows.

    Latencies are in microseconds; None where too few requests were made for that percentile.
    `requests` (that the server has received) and `wrong` (results) are of recipes.
    """

    count: int = 0
    operations: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    memory_before: int = 0
    memory_peak: int = 0
    p50: float | None = None
    p99: float | None = None
    p999: float | None = None
    protocol: str = "?"
    version: str = "?"
    requests: int = 0
    wrong: int = 0

    @property
    def rate(self) -> float:
        return self.count / self.seconds

    @property
    def cpu_each(self) -> float:
        """CPU time of the process for each operation, in microseconds."""
        return self.cpu / self.count * 1e6

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        return cls(**json.loads(text))


def item(number: int) -> ItemRow:
    """Return row `number`.

    Its numbers have values that rsylla can write. rsylla guesses the CQL type from the value: an
    `int` up to 2**31 becomes an int, up to about 4 * 10**9 or around 10**12 a timestamp, others
    become a bigint. Every `float` becomes a float, never a double; the prices are exact as floats.
    """
    return (
        f"item-{number:06}",
        f"The name of item {number}",
        5_000_000_000 + number * 1_000_003,
        number / 8,
        number % 2 == 0,
    )


@functools.cache
def items() -> list[ItemRow]:
    """Return all rows of the table for reads and scans, in order."""
    return [item(number) for number in range(ITEM_ROWS)]


def requests(job: Job) -> Sequence[tuple[object, ...]]:
    """Return the values of requests, repeated when they are used up.

    These are rows to write, keys to read, or a random mix that is the same for every client.
    """
    return _requests(job.work, job.one_key)


@functools.cache
def _requests(work: Work, one_key: bool) -> Sequence[tuple[object, ...]]:
    rows = items()
    if work in ("write", "bulk"):
        return rows
    if one_key:
        return [rows[0][:1]]
    choice = random.Random(1)
    keys = [choice.choice(rows)[:1] for _ in range(ITEM_ROWS)]
    if work == "read":
        return keys
    return [row if choice.random() < 0.5 else key for row, key in zip(rows, keys, strict=True)]


def shaped(job: Job, shape: Callable[[Sequence[object]], Any]) -> list[Any]:
    """Return the values of `requests`, each in the container that the client binds."""
    return [shape(values) for values in requests(job)]


def as_dict(values: Sequence[object]) -> dict[str, object]:
    """Return values by column name; a key has the first column alone."""
    return dict(zip(NAMES, values, strict=False))


def reading(number: int, total: int) -> tuple[int, int, str, int]:
    """Return row `number` of the `total` rows of the stream's table."""
    part, seq = divmod(number, -(-total // STREAM_PARTITIONS))
    return (part, seq, f"sensor-{number % 1000:03}", number)


class WrongResult(Exception):
    """A client did not return the written values, so its figures would be worthless."""


def check(found: object, expected: object, what: str) -> None:
    if found != expected:
        raise WrongResult(f"{what}: expected {expected}, got {found}"[:300])


def keys_among(job: Job, count: int) -> int:
    """Return how many of the first `count` requests are reads."""
    values = [len(each) == 1 for each in requests(job)]
    rounds, rest = divmod(count, len(values))
    return rounds * sum(values) + sum(values[:rest])
