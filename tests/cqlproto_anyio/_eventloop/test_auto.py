"""A program imports only the half of the client for its event loop."""

from __future__ import annotations

import json
import sys

import anyio
import pytest

from cqlproto_anyio._eventloop.auto import current_backend
from tests.support.replies import echo
from tests.support.server import serving

# Connects, prepares, executes, times out, and closes.
PROGRAM = """
import json, sys
for name in sys.argv[3:]:
    __import__(name)
import cqlproto_anyio as cql

async def main():
    config = cql.Config(discovery=False)
    async with cql.connect("127.0.0.1", port=int(sys.argv[2]), config=config) as session:
        for number in range(3):
            result = await session.execute("SELECT v FROM t WHERE k = ?", (number,))
            assert result.one().v == number
        try:
            await session.execute("SELECT v FROM t WHERE k = ?", (4,), timeout=1e-6)
        except cql.RequestTimeout:
            pass

if sys.argv[1] == "asyncio":
    import asyncio
    asyncio.run(main())
else:
    import trio
    trio.run(main)
print(json.dumps(sorted(sys.modules)))
"""
OF_ASYNCIO = {"cqlproto_anyio._eventloop._asyncio", "cqlproto_anyio._eventloop._asyncio_socket"}
OF_TRIO = {"cqlproto_anyio._eventloop._trio", "trio"}


async def imported(loop: str, *before: str) -> set[str]:
    """Return the modules that the program has imported by its end.

    Arguments:
        loop: the event loop, ``asyncio`` or ``trio``.
        before: modules to import first.
    """
    async with serving() as server:
        server.answer = echo(server)
        port = await server.listen()
        command = [sys.executable, "-c", PROGRAM, loop, str(port), *before]
        process = await anyio.run_process(command, stderr=None)
        return set(json.loads(process.stdout))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_program_on_asyncio_imports_nothing_of_trios() -> None:
    modules = await imported("asyncio")
    assert modules >= OF_ASYNCIO
    assert not modules & OF_TRIO


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_program_on_trio_imports_nothing_of_asyncios() -> None:
    modules = await imported("trio")
    assert modules >= OF_TRIO
    assert not modules & OF_ASYNCIO


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_asyncio_is_found_in_a_program_that_has_imported_trio() -> None:
    modules = await imported("asyncio", "trio")
    assert modules >= OF_ASYNCIO
    assert modules & OF_TRIO == {"trio"}


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_trio_is_found() -> None:
    assert current_backend().name == "trio"


def test_without_an_event_loop_there_is_none() -> None:
    with pytest.raises(RuntimeError, match=r"no event loop is running: use asyncio\.run or trio"):
        current_backend()
