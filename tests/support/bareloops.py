"""A session's own tasks and callbacks, in the bare event loops of programs.

    python -m tests.support.bareloops asyncio --without-sniffio

runs every scenario under ``asyncio.run``, ``uvloop.run`` or ``trio.run``, without a test runner.
Each begins in a callback of the event loop, where no task is running: a lost connection, an alarm,
a task that is being cancelled.
"""

from __future__ import annotations

import asyncio
import math
import sys
from contextlib import AsyncExitStack
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["SCENARIOS", "main"]

SELECT = "SELECT v FROM ks.t WHERE k = ?"
SLOW = "SELECT slow FROM t"
RUNNER: list[str] = []


class Without(MetaPathFinder):
    """Makes a module appear not to be installed."""

    def __init__(self, name: str) -> None:
        assert name not in sys.modules
        self._name = name

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname.partition(".")[0] == self._name:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


class Scenes:
    """A session on a TCP server, and one on a cluster whose streams push like sockets."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def over_tcp(self, **fields: Any) -> tuple[Any, Any]:
        """Return a server of one node and a session on it."""
        import cqlproto_anyio as cql
        from cqlproto_anyio.policies import ConstantReconnection
        from tests.support.replies import echo
        from tests.support.server import serving

        server = await self._stack.enter_async_context(serving())
        usual = echo(server)
        server.answer = lambda asked: None if asked.text == SLOW else usual(asked)
        port = await server.listen()
        fields = {"discovery": False, "max_connections_per_host": 1, **fields}
        config = cql.Config(reconnection=ConstantReconnection(0.01, jitter=0.0), **fields)
        connecting = cql.connect("127.0.0.1", port=port, config=config)
        return server, await self._stack.enter_async_context(connecting)

    async def on_cluster(self, hosts: int = 3, **fields: Any) -> tuple[Any, Any]:
        """Return a cluster and a session that is connected to all its hosts."""
        from tests.support.cluster_sessions import connected, session_on
        from tests.support.fakecluster import FakeCluster

        cluster = FakeCluster(hosts)
        session = await self._stack.enter_async_context(session_on(cluster, pushes=True, **fields))
        await connected(session, cluster.hosts)
        return cluster, session


async def reconnects_after_a_loss(scenes: Scenes) -> None:
    server, session = await scenes.over_tcp()
    for number in range(3):
        await server.cut(session)
        assert (await session.execute(SELECT, (number,))).scalar() == number
        [host] = session.statistics().hosts
        assert (host.connections, host.connecting, host.opened) == (1, 0, number + 2)


async def waits_for_a_server_that_restarts(scenes: Scenes) -> None:
    from tests.support.server import until

    cluster, session = await scenes.on_cluster(1, discovery=False)
    [host] = cluster.hosts
    for number in range(3):
        host.kill()
        await until(lambda: session.statistics().hosts[0].status == "DOWN")
        host.revive()
        await until(lambda: session.statistics().hosts[0].connections == 1)
        assert (await session.execute(SELECT, (number,))).scalar() == number


async def replaces_a_connection_that_is_full_of_orphans(scenes: Scenes) -> None:
    from tests.support.replies import ints
    from tests.support.server import until

    server, session = await scenes.over_tcp(max_orphans=2)
    for _ in range(3):
        assert await times_out(lambda: session.execute(SLOW))
    assert not any(peer.ended.is_set() for peer in server.peers)
    await until(lambda: session.statistics().hosts[0].connections == 1)
    assert (await session.execute(SELECT, (1,))).scalar() == 1
    assert len(server.peers) == 2
    for asked in await server.take_all(3):
        asked.reply(ints(0))


async def a_deadline_replaces_it_too(scenes: Scenes) -> None:
    import cqlproto_anyio as cql

    _, session = await scenes.over_tcp(max_orphans=1)
    for _ in range(2):
        try:
            await session.execute(SLOW, timeout=0.01)
        except cql.RequestTimeout:
            continue
        raise AssertionError("it did not time out")
    assert (await session.execute(SELECT, (1,))).scalar() == 1
    assert session.statistics().hosts[0].opened == 2


async def opens_more_connections_under_load(scenes: Scenes) -> None:
    import anyio

    from tests.support.replies import ints
    from tests.support.server import until

    server, session = await scenes.over_tcp(max_connections_per_host=3, grow_at=2)
    async with anyio.create_task_group() as group:
        for opened in (2, 3, 3):
            for _ in range(4):
                group.start_soon(session.execute, SLOW)
            await until(lambda: session.statistics().hosts[0].connections >= opened)  # noqa: B023
        for asked in await server.take_all(12):
            asked.reply(ints(0))


async def asks_a_second_host(scenes: Scenes) -> None:
    from cqlproto_anyio.policies import ConstantSpeculation
    from tests.support.fakecluster import row_v

    cluster, session = await scenes.on_cluster()
    asked: list[Any] = []

    def answer(request: Any) -> Any:
        asked.append(request)
        return row_v(7) if len(asked) == 2 else None

    cluster.answer = answer
    speculation = ConstantSpeculation(0.002)
    result = await session.execute("SELECT v FROM ks.t", speculation=speculation, timeout=5.0)
    assert result.scalar() == 7
    assert session.statistics().speculative == 1


async def gives_up_a_connection_that_is_silent(scenes: Scenes) -> None:
    from tests.support.server import until

    server, session = await scenes.over_tcp(heartbeat_interval=0.02, heartbeat_timeout=0.02)
    server.peers[0].pause()
    await until(lambda: len(server.peers) > 1)
    assert (await session.execute(SELECT, (5,))).scalar() == 5
    assert session.statistics().hosts[0].lost == 1


async def moves_its_control_connection(scenes: Scenes) -> None:
    from tests.support.cluster_sessions import connected
    from tests.support.server import until

    cluster, session = await scenes.on_cluster()
    for _ in range(2):
        was = session.statistics().control
        [host] = [each for each in cluster.hosts if str(each.endpoint) == was]
        host.kill()
        await until(lambda: session.statistics().control not in (None, was))  # noqa: B023
        assert (await session.execute(SELECT, (1,))).scalar() == 1
        host.revive()
        cluster.tell_up(host)
        await connected(session, cluster.hosts)
    new = cluster.add()
    cluster.tell_topology("NEW_NODE", new)
    await connected(session, cluster.hosts)


async def prepares_pages_and_batches(scenes: Scenes) -> None:
    import anyio

    _, session = await scenes.on_cluster()
    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(session.execute, SELECT, (number,))
    assert [row.v async for row in session.stream(SELECT, (3,))] == [3]
    assert (await session.page(SELECT, (4,))).rows[0].v == 4
    await session.batch([("INSERT INTO ks.t (k, v) VALUES (?, ?)", (1, 2))])


async def closes_under_load(scenes: Scenes) -> None:
    import anyio

    import cqlproto_anyio as cql
    from tests.support.server import start

    server, session = await scenes.over_tcp()
    async with anyio.create_task_group() as group:
        outcomes = [start(group, lambda: session.execute(SLOW)) for _ in range(5)]
        await server.take_all(5)
        await session.aclose()
    assert [type(each.error) for each in outcomes] == [cql.SessionClosed] * 5
    await session.aclose()


async def cannot_connect(scenes: Scenes) -> None:
    import cqlproto_anyio as cql

    try:
        await scenes.over_tcp(connector=refused)
    except cql.ConnectionFailed:
        return
    raise AssertionError("it is connected")


SCENARIOS: list[Callable[[Scenes], Awaitable[None]]] = [
    reconnects_after_a_loss,
    waits_for_a_server_that_restarts,
    replaces_a_connection_that_is_full_of_orphans,
    a_deadline_replaces_it_too,
    opens_more_connections_under_load,
    asks_a_second_host,
    gives_up_a_connection_that_is_silent,
    moves_its_control_connection,
    prepares_pages_and_batches,
    closes_under_load,
    cannot_connect,
]


async def refused(endpoint: Any) -> Any:
    raise ConnectionRefusedError(111, "Connection refused")


async def times_out(call: Callable[[], Awaitable[Any]]) -> bool:
    """Return whether a call takes too long for the event loop's own timeout."""
    if RUNNER == ["trio"]:
        import trio

        with trio.move_on_after(0.01) as scope:
            await call()
        return scope.cancelled_caught
    try:
        async with asyncio.timeout(0.01):
            await call()
    except TimeoutError:
        return True
    return False


