"""Sagas: steps and their undoing, the log, and leases; test_saga_crashes.py has the crashes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from cqlproto.enums import Consistency
from cqlproto_anyio.exceptions import Unavailable
from cqlproto_anyio.patterns import (
    BYTES,
    CompensationFailed,
    InvalidInput,
    LockLost,
    OperationConflict,
    RecordNotFound,
    Saga,
    SagaBusy,
    SagaContext,
    SagaFailed,
    Sagas,
    SagaStatus,
    Step,
    msgspec_codec,
)
from tests.cqlproto_anyio.patterns.sagatable import SagaTable, World
from tests.support.scripted import lost, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.scripted import Request


async def test_all_steps_are_done() -> None:
    table, world = SagaTable(), World()
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_912, tzinfo=UTC)
    sagas = world.sagas(table.executor, clock=lambda: moment)
    done = await sagas.run("s", "1", {"n": (1, 2)})
    assert world.calls == ["a", "b", "c"]
    assert (done.saga, done.id, done.status, done.step) == ("s", "1", SagaStatus.COMPLETED, None)
    assert done.data == {"n": [1, 2]}
    assert done.results == {name: {"from": name} for name in "abc"}
    assert (done.error, done.compensated, done.undo_error) == (None, (), None)
    assert done.updated_at == moment.replace(microsecond=678_000)
    first, second, third = world.contexts
    assert (first.saga, first.id, first.step, first.fence) == ("s", "1", "a", 1)
    assert [each.operation for each in world.contexts] == ["s/1/a", "s/1/b", "s/1/c"]
    assert [list(each.results) for each in world.contexts] == [[], ["a"], ["a", "b"]]
    assert first.data == second.data == third.data == {"n": [1, 2]}
    # lease, begin, three steps, release
    assert table.executor.lwts == 6
    assert len(table.executor.asked) == 11
    # what an earlier holder of the lease has written is read at SERIAL
    levels = [each.options.get("consistency") for each in table.executor.asked]
    assert [each for each in levels if each is not None] == [Consistency.SERIAL]
    assert table.listed() == []

    table.executor.asked.clear()
    assert await sagas.run("s", "1", {"n": [1, 2]}) == done
    assert await sagas.get("s", "1") == done
    assert len(table.executor.asked) == 2
    assert await sagas.resume() == []
    assert world.calls == ["a", "b", "c"]


async def test_a_failed_step_is_undone_first_and_then_those_before_it() -> None:
    table, world = SagaTable(), World(b=1)
    sagas = world.sagas(table.executor)
    with pytest.raises(SagaFailed) as info:
        await sagas.run("s", "1")
    error = info.value
    assert (error.saga, error.id, error.step, error.error) == ("s", "1", "b", "ValueError: b fails")
    assert error.compensated == ("b", "a")
    assert isinstance(error.cause, ValueError)
    assert error.__cause__ is error.cause
    assert str(error) == (
        "saga 's' '1' has failed in 'b' (ValueError: b fails); undone: ('b', 'a')"
    )
    assert world.calls == ["a", "b", "-b", "-a"]
    operations = [each.operation for each in world.contexts]
    assert operations == ["s/1/a", "s/1/b", "s/1/b", "s/1/a"]
    assert list(world.contexts[3].results) == ["a"]
    assert world.effects == set()
    assert table.listed() == []

    with pytest.raises(SagaFailed) as again:
        await sagas.run("s", "1")
    assert not isinstance(again.value, CompensationFailed)
    assert (again.value.cause, again.value.error) == (None, "ValueError: b fails")
    assert again.value.compensated == ("b", "a")
    assert len(world.calls) == 4


async def test_nothing_to_undo() -> None:
    table = SagaTable()

    async def fail(context: SagaContext) -> None:
        raise ValueError("no")

    sagas = Sagas(table.executor, keyspace="shop", sagas=[Saga("s", [Step("a", fail)])])
    with pytest.raises(SagaFailed) as info:
        await sagas.run("s", "1")
    assert info.value.compensated == ()
    found = await sagas.get("s", "1")
    assert found is not None
    assert found.status is SagaStatus.COMPENSATED


async def test_attempts_of_a_step_and_of_an_undo() -> None:
    table, world = SagaTable(), World(a=2, b=3, undo_a=1)
    started = anyio.current_time()
    with pytest.raises(SagaFailed) as info:
        await world.sagas(table.executor, attempts=3).run("s", "1")
    assert info.value.step == "b"
    assert world.calls == ["a", "a", "a", "b", "b", "b", "-b", "-a", "-a"]
    assert anyio.current_time() - started > 0.5  # with pauses


async def test_an_undo_that_fails_for_good() -> None:
    table, world = SagaTable(), World(c=1, undo_b=3)
    sagas = world.sagas(table.executor)
    with pytest.raises(CompensationFailed) as info:
        await sagas.run("s", "1")
    error = info.value
    assert isinstance(error, SagaFailed)
    assert (error.step, error.undo, error.compensated) == ("c", "b", ())
    assert str(error.cause) == "c fails"
    assert str(error.__cause__) == "-b fails"
    assert "'b' can't be undone: it needs attention" in str(error)
    assert world.calls == ["a", "b", "c", "-b", "-b"]
    with pytest.raises(CompensationFailed) as again:
        await sagas.run("s", "1")
    assert (again.value.undo, again.value.cause) == ("b", None)
    assert await sagas.resume() == []
    (waiting,) = [each async for each in sagas.attention()]
    assert (waiting.id, waiting.status) == ("1", SagaStatus.NEEDS_ATTENTION)
    assert (waiting.error, waiting.undo_error) == ("ValueError: c fails", "ValueError: -b fails")

    world.failing["undo_b"] = 2
    with pytest.raises(CompensationFailed):
        await sagas.retry("s", "1")
    settled = await sagas.retry("s", "1")
    assert (settled.status, settled.compensated) == (SagaStatus.COMPENSATED, ("b", "a"))
    assert (settled.error, settled.undo_error) == ("ValueError: c fails", None)
    assert [each async for each in sagas.attention()] == []
    assert world.effects == {"s/1/c"}  # it has no undo
    assert await sagas.retry("s", "1") == settled
    assert table.listed() == []
    with pytest.raises(RecordNotFound) as missing:
        await sagas.retry("s", "2")
    assert missing.value.key == ("s", "2")


@pytest.mark.parametrize(("result", "steps"), [(object(), 1), ("x" * 2**20, 1), ("x" * 10**6, 9)])
async def test_results_that_the_log_cannot_keep_fail_their_step(result: object, steps: int) -> None:
    """One that can't be encoded, one that is too large, and too many that are large."""
    table = SagaTable()
    undone: list[str] = []

    async def act(context: SagaContext) -> object:
        return result

    async def undo(context: SagaContext) -> None:
        undone.append(context.step)

    names = [f"step {number}" for number in range(steps)]
    saga = Saga("s", [Step(name, act, undo=undo) for name in names])
    with pytest.raises(SagaFailed) as info:
        await Sagas(table.executor, keyspace="shop", sagas=[saga]).run("s", "1")
    assert info.value.step == names[-1]
    assert isinstance(info.value.cause, InvalidInput)
    assert undone == names[::-1]


