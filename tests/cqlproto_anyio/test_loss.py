"""The connection breaks: each request fails at once with its own error, and the next one finds
another connection."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto.enums import ErrorCode, Opcode
from cqlproto.messages import Prepare, SetKeyspace
from tests.support.cluster_sessions import SOON
from tests.support.replies import echo, error, ints, preparing
from tests.support.server import (
    IDLE,
    idle,
    losses,
    serving,
    start,
    state,
    turns,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqlproto_anyio.testing._memory import MemoryStream
    from tests.support.server import Peer

pytestmark = pytest.mark.usefixtures("each_version")


SELECT = "SELECT v FROM t WHERE k = ?"
INSERT = "INSERT INTO t (k) VALUES (?)"

VOID_BODY = b"\0\0\0\x01"


def reset(peer: Peer) -> None:
    stream: MemoryStream = peer.stream  # type: ignore[assignment]  # it is in memory
    stream.reset()


def cut_in_a_frame(peer: Peer) -> None:
    peer.send_raw(peer.frame(1, Opcode.RESULT, VOID_BODY)[:7])
    peer.close()


def cut_in_a_body(peer: Peer) -> None:
    peer.send_raw(peer.frame(1, Opcode.RESULT, VOID_BODY)[:-1])
    peer.close()


WAYS: dict[str, tuple[Callable[[Peer], object], str]] = {
    "between frames": (lambda peer: peer.close(), "closed the connection$"),
    "in a header": (cut_in_a_frame, "in the middle of a frame"),
    "in a body": (cut_in_a_body, "in the middle of a frame"),
    "reset": (reset, "reset"),
    "garbage": (
        lambda peer: peer.send_raw(b"HTTP/1.1 500 Oops\r\n\r\n"),
        "not a CQL response|checksum of a segment",
    ),
    "an unused id": (
        lambda peer: peer.send_raw(peer.frame(31_000, Opcode.RESULT, VOID_BODY)),
        "where no request is in flight",
    ),
    "an error for the connection": (
        lambda peer: peer.send_raw(
            peer.frame(0, Opcode.ERROR, b"\0\0\0\x0a\0\x04told")
        ),
        "the server ended the connection: told",
    ),
    "a length beyond all limits": (
        lambda peer: peer.send_raw(
            peer.frame(31_000, Opcode.RESULT, b"").replace(
                b"\x08\0\0\0\0", b"\x08\x7f\xff\xff\xff"
            )
        ),
        "at most|checksum of a segment",
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
async def test_every_request_learns_it(way: str) -> None:
    breaks, told = WAYS[way]
    async with serving() as server, server.session(max_in_flight=40, reconnection=SOON) as session:
        server.answer = preparing(server)
        await session.prepare(SELECT)
        await session.prepare(INSERT)
        started = anyio.current_time()
        async with anyio.create_task_group() as group:
            reads = [start(group, lambda: session.execute(SELECT, (1,))) for _ in range(20)]
            writes = [start(group, lambda: session.execute(INSERT, (1,))) for _ in range(20)]
            await server.until(lambda: len(server.asked) == 40)
            queued = [start(group, lambda: session.execute(INSERT, (1,))) for _ in range(20)]
            preparing_another = start(group, lambda: session.prepare("SELECT w FROM t"))
            await turns()
            breaks(server.peers[0])
        assert anyio.current_time() - started < 0.1
        for outcome in [*reads, *writes, *queued, preparing_another]:
            lost = outcome.error
            assert type(lost) is cql.ConnectionLost
            assert isinstance(lost, OSError)
            assert lost.host == "node:9042"
            assert lost.stage == "request"
            assert 0 <= lost.elapsed < 5
            assert lost.maybe_applied is (outcome in writes)
        assert len({id(outcome.error) for outcome in [*reads, *writes, *queued]}) == 60
        with pytest.raises(cql.ConnectionLost, match=told):
            raise reads[0].error or AssertionError
        assert state(session) == IDLE
        # and the next request finds another connection
        server.answer = echo(server)
        assert (await session.execute(SELECT, (5,))).one().v == 5
        assert len(server.peers) == 2


async def test_what_was_never_sent_was_not_applied() -> None:
    async with serving() as server:
        server.capacity = 300
        async with server.session() as session:
            server.peers[0].pause()
            text = "INSERT INTO t (k) VALUES ('{}')"
            async with anyio.create_task_group() as group:
                sent = start(group, lambda: session.execute(text.format("x" * 600)))
                await turns()
                unsent = [start(group, lambda: session.execute(text.format("y"))) for _ in range(5)]
                await turns()
                reset(server.peers[0])
            assert isinstance(sent.error, cql.ConnectionLost)
            assert sent.error.maybe_applied is True
            for outcome in unsent:
                assert isinstance(outcome.error, cql.ConnectionLost)
                assert outcome.error.maybe_applied is False


async def test_replies_before_the_cut_are_delivered() -> None:
    async with serving() as server, server.session() as session:
        async with anyio.create_task_group() as group:
            first = start(group, lambda: session.execute("SELECT v FROM t"))
            asked = await server.next()
            second = start(group, lambda: session.execute("SELECT v FROM t"))
            await server.next()
            asked.reply(ints(1))
            asked.peer.send_raw(b"garbage")
        assert first.result.one().v == 1
        assert isinstance(second.error, cql.ConnectionLost)


async def test_one_reconnect_serves_all() -> None:
    async with serving() as server, server.session(reconnection=SOON) as session:
        server.answer = echo(server)
        go_on = server.hold()
        await server.cut(session)
        async with anyio.create_task_group() as group:
            outcomes = [
                start(group, lambda index=index: session.execute(SELECT, (index,)))  # type: ignore[misc]  # a lambda with a default
                for index in range(100)
            ]
            await server.until(lambda: server.asked)
            await turns()
            assert state(session).deadlines == 100
            go_on()
        assert [outcome.result.one().v for outcome in outcomes] == list(range(100))
        assert len(server.peers) == 2
        assert len(server.texts_seen(Prepare)) == 1
        assert state(session) == IDLE


async def test_a_connection_is_made_anew_without_being_asked_for() -> None:
    async with serving() as server, server.session(reconnection=SOON) as session:
        await server.cut(session)
        await until(lambda: session.statistics().connections)
        assert len(server.peers) == 2
        assert server.seen == []
        assert state(session) == IDLE


async def test_a_failing_reconnect_is_one_clear_error_for_each() -> None:
    async with serving() as server, server.session() as session:
        server.answer = echo(server)
        await session.prepare(SELECT)
        await session.prepare(INSERT)
        # the second time, the attempt has usually failed already
        for _ in range(2):
            server.refuse = ConnectionRefusedError(111, "Connection refused")
            if session.statistics().connections:
                await server.cut(session)
            async with anyio.create_task_group() as group:
                outcomes = [start(group, lambda: session.execute(INSERT, (1,))) for _ in range(10)]
            for outcome in outcomes:
                failed = outcome.error
                assert type(failed) is cql.ConnectionFailed
                assert (failed.stage, failed.host) == ("connect", "node:9042")
                assert failed.maybe_applied is False
                assert "Connection refused" in str(failed)
                frames = [frame.name for frame in traceback.extract_tb(failed.__traceback__)]
                assert frames.count("run") == 1  # this caller's stack only
            assert len({id(outcome.error) for outcome in outcomes}) == 10
        server.refuse = None
        await until(lambda: session.statistics().connections)
        assert (await session.execute(SELECT, (3,))).one().v == 3
        assert state(session) == IDLE


async def test_a_request_has_an_attempt_made_long_before_its_time() -> None:
    """However long ago the last attempt was, and however late the next one is due."""
    reconnection = cql.ConstantReconnection(86_400.0)
    async with serving() as server, server.session(reconnection=reconnection) as session:
        server.answer = echo(server)
        server.refuse = ConnectionRefusedError(111, "Connection refused")
        await server.cut(session)
        with pytest.raises(cql.ConnectionFailed, match="Connection refused"):
            await session.execute(SELECT, (1,))
        server.refuse = None
        with anyio.fail_after(20):
            while True:  # an attempt that has just failed is not repeated at once
                try:
                    result = await session.execute(SELECT, (3,))
                    break
                except cql.ConnectionFailed:
                    await anyio.sleep(0.02)
        assert result.one().v == 3
        assert len(server.peers) == 2


async def test_the_deadline_covers_reconnecting() -> None:
    async with serving() as server, server.session() as session:
        server.answer = echo(server)
        await session.prepare(SELECT)
        server.hold()
        await server.cut(session)
        started = anyio.current_time()
        calls = [
            lambda: session.execute(SELECT, (1,), timeout=0.1),
            lambda: session.execute("SELECT w FROM t WHERE k = ?", (1,), timeout=0.1),
            lambda: session.page(SELECT, (1,), timeout=0.1),
            lambda: session.batch([INSERT.replace("?", "1")], timeout=0.1),
            lambda: anext(session.stream(SELECT, (1,), timeout=0.1)),
        ]
        async with anyio.create_task_group() as group:
            outcomes = [start(group, call) for call in calls]
        assert anyio.current_time() - started == pytest.approx(0.1)
        for outcome in outcomes:
            assert isinstance(outcome.error, cql.RequestTimeout)
            assert outcome.error.maybe_applied is False
        await idle(session)


async def test_cancelled_while_reconnecting_the_others_go_on() -> None:
    async with serving() as server, server.session(reconnection=SOON) as session:
        server.answer = echo(server)
        go_on = server.hold()
        await server.cut(session)
        async with anyio.create_task_group() as group:
            first = start(group, lambda: session.execute("SELECT v FROM t"))
            await turns()
            second = start(group, lambda: session.execute("SELECT v FROM t"))
            await server.until(lambda: server.asked)
            await turns()
            assert state(session).deadlines == 2
            first.scope.cancel()
            await turns()
            go_on()
        assert not first.done
        assert second.result.one().v == 0
        assert len(server.peers) == 2
        assert len(server.seen) == 1


@pytest.mark.parametrize("text", ["SELECT 1", "UPDATE t SET v = 1 WHERE k = 1"])
async def test_a_keyspace_that_was_set_behind_our_back_closes_the_connection(text: str) -> None:
    async with serving() as server, server.session(reconnection=SOON) as session:
        async with anyio.create_task_group() as group:
            other = start(group, lambda: session.execute("INSERT INTO t (k) VALUES (1)"))
            await server.next()
            sly = start(group, lambda: session.execute(text))
            (await server.next()).reply(SetKeyspace("elsewhere"))
        assert isinstance(sly.error, cql.UsageError)
        assert sly.error.maybe_applied is (text != "SELECT 1")
        assert sly.error.host == "node:9042"
        assert "keyspace" in str(sly.error)
        assert isinstance(other.error, cql.ConnectionLost)
        assert other.error.maybe_applied is True
        server.answer = echo(server)
        assert (await session.execute(SELECT, (9,))).one().v == 9
        assert len(server.peers) == 2


async def test_a_server_error_is_the_callers_and_the_connection_stays() -> None:
    profile = cql.Profile(retry=cql.DefaultRetry(overload_delay=0.002))
    async with serving() as server, server.session(profile=profile) as session:
        for code, kind, applied in [
            (ErrorCode.SERVER_ERROR, cql.ServerError, True),
            (ErrorCode.OVERLOADED, cql.ServerOverloaded, True),
            (ErrorCode.SYNTAX_ERROR, cql.InvalidSyntax, False),
            (ErrorCode.INVALID, cql.InvalidQuery, False),
            (0x7777, cql.DatabaseError, True),
        ]:
            server.answer = lambda asked, code=code: error(code, "as told")  # type: ignore[misc]  # a lambda with a default
            with pytest.raises(kind, match="as told") as info:
                await session.execute("INSERT INTO t (k) VALUES (1)")
            assert type(info.value) is kind
            assert info.value.code == code
            assert info.value.host == "node:9042"
            assert info.value.query == "INSERT INTO t (k) VALUES (1)"
            assert info.value.maybe_applied is applied
            with pytest.raises(kind) as info:
                await session.execute("SELECT v FROM t")
            assert info.value.maybe_applied is False
        assert len(server.peers) == 1


async def test_a_session_outlives_many_losses() -> None:
    reconnection = cql.ConstantReconnection(0.001)
    async with serving() as server, server.session(reconnection=reconnection) as session:
        server.answer = echo(server)
        for index in range(30):
            assert (await session.execute(SELECT, (index,))).one().v == index
            if index % 2:
                await server.cut(session)
        await until(lambda: session.statistics().connections)
        assert len(server.peers) == 16
        assert losses(session) == 15
        assert state(session) == IDLE
