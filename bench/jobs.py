"""What one measurement is, and what all clients share.

A `Job` goes to a worker process as JSON, an `Outcome` comes back the same way.

All clients do the same work: the same statements on the same tables with the same Python values.
Only types that every client maps to the same Python types are used (text, bigint, double, boolean):
a uuid, for instance, is a `UUID` for one client and a `str` for another.
"""

from __future__ import annotations

import dataclasses
import json
import random
from typing import Literal, TypeAlias

Work: TypeAlias = Literal["setup", "drop", "load", "write", "read", "scan", "stream"]
ItemRow: TypeAlias = tuple[str, str, int, float, bool]

KEYSPACE = "cqlproto_bench"
ITEM_ROWS = 20_000
"""Rows of the table that reads and scans use."""
STREAM_PARTITIONS = 100

_REPLICATION = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
_ITEM_COLUMNS = "id text PRIMARY KEY, name text, amount bigint, price double, active boolean"
_READING_COLUMNS = "part int, seq int, sensor text, amount bigint, PRIMARY KEY (part, seq)"
SCHEMA = (
    f"CREATE KEYSPACE IF NOT EXISTS {KEYSPACE} WITH replication = {_REPLICATION}",
    f"CREATE TABLE IF NOT EXISTS {KEYSPACE}.items ({_ITEM_COLUMNS})",
    # Writes go to a table of their own, so that what is read and scanned stays as it was loaded.
    f"CREATE TABLE IF NOT EXISTS {KEYSPACE}.written ({_ITEM_COLUMNS})",
    f"CREATE TABLE IF NOT EXISTS {KEYSPACE}.readings ({_READING_COLUMNS})",
    f"CREATE TABLE IF NOT EXISTS {KEYSPACE}.loaded (name text PRIMARY KEY, rows int)",
)
_NAMES = "(id, name, amount, price, active) VALUES (?, ?, ?, ?, ?)"
FILL = f"INSERT INTO {KEYSPACE}.items {_NAMES}"
WRITE = f"INSERT INTO {KEYSPACE}.written {_NAMES}"
READ = f"SELECT id, name, amount, price, active FROM {KEYSPACE}.items WHERE id = ?"
SCAN = f"SELECT id, name, amount, price, active FROM {KEYSPACE}.items"
LOAD = f"INSERT INTO {KEYSPACE}.readings (part, seq, sensor, amount) VALUES (?, ?, ?, ?)"
STREAM = f"SELECT part, seq, sensor, amount FROM {KEYSPACE}.readings"
LOADED = f"SELECT rows FROM {KEYSPACE}.loaded WHERE name = 'readings'"
SET_LOADED = f"INSERT INTO {KEYSPACE}.loaded (name, rows) VALUES ('readings', ?)"
CLIENTS = "SELECT driver_name, protocol_version FROM system_views.clients"
DROP = f"DROP KEYSPACE IF EXISTS {KEYSPACE}"


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """One measurement.

    `operations` are requests of reads and writes, passes of a scan, rows of load and stream.
    `one_key` makes every request ask for the same row, as the canned server answers them all alike.
    """

    client: str
    work: Work
    host: str
    port: int
    operations: int
    warm_up: int = 0
    in_flight: int = 128
    page_size: int = 5_000
    one_key: bool = False

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        return cls(**json.loads(text))


@dataclasses.dataclass(slots=True)
class Outcome:
    """What a worker measured: seconds, bytes, and the `count` of requests or of rows."""

    count: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    memory_before: int = 0
    memory_peak: int = 0
    protocol: str = "?"
    version: str = "?"

    @property
    def rate(self) -> float:
        return self.count / self.seconds

    @property
    def cpu_each(self) -> float:
        """CPU time of the process for each operation, in microseconds."""
        return self.cpu / self.count * 1e6

    @property
    def memory_rise(self) -> int:
        return self.memory_peak - self.memory_before

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        return cls(**json.loads(text))


def item(number: int) -> ItemRow:
    return (
        f"item-{number:06}",
        f"The name of item {number}",
        number * 1_000_003,
        number / 8,
        number % 2 == 0,
    )


def write_values(job: Job) -> list[ItemRow]:
    """The rows to write, made before the clock runs."""
    return [item(number % ITEM_ROWS) for number in range(job.warm_up + job.operations)]


def read_keys(job: Job) -> list[tuple[str]]:
    """The keys to read, in an order that is random and the same for every client."""
    if job.one_key:
        return [(item(1)[0],)] * (job.warm_up + job.operations)
    choice = random.Random(1).randrange
    return [(item(choice(ITEM_ROWS))[0],) for _ in range(job.warm_up + job.operations)]


def reading(number: int, total: int) -> tuple[int, int, str, int]:
    """Row `number` of the `total` rows that the stream reads."""
    part, seq = divmod(number, -(-total // STREAM_PARTITIONS))
    return (part, seq, f"sensor-{number % 1000:03}", number)


class WrongResult(Exception):
    """A client returned something else than what was written; its figures would be worthless."""


def check(found: int, expected: int, what: str) -> None:
    if found != expected:
        raise WrongResult(f"{what}: expected {expected}, got {found}")
