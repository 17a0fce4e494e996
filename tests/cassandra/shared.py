"""The servers that test modules share: each starts once and ends after its last test.

``OPTIONS`` has the options of each server, by the name of its fixture (fixtures.py). A server for
the next module starts in a thread while the tests of the current module run, unless these put three
nodes under load, because a starting node needs both cores. The order of modules gives most servers
time to start, see :func:`in_order`.
"""

from __future__ import annotations

import dataclasses
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from tests.cassandra.launcher import Cluster, Options

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pytest

__all__ = ["ANNOUNCED", "LINE", "OPTIONS", "RATE", "Servers", "in_order", "needs"]

LINE = os.environ.get("CQLPROTO_LINE", "3.11.19")
RATE = 100  # requests a second that limited_cassandra takes
ANNOUNCED = "2001:db8::2"  # what the second node of growing_cluster tells clients

_THREE = Options(
    nodes=3,
    together=True,
    heap="640m",
    settings={
        # a machine with three nodes and two cores is slow now and then
        "read_request_timeout": "8000ms",
        "write_request_timeout": "8000ms",
        "counter_write_request_timeout": "8000ms",
        "cas_contention_timeout": "4000ms",
    },
)
OPTIONS = {
    "cassandra": Options(),
    "secure_cassandra": Options(auth=True, tls="mutual"),
    "spare_cassandra": Options(settings={"materialized_views_enabled": False}),
    "limited_cassandra": Options(
        settings={
            "native_transport_rate_limiting_enabled": True,
            "native_transport_max_requests_per_second": RATE,
            "tombstone_warn_threshold": 5,
            "tombstone_failure_threshold": 20,
            "cdc_enabled": True,
            "cdc_total_space": "1MiB",
            "commitlog_segment_size": "1MiB",
        }
    ),
    "line": Options(release=LINE, auth=True),
    "three_nodes": _THREE,
    "two_datacenters": dataclasses.replace(_THREE, dcs=("eu", "eu", "us")),
    "growing_cluster": Options(
        nodes=3,
        first=2,
        together=True,
        tokens=1,
        jmx_port=0,
        heap="512m",
        settings={
            **dict.fromkeys(("read_request_timeout", "range_request_timeout"), "1000ms"),
            **dict.fromkeys(("write_request_timeout", "counter_write_request_timeout"), "1000ms"),
            "cas_contention_timeout": "1000ms",
            "truncate_request_timeout": "1500ms",
            "phi_convict_threshold": 5,
        },
        each=[{}, {"broadcast_rpc_address": ANNOUNCED}],
    ),
}
# What the first test wants to find as it has just started; its tests put both cores under load.
_YOUNG = "three_nodes"


def needs(item: pytest.Item) -> set[str]:
    """Return the names of the servers that a test uses."""
    return OPTIONS.keys() & set(getattr(item, "fixturenames", ()))


def in_order(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """Return the tests in the order in which they run: whole modules in their given order, but

    * those on ``three_nodes`` come first, with the one that wants them young in front,
    * those on servers of their own are spread between those that share ``cassandra``,
    * those without any server come last.
    """
    modules: dict[str, list[pytest.Item]] = {}
    for item in items:
        modules.setdefault(item.nodeid.partition("::")[0], []).append(item)
    first: list[list[pytest.Item]] = []
    special: list[list[pytest.Item]] = []
    plain: list[list[pytest.Item]] = []
    without: list[list[pytest.Item]] = []
    for tests in modules.values():
        names = set().union(*map(needs, tests))
        if _YOUNG in names:
            young = any("young_cluster" in getattr(each, "fixturenames", ()) for each in tests)
            first.insert(0 if young else len(first), tests)
        else:
            (special if names - {"cassandra"} else plain if names else without).append(tests)
    mixed = list(first)
    for number, tests in enumerate(special):
        begin, end = (len(plain) * each // len(special) for each in (number, number + 1))
        mixed += [*plain[begin:end], tests]
    mixed += [*([] if special else plain), *without]
    return [item for tests in mixed for item in tests]


class Servers:
    """The shared servers of one run of pytest.

    Arguments:
        items: the tests, in the order in which they run.
        given: names of servers that are not started here.
    """

    def __init__(self, items: Sequence[pytest.Item], given: Iterable[str] = ()) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._starting: dict[str, Future[Cluster]] = {}
        self._ahead: dict[pytest.Item, set[str]] = {}
        self._last: dict[pytest.Item, set[str]] = {}
        self._given = set(given)
        last: dict[str, pytest.Item] = {}
        modules: dict[str, list[pytest.Item]] = {}
        for item in items:
            modules.setdefault(item.nodeid.partition("::")[0], []).append(item)
            last.update(dict.fromkeys(needs(item), item))
        for name, item in last.items():
            self._last.setdefault(item, set()).add(name)
        used = [(tests[0], set().union(*map(needs, tests))) for tests in modules.values()]
        for (item, now), (_, then) in zip(used, used[1:], strict=False):
            if now and _YOUNG not in now | then:
                self._ahead[item] = then

    def get(self, name: str) -> Cluster:
        """Return a server; start it, or wait until it has started.

        Raises:
            LauncherError: it did not start.
        """
        return self._start(name).result()

    def before(self, item: pytest.Item) -> None:
        """Start the next module's servers, if this is the first test of its module."""
        for name in self._ahead.get(item, set()) - self._given:
            self._start(name)

    def after(self, item: pytest.Item) -> None:
        """End the servers that no test needs after this one."""
        for name in self._last.get(item, ()):
            self._end(name)

    def end(self) -> None:
        """End all servers."""
        for name in OPTIONS:
            self._end(name)
        self._thread.shutdown()

    def _start(self, name: str) -> Future[Cluster]:
        if name not in self._starting:
            self._starting[name] = self._thread.submit(Cluster(OPTIONS[name]).__enter__)
        return self._starting[name]

    def _end(self, name: str) -> None:
        future = self._starting.pop(name, None)
        if future is not None and not future.cancel() and future.exception() is None:
            future.result().__exit__(None, None, None)
