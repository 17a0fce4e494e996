"""Hooks for requests: one record per call, with its outcome."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto import Consistency
from cqlproto.enums import ErrorCode
from cqlproto.messages import Batch, Execute, Prepare, Query, Rows
from tests.support.cluster_sessions import INSERT, LWT, SELECT, connected, session_on
from tests.support.fakecluster import FakeCluster, row_v
from tests.support.fakehosts import V_METADATA
from tests.support.faults import Fault, Script, failure, settled, success
from tests.support.replies import echo
from tests.support.server import idle, serving, start, until

if TYPE_CHECKING:
    from cqlproto.messages import Response
    from tests.support.fakecluster import FakeRequest

pytestmark = pytest.mark.uvloop


class Listener(cql.Hooks):
    """Keeps the records, including any of the session's own requests."""

    def __init__(self) -> None:
        self.records: list[cql.RequestRecord] = []

    def request_finished(self, record: cql.RequestRecord) -> None:
        self.records.append(record)

    def pop(self) -> cql.RequestRecord:
        [record] = self.records
        self.records.clear()
        return record


def pages(count: int, size: int = 2) -> Any:
    """Answer any SELECT with some pages of this size."""

    def answer(request: FakeRequest) -> Response:
        message: Any = request.message
        number = int(message.parameters.paging_state or 0) + 1
        content = row_v(*range(size)).content
        state = None if number == count else b"%d" % number
        return Rows.of(V_METADATA, size, content, paging_state=state)

    return answer


async def test_one_record_for_each_call() -> None:
    cluster = FakeCluster(3)
    Script(cluster)
    hooks = Listener()
    addresses = {str(host) for host in cluster.hosts}
    async with session_on(cluster, hooks=hooks) as session:
        await connected(session, cluster.hosts)
        prepared = await session.prepare(SELECT)
        record = hooks.pop()
        assert (record.verb, record.query, record.rows) == ("prepare", SELECT, 0)
        calls: list[tuple[str, str, int, Any]] = [
            ("execute", SELECT, 1, lambda: session.execute(SELECT, (1,))),
            ("execute", SELECT, 1, lambda: session.execute(prepared, (1,))),
            ("execute", "SELECT v FROM ks.t", 1, lambda: session.execute("SELECT v FROM ks.t")),
            ("execute", INSERT, 0, lambda: session.execute(INSERT, (1, 2))),
            ("execute", LWT, 1, lambda: session.execute(LWT, (1, 2))),
            ("page", SELECT, 1, lambda: session.page(SELECT, (1,))),
            ("batch", "BATCH of 2", 0, lambda: session.batch([(INSERT, (1, 2))] * 2)),
        ]
        for verb, query, rows, call in calls:
            result = await call()
            record = hooks.pop()
            assert (record.verb, record.query, record.rows) == (verb, query, rows)
            assert record.host == result.host
            assert record.host in addresses
            assert record.attempts == 1
            assert record.error is None
            assert record.keyspace is None
            assert record.consistency == Consistency.LOCAL_QUORUM
            assert record.tracing_id is None
            assert record.warnings == ()
            assert 0 <= record.elapsed < 20
            assert repr(record).startswith("RequestRecord(")


async def test_records_show_no_bound_value_but_one_that_is_refused() -> None:
    cluster = FakeCluster(1)
    script = Script(cluster)
    hooks = Listener()
    secret = 1_234_567_890
    async with session_on(cluster, hooks=hooks) as session:
        await session.execute(INSERT, (secret, secret))
        await session.batch([(INSERT, (secret, secret))])
        script.faults = [failure(ErrorCode.INVALID)] * 2
        with pytest.raises(cql.InvalidQuery):
            await session.execute(INSERT, (secret, secret))
        with pytest.raises(cql.UsageError):
            await session.execute(INSERT, (secret, secret, secret))
        assert len(hooks.records) == 4
        assert str(secret) not in repr([(record, record.error) for record in hooks.records])
        hooks.records.clear()
        with pytest.raises(cql.ValueConversionError):
            await session.execute(INSERT, (secret, "secret"))
        assert "got str 'secret'" in str(hooks.pop().error)


