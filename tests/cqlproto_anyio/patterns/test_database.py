"""The database manager: how it fetches, retries, guards, and binds transactions to tasks."""

from __future__ import annotations

import datetime
import json
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto_anyio.patterns import (
    AdminNotAllowed,
    CircuitBreaker,
    CircuitOpen,
    CorruptPayload,
    Database,
    InvalidInput,
    RetryConfig,
    TransactionError,
    UnitOfWork,
    UnitRefused,
)
from tests.support.scripted import Request, Scripted, refusal, timed_out, unavailable
from tests.support.virtual_clock import run_virtual

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SELECT = "SELECT id FROM t WHERE id = :id"
UPDATE = "UPDATE t SET a = 1 WHERE id = :id"


class Paged(Scripted):
    """An executor with pages of dicts; each has two rows, or as many as the call asks for."""

    async def execute(self, query: Any, parameters: Any = None, /, **options: Any) -> Any:
        found = await super().execute(query, parameters, **options)
        if options.get("row") is dict:
            found.rows = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
        return found

    async def page(self, query: Any, parameters: Any = None, /, **options: Any) -> Any:
        found = await self.execute(query, parameters, **options)
        start, size = int(options["token"] or 0), options.get("page_size", 2)
        more = start + size < len(found.rows)
        return SimpleNamespace(
            rows=found.rows[start : start + size], next_token=str(start + size) if more else None
        )

    async def execute_many(self, query: str, rows: Any, /, **options: Any) -> Any:
        self.asked.append(Request([(query, each) for each in rows], options))
        return cql.BulkResult(len(rows), ())


def answers(*found: Any) -> Paged:
    """Return an executor that gives these answers in turn, and then the last one again."""
    left = list(found)
    return Paged(lambda _: left.pop(0) if len(left) > 1 else left[0])


ROWS = [{"id": id} for id in range(5)]


async def test_ways_to_fetch() -> None:
    executor = answers(ROWS)
    database = Database(executor)
    assert await database.run(SELECT, {"id": 1}) == ROWS
    assert await database.run(SELECT, {"id": 1}, fetch="many", size=3) == ROWS[:3]
    assert await database.run(SELECT, {"id": 1}, fetch="many", size=9) == ROWS
    del executor.asked[:]
    assert await database.run(SELECT, {"id": 1}, fetch="one") == {"id": 0}
    assert [each.options["page_size"] for each in executor.asked] == [1]  # one row of one page
    assert [row async for row in await database.run(SELECT, fetch="iterate")] == ROWS
    async for row in await database.run(SELECT, fetch="iterate"):
        assert row == {"id": 0}
        break
    empty = Database(answers([]))
    assert await empty.run(SELECT, fetch="one") is None
    assert await empty.run(SELECT) == []
    written = Database(answers(refusal([{"id": 7}])))
    applied = await written.run("UPDATE t SET a = 1 WHERE id = 1 IF a = 2", fetch="one")
    assert applied == {"[applied]": False, "id": 7}
    assert await Database(answers(None)).run(UPDATE, {"id": 1}) == []


async def test_an_empty_page_is_followed() -> None:
    pages = [
        SimpleNamespace(rows=[], next_token="a"),
        SimpleNamespace(rows=[{"id": 1}], next_token=None),
    ]
    executor: Any = answers(None)

    async def page(*_: Any, **options: Any) -> Any:
        return pages[0] if options["token"] is None else pages[1]

    executor.page = page
    assert await Database(executor).run(SELECT, fetch="one") == {"id": 1}


async def test_json_and_typed_parameters() -> None:
    executor = answers([{"id": 1, "data": '{"a": [1, null]}', "other": "[1]"}])
    database = Database(executor)
    types = {"data": "json", "id": "int", "tags": "list<text>"}
    values = {"id": 1, "data": {"a": [1, None]}, "tags": None}
    row = await database.run("SELECT * FROM t", values, fetch="one", parameter_types=types)
    assert row == {"id": 1, "data": {"a": [1, None]}, "other": "[1]"}
    sent = executor.asked[0].values
    assert (json.loads(sent["data"]), sent["tags"]) == ({"a": [1, None]}, None)
    assert values["data"] == {"a": [1, None]}  # the caller's mapping stays as it is
    unset = {"data": cql.UNSET, "id": cql.UNSET}
    await database.run(UPDATE, unset, parameter_types=types)
    assert executor.asked[-1].values == unset
    wrong: list[tuple[Any, dict[str, str], str]] = [
        ({"id": "x"}, {"id": "int"}, "id must be .*int.*'x'"),
        ({"id": 2**31}, {"id": "int"}, "id must be"),
        ({"id": 1}, {"id": "uuidd"}, "uuidd"),
        ({"id": 1}, {"id": "list<"}, "list<"),
        ({"data": {1, 2}}, {"data": "json"}, "data must be .*codec"),
        ({"data": float("nan")}, {"data": "json"}, "data"),
    ]
    asked = len(executor.asked)
    for parameters, kinds, what in wrong:
        with pytest.raises(InvalidInput, match=what):
            await database.run(UPDATE, parameters, parameter_types=kinds)
    assert len(executor.asked) == asked
    corrupt = Database(answers([{"data": "{"}]))
    with pytest.raises(CorruptPayload, match="column data"):
        await corrupt.run(SELECT, parameter_types={"data": "json"})