async def play() -> None:
    """Run every scenario; each takes seconds at most."""
    import anyio

    from cqlproto_anyio._network import host_state as hoststate

    hoststate.STEADY = 0.0  # a new connection that is lost is replaced at once as well
    for scenario in SCENARIOS:
        try:
            with anyio.fail_after(10):
                async with AsyncExitStack() as stack:
                    await scenario(Scenes(stack))
        except BaseException as exc:
            exc.add_note(f"in {scenario.__name__}")
            raise


async def play_on_asyncio(*, eager: bool = False) -> None:
    """Like :func:`play`; the loop's exception handler must not be called either."""
    loop = asyncio.get_running_loop()
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: told.append(context))
    # debug mode logs slow callbacks, which depend on the machine's load
    loop.slow_callback_duration = math.inf
    if eager:
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined, unused-ignore]
    await play()
    assert not told, told


def main(runner: str, *options: str) -> None:
    """Run the scenarios under ``asyncio``, ``uvloop`` or ``trio``."""
    RUNNER.append(runner)
    if "--without-sniffio" in options:
        sys.meta_path.insert(0, Without("sniffio"))
    if runner == "trio":
        import trio

        trio.run(play)
    elif runner == "uvloop":
        import uvloop

        uvloop.run(play_on_asyncio())
    else:
        asyncio.run(play_on_asyncio())
        asyncio.run(play_on_asyncio(), debug=True)
        if sys.version_info >= (3, 12):
            asyncio.run(play_on_asyncio(eager=True))
    print("played", len(SCENARIOS))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
