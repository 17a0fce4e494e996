"""One process under load: ``python -m tests.cassandra.soak.member trio 2 host:port ..``.

The process has one session for its whole life, and further sessions for phases that need other
settings. It reads commands as lines on standard input, and answers each with one line.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

import cqlproto_anyio as cql
from tests.cassandra.soak.load import SCHEMA, Load, fill, warm_up
from tests.cassandra.soak.resources import measure, settled
from tests.cassandra.soak.terms import Figures, Phase, told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

__all__ = ["main"]

# Short time limits, so that the session notices a node that hangs early and phases are short.
CONFIG: dict[str, Any] = {
    "connect_timeout": 3.0,
    "heartbeat_interval": 2.0,
    "heartbeat_timeout": 2.0,
}
_ENOUGH = 60.0  # seconds


class Member:
    """A process under load.

    Arguments:
        backend: the event loop's name.
        number: the number of this process, from 1; its keys are derived from it.
        hosts: the nodes, as ``address:port``.
    """

    def __init__(self, backend: str, number: int, hosts: list[str]) -> None:
        self.backend = backend
        self.number = number
        self.hosts = hosts
        self.session: cql.Session

    async def run(self) -> None:
        """Execute commands until the input ends."""
        async with self._connected(Phase("usual", 0)) as self.session:
            while told_ := await _next_command():
                match told_["do"]:
                    case "make":
                        await _change(self.session, SCHEMA)
                        await fill(self.session)
                        _answer({})
                    case "warm up":
                        await warm_up(self.session)
                        _answer({})
                    case "phase":
                        await self._phase(Phase.read(told_["phase"]))

    @asynccontextmanager
    async def _connected(self, phase: Phase) -> AsyncIterator[cql.Session]:
        translation = {key: _endpoint(value) for key, value in phase.translation.items()}
        config = cql.Config(
            **{**CONFIG, **phase.config},
            translate=(lambda endpoint: translation.get(str(endpoint), endpoint))
            if translation
            else None,
        )
        hosts = phase.contact_points or self.hosts
        async with cql.connect(list(hosts), config=config) as session:
            await _until(lambda: _all_up(session), "all nodes are up")
            yield session

    async def _phase(self, phase: Phase) -> None:
        """Run a phase until the command "finish"."""
        if not phase.own_session:
            await self._under_load(phase, self.session)
            return
        before = measure()
        async with self._connected(phase) as session:
            figures = await self._under_load(phase, session, last=False)
        after = await settled(before, 10.0)
        figures.untyped += [
            f"left behind by the phase's session: {each}" for each in after.more_than(before)
        ]
        _answer(told(figures))

    async def _under_load(
        self, phase: Phase, session: cql.Session, *, last: bool = True
    ) -> Figures:
        figures = Figures(phase.name, self.backend)
        load = Load(session, figures, (self.number << 56) + (phase.number << 32))
        started = time.monotonic()
        statistics = session.statistics()
        async with anyio.create_task_group() as group:
            await _until(lambda: _is_idle(session), "nothing is under way")
            figures.before = measure()
            for each in phase.groups:
                for number in range(each.workers):
                    group.start_soon(load.worker, each, number)
            _answer({})
            while (command := await _next_command()) is not None:
                if command["do"] == "finish":
                    break
                _answer(await self._during(command, session, load))
            load.stopped = True
        await _until(lambda: _all_up(session), "all nodes are up again")
        await load.verify()
        await _until(lambda: _is_idle(session, phase.unanswered), "nothing is under way any more")
        load.note_results()
        del load
        figures.after = await settled(figures.before, 10.0)
        figures.seconds = time.monotonic() - started
        now = session.statistics()
        figures.retries = now.retries - statistics.retries
        figures.speculative = now.speculative - statistics.speculative
        if last:
            _answer(told(figures))
        return figures

    async def _during(
        self, command: dict[str, Any], session: cql.Session, load: Load
    ) -> dict[str, Any]:
        match command["do"]:
            case "status":
                now = session.statistics()
                return {
                    "done": load.total,
                    "failed": load.failed,
                    "served": load.served,
                    "hosts": {host.address: host.status for host in now.hosts},
                    "orphans": now.orphans,
                    "waiting": now.waiting,
                    "speculative": now.speculative,
                }
            case "change":
                await _change(session, command["statements"])
                return {}
            case "returned":
                node, at = command["node"], command["at"]
                await _until(lambda: _serves(session, load, node, at), f"{node} serves again")
                load.figures.recovery[node] = time.monotonic() - at
                return {}
        raise ValueError(command)


async def _change(session: cql.Session, statements: Sequence[str]) -> None:
    """Change the schema; all nodes must agree before the next statement."""
    for statement in statements:
        result = await session.execute(statement, timeout=_ENOUGH)
        if result.schema_agreed is False:
            raise AssertionError(f"the nodes don't agree after {statement!r}")


def _all_up(session: cql.Session) -> bool:
    hosts = session.statistics().hosts
    return len(hosts) == 3 and all(host.status == "UP" for host in hosts)


def _is_idle(session: cql.Session, unanswered: int = 0) -> bool:
    now = session.statistics()
    changing = any(host.connecting or host.retiring for host in now.hosts)
    busy = now.in_flight or now.waiting or now.orphans > unanswered
    return not (busy or changing) and _all_up(session)


def _serves(session: cql.Session, load: Load, node: str, at: float) -> bool:
    up = any(
        host.address == node and host.status == "UP" and host.connections
        for host in session.statistics().hosts
    )
    return up and load.served.get(node, 0.0) >= at


async def _until(condition: Any, what: str) -> None:
    deadline = anyio.current_time() + _ENOUGH
    while not condition():
        if anyio.current_time() > deadline:
            raise TimeoutError(f"waited {_ENOUGH:g} s until {what}")
        await anyio.sleep(0.02)


def _endpoint(text: str) -> cql.Endpoint:
    host, _, port = text.rpartition(":")
    return cql.Endpoint(host, int(port))


async def _next_command() -> dict[str, Any] | None:
    line = await anyio.to_thread.run_sync(sys.stdin.readline)
    return json.loads(line) if line else None


def _answer(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def main() -> None:
    backend, number, *hosts = sys.argv[1:]
    name, options = ("asyncio", {"use_uvloop": True}) if backend == "uvloop" else (backend, {})
    try:
        anyio.run(Member(backend, int(number), hosts).run, backend=name, backend_options=options)
    except BaseException:
        _answer({"died": traceback.format_exc()})
        raise


if __name__ == "__main__":
    main()
