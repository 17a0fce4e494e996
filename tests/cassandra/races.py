"""Races on a real node: with a second process, and with faults of conditional writes.

``python -m tests.cassandra.races`` is the second process; :func:`in_other_process` and
:func:`killed_process` start it.
"""

from __future__ import annotations

import importlib
import json
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

import cqlproto_anyio as cql
from cqlproto_anyio.testing import Answer, Delay, Drop, FaultProxy, Rule

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from cqlproto_anyio.testing import Fault, Side
    from tests.cassandra.conftest import Node

__all__ = ["FAULTS", "Counting", "connected", "faulty", "in_other_process", "killed_process"]

_ROOT = Path(__file__).parent.parent.parent

FAULTS: dict[str, Callable[[], tuple[Fault, Side]]] = {
    "the reply is lost": lambda: (Drop(connection=True), "reply"),
    "the reply is swallowed": lambda: (Drop(), "reply"),
    "the request is lost": lambda: (Drop(connection=True), "request"),
    "the request is late": lambda: (Delay(1.5), "request"),
    "WriteTimeout after it was applied": lambda: (
        Answer("WRITE_TIMEOUT", consistency=cql.Consistency.SERIAL, write_type="CAS"),
        "reply",
    ),
    "WriteTimeout before": lambda: (
        Answer("WRITE_TIMEOUT", consistency=cql.Consistency.SERIAL, write_type="CAS"),
        "request",
    ),
    "CASWriteUnknown": lambda: (
        Answer("CAS_WRITE_UNKNOWN", consistency=cql.Consistency.SERIAL),
        "reply",
    ),
    "UNPREPARED": lambda: (Answer("UNPREPARED"), "request"),
    "OVERLOADED": lambda: (Answer("OVERLOADED"), "request"),
}
"""What may happen to a conditional write, by name: the fault and its side."""

PATIENCE = 1.0  # the timeout of a faulty session's requests, in seconds


class Counting(cql.Hooks):
    """Counts the requests of a session.

    Attributes:
        records: the requests, in order.
    """

    def __init__(self) -> None:
        self.records: list[cql.RequestRecord] = []

    def request_finished(self, record: cql.RequestRecord) -> None:
        self.records.append(record)

    @property
    def lwts(self) -> int:
        """How many conditional statements and batches were executed."""
        return sum(" IF " in each.query or each.verb == "batch" for each in self.records)

    @property
    def reads(self) -> int:
        """How many SELECTs were executed."""
        return sum(each.query.startswith("SELECT") for each in self.records)


@asynccontextmanager
async def connected(node: Node, keyspace: str, **config: Any) -> AsyncIterator[cql.Session]:
    """Open a session on a node."""
    async with cql.connect(
        node.host, port=node.port, keyspace=keyspace, config=cql.Config(**config)
    ) as session:
        yield session


@asynccontextmanager
async def faulty(
    node: Node, keyspace: str, faults: Sequence[str | None]
) -> AsyncIterator[cql.Session]:
    """Open a session whose conditional writes have the faults, one each in turn.

    Arguments:
        node: the node.
        keyspace: the session's keyspace.
        faults: names in ``FAULTS``; None for a write without one. Later writes have none.
    """
    profile = cql.Profile(timeout=PATIENCE)
    async with FaultProxy(node.host, node.port) as proxy:
        for number, name in enumerate(faults):
            if name is not None:
                fault, side = FAULTS[name]()
                proxy.add(
                    Rule(
                        fault,
                        side=side,
                        opcode=("EXECUTE", "BATCH"),
                        statement="% IF %",
                        skip=number,
                        times=1,
                    )
                )
        async with cql.connect(
            proxy.host, port=proxy.port, keyspace=keyspace, profile=profile
        ) as session:
            yield session


async def in_other_process(
    function: Callable[..., Awaitable[Any]], node: Node, keyspace: str, *arguments: Any
) -> Any:
    """Run a coroutine function of a test module in a second process, and return what it returns.

    Arguments:
        function: a function of a module, which takes a session and the arguments.
        node: the node to connect to.
        keyspace: the session's keyspace.
        arguments: what JSON can tell; so is what the function returns.
    """
    command = _command(function, node, keyspace, arguments)
    ran = await anyio.run_process(command, cwd=_ROOT, stderr=None)
    return json.loads(ran.stdout)


@asynccontextmanager
async def killed_process(
    function: Callable[..., Awaitable[Any]], node: Node, keyspace: str, *arguments: Any
) -> AsyncIterator[None]:
    """Run a function as ``in_other_process``, and kill the process at the end of the block."""
    command = _command(function, node, keyspace, arguments)
    async with await anyio.open_process(command, cwd=_ROOT, stderr=None) as process:
        try:
            yield
            assert process.returncode is None, "the process has ended by itself"
        finally:
            process.kill()


def _command(
    function: Callable[..., Awaitable[Any]], node: Node, keyspace: str, arguments: Sequence[Any]
) -> list[str]:
    name = Path(function.__code__.co_filename).stem
    told = json.dumps([name, function.__name__, node.host, node.port, keyspace, arguments])
    return [sys.executable, "-m", "tests.cassandra.races", told]


async def _run(
    name: str, function: str, host: str, port: int, keyspace: str, arguments: list[Any]
) -> Any:
    module = importlib.import_module(f"tests.cassandra.{name}")
    async with cql.connect(host, port=port, keyspace=keyspace) as session:
        return await getattr(module, function)(session, keyspace, *arguments)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(anyio.run(_run, *json.loads(sys.argv[1]))))
