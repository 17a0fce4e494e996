"""A program whose tasks run their own event loop, as nest_asyncio allows.

    python -m tests.support.nestedloops

A task that is woken by a reply runs within the loop's callback for that connection. The loop that
the task runs has to serve the same connection.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import nest_asyncio

import cqlproto_anyio as cql
from tests.support.replies import echo, ints
from tests.support.server import idle, serving

if TYPE_CHECKING:
    from collections.abc import Awaitable

SELECT = "SELECT v FROM t WHERE k = ?"
# Longer than any request takes.
OPTIONS = cql.Profile(timeout=5.0)


def nested(awaitable: Awaitable[Any]) -> Any:
    return asyncio.get_running_loop().run_until_complete(awaitable)


async def read(session: cql.Session, number: int) -> int:
    value: int = (await session.execute(SELECT, (number,))).scalar()
    return value


async def nests(session: cql.Session, number: int, depth: int) -> int:
    """Read some numbers, each after the first in a loop within the loop."""
    value = await read(session, number)
    return value + (nested(nests(session, number, depth - 1)) if depth > 1 else 0)


async def in_groups(session: cql.Session, number: int) -> list[int]:
    await read(session, number)
    found: list[int] = nested(asyncio.gather(*[read(session, each) for each in range(number)]))
    return found


async def use(session: cql.Session) -> None:
    for depth in range(1, 5):
        assert await nests(session, 3, depth) == 3 * depth
    # many tasks at once, each of which runs the loop
    assert await asyncio.gather(*[nests(session, 1, 3) for _ in range(20)]) == [3] * 20
    assert await in_groups(session, 30) == list(range(30))
    await read(session, 1)
    assert nested(session.page(SELECT, (4,))).rows[0].v == 4
    nested(session.batch([("INSERT INTO t (k) VALUES (?)", (1,))]))
    await read(session, 1)
    # the session's timer fails a request that takes too long
    try:
        nested(session.execute("SELECT slow FROM t", timeout=0.01))
    except cql.RequestTimeout:
        pass
    else:
        raise AssertionError("it did not time out")
    assert await read(session, 8) == 8


async def main(patch: bool) -> None:
    config = cql.Config(discovery=False, max_connections_per_host=1, max_orphans=10)
    async with serving() as server:
        usual = echo(server)
        server.answer = lambda asked: None if "slow" in asked.text else usual(asked)
        port = await server.listen()
        async with cql.connect("127.0.0.1", port=port, config=config, profile=OPTIONS) as session:
            if patch:  # as in a notebook, whose loop is running: a reply has run this task
                await read(session, 1)
                nest_asyncio.apply()
                assert nested(read(session, 2)) == 2
            await use(session)
            for asked in await server.take_all(1):
                asked.reply(ints(0))
            await idle(session)
            assert len(server.peers) == 1


if __name__ == "__main__":
    asyncio.run(main(patch=True))
    asyncio.run(main(patch=False))
