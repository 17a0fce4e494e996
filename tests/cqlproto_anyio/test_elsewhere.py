"""A session used in the wrong place: in another event loop, another thread, or no event loop.

Each call is refused before anything is sent, and the session keeps working for its owner.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest
import trio

import cqlproto_anyio as cql
from cqlproto_anyio._eventloop.auto import current_backend
from tests.conftest import UVLOOP
from tests.support.cluster_sessions import SELECT, session_on
from tests.support.fakecluster import FakeCluster
from tests.support.replies import echo, ints
from tests.support.server import Asked, Server, idle, serving, start, turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from cqlproto.messages import Response

    Use = Callable[[], Awaitable[Any]]

# Threads, and event loops within event loops, take real time.
pytestmark = pytest.mark.real_clock

INSERT = "INSERT INTO ks.t (k, v) VALUES (?, ?)"
TRACED = "SELECT traced FROM t"
PAGES = "SELECT v FROM pages"


def by_hand(function: Use) -> Any:
    """Run a coroutine that must not wait, without an event loop."""
    iterator = function().__await__()
    try:
        next(iterator)
    except StopIteration as stop:
        return stop.value
    finally:
        if inspect.isgenerator(iterator) or inspect.iscoroutine(iterator):
            iterator.close()
    raise AssertionError("it waits")


RUNNERS: dict[str, Callable[[Use], Any]] = {
    "asyncio": lambda use: asyncio.run(use()),  # type: ignore[arg-type]  # it is a coroutine
    "debugged asyncio": lambda use: asyncio.run(use(), debug=True),  # type: ignore[arg-type]  # it is a coroutine
    "trio": trio.run,
    "by hand": by_hand,
}


def paged(server: Server) -> Callable[[Asked], Response | None]:
    """Like ``echo``; one statement has endless pages of two rows."""
    usual = echo(server)
    return lambda asked: ints(1, 2, state=b"more") if asked.text == PAGES else usual(asked)


class Used:
    """A session in use, and all calls that can be made with it.

    Attributes:
        begun: a stream that has returned the first of two rows, and has requested the next page.
        pages: a stream that has returned a page, and has requested the next one.
        results: results of which the first of two was read.
    """

    def __init__(self, session: cql.Session) -> None:
        self.session = session

    async def begin(self) -> None:
        session = self.session
        await session.execute(INSERT, (1, 2))
        self.prepared = await session.prepare(SELECT)
        self.result = await session.execute(self.prepared, (1,))
        self.begun = session.stream(PAGES)
        assert (await self.begun.__anext__()).v == 1
        self.pages = session.stream(PAGES).pages()
        assert len(await self.pages.__anext__()) == 2
        self.results = session.map(SELECT, [(1,), (2,)])
        assert (await self.results.__anext__())[1].scalar() == 1
        await idle(session)  # the pages requested ahead have arrived

    def uses(self) -> list[Use]:
        session, prepared = self.session, self.prepared
        other = session.using(profile=cql.Profile(idempotent=True))
        return [
            partial(session.execute, INSERT, (1, 2)),
            partial(session.execute, INSERT, (1, 2), timeout=None),
            partial(session.execute, prepared, (1,)),
            partial(session.execute, "SELECT v FROM ks.t"),
            partial(session.execute, "SELECT unprepared FROM ks.t WHERE k = ?", (1,)),
            partial(session.page, SELECT, (1,)),
            partial(session.prepare, SELECT),
            partial(session.prepare, "SELECT another FROM ks.t WHERE k = ?"),
            partial(session.batch, [(INSERT, (1, 2))]),
            partial(session.batch, ["INSERT INTO ks.t (k, v) VALUES (1, 2)"]),
            partial(session.execute_many, INSERT, [(1, 2)]),
            session.map(SELECT, [(1,)]).__anext__,
            self.results.aclose,
            session.stream(SELECT, (1,)).__anext__,
            session.stream(SELECT, (1,)).pages().__anext__,
            self.pages.__anext__,
            self.pages.aclose,
            self.begun.aclose,
            partial(self.begun.__aexit__, None, None, None),
            partial(other.execute, INSERT, (1, 2)),
            other.aclose,
            session.aclose,
            partial(session.trace, self.result),
        ]

    async def check(self) -> None:
        """Check that the session works as before."""
        assert (await self.session.execute(self.prepared, (5,))).scalar() == 5
        assert (await self.begun.__anext__()).v == 2
        assert (await self.begun.__anext__()).v == 1
        assert len(await self.pages.__anext__()) == 2
        assert (await self.results.__anext__())[1].scalar() == 2
        await self.begun.aclose()
        await self.pages.aclose()
        await idle(self.session)


@contextlib.asynccontextmanager
async def used(**fields: Any) -> AsyncIterator[tuple[Server, Used]]:
    async with serving() as server:
        server.answer = paged(server)
        async with server.session(**fields) as session:
            made = Used(session)
            await made.begin()
            yield server, made
            await made.check()


async def refused(use: Use) -> None:
    """Check that a call is refused with the right error."""
    try:
        await use()
    except cql.UsageError as exc:
        error = exc
    else:
        raise AssertionError(f"{use} was not refused")
    assert "belongs to another event loop" in str(error)
    assert type(error) is cql.UsageError
    assert error.maybe_applied is False
    assert "scope" in str(error)
    assert "run_coroutine_threadsafe" in str(error)


def refused_by_all(run: Callable[[Use], Any], uses: list[Use]) -> None:
    for use in uses:
        run(partial(refused, use))


class Told(cql.Hooks):
    def __init__(self) -> None:
        self.requests: list[cql.RequestRecord] = []

    def request_finished(self, record: cql.RequestRecord) -> None:
        self.requests.append(record)


@pytest.mark.uvloop
@pytest.mark.parametrize("runner", RUNNERS)
async def test_in_another_thread(runner: str, each_version: object) -> None:
    async with used() as (server, made):
        before = len(server.seen)
        await anyio.to_thread.run_sync(refused_by_all, RUNNERS[runner], made.uses())
        assert len(server.seen) == before


async def test_hooks_are_not_called_in_another_thread() -> None:
    told = Told()
    async with used(hooks=told) as (server, made):
        before = len(told.requests), len(server.seen)
        for runner in RUNNERS.values():
            await anyio.to_thread.run_sync(refused_by_all, runner, made.uses())
        assert (len(told.requests), len(server.seen)) == before


async def test_while_its_owner_waits_for_an_answer() -> None:
    """Only the answer wakes the owner's task."""
    cluster = FakeCluster(2)
    async with session_on(cluster) as session, anyio.create_task_group() as group:
        cluster.answer = lambda request: None
        call = start(group, lambda: session.execute("SELECT v FROM ks.t"))
        await turns()
        for runner in RUNNERS.values():
            uses: list[Use] = [partial(session.execute, "SELECT v FROM ks.t"), session.aclose]
            await anyio.to_thread.run_sync(refused_by_all, runner, uses)
        assert not call.done
        [asked] = cluster.waiting
        asked.reply(cluster.usual_answer(asked))
    assert call.result.scalar() == 0


