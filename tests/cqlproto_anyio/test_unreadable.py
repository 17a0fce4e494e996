"""A reply that is too long or malformed fails its own request and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto import Limits, ProtocolVersion
from cqlproto.enums import RESPONSE_BIT, ErrorCode, Opcode
from cqlproto.frames import write_frame
from cqlproto.messages import VOID, Error, Prepare, Rows
from cqlproto.segments import write_segments
from tests.support.cluster_sessions import INSERT, LWT, SELECT, connected, session_on, stats_of
from tests.support.fakecluster import FakeCluster, row_v
from tests.support.fakehosts import V_METADATA
from tests.support.faketables import PEERS_V2
from tests.support.server import idle, start, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cqlproto.messages import Response
    from cqlproto_anyio.hooks import HostRecord
    from tests.support.fakehosts import FakeRequest

pytestmark = pytest.mark.uvloop
versions = pytest.mark.parametrize("version", [ProtocolVersion.V5, ProtocolVersion.V4], ids=str)

LIMIT = 4000
BIG = "SELECT v FROM ks.big WHERE k = ?"


def say(request: FakeRequest, body: bytes, opcode: Opcode = Opcode.RESULT) -> None:
    """Answer a request with a frame that has this body."""
    connection = request.connection
    connection.core.reply(request.stream_id, Error(ErrorCode.SERVER_ERROR, "never sent"))
    connection.core.data_to_send()
    version = connection.core.version
    frame = write_frame(version | RESPONSE_BIT, 0, request.stream_id, opcode, body)
    connection.send_raw(write_segments([frame]) if version.has_segments else frame)


class Down(cql.Hooks):
    """Notes which hosts go down."""

    def __init__(self) -> None:
        self.hosts: list[HostRecord] = []

    def host_down(self, record: HostRecord) -> None:
        self.hosts.append(record)


class Always:
    """Retries every request on the next host."""

    def decide(self, error: Exception, **facts: Any) -> cql.Retry:
        return cql.Retry(next_host=True)


# -- too long


def with_big_rows(cluster: FakeCluster, size: int = 10 * LIMIT) -> list[FakeRequest]:
    """Make the reply to reads of ``ks.big`` too long; return the list that their requests go to."""
    asked: list[FakeRequest] = []

    def answer(request: FakeRequest) -> Response | None:
        if "big" not in request.text:
            return cluster.usual_answer(request)
        asked.append(request)
        return Rows.of(V_METADATA, size // 8, (b"\0\0\0\x04" + bytes(4)) * (size // 8))

    cluster.answer = answer
    return asked


READS: dict[str, Callable[..., Awaitable[Any]]] = {
    "execute": lambda session, **more: session.execute(BIG, (1,), **more),
    "text": lambda session, **more: session.execute("SELECT v FROM ks.big", **more),
    "page": lambda session, **more: session.page(BIG, (1,), **more),
    "stream": lambda session, **more: session.stream(BIG, (1,), **more).__anext__(),
    "speculative": lambda session, **more: session.execute(
        BIG, (1,), speculation=cql.ConstantSpeculation(5.0), **more
    ),
}


@versions
@pytest.mark.parametrize("name", READS)
async def test_a_reply_that_is_too_long_fails_its_call_alone(
    name: str, version: ProtocolVersion
) -> None:
    cluster = FakeCluster(3)
    asked = with_big_rows(cluster)
    hooks = Down()
    limits = Limits(max_response=LIMIT)
    async with session_on(cluster, limits=limits, hooks=hooks, protocol_version=version) as session:
        await connected(session, cluster.hosts)
        await session.execute(INSERT, (1, 2))
        await session.execute(SELECT, (1,))
        for options in ({}, {"idempotent": True, "retry": Always()}, {"page_size": 7}):
            async with anyio.create_task_group() as group:
                others = [start(group, lambda: session.execute(INSERT, (1, 2))) for _ in range(30)]
                with pytest.raises(cql.ResponseTooLarge, match="lower page_size") as caught:
                    await READS[name](session, **options)
            assert all(other.error is None for other in others)
            error = caught.value
            assert (error.size > LIMIT, error.limit) == (True, LIMIT)
            [request] = asked
            asked.clear()
            assert (error.host, error.query) == (str(request.host.endpoint), request.text)
            assert not error.maybe_applied
        await idle(session)
        statistics = session.statistics()
        assert sum(host.lost for host in statistics.hosts) == 0
        assert statistics.retries == 0
        assert not hooks.hosts


@versions
async def test_the_call_fails_as_soon_as_the_length_is_known(version: ProtocolVersion) -> None:
    """The body may take long; later replies arrive after it."""
    cluster = FakeCluster(1)
    cluster.answer = lambda request: None
    async with session_on(
        cluster, discovery=False, limits=Limits(max_response=LIMIT), protocol_version=version
    ) as session:
        await connected(session, cluster.hosts)
        async with anyio.create_task_group() as group:
            first = start(group, lambda: session.execute("SELECT v FROM ks.big"))
            await until(lambda: len(cluster.waiting) == 1)
            second = start(group, lambda: session.execute("SELECT v FROM ks.t"))
            await until(lambda: len(cluster.waiting) == 2)
            big, small = cluster.waiting
            frame = write_frame(version | RESPONSE_BIT, 0, big.stream_id, 8, bytes(300_000))
            data = write_segments([frame]) if version.has_segments else frame
            half = 140_000
            [host] = cluster.hosts
            host.pause()  # the reply to a heartbeat waits behind the body
            big.connection.send_raw(data[:half])
            await until(lambda: first.done)
            assert isinstance(first.error, cql.ResponseTooLarge)
            [stats] = session.statistics().hosts
            assert (stats.orphans, stats.lost) == (1, 0)
            assert not second.done
            big.connection.core.reply(big.stream_id, Error(0, "not sent"))
            big.connection.core.data_to_send()
            big.connection.send_raw(data[half:])
            host.resume()
            small.reply(cluster.usual_answer(small))
        assert second.error is None
        await idle(session)
        assert stats_of(session, cluster.hosts[0]).lost == 0


async def test_the_outcome_of_a_write_whose_reply_is_too_long_is_not_known() -> None:
    cluster = FakeCluster(2)
    body = b"\0\0\0\x02" + bytes(2 * LIMIT)
    cluster.answer = lambda request: say(request, body)
    async with session_on(cluster, limits=Limits(max_response=LIMIT)) as session:
        await connected(session, cluster.hosts)
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: session.execute(INSERT, (1, 2), idempotent=True),
            lambda: session.execute(LWT, (1, 2)),
            lambda: session.batch([(INSERT, (1, 2))]),
        ]
        for call in calls:
            with pytest.raises(cql.ResponseTooLarge) as caught:
                await call()
            assert caught.value.maybe_applied
            assert len(cluster.waiting) == 1, "it is not sent again"
            cluster.waiting.clear()


async def test_the_tables_of_a_large_cluster_are_read_by_shorter_pages() -> None:
    """The table of peers is, too, if each of its pages would be too long."""
    cluster = FakeCluster(40)
    limits = Limits(max_response=6000)
    sizes: list[int | None] = []

    def answer(request: FakeRequest) -> Response:
        message: Any = request.message
        sizes.append(message.parameters.page_size)
        return cluster.system_answer(request)

    cluster.answers[PEERS_V2] = answer
    async with session_on(
        cluster, cluster.hosts[0].address, limits=limits, eager=False, refresh_interval=3600.0
    ) as session:
        assert len(session.statistics().hosts) == 40
    assert sizes[0] == 50
    assert len(set(sizes)) > 1
    assert max(host.opened for host in cluster.hosts) <= 2


# -- malformed

MALFORMED = {
    "kind": b"\0\0\0\x63",
    "short": b"\0\0\0\x02\0\0",
    "misplaced": b"\0\0\0\x03\0\x02ks"[:4],
}


@versions
@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_reply_fails_its_call_alone(name: str, version: ProtocolVersion) -> None:
    cluster = FakeCluster(1)
    async with session_on(cluster, discovery=False, protocol_version=version) as session:
        await connected(session, cluster.hosts)
        await session.execute(INSERT, (1, 2))
        await session.execute(SELECT, (1,))
        cluster.answer = lambda request: None
        reads: list[Callable[[], Awaitable[Any]]] = [
            lambda: session.execute(SELECT, (1,)),
            lambda: session.execute("SELECT v FROM ks.t"),
            lambda: session.page(SELECT, (1,)),
        ]
        writes: list[Callable[[], Awaitable[Any]]] = [
            lambda: session.execute(INSERT, (1, 2)),
            lambda: session.execute(LWT, (1, 2)),
            lambda: session.batch([(INSERT, (1, 2))]),
        ]
        for call in [*reads, *writes]:
            async with anyio.create_task_group() as group:
                failing = start(group, call)
                await until(lambda: len(cluster.waiting) == 1)
                other = start(group, lambda: session.execute(INSERT, (5, 6)))
                await until(lambda: len(cluster.waiting) == 2)
                bad, good = cluster.waiting
                cluster.waiting.clear()
                opcode = Opcode.SUPPORTED if name == "misplaced" else Opcode.RESULT
                say(bad, MALFORMED[name], opcode)
                good.reply(cluster.usual_answer(good))
            assert other.error is None
            error = failing.error
            assert isinstance(error, cql.RemoteProtocolError)
            assert error.host == str(cluster.hosts[0].endpoint)
            assert error.maybe_applied is (call in writes)
        await idle(session)
        assert stats_of(session, cluster.hosts[0]).lost == 0


async def test_what_may_be_sent_again_is_sent_to_another_host_once() -> None:
    cluster = FakeCluster(4)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        for _ in range(8):
            await session.execute(INSERT, (1, 2))
            await session.execute(SELECT, (1,))
        seen: list[FakeRequest] = []

        def bad(request: FakeRequest) -> Response | None:
            seen.append(request)
            if len(seen) == 1:
                say(request, MALFORMED["kind"])
                return None
            return cluster.usual_answer(request)

        def worse(request: FakeRequest) -> None:
            seen.append(request)
            say(request, MALFORMED["kind"])

        cluster.answer = bad
        repeated: list[Callable[[], Awaitable[Any]]] = [
            lambda: session.execute(SELECT, (1,)),
            lambda: session.execute(INSERT, (1, 2), idempotent=True),
        ]
        for call in repeated:
            await call()
            assert len({request.host for request in seen}) == 2
            seen.clear()
        cluster.answer = worse
        limited: list[tuple[Callable[[], Awaitable[Any]], int]] = [
            (lambda: session.execute(SELECT, (1,)), 2),
            (lambda: session.execute(INSERT, (1, 2)), 1),
            (lambda: session.execute(LWT, (1, 2)), 1),
        ]
        for call, times in limited:
            with pytest.raises(cql.RemoteProtocolError) as caught:
                await call()
            assert len(seen) == times
            assert len(caught.value.attempts) in (0, times)
            seen.clear()
        assert sum(host.lost for host in session.statistics().hosts) == 0


async def test_a_statement_is_prepared_elsewhere() -> None:
    cluster = FakeCluster(3)
    usual = cluster._prepare
    bad: list[FakeRequest] = []

    def prepare(request: FakeRequest, message: Prepare) -> Any:
        if bad:
            return usual(request, message)
        bad.append(request)
        say(request, b"\0\0\0\x04\0\x63")
        return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "_prepare", prepare)
        async with session_on(cluster) as session:
            await connected(session, cluster.hosts)
            assert (await session.execute(SELECT, (3,))).one().v == 3
            cluster.waiting.clear()
            assert sum(host.lost for host in session.statistics().hosts) == 0
    assert len(bad) == 1


@pytest.mark.parametrize("kind", ["execute", "batch"])
async def test_an_outcome_that_cannot_be_read_may_be_that_it_was_applied(kind: str) -> None:
    """The reply has columns but no complete row."""
    cluster = FakeCluster(1)
    head = bytes.fromhex("00000002 00000001 00000001 0002 6b73 0001 74 0009") + b"[applied]"
    body = head + bytes.fromhex("0004 00000001 00000001")
    cluster.answer = lambda request: say(request, body)
    async with session_on(cluster, discovery=False) as session:
        await connected(session, cluster.hosts)
        with pytest.raises(cql.RemoteProtocolError) as caught:
            if kind == "execute":
                await session.execute(LWT, (1, 2))
            else:
                await session.batch([(LWT, (1, 2))], kind="unlogged")
        assert caught.value.maybe_applied
        assert caught.value.host == str(cluster.hosts[0].endpoint)
        assert caught.value.query


@pytest.mark.parametrize("body", ["cut", "without columns"])
@pytest.mark.parametrize("text", [INSERT, LWT, SELECT, "INSERT INTO ks.t (k) VALUES (1)"])
async def test_rows_that_cannot_be_read_say_whose_they_are(text: str, body: str) -> None:
    """A write that was answered by rows may have been applied."""
    cluster = FakeCluster(1)
    described = "00000002 00000001 00000001 0002 6b73 0001 74 0001 76 0009 00000001 00000004"
    bare = "00000002 00000004 00000002 00000001 00000004 00000001 00000004 00000001"
    answer = bytes.fromhex(described if body == "cut" else bare)
    cluster.answer = lambda request: say(request, answer)
    values = tuple(range(text.count("?"))) or None
    async with session_on(cluster, discovery=False) as session:
        await connected(session, cluster.hosts)
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: session.execute(text, values),
            lambda: session.page(text, values),
            lambda: anext(session.stream(text, values)),
        ]
        for call in calls:
            with pytest.raises(cql.RemoteProtocolError) as caught:
                await call()
            assert caught.value.maybe_applied is (text != SELECT)
            assert caught.value.host == str(cluster.hosts[0].endpoint)
            assert caught.value.query == text
        await idle(session)
        assert stats_of(session, cluster.hosts[0]).lost == 0


@versions
@pytest.mark.parametrize("text", [INSERT, SELECT])
async def test_rows_of_known_columns_that_cannot_be_read_say_whose_they_are(
    text: str, version: ProtocolVersion
) -> None:
    cluster = FakeCluster(1)
    cluster.answer = lambda request: row_v(1)
    cut = bytes.fromhex("00000002 00000001 00000001 0002 6b73 0001 74 0001 76 0009 00000001 000000")
    values = tuple(range(text.count("?")))
    async with session_on(cluster, discovery=False, protocol_version=version) as session:
        await connected(session, cluster.hosts)
        for _ in range(3):
            assert (await session.execute(text, values)).rows == [(1,)]
        columns = V_METADATA.columns
        assert [(each.keyspace, each.table, each.name) for each in columns] == [("ks", "t", "v")]
        cluster.answer = lambda request: say(request, cut + b"\x04ab")
        with pytest.raises(cql.RemoteProtocolError) as caught:
            await session.execute(text, values)
        assert caught.value.maybe_applied is (text == INSERT)
        assert caught.value.host == str(cluster.hosts[0].endpoint)
        assert caught.value.query == text


@pytest.mark.parametrize("verb", ["execute", "page", "stream"])
async def test_a_later_page_without_rows_says_whose_it_is(verb: str) -> None:
    cluster = FakeCluster(1)

    def answer(request: FakeRequest) -> Response:
        rows = row_v(1)
        if request.message.parameters.paging_state is not None:  # type: ignore[union-attr]  # it has parameters
            return VOID
        assert rows.metadata is not None
        return Rows.of(rows.metadata, 1, rows.content, paging_state=b"next")

    cluster.answer = answer
    async with session_on(cluster, discovery=False) as session:
        await connected(session, cluster.hosts)
        with pytest.raises(cql.RemoteProtocolError, match="Void came where a page") as caught:
            if verb == "execute":
                await session.execute(SELECT, (1,))
            elif verb == "page":
                first = await session.page(SELECT, (1,))
                await session.page(SELECT, (1,), token=first.next_token)
            else:
                [row async for row in session.stream(SELECT, (1,))]
        assert caught.value.host == str(cluster.hosts[0].endpoint)
        assert caught.value.query == SELECT
        assert not caught.value.maybe_applied


async def test_the_keyspace_of_a_connection_may_be_answered_so() -> None:
    """The connection is not used, and ``connect`` ends."""
    cluster = FakeCluster(1, keyspaces={"ks": {"class": "SimpleStrategy"}})
    usual = cluster._reply

    def reply(request: FakeRequest) -> Response | None:
        message: Any = request.message
        if getattr(message, "query", "").startswith(("USE", "SELECT key FROM system.local")):
            say(request, MALFORMED["kind"])
            return None
        return usual(request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "_reply", reply)
        with anyio.fail_after(5), pytest.raises(cql.ConnectionFailed, match="keyspace failed"):
            async with cql.connect(
                cluster.addresses,
                keyspace="ks",
                config=cluster.config(discovery=False, connect_timeout=30.0),
            ):
                raise AssertionError("connected")
