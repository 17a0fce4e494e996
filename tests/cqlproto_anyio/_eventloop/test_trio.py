"""How tasks wait on trio: by the message of its run loop, or by its function if that differs."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trio

from cqlproto_anyio._eventloop import _trio
from tests.support.replies import echo, preparing
from tests.support.server import idle, serving, start, state

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

pytestmark = pytest.mark.parametrize("anyio_backend", ["trio"])

SELECT = "SELECT v FROM t WHERE k = ?"


@pytest.fixture(params=["message", "function"])
def each_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _trio._message is not None, "trio's message has changed: waiting costs more now"
    if request.param == "function":
        monkeypatch.setattr(_trio, "_message", None)


@pytest.mark.usefixtures("each_way")
async def test_answered_cancelled_late() -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        await session.prepare(SELECT)
        async with anyio.create_task_group() as group:
            cancelled = start(group, lambda: session.execute(SELECT, (1,)))
            late = start(group, lambda: session.execute(SELECT, (2,), timeout=0.02))
            await server.take_all(2)
            cancelled.scope.cancel()
        assert cancelled.result is None
        assert isinstance(late.error, TimeoutError)
        assert state(session).orphans == 2
        server.answer = echo(server)
        assert (await session.execute(SELECT, (3,))).one().v == 3
        with trio.move_on_after(0) as scope:
            await session.execute(SELECT, (4,))
        assert scope.cancelled_caught
        server.peers[0].close()
        await idle(session)


@types.coroutine
def another_message(_: object) -> Generator[Any, Any, Any]:
    yield types.SimpleNamespace(abort_func=None)


@types.coroutine
def another_answer(abort: object) -> Generator[Any, Any, Any]:
    class Message:
        def __init__(self, function: object) -> None:
            self.abort_func = function

    yield Message(abort)
    return "something"


@types.coroutine
def another_turn(abort: object) -> Generator[Any, Any, Any]:
    class Message:
        def __init__(self, function: object) -> None:
            self.abort_func = function

    yield Message(abort)
    yield Message(abort)


@types.coroutine
def wraps_it(_: object) -> Generator[Any, Any, Any]:
    class Message:
        def __init__(self, function: object) -> None:
            self.abort_func = None

    yield Message(None)


@pytest.mark.parametrize("other", [another_message, another_answer, another_turn, wraps_it])
async def test_another_message_is_noticed(
    other: Callable[[object], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _trio._message_class() is not None
    monkeypatch.setattr(_trio, "_wait_rescheduled", other)
    assert _trio._message_class() is None