async def test_values_that_the_codec_cannot_decode_are_not_logged() -> None:
    table, undone = SagaTable(), []

    async def act(context: SagaContext) -> str:
        return "text"

    async def undo(context: SagaContext) -> None:
        undone.append(context.data)

    saga = Saga("s", [Step("a", act, undo=undo)])
    codec = msgspec_codec(int)
    sagas = Sagas(table.executor, keyspace="shop", sagas=[saga], codec=codec)
    with pytest.raises(InvalidInput, match="data must be a value that the codec can decode"):
        await sagas.run("s", "1", "text")
    assert table.executor.asked == []
    with pytest.raises(SagaFailed, match="the result of 'a' must be"):
        await sagas.run("s", "1", 7)
    assert undone == [7]


async def test_an_error_whose_message_is_no_text_is_logged() -> None:
    table = SagaTable()

    async def fail(context: SagaContext) -> None:
        raise OSError("no such file: \udcff" + "x" * 2000)

    sagas = Sagas(table.executor, keyspace="shop", sagas=[Saga("s", [Step("a", fail)])])
    with pytest.raises(SagaFailed) as info:
        await sagas.run("s", "1")
    assert info.value.error.startswith("OSError: no such file: \\udcffxx")
    assert len(info.value.error) < 1010


async def test_an_undo_that_is_no_longer_defined() -> None:
    """A program without the undo that has failed ends the saga, when it is told to."""
    table, world = SagaTable(), World(c=1, undo_b=2)
    with pytest.raises(CompensationFailed):
        await world.sagas(table.executor).run("s", "1")
    steps = [Step(each.name, each.action) for each in world.steps()]
    sagas = Sagas(table.executor, keyspace="shop", sagas=[Saga("s", steps)])
    with pytest.raises(CompensationFailed) as info:
        await sagas.run("s", "1")
    assert info.value.undo == ""
    assert (await sagas.retry("s", "1")).status is SagaStatus.COMPENSATED


