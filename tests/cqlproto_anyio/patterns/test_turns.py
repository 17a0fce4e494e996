"""One task per key at a time, in the order in which the tasks came."""

from __future__ import annotations

import anyio
import anyio.lowlevel

from cqlproto_anyio.patterns._turns import Turns


async def test_turns_are_in_order_and_by_key() -> None:
    turns, order = Turns(), []

    async def take(key: str, number: int) -> None:
        async with turns.turn(key) as mine:
            assert mine
            await anyio.sleep(1)
            order.append((anyio.current_time() - started, key, number))

    started = anyio.current_time()
    async with anyio.create_task_group() as group:
        for number in range(3):
            for key in "ab":
                group.start_soon(take, key, number)
                await anyio.lowlevel.checkpoint()
    assert [(round(at), number) for at, key, number in order if key == "a"] == [
        (1, 0),
        (2, 1),
        (3, 2),
    ]
    assert len([each for each in order if each[1] == "b"]) == 3
    assert turns._locks == {}


async def test_a_turn_that_does_not_come_in_time() -> None:
    turns = Turns()
    async with turns.turn("a") as first:
        assert first
        started = anyio.current_time()
        for within in (0.0, 2.0):
            async with turns.turn("a", within) as second:
                assert not second
        assert anyio.current_time() - started == 2.0
    async with turns.turn("a", 0.0) as third:
        assert third
    assert turns._locks == {}


async def test_a_task_that_is_cancelled_while_it_waits_leaves_nothing() -> None:
    turns = Turns()
    async with turns.turn("a"):
        with anyio.move_on_after(1) as scope:
            async with turns.turn("a"):
                pass
        assert scope.cancelled_caught
    async with turns.turn("a", 0.0) as mine:
        assert mine
    assert turns._locks == {}