async def test_what_was_asked_for() -> None:
    cluster = FakeCluster(1)
    Script(cluster)
    hooks = Listener()
    profile = cql.Profile(consistency=Consistency.TWO)
    async with session_on(cluster, hooks=hooks, keyspace="ks", profile=profile) as session:
        await session.execute("SELECT v FROM t")
        record = hooks.pop()
        assert (record.keyspace, record.consistency) == ("ks", Consistency.TWO)
        await session.execute("SELECT v FROM t", consistency=Consistency.ONE)
        assert hooks.pop().consistency == Consistency.ONE
        await session.execute("SELECT v FROM t", profile=cql.Profile(consistency=Consistency.ALL))
        assert hooks.pop().consistency == Consistency.ALL


async def test_elapsed_is_the_whole_call() -> None:
    cluster = FakeCluster(1)
    hooks = Listener()
    cluster.answer = pages(3)
    async with session_on(cluster, hooks=hooks) as session:
        cluster.hosts[0].latency = 0.03
        result = await session.execute("SELECT v FROM ks.t")
        assert len(result) == 6
        record = hooks.pop()
        assert record.rows == 6
        assert 0.08 < record.elapsed < 20
        cluster.hosts[0].latency = 0


async def test_a_stream_tells_of_each_page() -> None:
    cluster = FakeCluster(3)
    hooks = Listener()
    cluster.answer = pages(4)
    async with session_on(cluster, hooks=hooks) as session:
        await connected(session, cluster.hosts)
        assert len([row async for row in session.stream(SELECT, (1,))]) == 8
        assert [record.verb for record in hooks.records] == ["stream"] * 4
        assert [record.rows for record in hooks.records] == [2] * 4
        assert all(record.query == SELECT for record in hooks.records)
        assert all(record.attempts == 1 for record in hooks.records)
        assert all(record.host for record in hooks.records)
        hooks.records.clear()
        async for page in session.stream("SELECT v FROM ks.t").pages():
            assert len(hooks.records) == 1
            assert hooks.pop().rows == len(page)
        assert hooks.records == []


async def test_a_stream_that_fails() -> None:
    cluster = FakeCluster(1)
    script = Script(cluster, [failure(ErrorCode.INVALID)])
    hooks = Listener()
    async with session_on(cluster, hooks=hooks) as session:
        with pytest.raises(cql.InvalidQuery) as caught:
            await session.stream("SELECT v FROM ks.t").__anext__()
        record = hooks.pop()
        assert record.error is caught.value
        assert (record.attempts, record.host) == (1, str(script.hosts[0]))


async def test_retries_are_counted() -> None:
    cluster = FakeCluster(4)
    hooks = Listener()
    script = Script(cluster)
    policy = cql.DefaultRetry(overload_delay=0.001)
    async with session_on(cluster, hooks=hooks) as session:
        await connected(session, cluster.hosts)
        bootstrapping = failure(ErrorCode.IS_BOOTSTRAPPING)
        overloaded = failure(ErrorCode.OVERLOADED)
        script.faults = [bootstrapping, overloaded]
        await session.execute(SELECT, (1,), retry=policy)
        record = hooks.pop()
        assert (record.attempts, record.error) == (3, None)
        assert record.host == str(script.hosts[-1])
        script.faults = [bootstrapping]
        await session.batch([(INSERT, (1, 2))])
        record = hooks.pop()
        assert (record.attempts, record.error) == (2, None)
        script.faults = [bootstrapping, bootstrapping, failure(ErrorCode.INVALID)]
        with pytest.raises(cql.InvalidQuery) as caught:
            await session.execute(SELECT, (1,))
        record = hooks.pop()
        assert record.attempts == 3
        assert record.error is caught.value
        assert record.host == str(script.hosts[-1])


async def test_another_host_that_is_asked_too() -> None:
    """The record names the host that answered; the abandoned attempt is not a failure."""
    cluster = FakeCluster(2)
    hooks = Listener()
    script = Script(cluster, [Fault("held")])
    async with session_on(cluster, hooks=hooks) as session:
        await connected(session, cluster.hosts)
        await session.execute(
            "SELECT v FROM ks.t", speculation=cql.ConstantSpeculation(0.001), timeout=None
        )
        record = hooks.pop()
        assert (record.attempts, record.error) == (1, None)
        assert record.host == str(script.hosts[1])
        script.held[0].reply(success(script.held[0]))
        await idle(session)


