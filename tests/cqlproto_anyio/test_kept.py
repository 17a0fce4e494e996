"""Memory that a session keeps: every cache has a limit, and none keeps objects that are dead."""

from __future__ import annotations

import dataclasses
import gc
import importlib
import itertools
import pkgutil
import uuid
import weakref
from typing import TYPE_CHECKING, Any

import cqlproto
import cqlproto_anyio as cql
from cqlproto_anyio._execution import trackers as trackers_module
from cqlproto_anyio._metadata.topology import Host
from cqlproto_anyio._settings.cache import MAX_SETTINGS
from cqlproto_anyio.policies import ConstantReconnection, checked
from cqlproto_anyio.policies.checked import CheckedFilter
from cqlproto_anyio.policies.routing import Router
from cqlproto_anyio.testing import snapshot
from tests.support.cluster_sessions import INSERT, SELECT, connected, session_on
from tests.support.fakecluster import FakeCluster
from tests.support.server import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pytest


def caches() -> Iterator[tuple[str, Any]]:
    """Yield every functools cache of the package's modules, of functions and of methods."""
    for package in (cqlproto, cql):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if info.name.endswith("__main__"):
                continue
            module = importlib.import_module(info.name)
            spaces: list[Mapping[str, Any]] = [vars(module)]
            spaces += [vars(each) for each in vars(module).values() if isinstance(each, type)]
            for space in spaces:
                for name, value in space.items():
                    if hasattr(value, "cache_info"):
                        yield f"{info.name}.{name}", value


def test_every_cache_of_functions_has_a_bound() -> None:
    found = dict(caches())
    assert len(found) > 5
    for name, cache in found.items():
        assert cache.cache_info().maxsize is not None, name
        assert cache.cache_info().maxsize <= 4096, name


def alive(kind: type) -> int:
    gc.collect()
    return sum(type(each) is kind for each in gc.get_objects())


async def test_no_router_of_before_is_kept_by_statements() -> None:
    """A router has every range of the cluster; statements that are not used any more keep none."""
    cluster = FakeCluster(4, tokens=32)
    before = alive(Router)
    async with session_on(cluster, max_prepared=20) as session:
        handles = []
        for number in range(6):
            await connected(session, cluster.hosts)
            for key in range(3):
                handles.append(await session.prepare(f"{SELECT} /* {number} {key} */"))
                await session.execute(handles[-1], (key,))
            for host in cluster.hosts:  # so that a router was also made for one host fewer
                host.cut()
                await until(lambda host=host: host.connections)  # type: ignore[misc]  # a lambda with a default
                await session.execute(handles[-1], (number,))
        assert alive(Router) <= before + 1
        routed = weakref.ref(handles[-1]._statement)
        handles.clear()
        for number in range(20):
            await session.prepare(f"{SELECT} /* another {number} */")
        gc.collect()
        assert routed() is None  # no selector keeps a statement


async def test_an_idle_session_keeps_no_router_of_before() -> None:
    cluster = FakeCluster(3)
    before = alive(Router)
    async with session_on(cluster, reconnection=ConstantReconnection(3600, 0)) as session:
        await connected(session, cluster.hosts)
        handle = await session.prepare(SELECT)
        await session.execute(handle, (1,))
        cluster.hosts[0].kill()
        await until(lambda: session.statistics().connections == 2)
        assert alive(Router) == before
        await session.execute(handle, (1,))


class Counting:
    """A speculation policy that counts its trackers.

    Attributes:
        made: how many trackers it has made.
    """

    def __init__(self) -> None:
        self.made = 0

    def tracker(self) -> cql.Tracker:
        self.made += 1
        return cql.PercentileSpeculation(90).tracker()


async def test_latencies_of_policies_that_nobody_uses_are_forgotten() -> None:
    cluster = FakeCluster(2)
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        used = Counting()
        for number in range(3 * trackers_module._MAX_TRACKERS):
            await session.execute(
                SELECT, (1,), speculation=cql.ConstantSpeculation(60 + number / 1000)
            )
            await session.execute(SELECT, (1,), speculation=used)
            assert snapshot(session).trackers <= trackers_module._MAX_TRACKERS
        assert used.made == 1


async def test_options_that_differ_with_every_call_leave_a_bounded_number_of_things() -> None:
    cluster = FakeCluster(1)
    async with session_on(cluster, max_prepared=20) as session:
        handle = await session.prepare(INSERT)
        statement = handle._statement
        for number in range(1, 300):
            await session.execute(handle, (1, 2), now_in_seconds=number)
            await session.execute(handle, (1, 2), timeout=20 + number / 1000)
            await session.execute(handle, (1, 2), timestamp=number)
            await session.execute(handle, (1, 2), page_size=number)
            if number % 4 == 0:
                await session.execute(f"{SELECT} /* {number} */", (1,))
            assert len(statement.binders) <= 64
        gc.collect()
        now = snapshot(session)
        assert now.settings <= 2 * MAX_SETTINGS  # two dicts, each up to the limit
        assert now.prepared == 20
        assert now.known_statements <= 21
        assert (now.deadlines, now.alarms, now.pausing, now.preparing) == (0, 0, 0, ())


async def test_row_classes_leave_a_bounded_number_of_decoders() -> None:
    cluster = FakeCluster(1)
    async with session_on(cluster) as session:
        handle = await session.prepare(SELECT)
        for number in range(100):
            made = dataclasses.make_dataclass(f"Row{number}", [("v", int)])
            result: Any = await session.execute(handle, (number,), row=made)
            assert result.one() == made(number)
        assert len(handle._statement.prepared.result.cache) <= 32


async def test_hosts_that_have_left_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checked, "_MOST_HOSTS", 5)
    cluster = FakeCluster(3)
    routing = cql.Routing(host_filter=lambda host: True)
    async with session_on(cluster, cluster.addresses[0], routing=routing) as session:
        for _ in range(6):
            new = cluster.add()
            cluster.tell_topology("NEW_NODE", new)
            await connected(session, cluster.hosts)
            cluster.remove(cluster.hosts[-1])
            cluster.tell_topology("REMOVED_NODE", new)
            await connected(session, cluster.hosts)
        await until(lambda: snapshot(session).pools == 3)
        assert len(snapshot(session).hosts) == 3


def test_a_filter_remembers_so_many_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checked, "_MOST_HOSTS", 5)
    numbers = itertools.count(1)
    made = CheckedFilter(lambda host: True)
    for number in itertools.islice(numbers, 20):
        assert made(Host(uuid.UUID(int=number), cql.Endpoint("10.0.0.1", 9042), "dc1", "r1"))
        assert len(made._results) <= 5
