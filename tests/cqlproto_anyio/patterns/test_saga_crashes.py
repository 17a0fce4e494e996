"""Sagas whose workers die at any moment, or have a bad network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqlproto_anyio.patterns import CorruptPayload, SagaFailed, SagaStatus
from tests.cqlproto_anyio.patterns.sagatable import SagaTable, World
from tests.support.scripted import Scripted
from tests.support.virtual_clock import run_virtual

if TYPE_CHECKING:
    from tests.support.scripted import Request


class Crash(BaseException):
    """The process has died."""


class Dying:
    """A process that dies at a moment: at a request, or before or after an effect.

    Arguments:
        executor: the executor beneath.
        at: how many moments it lives.
        executed: whether the request at which it dies is executed.

    Attributes:
        executor: the executor that the process uses.
    """

    def __init__(self, executor: Scripted, at: int, executed: bool) -> None:
        self._left = at
        self._executed = executed
        self._answer = executor.answer
        self.executor = Scripted(self.answer)

    def moment(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Crash

    async def answer(self, request: Request) -> Any:
        if self._left == 0 and self._executed:
            await self._answer(request)
        self.moment()
        return await self._answer(request)


@pytest.mark.parametrize("executed", [True, False])
@pytest.mark.parametrize(("failing", "moments"), [({}, 17), ({"c": 1}, 23), ({"b": 9}, 20)])
async def test_a_crash_at_every_moment(
    executed: bool, failing: dict[str, int], moments: int
) -> None:
    """Whatever was done when the process died, the next one ends it: all is done, or nothing."""
    at, ended = -1, False
    while not ended:
        at += 1
        table, world = SagaTable(), World(**failing)
        dying = Dying(table.executor, at, executed)
        world.moment = dying.moment
        try:
            await world.sagas(dying.executor).run("s", "1")
            ended = True
        except Crash:
            pass
        except SagaFailed:
            ended = True
        world.moment = lambda: None
        await anyio.sleep(7)
        await world.sagas(table.executor).resume()
        found = await world.sagas(table.executor).get("s", "1")
        if found is None:
            assert (world.effects, world.calls) == (set(), [])
        elif found.status is SagaStatus.COMPLETED:
            assert world.effects == {"s/1/a", "s/1/b", "s/1/c"}
            assert found.results == {name: {"from": name} for name in "abc"}
            assert "b" not in failing
        else:
            assert found.status is SagaStatus.COMPENSATED
            assert world.effects - {"s/1/c"} == set()  # c has no undo
            assert failing
        # only what was under way was done again
        assert len(world.calls) - len({*world.calls}) <= 1
        assert table.listed() == []
        assert await world.sagas(table.executor).resume() == []
    assert at == moments


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=60)
@given(
    faults=st.lists(st.sampled_from(["reply", "request", "late", None]), max_size=10),
    failing=st.sampled_from([{}, {"b": 1}, {"c": 1, "undo_a": 1}]),
)
def test_any_faults(backend: str, faults: list[str | None], failing: dict[str, int]) -> None:
    table, world = SagaTable(*faults), World(**failing)

    async def run() -> None:
        try:
            done = await world.sagas(table.executor, undo_delay=0.01).run("s", "1")
            assert done.status is SagaStatus.COMPLETED
            assert world.calls == ["a", "b", "c"]
        except SagaFailed as failed:
            assert failed.compensated
            assert world.effects - {"s/1/c"} == set()
        table.deliver()
        found = await world.sagas(table.executor).get("s", "1")
        assert found is not None
        assert found.status in (SagaStatus.COMPLETED, SagaStatus.COMPENSATED)

    run_virtual(run, backend)


async def test_a_saga_that_cannot_be_read_does_not_keep_others_from_being_resumed() -> None:
    table, world = SagaTable(), World()
    for id in ("1", "2", "3", "4"):
        dying = Dying(table.executor, 6, True)
        with pytest.raises(Crash):
            await world.sagas(dying.executor).run("s", id)
    await anyio.sleep(7)
    table.log["s", "2"]["data"] = b"{"
    table.log["s", "3"]["status"] = "finished"
    with pytest.raises(CorruptPayload, match="the data of saga 's' '2'"):
        await world.sagas(table.executor).resume()
    assert table.listed() == ["2", "3"]
    table.log["s", "4"]["status"] = "needs_attention"
    table.open["s", "4"] = (100, True)
    waiting = aiter(world.sagas(table.executor).attention())
    for unreadable in ("the data of saga 's' '2'", "the status of saga 's' '3'"):
        with pytest.raises(CorruptPayload, match=unreadable):
            await anext(waiting)
    assert [each.id async for each in waiting] == ["4"]