async def test_errors_of_all_kinds() -> None:
    cluster = FakeCluster(1)
    hooks = Listener()
    script = Script(cluster)
    [host] = cluster.hosts
    async with session_on(cluster, hooks=hooks) as session:
        untyped: Any = session
        wrong: list[tuple[type[Exception], int, Any]] = [
            (cql.ParameterError, 0, lambda: session.execute(SELECT, (1, 2))),
            (cql.UsageError, 0, lambda: session.execute("USE ks")),
            (TypeError, 0, lambda: untyped.execute(None)),
            (TypeError, 0, lambda: untyped.batch(["SELECT 1"], timeot=1)),
            (cql.UsageError, 0, lambda: session.prepare("USE ks")),
        ]
        for kind, attempts, call in wrong:
            with pytest.raises(kind) as caught:
                await call()
            record = hooks.pop()
            assert record.error is caught.value
            assert (record.attempts, record.host) == (attempts, "")
        script.faults = [failure(ErrorCode.WRITE_TIMEOUT)]
        with pytest.raises(cql.WriteTimeout):
            await session.execute(INSERT, (1, 2))
        record = hooks.pop()
        assert (record.attempts, record.host) == (1, str(host))
        script.faults = [Fault("drop")]
        with pytest.raises(cql.RequestTimeout):
            await session.execute("SELECT v FROM ks.t", timeout=0.05)
        record = hooks.pop()
        assert (record.attempts, record.host) == (1, str(host))
        assert 0.04 < record.elapsed < 20
        script.faults = [Fault("cut")]
        with pytest.raises(cql.ConnectionLost):
            await session.execute(INSERT, (1, 2))
        record = hooks.pop()
        assert (record.attempts, record.host) == (1, str(host))
        await settled(session)


async def test_what_was_never_sent_counts_as_no_attempt() -> None:
    cluster = FakeCluster(1)
    hooks = Listener()
    script = Script(cluster, [Fault("held")] * 16)
    bounds: dict[str, Any] = {"max_in_flight": 16, "max_waiting": 0, "max_connections_per_host": 1}
    async with (
        session_on(cluster, hooks=hooks, **bounds) as session,
        anyio.create_task_group() as group,
    ):
        calls = [start(group, lambda: session.execute("SELECT v FROM ks.t")) for _ in range(16)]
        await until(lambda: len(script.held) == 16)
        with pytest.raises(cql.Overloaded) as caught:
            await session.execute("SELECT v FROM ks.t")
        record = hooks.pop()
        assert (record.attempts, record.error) == (0, caught.value)
        for request in script.held:
            request.reply(row_v(1))
        await until(lambda: all(call.done for call in calls))
        assert [record.attempts for record in hooks.records] == [1] * 16


async def test_a_cancelled_call_is_told_of() -> None:
    cluster = FakeCluster(1)
    hooks = Listener()
    script = Script(cluster, [Fault("held")])
    async with session_on(cluster, hooks=hooks) as session, anyio.create_task_group() as group:
        call = start(group, lambda: session.execute("SELECT v FROM ks.t"))
        await until(lambda: script.held)
        call.scope.cancel()
        await until(lambda: hooks.records)
        record = hooks.pop()
        assert isinstance(record.error, anyio.get_cancelled_exc_class())
        assert record.rows == 0
        script.held[0].reply(row_v(1))
        await idle(session)


async def test_a_hook_that_raises_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(cql.Hooks):
        told = 0

        def request_finished(self, record: cql.RequestRecord) -> None:
            self.told += 1
            raise RuntimeError("faulty hook")

    cluster = FakeCluster(1)
    script = Script(cluster)
    hooks = Faulty()
    with caplog.at_level(logging.ERROR):
        async with session_on(cluster, hooks=hooks) as session:
            assert (await session.execute(SELECT, (3,))).one().v == 3
            assert (await session.page(SELECT, (3,))).rows[0].v == 3
            assert [row.v async for row in session.stream(SELECT, (3,))] == [3]
            await session.batch([(INSERT, (1, 2))])
            script.faults = [failure(ErrorCode.INVALID)]
            with pytest.raises(cql.InvalidQuery):
                await session.execute(SELECT, (3,))
            assert hooks.told == 5
            await idle(session)
    assert "faulty hook" in caplog.text


async def test_using_stays_observed() -> None:
    cluster = FakeCluster(1)
    Script(cluster)
    hooks = Listener()
    async with session_on(cluster, hooks=hooks) as session:
        other = session.using(profile=cql.Profile(consistency=Consistency.ALL))
        await other.execute("SELECT v FROM ks.t")
        assert hooks.pop().consistency == Consistency.ALL
        there = other.using(keyspace="ks")
        await there.batch([("INSERT INTO t (k, v) VALUES (?, ?)", (1, 2))])
        record = hooks.pop()
        assert (record.keyspace, record.verb) == ("ks", "batch")


