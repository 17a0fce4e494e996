"""Forks: the child's copy of a session refuses to be used, the parent's session keeps working.

Each test forks in a fresh interpreter: this one may have threads, which don't survive a fork.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

PRELUDE = """
import gc, os, sys, traceback
from cqlproto_anyio._eventloop.fork import watch

class Watched:
    def __init__(self, error=None):
        self.told, self.error = [], error

    def forked(self):
        self.told.append(os.getpid())
        if self.error is not None:
            raise self.error

def child(check):
    '''Run a function in a fork; its exceptions end this process too.'''
    pid = os.fork()
    if pid == 0:
        try:
            check()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", PRELUDE + script, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert ran.returncode == 0, ran.stderr
    return ran


def test_all_that_live_are_told_in_the_child_alone() -> None:
    run("""
first, second, gone = Watched(), Watched(), Watched()
for each in (first, second, gone, first):
    watch(each)
del each, gone
gc.collect()

def check():
    assert first.told == second.told == [os.getpid()]

child(check)
assert first.told == second.told == []
child(check)
""")


def test_children_of_children_are_told() -> None:
    run("""
parents = Watched()
watch(parents)

def check():
    assert len(parents.told) == 1
    own = Watched()
    watch(own)

    def check_again():
        assert len(parents.told) == 2
        assert own.told == [os.getpid()]

    child(check_again)
    assert own.told == []

child(check)
assert parents.told == []
""")


def test_one_that_fails_leaves_none_untold() -> None:
    ran = run("""
some = [Watched(ValueError('broken') if number % 2 else None) for number in range(6)]
for each in some:
    watch(each)

def check():
    assert [each.told for each in some] == [[os.getpid()]] * 6

child(check)
""")
    assert "ValueError: broken" in ran.stderr


def test_nothing_is_kept_alive() -> None:
    run("""
import weakref
watched = Watched()
watch(watched)
kept = weakref.ref(watched)
del watched
gc.collect()
assert kept() is None
child(lambda: None)
""")


def test_where_there_is_no_fork() -> None:
    run("""
del os.register_at_fork
watched = Watched()
watch(watched)
child(lambda: None)
""")


SESSIONS = """
import threading
import anyio
import cqlproto_anyio as cql
from tests.support.replies import echo
from tests.support.server import Outcome, serving, start

SELECT, PLAIN = "SELECT v FROM t WHERE v = ?", "SELECT v FROM t"

def refused(awaitable):
    '''In the child nothing runs an event loop: what isn't refused at once would wait for ever.'''
    try:
        awaitable.__await__().send(None)
    except cql.SessionClosed as error:
        assert str(parent) in str(error), error
        assert "connect again" in str(error), error
        assert not error.maybe_applied
        return
    raise AssertionError(f"{awaitable} was not refused")

CONFIG = cql.Config(discovery=False, max_connections_per_host=1, heartbeat_interval=1e9)

async def connect_again(port):
    async with cql.connect(f"127.0.0.1:{port}", config=CONFIG) as session:
        assert (await session.execute(SELECT, (5,))).scalar() == 5

def in_the_child(session, prepared, port):
    refused(session.execute(SELECT, (1,)))
    refused(session.execute(prepared, (1,)))
    refused(session.execute(PLAIN))
    refused(session.execute("INSERT INTO t (v) VALUES (?)", (1,)))
    refused(session.page(SELECT, (1,)))
    refused(session.stream(SELECT, (1,)).__anext__())
    refused(session.batch([("INSERT INTO t (v) VALUES (?)", (1,))]))
    refused(session.batch(["INSERT INTO t (v) VALUES (1)"]))
    refused(session.prepare("SELECT v FROM elsewhere WHERE v = ?"))
    refused(session.using(profile=cql.Profile()).execute(SELECT, (1,)))
    repr(session), session.protocol_version
    for _ in range(2):
        try:
            session.aclose().__await__().send(None)
        except StopIteration:
            pass
        else:
            raise AssertionError("closing waits")
    refused(session.execute(SELECT, (1,)))
    gc.collect()
    options = {"backend": backend}
    thread = threading.Thread(target=anyio.run, args=(connect_again, port), kwargs=options)
    thread.start()
    thread.join(20)
    os._exit(thread.is_alive())

def fork(*arguments):
    pid = os.fork()
    if pid == 0:
        try:
            in_the_child(*arguments)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return pid

async def main():
    async with serving() as server:
        server.answer = lambda asked: (
            None if asked.values and asked.number == 7 else echo(server)(asked)
        )
        port = await server.listen()
        async with cql.connect(f"127.0.0.1:{port}", config=CONFIG) as session:
            prepared = await session.prepare(SELECT)
            assert (await session.execute(SELECT, (1,))).scalar() == 1
            peers = len(server.peers)
            async with anyio.create_task_group() as group:
                outcome = start(group, lambda: session.execute(SELECT, (7,)))
                asked = await server.next()
                pid = fork(session, prepared, port)
                _, status = await anyio.to_thread.run_sync(os.waitpid, pid, 0)
                assert os.waitstatus_to_exitcode(status) == 0
                assert (await session.execute(prepared, (3,))).scalar() == 3
                asked.reply(echo(server)(asked))
            assert outcome.error is None and outcome.result.scalar() == 7
            seen = [each.number for each in server.seen if each.values]
            assert seen == [1, 7, 5, 3], seen  # 5 is the child's, on a connection of its own
            assert not any(peer.ended.is_set() for peer in server.peers[:peers])
            assert server.rejected_versions == []

parent, backend = os.getpid(), sys.argv[1]
anyio.run(main, backend=backend)
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_childs_session_refuses_and_the_parents_goes_on(backend: str) -> None:
    run(SESSIONS, backend)