async def test_what_is_tried_again() -> None:
    retry = RetryConfig(max_retries=3, initial_delay=1, jitter=False)
    executor = answers(unavailable(), unavailable(), [{"id": 1}])
    database = Database(executor, retry=retry)
    began = anyio.current_time()
    assert await database.run(SELECT) == [{"id": 1}]
    assert anyio.current_time() - began == pytest.approx(3)
    cases: list[tuple[Exception, bool | None, str, int]] = [
        (timed_out(), None, UPDATE, 1),
        (timed_out(), False, UPDATE, 1),
        (timed_out(), True, UPDATE, 4),
        (timed_out(), True, "UPDATE t SET a = 1 WHERE id = 1 IF a = 2", 1),
        (unavailable(), False, UPDATE, 4),  # certainly not applied
        (cql.InvalidQuery(0x2200, "no timeout", {}, host="h", query=None), True, UPDATE, 1),
        (cql.ParameterError("connection lost"), True, UPDATE, 1),
        (ConnectionResetError("timeout"), True, UPDATE, 1),  # not of the client
    ]
    for error, idempotent, query, attempts in cases:
        executor = answers(error)
        database = Database(executor, retry=retry)
        with pytest.raises(type(error)) as info:
            await database.run(query, {"id": 1}, idempotent=idempotent)
        assert info.value is error
        assert len(executor.asked) == attempts
        assert database.metrics().retries == attempts - 1


async def test_pauses_have_a_cap_and_one_deadline() -> None:
    """There is no pause after the last attempt, and none that would end after the deadline."""
    executor = answers(unavailable())
    retry = RetryConfig(max_retries=6, initial_delay=1, max_delay=4, jitter=False)
    began = anyio.current_time()
    with pytest.raises(cql.Unavailable):
        await Database(executor, retry=retry).run(SELECT)
    assert anyio.current_time() - began == pytest.approx(1 + 2 + 4 * 4)
    del executor.asked[:]
    began = anyio.current_time()
    with pytest.raises(cql.Unavailable):
        await Database(executor, retry=retry).run(SELECT, timeout=8)
    assert anyio.current_time() - began == pytest.approx(1 + 2 + 4)
    left = [each.options["timeout"] for each in executor.asked]
    assert left == pytest.approx([8, 7, 5, 1])
    await Database(answers([]), retry=retry).run(SELECT, timeout=None)


@given(
    st.builds(
        RetryConfig,
        max_retries=st.integers(0, 5),
        initial_delay=st.floats(0, 100),
        max_delay=st.floats(0.001, 50),
        exponential_base=st.floats(1, 10),
    )
)
def test_jitter_never_exceeds_the_cap(retry: RetryConfig) -> None:
    executor = answers(unavailable())

    async def run() -> None:
        began = anyio.current_time()
        with pytest.raises(cql.Unavailable):
            await Database(executor, retry=retry).run(SELECT)
        assert anyio.current_time() - began <= retry.max_retries * retry.max_delay + 1e-6
        assert len(executor.asked) == 1 + retry.max_retries

    run_virtual(run, "asyncio")


async def test_the_breaker_is_before_every_request() -> None:
    executor = answers(unavailable())
    breaker = CircuitBreaker(failures=3, recovery=60, successes=1)
    database = Database(executor, breaker=breaker, retry=RetryConfig(max_retries=9, jitter=False))
    with pytest.raises(cql.Unavailable):  # the error, not that the breaker stops the retries
        await database.run(SELECT)
    assert (len(executor.asked), breaker.state) == (3, "open")
    with pytest.raises(CircuitOpen):
        await database.run(SELECT)
    assert len(executor.asked) == 3
    health = await database.health()
    assert not health.healthy
    assert health.error is not None
    assert "Unavailable" in health.error
    metrics = database.metrics()
    assert (metrics.total, metrics.failed, metrics.rejected, metrics.retries) == (2, 1, 1, 3)
    assert metrics.avg_latency > 0


async def test_health_has_the_clocks_time() -> None:
    moment = datetime.datetime(2024, 2, 29, tzinfo=datetime.UTC)
    executor = answers([{"key": "local"}])
    database = Database(executor, clock=lambda: moment)
    health = await database.health()
    assert (health.healthy, health.error, health.checked_at) == (True, None, moment)
    assert len(executor.asked) == 1
    assert database.metrics().total == 0


async def test_counts_reconcile_after_a_thousand_racing_operations() -> None:
    def answer(request: Request) -> Any:
        return unavailable() if request.values["id"] % 3 == 0 else []

    database = Database(Paged(answer))

    async def work(number: int) -> None:
        with anyio.move_on_after(5):
            try:
                await database.run(SELECT, {"id": number})
            except cql.Unavailable:
                assert number % 3 == 0

    async with anyio.create_task_group() as group:
        for number in range(1000):
            group.start_soon(work, number)
    metrics = database.metrics()
    assert (metrics.total, metrics.succeeded, metrics.failed) == (1000, 666, 334)
    assert database.metrics().avg_latency >= 0
    assert Database(answers([])).metrics().avg_latency == 0.0