async def test_nobody_listens_and_nothing_is_made() -> None:
    """A session whose hooks only override events of hosts is a plain one."""

    class Hosts(cql.Hooks):
        def host_up(self, record: cql.HostRecord) -> None: ...

    cluster = FakeCluster(1)
    for hooks in (None, cql.Hooks(), Hosts()):
        async with session_on(cluster, hooks=hooks) as session:
            assert type(session) is cql.Session
    async with session_on(cluster, hooks=Listener()) as session:
        assert type(session) is not cql.Session
        assert isinstance(session, cql.Session)


async def test_what_the_session_does_by_itself_is_not_told() -> None:
    """The control connection's requests are not calls."""
    cluster = FakeCluster(3)
    hooks = Listener()
    async with session_on(cluster, hooks=hooks) as session:
        await connected(session, cluster.hosts)
    assert sum(cluster.reads.values()) > 0
    assert hooks.records == []


class Hostile:
    """Raises from every method."""

    def __str__(self) -> str:
        raise RuntimeError("asked for its text")

    __repr__ = __str__

    def __iter__(self) -> Any:
        raise RuntimeError("asked for its items")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("asked whether it is equal")

    def __hash__(self) -> int:
        raise RuntimeError("asked for its hash")


def some(*items: Any) -> Any:
    """Return an iterator over the items; it raises those that are exceptions."""
    for item in items:
        if isinstance(item, Exception):
            raise item
        yield item


PLAIN = "SELECT v FROM ks.t"
WRITE = "INSERT INTO ks.t (k, v) VALUES (1, 2)"
QUERIES: list[Any] = [
    PLAIN, WRITE, "", " ", "USE ks", "SELEKT", None, 5, b"SELECT", [PLAIN], (PLAIN,), [], {},
    Hostile(), str, type("Text", (str,), {})(PLAIN),
]  # fmt: skip
PARAMETERS: list[Any] = [
    None, (), (1,), [1], {}, {"k": 1}, {"x": 1}, "a", b"a", 5, (1, 2), ("x",), lambda: some(1),
    Hostile(), object,
]  # fmt: skip
BATCHES: list[Any] = [
    [WRITE], (WRITE, WRITE), {WRITE}, {WRITE: 1}, WRITE, b"x", 5, None, PLAIN, Hostile(), [PLAIN],
    [WRITE, 5], [(WRITE, ())], [(INSERT, (1, 2))], [(INSERT, (1,))], [(INSERT, 1, 2)], [None],
    [[INSERT, (1, 2)]], [(INSERT, "ab")], [Hostile()], [(WRITE, None), LWT], [LWT],
    lambda: some(WRITE, WRITE), lambda: some(WRITE, ValueError("mine")),
    lambda: some((INSERT, (1, 2))), lambda: some(KeyError("first")),
]  # fmt: skip
KINDS: list[Any] = ["unlogged", "counter", "LOGGED", "loged", None, 0, Hostile()]
ROWS: list[Any] = [None, tuple, dict, cql.Row, 5, "dict", Hostile(), list]
TOKENS: list[Any] = ["", "x", 5, b"x", Hostile()]
OPTIONS: list[dict[str, Any]] = [
    {"timeout": 5}, {"timeout": True}, {"timeout": 10**400}, {"timeout": Hostile()},
    {"consistency": "one"}, {"consistency": "quorom"}, {"consistency": None}, {"consistency": 1},
    {"keyspace": ""}, {"keyspace": "ks"}, {"keyspace": None}, {"profile": None}, {"profile": {}},
    {"profile": Hostile()}, {"profile": cql.Profile(consistency="all")}, {"payload": {"a": 1}},
    {"retry": None}, {"retry": Hostile()}, {"timestamp": 5}, {"page_size": None}, {"timeot": 1},
    {"observer": 1}, {"kind": "logged"}, {"token": None}, {"row": None},
]  # fmt: skip


def trials() -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """Return calls of all verbs, many of them wrong."""
    found: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
    for verb in ("execute", "page", "stream", "prepare"):
        found += [(verb, (query,), {}) for query in QUERIES]
        found += [(verb, (PLAIN,), options) for options in OPTIONS]
        found += [(verb, (PLAIN,), {"row": row}) for row in ROWS]
        found += [(verb, (), {}), (verb, (PLAIN, (), 3), {}), (verb, (), {"query": PLAIN})]
        if verb != "prepare":
            found += [(verb, (SELECT, parameters), {}) for parameters in PARAMETERS]
            found += [(verb, (LWT, (1, 2)), {"timestamp": 5})]
    found += [("page", (PLAIN,), {"token": token}) for token in TOKENS]
    found += [("batch", (items,), {}) for items in BATCHES]
    found += [("batch", ([WRITE],), {"kind": kind}) for kind in KINDS]
    found += [("batch", ([WRITE],), options) for options in OPTIONS]
    found += [("batch", (), {}), ("batch", ([WRITE], 1), {}), ("batch", (), {"items": [WRITE]})]
    return found


