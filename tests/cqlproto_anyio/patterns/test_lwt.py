"""Conditional writes: applied, refused, or settled by a read at SERIAL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto_anyio.patterns._errors import OutcomeUnknown
from cqlproto_anyio.patterns._lwt import (
    Outcome,
    Rows,
    Statement,
    Verdict,
    conditional_write,
    serial_level,
)
from tests.support.scripted import Request, Scripted, lost, refusal, timed_out, unavailable
from tests.support.virtual_clock import run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable

READ: Statement = ("SELECT version, writer FROM t WHERE id = :id", {"id": 1})


class Counter:
    """One row with a version and its last writer, and a network that loses what it is told to.

    Attributes:
        faults: one for each conditional write in turn: ``reply`` (applied, but not told),
            ``request`` (never arrives), ``late`` (arrives when :meth:`deliver` is called), or None.
        late: the writes that are under way.
    """

    def __init__(self, *faults: str | None) -> None:
        self.version, self.writer = 1, uuid4()
        self.history: list[UUID] = []
        self.faults = list(faults)
        self.late: list[Request] = []
        self.executor = Scripted(self.answer)
        self.on_read: Callable[[], None] = lambda: None

    def answer(self, request: Request) -> Any:
        if not request.conditional:
            self.on_read()
            return [{"version": self.version, "writer": self.writer}]
        fault = self.faults.pop(0) if self.faults else None
        if fault == "late":
            self.late.append(request)
        elif fault != "request":
            answer = self.apply(request)
            if fault is None:
                return answer
        return lost()

    def apply(self, request: Request) -> Any:
        values = request.values
        if values["old"] != self.version:
            return refusal([{"version": self.version}])
        self.version, self.writer = values["old"] + 1, values["writer"]
        self.history.append(self.writer)
        return True

    def deliver(self) -> None:
        while self.late:
            self.apply(self.late.pop())

    async def write(self, operation: UUID, **options: Any) -> Outcome:
        old = 1

        def verdict(rows: Rows) -> Verdict:
            (row,) = rows
            if row["writer"] == operation:
                return Verdict.APPLIED
            if row["version"] == old:
                return Verdict.OPEN
            # at a later version, the mark may have been here and be overwritten
            return Verdict.REFUSED if row["version"] == old + 1 else Verdict.UNKNOWN

        text = "UPDATE t SET version = 2, writer = :writer WHERE id = 1 IF version = :old"
        return await conditional_write(
            self.executor,
            [(text, {"old": old, "writer": operation})],
            operation=operation,
            read=READ,
            verdict=verdict,
            what="write",
            **options,
        )


async def test_applied_costs_one_lwt() -> None:
    table, me = Counter(), uuid4()
    assert await table.write(me) == Outcome(True)
    assert (table.executor.lwts, len(table.executor.asked)) == (1, 1)


async def test_refused_has_the_row_by_column_name() -> None:
    table = Counter()
    table.version = 7
    outcome = await table.write(uuid4())
    assert outcome == Outcome(False, ({"version": 7},))
    assert outcome.row["version"] == 7
    assert Outcome(False).row == {}
    assert len(table.executor.asked) == 1


async def test_a_missing_row_is_no_row() -> None:
    executor = Scripted(lambda request: refusal())
    outcome = await conditional_write(
        executor,
        [("UPDATE t SET v = 1 WHERE id = 1 IF EXISTS", {})],
        operation=uuid4(),
        read=READ,
        verdict=lambda rows: Verdict.REFUSED,
        what="write",
    )
    assert outcome == Outcome(False)


async def test_several_statements_are_one_unlogged_batch() -> None:
    executor = Scripted(lambda request: True)
    statements: list[Statement] = [("UPDATE a IF x = :x", {"x": 1}), ("INSERT b", {})]
    await conditional_write(
        executor,
        statements,
        operation=uuid4(),
        read=READ,
        verdict=lambda rows: Verdict.REFUSED,
        what="write",
    )
    (asked,) = executor.asked
    assert asked.statements == statements
    assert asked.options == {"kind": "unlogged"}


async def test_a_lost_reply_is_found_by_the_read() -> None:
    table, me = Counter("reply"), uuid4()
    assert await table.write(me) == Outcome(True, settled=True)
    assert table.history == [me]
    assert [each.conditional for each in table.executor.asked] == [True, False]
    assert table.executor.asked[1].options["consistency"] is cql.Consistency.SERIAL


async def test_a_lost_request_is_sent_again() -> None:
    table, me = Counter("request"), uuid4()
    assert await table.write(me) == Outcome(True, settled=True)
    assert table.history == [me]
    assert [each.conditional for each in table.executor.asked] == [True, False, True]


async def test_a_copy_that_arrives_after_the_read_is_applied_once() -> None:
    """The coordinator begins late: the read finds nothing, and the first copy comes before the
    second one.
    """
    table, me = Counter("late"), uuid4()
    answer = table.executor.answer

    def first_copy_overtakes(request: Request) -> Any:
        if request.conditional and table.late:
            table.deliver()
        return answer(request)

    table.executor.answer = first_copy_overtakes
    assert await table.write(me) == Outcome(True, settled=True)
    assert table.history == [me]
    # the second copy was refused, and a second read found the first one
    assert [each.conditional for each in table.executor.asked] == [True, False, True, False]


async def test_a_copy_that_arrives_last_is_refused_by_the_condition() -> None:
    table, me = Counter("late"), uuid4()
    assert await table.write(me) == Outcome(True, settled=True)
    table.deliver()
    assert table.history == [me]


async def test_the_naive_way_is_wrong_about_a_late_copy() -> None:
    """A read that finds nothing, believed at once: the write is then applied after all."""
    table, me = Counter("late"), uuid4()
    with pytest.raises(cql.ConnectionLost):
        await table.executor.execute("UPDATE t IF version = :old", {"old": 1, "writer": me})
    row = (await table.executor.execute(*READ)).one()
    believed = row["writer"] == me
    table.deliver()
    assert believed is False
    assert table.history == [me]


async def test_another_writer_was_faster() -> None:
    table, me, other = Counter("request"), uuid4(), uuid4()

    def overtaken() -> None:
        table.apply(Request([("", {"old": 1, "writer": other})]))

    table.on_read = overtaken
    outcome = await table.write(me)
    assert outcome == Outcome(False, ({"version": 2, "writer": other},), settled=True)
    assert table.history == [other]


async def test_a_mark_that_was_overwritten_is_never_taken_for_a_refusal() -> None:
    table, me, other = Counter("reply"), uuid4(), uuid4()

    def overtaken() -> None:
        table.apply(Request([("", {"old": 2, "writer": other})]))

    table.on_read = overtaken
    with pytest.raises(OutcomeUnknown, match="another writer has overwritten"):
        await table.write(me)
    assert table.history == [me, other]


async def test_certain_failures_reach_the_caller() -> None:
    executor = Scripted(lambda request: unavailable())
    with pytest.raises(cql.Unavailable):
        await conditional_write(
            executor,
            [("UPDATE t IF x = 1", {})],
            operation=uuid4(),
            read=READ,
            verdict=lambda rows: Verdict.OPEN,
            what="write",
        )
    assert len(executor.asked) == 1


def answering(*answers: Any) -> Scripted:
    """Return an executor with one answer for each request; the last one forever."""
    left = list(answers)
    return Scripted(lambda request: left.pop(0) if len(left) > 1 else left[0])


async def write(executor: Scripted, verdict: Verdict, **options: Any) -> Outcome:
    return await conditional_write(
        executor,
        [("UPDATE t IF x = 1", {})],
        operation=uuid4(),
        read=READ,
        verdict=lambda rows: verdict,
        what="write",
        **options,
    )


async def test_reads_that_fail_are_repeated() -> None:
    executor = answering(timed_out(), lost(False), unavailable(), [{"version": 1}])
    assert (await write(executor, Verdict.APPLIED)).applied
    assert len(executor.asked) == 4


async def test_what_can_not_be_settled_is_unknown() -> None:
    operation = uuid4()
    executor = answering(lost(), unavailable())
    started = anyio.current_time()
    with pytest.raises(OutcomeUnknown, match="write may or may not have been applied") as info:
        await conditional_write(
            executor,
            [("UPDATE t IF x = 1", {})],
            operation=operation,
            read=READ,
            verdict=lambda rows: Verdict.APPLIED,
            what="write",
            within=2.0,
        )
    assert anyio.current_time() - started <= 2.0
    assert info.value.operation == operation
    assert info.value.maybe_applied
    assert isinstance(info.value.__cause__, cql.ConnectionLost)


async def test_a_read_that_hangs_is_bounded() -> None:
    executor = answering(lost(), anyio.sleep_forever())
    started = anyio.current_time()
    with pytest.raises(OutcomeUnknown):
        await write(executor, Verdict.APPLIED, within=2.0)
    assert anyio.current_time() - started == pytest.approx(2.0)


async def test_an_overwritten_mark_is_unknown_at_once() -> None:
    executor = answering(lost(), [{"version": 9}])
    with pytest.raises(OutcomeUnknown, match="another writer has overwritten"):
        await write(executor, Verdict.UNKNOWN)
    assert len(executor.asked) == 2


async def test_a_mistake_in_the_read_ends_settling() -> None:
    mistake = cql.InvalidQuery(0x2200, "no such column", {}, host="h", query=READ[0])
    executor = answering(lost(), mistake)
    with pytest.raises(OutcomeUnknown, match="InvalidQuery: no such column") as info:
        await write(executor, Verdict.APPLIED)
    assert isinstance(info.value.__cause__, cql.ConnectionLost)
    assert len(executor.asked) == 2


async def test_cancelling_ends_it() -> None:
    with anyio.move_on_after(0.5) as scope:
        await write(answering(lost(), lost()), Verdict.OPEN)
    assert scope.cancelled_caught


async def test_the_read_has_the_serial_consistency_of_the_session() -> None:
    executor = Scripted(lambda request: True)
    assert serial_level(executor) is cql.Consistency.SERIAL
    for level in (cql.Consistency.LOCAL_SERIAL, cql.Consistency.SERIAL):
        executor.profile = cql.Profile(serial_consistency=level)  # type: ignore[attr-defined]
        assert serial_level(executor) is level


FAULTS = st.lists(st.sampled_from(["reply", "request", "late", None]), max_size=4)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(FAULTS, st.booleans(), st.booleans())
def test_the_outcome_is_the_truth(
    backend: str, faults: list[str | None], delivered: bool, contended: bool
) -> None:
    """Whatever is lost or late: applied once if it says so, and else never, also later."""
    table, me, other = Counter(*faults), uuid4(), uuid4()

    def on_read() -> None:
        if delivered:
            table.deliver()
        if contended:
            table.apply(Request([("", {"old": table.version, "writer": other})]))

    async def run() -> None:
        table.on_read = on_read
        try:
            applied: bool | None = (await table.write(me)).applied
        except OutcomeUnknown:
            applied = None
        table.deliver()
        if applied is not None:
            assert table.history.count(me) == int(applied)
        assert table.history.count(me) <= 1

    run_virtual(run, backend)
