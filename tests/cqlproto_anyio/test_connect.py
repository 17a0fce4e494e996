"""Opening and closing sessions: awaited or entered, waiting for a cluster, never closed."""

from __future__ import annotations

import contextlib
import gc
import logging
import ssl
import subprocess
import sys
import warnings
from decimal import Decimal
from typing import Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto.enums import ErrorCode
from cqlproto_anyio.connect import passes_with_time
from cqlproto_anyio.exceptions import database_error
from tests.support.cluster_sessions import SELECT, living_tasks
from tests.support.fakecluster import FakeCluster
from tests.support.faults import failure
from tests.support.server import until

# `cqlproto_anyio.connect` is the function; this is its module.
entry = sys.modules[cql.connect.__module__]


async def gone(cluster: FakeCluster, before: int) -> None:
    await until(lambda: not cluster.connections and living_tasks() == before)


# -- awaited, entered


async def test_a_session_that_is_awaited() -> None:
    before, cluster = living_tasks(), FakeCluster(2)
    session = await cql.connect(cluster.addresses, config=cluster.config())
    assert (await session.execute(SELECT, (1,))).one().v == 1
    await session.aclose()
    await session.aclose()
    with pytest.raises(cql.SessionClosed):
        async with session:
            pytest.fail("entered")
    await gone(cluster, before)


async def test_blocks_that_end_a_session() -> None:
    before, cluster = living_tasks(), FakeCluster(2)
    async with await cql.connect(cluster.addresses, config=cluster.config()) as session:
        assert (await session.execute(SELECT, (1,))).one().v == 1
    await gone(cluster, before)
    session = await cql.connect(cluster.addresses, config=cluster.config())
    with pytest.raises(LookupError):
        async with session as same:
            assert same is session
            raise LookupError
    assert session.closed
    await gone(cluster, before)
    async with cql.connect(cluster.addresses, config=cluster.config()) as session:
        await session.aclose()
    await gone(cluster, before)


async def test_what_is_awaited_twice() -> None:
    cluster = FakeCluster(1)
    connecting = cql.connect(cluster.addresses, config=cluster.config())
    session = await connecting
    with pytest.raises(cql.UsageError, match="call it again for another session"):
        await connecting
    with pytest.raises(cql.UsageError, match="call it again for another session"):
        async with connecting:
            pass
    assert (await session.execute(SELECT, (1,))).one().v == 1
    await session.aclose()


def test_what_is_never_awaited_is_harmless() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cql.connect("node", tls=True)
        gc.collect()


async def test_what_is_used_before_it_is_awaited() -> None:
    connecting: Any = cql.connect("node")
    with pytest.raises(AttributeError, match=r"no 'execute' before it is awaited: write 'async wi"):
        connecting.execute("SELECT 1")
    assert not hasattr(connecting, "__len__")
    with pytest.raises(TypeError, match="'async with', not 'with'"), connecting:
        pass


async def test_a_first_attempt_that_is_cancelled_leaves_nothing() -> None:
    before, cluster = living_tasks(), FakeCluster(1)
    cluster.hosts[0].pause()
    with anyio.move_on_after(0.02) as scope:
        await cql.connect(cluster.addresses, config=cluster.config(), wait=60)
    assert scope.cancelled_caught
    await gone(cluster, before)