async def outcome(session: cql.Session, verb: str, arguments: Any, keywords: Any) -> Any:
    """Return the result or error of a call, in a comparable form."""
    arguments = tuple(
        each() if getattr(each, "__name__", "") == "<lambda>" else each for each in arguments
    )
    try:
        if verb == "stream":
            answer: Any = [row async for row in session.stream(*arguments, **keywords)]
        else:
            answer = await getattr(session, verb)(*arguments, **keywords)
    except Exception as error:
        return type(error), str(error)
    return type(answer), [str(row) for row in getattr(answer, "rows", ())]


def sent(cluster: FakeCluster) -> list[str]:
    """Return the requests of the last call, without the session's own ones."""
    return [
        str(request.message)
        for request in cluster.seen or ()
        if isinstance(request.message, (Batch, Execute, Prepare, Query))
        and "system" not in request.text
    ]


async def test_it_accepts_and_refuses_what_a_plain_session_does() -> None:
    found = []
    for hooks in (None, Listener()):
        cluster = FakeCluster(1)
        Script(cluster)
        results = []
        async with session_on(cluster, hooks=hooks, client_timestamps=False) as session:
            await connected(session, cluster.hosts)
            for verb, arguments, keywords in trials():
                cluster.seen = []
                result = await outcome(session, verb, arguments, keywords)
                results.append((verb, result, sent(cluster)))
        found.append(results)
        if hooks is not None:
            assert {record.verb for record in hooks.records} == {
                "execute", "page", "stream", "prepare", "batch"
            }  # fmt: skip
    for call, plain, observed in zip(trials(), *found, strict=True):
        assert plain == observed, call[0]


async def test_records_of_wrong_calls() -> None:
    """The record has the options of the call, as far as they are valid; nothing is sent."""
    cluster = FakeCluster(1)
    Script(cluster)
    hooks = Listener()
    async with session_on(cluster, hooks=hooks) as session:
        untyped: Any = session
        fault = KeyError()
        calls: list[tuple[str, str, Any]] = [
            ("a Hostile", "LOCAL_QUORUM", lambda: untyped.execute(Hostile())),
            ("a NoneType", "ONE", lambda: untyped.execute(None, consistency="one")),
            (PLAIN, "LOCAL_QUORUM", lambda: untyped.execute(PLAIN, consistency="quorom")),
            (PLAIN, "LOCAL_QUORUM", lambda: untyped.page(PLAIN, profile={})),
            ("BATCH of 0", "LOCAL_QUORUM", lambda: untyped.batch(5)),
            ("BATCH of 0", "TWO", lambda: untyped.batch(WRITE, consistency="two")),
            ("BATCH of 1", "TWO", lambda: untyped.batch([WRITE, 5], consistency="two")),
            (
                "BATCH of 1",
                "ALL",
                lambda: untyped.batch(some(WRITE, fault), consistency="all"),
            ),
        ]
        for text, level, call in calls:
            with pytest.raises(Exception) as caught:  # of any type
                await call()
            record = hooks.pop()
            assert (record.query, str(record.consistency)) == (text, level)
            assert record.error is caught.value
            assert record.attempts == 0
            assert f"consistency=Consistency.{level}" in repr(record)


