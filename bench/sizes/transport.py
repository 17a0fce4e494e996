"""Longer response bodies through a socket: a session of the client reads and decodes them.

The server (``server``) is a separate process, so the CPU time is the client's alone.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import anyio

import cqlproto_anyio as cql
from bench.sizes.decoding import BODIES
from bench.sizes.floors import copying
from bench.sizes.material import LIMITS
from bench.sizes.server import running, statement
from bench.sizes.timing import Series, measure
from cqlproto import ProtocolVersion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.sizes.timing import Plan, Prepare, Run

__all__ = ["socket_series"]

CASES = (
    ("asyncio", ProtocolVersion.V4, "cell"),
    ("asyncio", ProtocolVersion.V5, "cell"),
    ("trio", ProtocolVersion.V4, "cell"),
)


def socket_series(plan: Plan) -> Iterator[dict[str, Any]]:
    """Return the series of longer blobs, from a server on the same machine."""
    with running() as (host, port):
        for backend, version, kind in CASES:
            yield anyio.run(_received, plan, host, port, backend, version, kind, backend=backend)


async def _received(
    plan: Plan, host: str, port: int, backend: str, version: ProtocolVersion, kind: str
) -> dict[str, Any]:
    # the server has no system tables
    config = cql.Config(protocol_version=version, limits=LIMITS, discovery=False)
    profile = cql.Profile(timeout=300, max_rows=10**9)
    async with cql.connect(host, port=port, config=config, profile=profile) as session:
        statements = {
            size: await session.prepare(statement(kind, size), row=tuple)
            for size in plan.sizes(BODIES)
        }

        def make(size: int) -> Prepare:
            prepared = statements[size]

            def prepare(count: int) -> Run:
                async def run() -> None:
                    for _ in range(count):
                        (row,) = await session.execute(prepared, ("k",))
                        if not size - 64 < len(row[0]) < size:
                            raise RuntimeError(f"{len(row[0])} bytes of {size}")

                return run

            return prepare

        series = Series(
            f"through a socket, {backend}, v{version:d}",
            "socket",
            f"one blob, {backend}, v{version:d}",
            plan.sizes(BODIES),
            make,
            floor=functools.partial(copying, None),
        )
        return await measure(series, plan)