# -- a cluster that is starting


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(entry, "_LONGEST_PAUSE", 0.002)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("hosts", [1, 2])
async def test_waiting_for_a_cluster(hosts: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cqlproto_anyio")
    before, cluster = living_tasks(), FakeCluster(hosts)
    for host in cluster.hosts:
        host.kill()

    async def start_later() -> None:
        await until(lambda: cluster.hosts[-1].attempts >= 3)
        for host in cluster.hosts:
            host.revive()

    async with anyio.create_task_group() as group:
        group.start_soon(start_later)
        session = await cql.connect(cluster.addresses, config=cluster.config(), wait=60)
    assert (await session.execute(SELECT, (1,))).one().v == 1
    await session.aclose()
    await gone(cluster, before)
    assert "waiting for the cluster: " in caplog.text


async def test_all_of_the_time_is_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses between attempts may be longer than the time left."""
    monkeypatch.setattr(entry, "_FIRST_PAUSE", 3600.0)
    monkeypatch.setattr(entry, "_LONGEST_PAUSE", 3600.0)
    cluster = FakeCluster(1)
    cluster.hosts[0].kill()
    began = anyio.current_time()
    with pytest.raises(cql.ConnectionFailed, match="Connection refused"):
        await cql.connect(cluster.addresses, config=cluster.config(), wait=0.05)
    assert anyio.current_time() - began == pytest.approx(0.05)
    assert cluster.hosts[0].attempts == 2


@pytest.mark.usefixtures("quick")
async def test_waiting_ends_with_the_last_failure() -> None:
    cluster = FakeCluster(1)
    cluster.hosts[0].kill()
    with pytest.raises(cql.ConnectionFailed, match="Connection refused") as info:
        await cql.connect(cluster.addresses, config=cluster.config(), wait=0.25)
    assert info.value.__notes__ == ["connect() has waited 0.25 s for the cluster (wait=)"]
    assert cluster.hosts[0].attempts > 2
    with pytest.raises(cql.ConnectionFailed, match="Connection refused") as info:
        await cql.connect(cluster.addresses, config=cluster.config())
    assert not hasattr(info.value, "__notes__")


@pytest.mark.parametrize("wrong", ["credentials", "keyspace", "datacenter", "server"])
async def test_what_waiting_does_not_mend(wrong: str) -> None:
    cluster = FakeCluster(2)
    given: dict[str, Any] = {}
    kind: type[cql.CQLError]
    if wrong == "credentials":
        cluster.verify = lambda token: False
        given, kind = {"auth": cql.PlainAuth("ann", "wrong")}, cql.CQLError
    elif wrong == "keyspace":
        given, kind = {"keyspace": "nowhere"}, cql.InvalidQuery
    elif wrong == "datacenter":
        given, kind = {"local_dc": "mars"}, cql.ConfigError
    else:
        given, kind = {"auth": cql.PlainAuth("ann", 5)}, cql.ConfigError  # type: ignore[arg-type]
        cluster.verify = lambda token: True
    with anyio.fail_after(5), pytest.raises(kind):
        await cql.connect(cluster.addresses, config=cluster.config(), wait=3600, **given)


def failed(
    kind: type[cql.ConnectionFailed] = cql.ConnectionFailed,
    cause: Exception | None = None,
    reason: str = "as told",
) -> cql.ConnectionFailed:
    error = kind(reason, host="a:1", stage="handshake", elapsed=0.1)
    error.__cause__ = cause
    return error


EARLY = "Unable to perform authentication: Cannot achieve consistency level QUORUM"


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (failed(), True),
        (failed(cql.ConnectionLost), True),
        (failed(cql.AuthenticationFailed), False),
        (failed(cql.AuthenticationFailed, reason=EARLY), True),
        (failed(cql.AuthenticationFailed, OSError()), True),
        (failed(cql.AuthenticationFailed, LookupError()), False),
        (failed(cql.TLSFailed, ssl.SSLCertVerificationError()), False),
        (failed(cql.TLSFailed, anyio.EndOfStream()), True),
        (failed(cql.NotCQL), False),
        (failed(cql.VersionRejected), False),
        (cql.NoHostAvailable([failed(), failed(cql.ConnectionLost)]), True),
        (cql.NoHostAvailable([failed(), failed(cql.AuthenticationFailed)]), False),
        (cql.RequestTimeout(""), True),
        (cql.Overloaded(""), True),
        (cql.ConfigError(""), False),
        (cql.SessionClosed(""), False),
        *[
            (database_error(failure(code).message(), host="a:1"), passes)
            for code, passes in {
                ErrorCode.IS_BOOTSTRAPPING: True,
                ErrorCode.OVERLOADED: True,
                ErrorCode.SERVER_ERROR: True,
                ErrorCode.UNAVAILABLE: True,
                ErrorCode.READ_TIMEOUT: True,
                ErrorCode.INVALID: False,
                ErrorCode.UNAUTHORIZED: False,
            }.items()
        ],
    ],
    ids=lambda value: type(value).__name__,
)
def test_which_errors_pass_with_time(error: cql.CQLError, passes: bool) -> None:
    assert passes_with_time(error) is passes


@pytest.mark.parametrize("wait", ["30", -1, True, None, float("nan"), Decimal(1), 10**400])
def test_waiting_for_what_is_no_time(wait: Any) -> None:
    with pytest.raises(cql.ConfigError, match="wait must be a number of seconds"):
        cql.connect("node", wait=wait)


# -- sessions that are dropped


async def test_a_session_that_is_dropped_warns_and_ends() -> None:
    before, cluster = living_tasks(), FakeCluster(2)
    session = await cql.connect(cluster.addresses, config=cluster.config())
    line = sys._getframe().f_lineno - 1
    other = session.using(profile=cql.Profile(timeout=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del session
        gc.collect()
    assert (await other.execute(SELECT, (1,))).one().v == 1  # the other session still works
    with pytest.warns(ResourceWarning, match="unclosed <Session open, .* hosts 10.0.0.1") as told:
        del other
        gc.collect()
    assert (told[0].filename, told[0].lineno) == (__file__, line)
    await gone(cluster, before)


async def test_a_stream_is_a_use() -> None:
    before, cluster = living_tasks(), FakeCluster(2)
    session = await cql.connect(cluster.addresses, config=cluster.config())
    stream = session.stream(SELECT, (1,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del session
        gc.collect()
        assert (await anext(stream)).v == 1
    with pytest.warns(ResourceWarning, match="unclosed"):
        del stream
        gc.collect()
    await gone(cluster, before)


async def test_what_is_closed_is_dropped_in_silence() -> None:
    cluster = FakeCluster(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session = await cql.connect(cluster.addresses, config=cluster.config())
        await session.aclose()
        del session
        async with cql.connect(cluster.addresses, config=cluster.config()) as session:
            pass
        del session
        cluster.hosts[0].kill()
        cluster.hosts[1].kill()
        with contextlib.suppress(cql.ConnectionFailed):
            await cql.connect(cluster.addresses, config=cluster.config())
        gc.collect()


SHUTDOWN = """
import sys
import anyio
import cqlproto_anyio as cql
from tests.support.fakecluster import FakeCluster

async def main():
    global session
    cluster = FakeCluster(1)
    config = cluster.config()
    session = await cql.connect(cluster.addresses, config=config)
    if sys.argv[2] == "closed":
        await session.aclose()

anyio.run(main, backend=sys.argv[1])
del session
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("way", ["open", "closed"])
def test_a_session_that_its_loop_leaves_behind(backend: str, way: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-c", SHUTDOWN, backend, way],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ("ResourceWarning: unclosed <Session" in ran.stderr) == (way == "open"), ran.stderr
