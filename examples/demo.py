"""Write 20,000 rows concurrently, page through them all, and show a few.

    python examples/demo.py [--backend asyncio|trio]

`CQLPROTO_HOSTS` (`host[:port],..`) names the cluster; the demo drops its keyspace at the end.
Without the variable, a Cassandra is started for the demo and stopped after it.
"""

from __future__ import annotations

import argparse
import functools
import os
import secrets
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import anyio

try:
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table
except ModuleNotFoundError:
    raise SystemExit("the demo needs Rich: pip install rich") from None

import cqlproto_anyio as cql

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

ROWS = 20_000
SENSORS = 20
WORKERS = 128  # requests in flight at once

# A unique name, so that the demo touches no existing keyspace.
KEYSPACE = f"cqlproto_demo_{secrets.token_hex(4)}"
CREATE_KEYSPACE = f"""CREATE KEYSPACE {KEYSPACE}
    WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"""
CREATE_TABLE = f"""CREATE TABLE {KEYSPACE}.readings
    (sensor text, number int, value double, PRIMARY KEY (sensor, number))"""
INSERT = f"INSERT INTO {KEYSPACE}.readings (sensor, number, value) VALUES (?, ?, ?)"
SELECT = f"SELECT sensor, number, value FROM {KEYSPACE}.readings"
DROP = f"DROP KEYSPACE IF EXISTS {KEYSPACE}"


class Reading(NamedTuple):
    sensor: str
    number: int
    value: float


@asynccontextmanager
async def table(session: cql.Session) -> AsyncIterator[None]:
    """Create the keyspace and its table; drop the keyspace on leaving, after errors too."""
    try:
        await session.execute(CREATE_KEYSPACE)
        await session.execute(CREATE_TABLE)
        yield
    finally:
        with anyio.CancelScope(shield=True):  # after Ctrl-C as well
            await session.execute(DROP, timeout=60)


async def write(session: cql.Session, readings: Sequence[Reading], console: Console) -> None:
    insert = await session.prepare(INSERT)
    # All workers share this iterator, so each row is written once and the progress bar advances.
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
    shown = Table(title="a few of them")
    shown.add_column("sensor")
    shown.add_column("number", justify="right")
    shown.add_column("value", justify="right")
    for reading in readings:
        shown.add_row(reading.sensor, str(reading.number), f"{reading.value:.2f}")
    console.print(shown)


async def demo(hosts: Sequence[str], console: Console) -> None:
    async with cql.connect(hosts) as session, table(session):
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
    """Run this program again under the tests' launcher, which sets `CQLPROTO_HOSTS`."""
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
    except BaseException as error:
        cause = error
        while isinstance(cause, BaseExceptionGroup):  # raised by the writing tasks
            cause = cause.exceptions[0]
        if isinstance(cause, KeyboardInterrupt):
            return 130
        if not isinstance(cause, cql.CQLError):
            raise
        errors = Console(stderr=True, soft_wrap=True)
        errors.print(f"demo: {cause}", style="red", markup=False, highlight=False)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