async def test_batches_at_the_same_time_are_told_apart() -> None:
    cluster = FakeCluster(1)
    script = Script(cluster, [Fault("held")] * 3)
    hooks = Listener()
    async with session_on(cluster, hooks=hooks) as session, anyio.create_task_group() as group:
        for size in (1, 2, 3):
            start(group, lambda n=size: session.batch(some(*[WRITE] * n)))  # type: ignore[misc]  # a lambda with a default
        await until(lambda: len(script.held) == 3)
        for request in reversed(script.held):
            request.reply(success(request))
        await until(lambda: len(hooks.records) == 3)
        assert {record.query for record in hooks.records} == {f"BATCH of {n}" for n in (1, 2, 3)}
        hooks.records.clear()


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize("hooks", [None, Listener()], ids=["plain", "observed"])
async def test_arguments_that_are_named_or_shown_like_nothing_else(hooks: Any) -> None:
    """One parameter is named ``self``; others have no repr."""
    cluster = FakeCluster(1)
    async with session_on(cluster, hooks=hooks) as session:
        await connected(session, cluster.hosts)
        other: Any = session
        for verb in (other.execute, other.page):
            with pytest.raises(TypeError, match="^unexpected keyword argument 'self'$"):
                await verb(SELECT, (1,), self=1)
        with pytest.raises(TypeError, match="^unexpected keyword argument 'self'$"):
            other.stream(SELECT, (1,), self=1)
        with pytest.raises(TypeError, match="^unexpected keyword argument 'self'$"):
            await other.batch([INSERT], self=1)
        with pytest.raises(cql.UsageError, match="^kind=a Unprintable: a batch is"):
            await other.batch([INSERT], kind=Unprintable())
        with pytest.raises(cql.ConfigError, match="^partial must be .*, got a Unprintable$"):
            await other.execute(SELECT, (1,), partial=Unprintable())


class Picky:
    """Raises for every row."""

    def __init__(self, v: int) -> None:
        raise ValueError(v)


@pytest.mark.parametrize("refused", [0, 2])
@pytest.mark.parametrize("verb", ["warm", "text", "page", "stream"])
async def test_rows_that_a_class_refuses_were_sent_for(verb: str, refused: int) -> None:
    """The record says how many attempts there were, and which host answered."""
    cluster = FakeCluster(3)
    script = Script(cluster)
    hooks = Listener()
    async with session_on(cluster, hooks=hooks) as session:
        await connected(session, cluster.hosts)
        handle = await session.prepare(SELECT, row=Picky)
        for host in cluster.hosts:  # otherwise there would be attempts to prepare it there
            host.prepared[handle._statement.prepared.statement_id] = SELECT
        if verb == "warm":  # so that the fast path has a decoder
            with pytest.raises(cql.RowMappingError):
                await session.execute(handle, (1,))
        hooks.records.clear()
        script.attempts.clear()
        script.faults = [failure(ErrorCode.IS_BOOTSTRAPPING)] * refused
        with pytest.raises(cql.RowMappingError) as caught:
            if verb == "page":
                await session.page(handle, (1,))
            elif verb == "stream":
                await anext(session.stream(handle, (1,)))
            elif verb == "text":
                await session.execute(SELECT, (1,), row=Picky)
            else:
                await session.execute(handle, (1,))
        record = hooks.pop()
        assert record.error is caught.value
        assert record.attempts == len(script.hosts) == 1 + refused
        assert record.host == caught.value.host == str(script.hosts[-1])


async def test_a_result_that_is_too_large_was_sent_for() -> None:
    cluster = FakeCluster(1)
    Script(cluster)
    hooks = Listener()
    cluster.answer = pages(3)
    async with session_on(cluster, hooks=hooks) as session:
        with pytest.raises(cql.ResultTooLarge):
            await session.execute("SELECT v FROM ks.t", max_rows=1)
        record = hooks.pop()
        assert record.attempts == 1
        assert record.host == str(cluster.hosts[0])


async def test_one_record_for_all_rows_of_a_bulk_call() -> None:
    hooks = Listener()
    async with serving() as server, server.session(hooks=hooks) as session:
        server.answer = echo(server)
        insert, select = "INSERT INTO t (k) VALUES (?)", "SELECT v FROM t WHERE k = ?"
        await session.execute_many(insert, [(n,) for n in range(20)], consistency="one")
        with pytest.raises(cql.BulkError) as info:
            await session.execute_many(insert, [(1,), ("x",)], concurrency=1)
        async for _ in session.map(select, [(n,) for n in range(5)]):
            pass
        results = session.map(select, [(n,) for n in range(5)], concurrency=1)
        await anext(results)
        await results.aclose()
        with pytest.raises(TypeError):
            await session.execute_many(insert, 5)  # type: ignore[arg-type]
        told = [(each.verb, each.query, each.attempts, each.rows) for each in hooks.records]
        assert told == [
            ("execute_many", insert, 20, 20),
            ("execute_many", insert, 2, 1),
            ("map", select, 5, 5),
            ("map", select, 1, 1),
            ("execute_many", insert, 0, 0),
        ]
        assert hooks.records[0].consistency is cql.Consistency.ONE
        assert hooks.records[1].error is info.value
        assert isinstance(hooks.records[4].error, TypeError)
