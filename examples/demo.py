"""Write 20,000 rows concurrently, page through them all, and show a few.

    python examples/demo.py [--backend asyncio|trio]

`CQLPROTO_HOSTS` (`host[:port],..`) names the cluster to use. Without it a Cassandra is started for
the demo, and stopped after it.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import anyio
from rich.console import Console
from rich.progress import track
from rich.table import Table

import cqlproto_anyio as cql

if TYPE_CHECKING:
    from collections.abc import Sequence

ROWS = 20_000
SENSORS = 20
WORKERS = 128  # requests in flight at once

CREATE_KEYSPACE = """CREATE KEYSPACE IF NOT EXISTS cqlproto_demo
    WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"""
CREATE_TABLE = """CREATE TABLE IF NOT EXISTS cqlproto_demo.readings
    (sensor text, number int, value double, PRIMARY KEY (sensor, number))"""
INSERT = "INSERT INTO cqlproto_demo.readings (sensor, number, value) VALUES (?, ?, ?)"
SELECT = "SELECT sensor, number, value FROM cqlproto_demo.readings"


class Reading(NamedTuple):
    sensor: str
    number: int
    value: float


async def write(session: cql.Session, readings: Sequence[Reading], console: Console) -> None:
    insert = await session.prepare(INSERT)
    # All workers take from the one iterator, so each row is written once and the bar moves on.
    shared = iter(track(readings, "writing", console=console, disable=not console.is_terminal))

    async def worker() -> None:
        for reading in shared:
            await session.execute(insert, reading)

    async with anyio.create_task_group() as group:
        for _ in range(WORKERS):
            group.start_soon(worker)


async def read(session: cql.Session) -> list[Reading]:
    found: list[Reading] = []
    async for page in session.stream(SELECT, row=Reading, page_size=1_000).pages():
        found.extend(page)
    return found


def show(readings: Sequence[Reading], console: Console) -> None:
    table = Table(title="a few of them")
    table.add_column("sensor")
    table.add_column("number", justify="right")
    table.add_column("value", justify="right")
    for reading in readings:
        table.add_row(reading.sensor, str(reading.number), f"{reading.value:.2f}")
    console.print(table)


async def demo(hosts: Sequence[str], console: Console) -> None:
    async with cql.connect(hosts) as session:
        await session.execute(CREATE_KEYSPACE)
        await session.execute(CREATE_TABLE)
        readings = [Reading(f"sensor {n % SENSORS}", n // SENSORS, n / 8) for n in range(ROWS)]

        start = time.perf_counter()
        await write(session, readings, console)
        rate = len(readings) / (time.perf_counter() - start)
        console.print(f"{len(readings):,} rows written, {rate:,.0f} writes/s")

        start = time.perf_counter()
        found = await read(session)
        rate = len(found) / (time.perf_counter() - start)
        console.print(f"{len(found):,} rows read in pages of 1,000, {rate:,.0f} rows/s")

        show(found[:: len(found) // 5], console)


def start_cassandra() -> None:
    """Run this program again below the tests' launcher, which sets `CQLPROTO_HOSTS`."""
    command = [sys.executable, "-m", "tests.cassandra", "run", "--", sys.executable]
    script = Path(__file__).resolve()
    os.chdir(script.parent.parent)
    os.execv(sys.executable, [*command, str(script), *sys.argv[1:]])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    backend = parser.parse_args().backend
    if not os.environ.get("CQLPROTO_HOSTS"):
        start_cassandra()
    hosts = [host.strip() for host in os.environ["CQLPROTO_HOSTS"].split(",")]
    console = Console()
    try:
        anyio.run(functools.partial(demo, hosts, console), backend=backend)
    except cql.CQLError as error:
        errors = Console(stderr=True, soft_wrap=True)
        errors.print(f"demo: {error}", style="red", markup=False, highlight=False)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
