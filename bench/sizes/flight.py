"""More requests in flight on one connection: the core alone, and the client on the canned server.

A connection has 32,767 stream ids besides that of the handshake, so one of 32,768 tasks of the
client waits for a free stream id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

import cqlproto_anyio as cql
from bench.sizes.floors import tasks
from bench.sizes.material import (
    FIXED,
    LIMITS,
    Wire,
    binder,
    chunks,
    metadata,
    row_content,
    rows_body,
)
from bench.sizes.timing import Series, complete, ladder, measure
from cqlproto import ProtocolVersion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.servers import Address
    from bench.sizes.timing import Plan, Prepare, Run

__all__ = ["client_series", "core_series"]

IDS = LIMITS.max_streams
CORE = ladder(1, IDS, 4)
CLIENT = ladder(1, IDS + 1, 4)
QUERY = "SELECT key, cluster_name, release_version FROM system.local WHERE key = ?"
"""Every server has this table; the answer is one row."""


def core_series(plan: Plan) -> Iterator[dict[str, Any]]:
    """Return the series of the core: send N requests, receive N one-row replies in chunks."""
    for version in (ProtocolVersion.V4, ProtocolVersion.V5):
        wire = Wire(version)

        def make(size: int, wire: Wire = wire) -> Prepare:
            return _rounds(wire, size)

        series = Series(
            f"in flight, core alone, {wire.name}",
            "in-flight",
            f"core alone, {wire.name}",
            plan.sizes(CORE),
            make,
        )
        yield complete(measure(series, plan))


def _rounds(wire: Wire, size: int) -> Prepare:
    client = wire.connected()
    packer = binder(FIXED[:1], metadata(FIXED), wire.version)
    body = rows_body(len(FIXED), 1, row_content(FIXED, 1))
    received = chunks(b"".join([wire.reply(at, body) for at in range(1, size + 1)]))
    row = (1,)

    def prepare(count: int) -> Run:
        def run() -> None:
            send_bound, receive, next_event = (
                client.send_bound,
                client.receive_data,
                client.next_event,
            )
            for _ in range(count):
                for _ in range(size):
                    send_bound(packer, row)
                client.data_to_send()
                answered = 0
                for chunk in received:
                    receive(chunk)
                    while next_event() is not None:
                        answered += 1
                if answered != size or client.in_flight:
                    raise RuntimeError(f"{answered} replies to {size} requests")

        return run

    return prepare


def client_series(plan: Plan, address: Address, backend: str) -> Iterator[dict[str, Any]]:
    """Return the series of the client: N tasks, started together, each execute once."""
    yield anyio.run(_client, plan, address, backend, backend=backend)


async def _client(plan: Plan, address: Address, backend: str) -> dict[str, Any]:
    config = cql.Config(
        protocol_version=ProtocolVersion.V4,
        max_in_flight=IDS,
        max_connections_per_host=1,
        limits=LIMITS,
        discovery=False,  # the tests' server has no system tables
    )
    profile = cql.Profile(timeout=300)
    host, port = address
    async with cql.connect(host, port=port, config=config, profile=profile) as session:
        prepared = await session.prepare(QUERY, row=tuple)

        def make(size: int) -> Prepare:
            return _started_together(session, prepared, size)

        series = Series(
            f"in flight, client on {backend}, v4",
            "in-flight",
            f"client on {backend}, v4",
            plan.sizes(CLIENT),
            make,
            floor=tasks,
        )
        return await measure(series, plan)


def _started_together(session: cql.Session, prepared: cql.Prepared[Any], size: int) -> Prepare:
    found = 0

    async def one() -> None:
        nonlocal found
        rows = await session.execute(prepared, ("local",))
        found += len(rows)

    def prepare(count: int) -> Run:
        async def run() -> None:
            nonlocal found
            found = 0
            for _ in range(count):
                async with anyio.create_task_group() as group:
                    for _ in range(size):
                        group.start_soon(one)
            if found != count * size:
                raise RuntimeError(f"{found} rows for {count * size} requests")

        return run

    return prepare