async def test_steps_cannot_change_the_record() -> None:
    table = SagaTable()

    async def change(context: SagaContext) -> dict[str, int]:
        context.data["n"] += 1
        assert context.results.get("a", {"x": 1}) == {"x": 1}
        context.results.get("a", {})["x"] = 2
        return {"x": 1}

    steps = [Step("a", change), Step("b", change)]
    sagas = Sagas(table.executor, keyspace="shop", sagas=[Saga("s", steps)])
    done = await sagas.run("s", "1", {"n": 1})
    assert (done.data, done.results) == ({"n": 1}, {"a": {"x": 1}, "b": {"x": 1}})
    assert await sagas.run("s", "1", {"n": 1}) == done


async def test_payloads_of_bytes() -> None:
    table = SagaTable()

    async def act(context: SagaContext) -> bytes | None:
        return context.data + b"!" if context.step == "a" else None

    steps = [Step("a", act), Step("b", act)]
    sagas = Sagas(table.executor, keyspace="shop", sagas=[Saga("s", steps)], codec=BYTES)
    done = await sagas.run("s", "1", b"data")
    assert (done.data, done.results) == (b"data", {"a": b"data!", "b": None})
    assert await sagas.run("s", "1", b"data") == done


async def test_the_same_id_with_other_data_or_steps() -> None:
    table, world = SagaTable(), World()
    sagas = world.sagas(table.executor)
    await sagas.run("s", "1", {"a": 1, "b": 2})
    await sagas.run("s", "1", {"b": 2, "a": 1})
    with pytest.raises(OperationConflict) as info:
        await sagas.run("s", "1", {"a": 1})
    assert info.value.operation == "s/1"
    with pytest.raises(OperationConflict) as large:
        await sagas.run("s", "1", ["x" * 1000] * 1000)
    assert len(str(large.value)) < 500
    steps = world.steps()[:2]
    shorter = Sagas(table.executor, keyspace="shop", sagas=[Saga("s", steps)])
    with pytest.raises(OperationConflict, match="steps"):
        await shorter.run("s", "1", {"a": 1, "b": 2})


async def test_one_worker_at_a_time() -> None:
    table, world = SagaTable(), World()
    async with anyio.create_task_group() as group:
        group.start_soon(world.sagas(table.executor).run, "s", "1")
        await anyio.sleep(0.005)
        other = world.sagas(table.executor)
        with pytest.raises(SagaBusy) as info:
            await other.run("s", "1")
        assert (info.value.saga, info.value.id) == ("s", "1")
        assert info.value.holder.rpartition(":")[2].isdigit()
        assert 0 < info.value.retry_after <= 6
        assert await other.resume() == []
    assert world.calls == ["a", "b", "c"]


async def test_a_worker_that_has_lost_its_lease_writes_nothing() -> None:
    table, world = SagaTable(), World()
    other = World()

    async def stall(context: SagaContext) -> None:
        table.holders.clear()  # as if the servers' clocks were ahead
        assert [each.status for each in await other.sagas(table.executor).resume()] == [
            SagaStatus.COMPLETED
        ]

    steps = [Step("a", stall), *world.steps()[1:]]
    sagas = Sagas(table.executor, keyspace="shop", sagas=[Saga("s", steps)])
    with pytest.raises(LockLost):
        await sagas.run("s", "1")
    assert (world.calls, other.calls) == ([], ["a", "b", "c"])
    found = await sagas.get("s", "1")
    assert found is not None
    assert found.results["a"] == {"from": "a"}


async def test_a_log_that_was_not_told_that_the_lease_is_lost() -> None:
    """The reply of its write is lost, and another worker has the lease: the write is refused."""
    table, world = SagaTable(), World()
    answer = table.executor.answer

    def stolen(request: Request) -> Any:
        if not request.values.get("results"):
            return answer(request)
        table.executor.answer = answer
        table.fences["s", "1"] += 1
        return lost()

    table.executor.answer = stolen
    began = anyio.current_time()
    with pytest.raises(LockLost):
        await world.sagas(table.executor).run("s", "1")
    assert anyio.current_time() - began < 5


async def test_several_sagas_are_resumed_and_told_of() -> None:
    table, world = SagaTable(), World(a=4, undo_a=4)
    sagas = [Saga(name, world.steps()) for name in ("s", "t")]
    runner = Sagas(table.executor, keyspace="shop", sagas=sagas, undo_attempts=2, undo_delay=0)
    for name in ("s", "t"):
        with pytest.raises(CompensationFailed):
            await runner.run(name, "1")
    assert [each.saga async for each in runner.attention()] == ["s", "t"]
    for name in ("s", "t"):
        table.log[name, "1"]["status"] = "compensating"
    world.failing.clear()
    assert [each.saga for each in await runner.resume()] == ["s", "t"]


async def test_a_long_step_keeps_its_lease() -> None:
    table = SagaTable()

    async def act(context: SagaContext) -> int:
        await anyio.sleep(60)
        return context.fence

    sagas = Sagas(table.executor, keyspace="shop", sagas=[Saga("s", [Step("a", act)])], ttl=3)
    assert (await sagas.run("s", "1")).results == {"a": 1}
    assert table.fences["s", "1"] == 1