@pytest.mark.parametrize("anyio_backend", ["asyncio", UVLOOP], indirect=True)
async def test_from_another_thread_as_the_error_says() -> None:
    async with used() as (_, made):
        loop = asyncio.get_running_loop()

        def ask() -> Any:
            call = made.session.execute(made.prepared, (7,))
            return asyncio.run_coroutine_threadsafe(call, loop).result(10).scalar()

        assert await asyncio.to_thread(ask) == 7
        ask_by_anyio = partial(anyio.from_thread.run, made.session.execute, made.prepared, (8,))
        assert (await anyio.to_thread.run_sync(ask_by_anyio)).scalar() == 8


# -- loops that take turns in one thread


def test_another_loop_of_the_same_thread() -> None:
    """For example fixtures that run in another loop than the tests."""
    cluster = FakeCluster(2)
    cluster.answer = lambda request: (
        ints(1, 2, state=b"more") if request.text == PAGES else cluster.usual_answer(request)
    )
    connecting = cql.connect(cluster.addresses, config=cluster.config())
    with asyncio.Runner() as mine, asyncio.Runner() as other:
        made = Used(mine.run(connecting.__aenter__()))
        mine.run(made.begin())
        cluster.seen = []
        refused_by_all(lambda use: other.run(use()), made.uses())  # type: ignore[arg-type]  # it is a coroutine
        refused_by_all(by_hand, made.uses())
        refused_by_all(by_hand, [partial(connecting.__aexit__, None, None, None)])
        assert cluster.seen == []
        mine.run(made.check())
        mine.run(connecting.__aexit__(None, None, None))


def test_a_session_whose_loop_has_ended() -> None:
    """The session is closed, so closing it is no error; other calls explain what to do."""

    cluster = FakeCluster(1)
    connecting = cql.connect(cluster.addresses, config=cluster.config())

    async def connect() -> Used:
        made = Used(await connecting.__aenter__())
        made.prepared = await made.session.prepare(SELECT)
        return made

    made = asyncio.run(connect())

    async def use() -> None:
        for call in (
            partial(made.session.execute, made.prepared, (1,)),
            partial(made.session.batch, [(INSERT, (1, 2))]),
            made.session.stream(SELECT, (1,)).__anext__,
        ):
            with pytest.raises(cql.SessionClosed, match="event loop .* has ended") as caught:
                await call()
            assert "loop scopes" in "".join(caught.value.__notes__)
        await made.session.aclose()
        await connecting.__aexit__(None, None, None)

    asyncio.run(use())
    trio.run(use)
    by_hand(made.session.aclose)


# -- trio as the guest of an asyncio loop: two event loops in one thread, in turns


async def as_guest(main: Use) -> None:
    """Run trio in the asyncio loop that runs here."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()
    trio.lowlevel.start_guest_run(
        main,
        run_sync_soon_threadsafe=loop.call_soon_threadsafe,
        done_callback=done.set_result,
        host_uses_signal_set_wakeup_fd=True,
    )
    (await done).unwrap()


@pytest.mark.parametrize("anyio_backend", ["asyncio", UVLOOP], indirect=True)
async def test_a_guest_uses_its_hosts_session() -> None:
    async with used() as (server, made):

        async def guest() -> None:
            before = len(server.seen)
            for use in made.uses():
                await refused(use)
            assert len(server.seen) == before

        await as_guest(guest)


@pytest.mark.parametrize("anyio_backend", ["asyncio", UVLOOP], indirect=True)
async def test_a_host_uses_its_guests_session() -> None:
    opened: asyncio.Future[tuple[Server, Used]] = asyncio.get_running_loop().create_future()
    finish = trio.Event()

    async def guest() -> None:
        assert current_backend().name == "trio"
        async with used() as made:
            opened.set_result(made)
            await finish.wait()

    async def host() -> None:
        server, made = await opened
        before = len(server.seen)
        for use in made.uses():
            await refused(use)
        assert len(server.seen) == before
        finish.set()

    async with asyncio.timeout(20):
        await asyncio.gather(as_guest(guest), host())