async def test_administration_needs_to_be_allowed() -> None:
    executor = answers([])
    for query in ("DROP TABLE t", "/**/ truncate t", "BEGIN BATCH DROP TABLE t APPLY BATCH"):
        for database in (Database(executor), Database(executor, mode="none")):
            with pytest.raises(AdminNotAllowed) as info:
                await database.run(query)
            assert info.value.query == query
            with pytest.raises(AdminNotAllowed):
                await database.execute_many(query, [()])
        await Database(executor, allow_admin=True).run(query)
        await Database(executor, validate_queries=False).run(query)
    assert len(executor.asked) == 6
    for name in ("a--b", "DROP TABLE x", "it''s /* fine */", "; GRANT"):
        await Database(executor).run(f"INSERT INTO t (a) VALUES ('{name}')")


async def test_many_rows() -> None:
    executor = answers(None)
    database = Database(executor)
    assert (await database.execute_many(UPDATE, [{"id": 1}, {"id": 2}])).count == 2
    assert executor.asked[0].options == {"concurrency": 256}

    async def rows() -> AsyncIterator[dict[str, int]]:
        for id in range(3):
            await anyio.lowlevel.checkpoint()
            yield {"id": id}

    done = await database.execute_many(UPDATE, rows(), atomic=True)
    assert (done.count, done.failures) == (3, ())
    assert executor.asked[1].options == {"kind": "logged"}
    with pytest.raises(UnitRefused, match="SELECT"):
        await database.execute_many(SELECT, [{"id": 1}], atomic=True)
    assert database.metrics().total == 3


async def test_a_transaction_belongs_to_the_task_that_began_it() -> None:
    executor = answers(None)
    database = Database(executor, mode="manual")
    other = Database(executor, mode="manual")
    unit = await database.begin()
    assert isinstance(unit, UnitOfWork)
    assert await database.run(UPDATE, {"id": 1}) == []
    assert await database.run(UPDATE, {"id": 2}, fetch="one") is None
    assert [row async for row in await database.run(UPDATE, {"id": 3}, fetch="iterate")] == []
    assert await database.run(SELECT) == []  # a read is executed at once
    assert (len(unit), len(executor.asked)) == (3, 1)
    with pytest.raises(TransactionError, match="begin"):
        await other.run(UPDATE, {"id": 1})

    async def child(id: int, *, commits: bool) -> None:
        for call in (database.commit, database.rollback):
            with pytest.raises(TransactionError, match="begin"):
                await call()
        await database.begin()
        await database.run(UPDATE, {"id": id})
        await anyio.sleep(1)
        await (database.commit() if commits else database.rollback())

    async with anyio.create_task_group() as group:
        for id in range(10, 20):
            group.start_soon(partial(child, id, commits=id % 2 == 0))
    ids = sorted(each.values["id"] for each in executor.asked[1:])
    assert ids == [10, 12, 14, 16, 18]
    with pytest.raises(TransactionError, match="twice"):
        await database.begin()
    await database.commit()
    assert len(executor.asked[-1].statements) == 3
    with pytest.raises(UnitRefused, match="ended"):
        unit.add(UPDATE)
    with pytest.raises(TransactionError):
        await database.commit()


async def test_a_rollback_discards() -> None:
    executor = answers(None)
    database = Database(executor, mode="manual")
    unit = await database.begin()
    await database.run(UPDATE, {"id": 1})
    await database.rollback()
    assert executor.asked == []
    with pytest.raises(UnitRefused, match="ended"):
        unit.add(UPDATE)
    await database.begin()
    with pytest.raises(UnitRefused, match="BATCH"):
        await database.run("BEGIN BATCH DELETE FROM t WHERE id = 1 APPLY BATCH")
    await database.rollback()
    with pytest.raises(TransactionError, match="manual"):
        await Database(executor).begin()


async def test_mistakes() -> None:
    executor = answers([])
    run: Any = Database(executor).run
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"fetch": "some"}, "fetch"),
        ({"fetch": "many"}, "size"),
        ({"fetch": "many", "size": 0}, "size"),
        ({"fetch": "one", "size": 3}, "size"),
    ]
    for arguments, what in wrong:
        with pytest.raises(InvalidInput, match=what):
            await run(SELECT, **arguments)
    with pytest.raises(InvalidInput, match="query"):
        await run(7)
    for settings in ({"mode": "zzz"}, {"retry": 3}, {"breaker": 3}):
        bad: Any = settings
        with pytest.raises(InvalidInput, match=next(iter(settings))):
            Database(executor, **bad)
    for name, value in [
        ("max_retries", -1),
        ("initial_delay", -1),
        ("max_delay", 0),
        ("exponential_base", 0.5),
        ("exponential_base", "2"),
    ]:
        bad = {name: value}
        with pytest.raises(InvalidInput, match=name):
            RetryConfig(**bad)
    assert executor.asked == []