async def test_cancellation_leaves_the_saga_to_resume() -> None:
    for delay in (0.0, 0.005, 0.015, 0.025):
        table, world = SagaTable(), World()
        with anyio.move_on_after(delay):
            await world.sagas(table.executor).run("s", "1")
        assert table.holder(("s", "1")) is None
        assert "-a" not in world.calls
        ended = await world.sagas(table.executor).resume()
        assert [each.status for each in ended] == [SagaStatus.COMPLETED] * bool(table.log)
        assert world.effects == ({"s/1/a", "s/1/b", "s/1/c"} if table.log else set())
        assert table.listed() == []


async def test_the_clients_errors_come_through() -> None:
    """The log can't be written: the saga isn't undone, since it can go on later."""
    table, world = SagaTable(), World()
    answer = table.executor.answer

    def out(request: Request) -> Any:
        status = request.values.get("status")
        return unavailable() if status and request.values["results"] else answer(request)

    table.executor.answer = out
    with pytest.raises(Unavailable):
        await world.sagas(table.executor).run("s", "1")
    assert world.calls == ["a"]
    table.executor.answer = answer
    assert [each.status for each in await world.sagas(table.executor).resume()] == [
        SagaStatus.COMPLETED
    ]
    assert world.calls == ["a", "a", "b", "c"]


async def test_ids_that_are_listed_though_they_have_ended() -> None:
    table, world = SagaTable(), World()
    await world.sagas(table.executor).run("s", "1")
    table.open["s", "1"] = (2, True)
    table.open["s", "2"] = (2, True)  # its worker has died before it began
    table.fences["s", "2"] = 1
    assert await world.sagas(table.executor).resume() == []
    assert table.listed() == []
    late = (2, True)  # and if its worker wasn't dead, but slow: its late write lists nothing
    assert table.open["s", "2"] > late


async def act(context: SagaContext) -> None: ...


def plain(context: SagaContext) -> None: ...


WRONG: list[tuple[str, Callable[[], Any]]] = [
    ("name", lambda: Step("", act)),
    ("name", lambda: Step("a/b", act)),
    ("name", lambda: Saga("a/b", [Step("a", act)])),
    ("attempts", lambda: Step("a", act, attempts=0)),
    ("action", lambda: Step("a", plain)),  # type: ignore[arg-type]
    ("undo", lambda: Step("a", act, undo=plain)),  # type: ignore[arg-type]
    ("steps", lambda: Saga("s", [])),
    ("steps", lambda: Saga("s", [act])),  # type: ignore[list-item]
    ("steps", lambda: Saga("s", [Step("a", act), Step("a", act)])),
]


@pytest.mark.parametrize(("name", "make"), WRONG)
def test_wrong_sagas(name: str, make: Callable[[], Any]) -> None:
    with pytest.raises(InvalidInput) as info:
        make()
    assert info.value.name == name


@pytest.mark.parametrize(
    "wrong",
    [
        {"ttl": 0},
        {"ttl": float("nan")},
        {"undo_attempts": 0},
        {"undo_delay": -1},
        {"keyspace": ""},
        {"table": "t" * 44},
        {"sagas": [Saga("s", [Step("a", act)])] * 2},
        {"sagas": [Step("a", act)]},
    ],
)
def test_wrong_settings(wrong: dict[str, Any]) -> None:
    options = {"keyspace": "shop", "sagas": [Saga("s", [Step("a", act)])], **wrong}
    with pytest.raises(InvalidInput) as info:
        Sagas(SagaTable().executor, **options)
    assert info.value.name == next(iter(wrong))


async def test_wrong_arguments() -> None:
    table, world = SagaTable(), World()
    sagas = world.sagas(table.executor)
    for saga, id, data in [
        ("t", "1", 1),
        ("s", "", 1),
        ("s", "1", {1, 2}),
        ("s", "1", "x" * 2**20),
    ]:
        with pytest.raises(InvalidInput):
            await sagas.run(saga, id, data)
    for call in (sagas.get, sagas.retry):
        with pytest.raises(InvalidInput, match="saga must be one of"):
            await call("t", "1")
    assert table.executor.asked == []


def test_the_tables() -> None:
    log, index = Sagas.schema_cql("shop", table="orders")
    assert log.startswith(
        'CREATE TABLE IF NOT EXISTS "shop"."orders" ("saga" text, "id" text, "status" text,'
    )
    assert index == (
        'CREATE TABLE IF NOT EXISTS "shop"."orders_open" ("saga" text, "shard" int, "id" text,'
        ' PRIMARY KEY (("saga", "shard"), "id")) WITH gc_grace_seconds = 3600'
    )
