"""Preparing: once for all callers, again after UNPREPARED, and with columns from a reply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from cqlproto.enums import ErrorCode
from cqlproto.messages import VOID, Batch, Execute, Prepare, Prepared, ResultMetadata
from tests.support.replies import (
    columns,
    echo,
    error,
    ints,
    prepared,
    preparing,
    rows_of,
    statement_id,
    unprepared,
)
from tests.support.server import IDLE, serving, start, state, turns

if TYPE_CHECKING:
    from cqlproto.messages import Response
    from tests.support.server import Asked

V4, V5 = ProtocolVersion.V4, ProtocolVersion.V5

pytestmark = pytest.mark.usefixtures("each_version")


SELECT = "SELECT v FROM t WHERE k = ?"
INSERT = "INSERT INTO t (k) VALUES (?)"


async def test_a_hundred_ask_and_one_prepare_is_sent() -> None:
    async with serving() as server, server.session() as session:
        async with anyio.create_task_group() as group:
            outcomes = [start(group, lambda: session.prepare(SELECT)) for _ in range(100)]
            asked = await server.next()
            await turns(20)
            assert server.asked == []
            asked.reply(prepared(server, SELECT))
        assert {outcome.result.query for outcome in outcomes} == {SELECT}
        assert server.texts_seen(Prepare) == [SELECT]
        assert state(session) == IDLE
        server.answer = echo(server)
        async with anyio.create_task_group() as group:
            for _ in range(100):
                start(group, lambda: session.execute(INSERT, (1,)))
        assert server.texts_seen(Prepare) == [SELECT, INSERT]


async def test_the_first_to_ask_is_cancelled_and_the_others_get_it() -> None:
    async with serving() as server, server.session() as session:
        async with anyio.create_task_group() as group:
            first = start(group, lambda: session.prepare(SELECT))
            asked = await server.next()
            others = [start(group, lambda: session.prepare(SELECT)) for _ in range(5)]
            await turns()
            first.scope.cancel()
            await turns()
            asked.reply(prepared(server, SELECT))
        assert not first.done
        assert all(isinstance(outcome.result, cql.Prepared) for outcome in others)
        assert len(server.seen) == 1


async def test_the_first_to_ask_times_out_and_the_others_get_it() -> None:
    async with serving() as server, server.session() as session:
        async with anyio.create_task_group() as group:
            first = start(group, lambda: session.execute(SELECT, (1,), timeout=0.05))
            asked = await server.next()
            second = start(group, lambda: session.execute(SELECT, (2,), timeout=20))
            third = start(group, lambda: session.execute(SELECT, (3,), timeout=None))
            await server.until(lambda: first.done)
            assert isinstance(first.error, cql.RequestTimeout)
            assert first.error.timeout == 0.05
            await anyio.sleep(0.05)
            server.answer = echo(server)
            asked.reply(prepared(server, SELECT))
        assert (second.result.one().v, third.result.one().v) == (2, 3)
        assert len(server.texts_seen(Prepare)) == 1
        assert state(session) == IDLE


async def test_a_prepare_that_is_never_answered_leaves_nothing() -> None:
    async with serving() as server, server.session(control_timeout=0.1) as session:
        for _ in range(3):
            async with anyio.create_task_group() as group:
                outcomes = [
                    start(group, lambda: session.execute(SELECT, (1,), timeout=0.05))
                    for _ in range(3)
                ]
            assert all(isinstance(outcome.error, cql.RequestTimeout) for outcome in outcomes)
            await server.until(lambda: state(session).preparing == 0)
            assert state(session).deadlines == 0
        # each caller starts a new PREPARE, since the host may answer now
        assert server.texts_seen(Prepare) == [SELECT] * 3
        for asked in server.asked:
            asked.reply(prepared(server, SELECT))
        await server.until(lambda: state(session) == IDLE)


async def test_a_failure_wakes_all_and_is_not_kept() -> None:
    async with serving() as server, server.session() as session:
        async with anyio.create_task_group() as group:
            outcomes = [start(group, lambda: session.execute(SELECT, (1,))) for _ in range(10)]
            (await server.next()).reply(error(ErrorCode.INVALID, "no such table"))
        for outcome in outcomes:
            assert type(outcome.error) is cql.InvalidQuery
            assert "no such table" in str(outcome.error)
            assert outcome.error.query == SELECT
            assert outcome.error.maybe_applied is False
        assert len({id(outcome.error) for outcome in outcomes}) == 10
        assert state(session) == IDLE
        server.answer = echo(server)
        assert (await session.execute(SELECT, (4,))).one().v == 4
        assert len(server.texts_seen(Prepare)) == 2


async def test_a_loss_while_preparing_is_no_write() -> None:
    async with serving() as server, server.session() as session:
        async with anyio.create_task_group() as group:
            outcome = start(group, lambda: session.execute(INSERT, (1,)))
            (await server.next()).peer.close()
        assert isinstance(outcome.error, cql.ConnectionLost)
        assert outcome.error.maybe_applied is False


async def test_the_least_recently_used_goes() -> None:
    async with serving() as server, server.session(max_prepared=2) as session:
        server.answer = echo(server)
        for name in ("a", "b", "a", "c", "a", "b"):
            await session.execute(f"SELECT {name} FROM t WHERE k = ?", (1,))
        asked = [text.split()[1] for text in server.texts_seen(Prepare)]
        assert asked == ["a", "b", "c", "b"]
        # a handle works after its statement left the cache
        handle = await session.prepare(SELECT)
        for name in ("d", "e", "f"):
            await session.prepare(f"SELECT {name} FROM t")
        before = len(server.texts_seen(Prepare))
        assert (await session.execute(handle, (8,))).one().v == 8
        assert len(server.texts_seen(Prepare)) == before


async def test_forgotten_it_is_prepared_again_once() -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        await session.prepare(SELECT)
        async with anyio.create_task_group() as group:
            outcomes = [
                start(group, lambda number=number: session.execute(SELECT, (number,)))  # type: ignore[misc]  # a lambda with a default
                for number in range(50)
            ]
            for asked in await server.take_all(50):
                asked.peer.core.reply(asked.stream_id, unprepared(asked))
            server.answer = echo(server)
            server.peers[0].flush()
        assert [outcome.result.one().v for outcome in outcomes] == list(range(50))
        assert len(server.texts_seen(Prepare)) == 2
        assert state(session) == IDLE


async def test_a_node_that_keeps_forgetting_is_not_asked_for_ever() -> None:
    async with serving() as server, server.session() as session:
        server.answer = preparing(server, unprepared)
        calls: list[Any] = [
            lambda: session.execute(INSERT, (1,)),
            lambda: session.page(INSERT, (1,)),
            lambda: anext(session.stream(INSERT, (1,))),
            lambda: session.batch([(INSERT, (1,))]),
        ]
        for call in calls:
            with pytest.raises(cql.Unprepared) as info:
                await call()
            assert info.value.statement_id == statement_id(INSERT)
            assert info.value.maybe_applied is False
        assert len(server.texts_seen(Execute)) < 15
        assert state(session) == IDLE


@pytest.mark.parametrize("verb", ["execute", "handle", "page", "stream", "batch"])
async def test_another_id_is_taken(verb: str) -> None:
    """A server of another release makes another id for the same text."""
    async with serving() as server, server.session() as session:
        generation = 0

        def identity(text: str) -> bytes:
            return statement_id(f"{text} {generation}")

        def answer(asked: Asked) -> Response:
            message = asked.message
            if isinstance(message, Prepare):
                reply = prepared(server, message.query)
                assert isinstance(reply, Prepared)
                server.texts[identity(message.query)] = message.query
                return Prepared(identity(message.query), b"", reply.bind, reply.result)
            text = INSERT if verb == "batch" else SELECT
            named: list[Any] = []
            if isinstance(message, Batch):
                named = [each.query for each in message.statements]
            elif isinstance(message, Execute):
                named = [message.statement_id]
            for each in named:
                if each != identity(text):
                    return error(ErrorCode.UNPREPARED, "unknown", statement_id=each)
            return VOID if verb == "batch" else rows_of(columns("v"), [(generation,)])

        server.answer = answer
        handle = await session.prepare(SELECT)
        insert = await session.prepare(INSERT)
        for generation in range(3):
            for _ in range(2):
                if verb == "batch":
                    await session.batch([(insert, (1,)), (INSERT, (2,))])
                elif verb == "page":
                    assert (await session.page(handle, (1,))).rows == [(generation,)]
                elif verb == "stream":
                    assert [row.v async for row in session.stream(SELECT, (1,))] == [generation]
                else:
                    query = SELECT if verb == "execute" else handle
                    assert (await session.execute(query, (1,))).scalar() == generation
        assert len(server.texts_seen(Prepare)) == 4
        assert state(session) == IDLE


async def test_what_a_batch_names_is_prepared_one_by_one() -> None:
    async with serving() as server, server.session() as session:
        known: set[bytes] = set()

        def answer(asked: Asked) -> Response:
            message = asked.message
            if isinstance(message, Prepare):
                known.add(statement_id(message.query))
                return prepared(server, message.query)
            assert isinstance(message, Batch)
            for statement in message.statements:
                if isinstance(statement.query, bytes) and statement.query not in known:
                    return error(ErrorCode.UNPREPARED, "unknown", statement_id=statement.query)
            return error(ErrorCode.UNPREPARED, "odd", statement_id=b"odd") if odd else VOID

        odd = False
        server.answer = answer
        items = [(f"INSERT INTO t{number} (k) VALUES (?)", (number,)) for number in range(4)]
        await session.batch(items)
        known.clear()
        server.seen.clear()
        await session.batch([*items, "INSERT INTO t (k) VALUES (9)"])
        kinds = [type(asked.message).__name__ for asked in server.seen]
        assert kinds == ["Batch", "Prepare"] * 4 + ["Batch"]
        last = server.seen[-1].message
        assert isinstance(last, Batch)
        assert [list(each.values) for each in last.statements] == [
            *([number.to_bytes(4, "big")] for number in range(4)),
            [],
        ]
        odd = True
        with pytest.raises(cql.Unprepared, match="odd"):
            await session.batch(items)
        assert state(session) == IDLE


@pytest.mark.parametrize("each_version", [V4, V5], ids=["v4", "v5"], indirect=True)
async def test_columns_that_change_are_read_by_what_the_reply_says(
    each_version: ProtocolVersion,
) -> None:
    """After ALTER a reply has new columns and is decoded with them; on v5 it has their id too."""
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        handle = await session.prepare("SELECT * FROM t WHERE k = ?")
        assert [column.name for column in handle.columns] == ["v"]
        old, new = columns("v"), columns("u", "v", kind="text")
        changed = b"new" if each_version is V5 else None
        async with anyio.create_task_group() as group:
            outcomes = [start(group, lambda: session.execute(handle, (1,))) for _ in range(4)]
            asked = await server.take_all(4)
            asked[2].reply(rows_of(new, [("a", "b"), (None, "d")], changed=changed))
            asked[0].reply(rows_of(old, [(7,)]))
            asked[3].reply(rows_of(new, [("e", "f")], changed=changed))
            asked[1].reply(rows_of(old, [(8,), (9,)]))
        found = sorted(([tuple(row) for row in outcome.result] for outcome in outcomes), key=str)
        assert found == [[("a", "b"), (None, "d")], [("e", "f")], [(7,)], [(8,), (9,)]]
        assert {outcome.result.columns for outcome in outcomes} == {("v",), ("u", "v")}
        # now the client sends the new id, and on v5 the server omits the columns
        server.described[statement_id(handle.query)] = ResultMetadata.of(new, V4)
        server.answer = lambda asked: rows_of(new, [("x", "y")])
        result = await session.execute(handle, (1,))
        assert result.one()._asdict() == {"u": "x", "v": "y"}
        assert [column.name for column in handle.columns] == ["u", "v"]
        message = server.seen[-1].message
        assert isinstance(message, Execute)
        assert message.result_metadata_id == changed


async def test_on_v5_columns_that_come_unannounced_serve_one_reply() -> None:
    """The columns of a lightweight transaction depend on its outcome."""
    async with serving() as server, server.session() as session:
        server.answer = preparing(server)
        handle = await session.prepare("SELECT * FROM t WHERE k = ?")
        server.answer = lambda asked: rows_of(columns("u", kind="text"), [("a",)])
        for _ in range(2):
            assert (await session.execute(handle, (1,))).one().u == "a"
            assert [column.name for column in handle.columns] == (
                ["v"] if session.protocol_version is V5 else ["u"]
            )


async def test_on_v5_the_columns_need_not_come_again() -> None:
    """On v5 the server omits the columns; on v4 every reply has them, since they may change."""
    async with serving() as server, server.session() as session:
        server.answer = echo(server)
        for number in range(3):
            assert (await session.execute(SELECT, (number,))).one().v == number
            message = server.seen[-1].message
            assert isinstance(message, Execute)
            assert message.parameters.skip_metadata is (session.protocol_version is V5)


async def test_markers_that_change_are_bound_anew() -> None:
    """A user-defined type was altered: the new PREPARED has its new fields."""
    async with serving() as server, server.session() as session:
        server.answer = echo(server)
        handle = await session.prepare(SELECT)
        with pytest.raises(cql.ValueConversionError, match="'v0'"):
            await session.execute(handle, ("text",))
        changed = prepared(server, SELECT)
        changed.bind.columns = columns("v0", kind="text")
        executed = 0

        def answer(asked: Asked) -> Response:
            nonlocal executed
            if isinstance(asked.message, Prepare):
                return changed
            executed += 1
            return unprepared(asked) if executed == 1 else ints(executed)

        server.answer = answer
        with pytest.raises(cql.ValueConversionError):
            await session.execute(handle, (5,))
        assert (await session.execute(handle, ("text",))).one().v == 2
        assert state(session) == IDLE
