"""The order of tests on shared servers, and which server starts and ends beside which test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.cassandra import shared
from tests.cassandra.java import LauncherError
from tests.cassandra.shared import Servers, in_order

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cassandra.launcher import Options


@dataclass(eq=False)
class Item:
    """What is asked of one of pytest's."""

    nodeid: str
    fixturenames: list[str]


def one_of(module: str, *fixtures: str) -> pytest.Item:
    name = f"{module}.py::test"
    return cast("pytest.Item", Item(name, list(fixtures)))


def modules(items: list[pytest.Item]) -> str:
    return " ".join(item.nodeid.partition(".")[0] for item in items)


class Started:
    """In place of a cluster: notes what is started and ended."""

    events: list[str] = []

    def __init__(self, options: Options) -> None:
        [self._name] = [name for name, each in shared.OPTIONS.items() if each is options]

    def __enter__(self) -> Started:
        self.events.append(f"+{self._name}")
        if self._name == "line":
            raise LauncherError("on purpose")
        return self

    def __exit__(self, *error: object) -> None:
        self.events.append(f"-{self._name}")


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    monkeypatch.setattr(shared, "Cluster", Started)
    yield Started.events
    Started.events.clear()


def run(servers: Servers, item: pytest.Item) -> None:
    servers.before(item)
    names: Any = item
    for name in names.fixturenames:
        servers.get(name)
    servers.after(item)


def test_the_young_cluster_comes_first_and_other_servers_have_time_to_start() -> None:
    items = [
        *(one_of("a", "cassandra"), one_of("b", "line"), one_of("c")),
        *(one_of("d", "three_nodes"), one_of("e", "cassandra"), one_of("a", "x")),
        *(one_of("f", "spare_cassandra", "cassandra"), one_of("g", "three_nodes", "young_cluster")),
        *(one_of("h", "cassandra"), one_of("i", "cassandra")),
    ]
    assert modules(in_order(items)) == "g d a a e b h i f c"
    assert modules(in_order(items[:1])) == "a"
    assert modules(in_order(items[1:3])) == "b c"


def test_a_server_starts_with_the_module_before_and_ends_with_its_last_test(
    events: list[str],
) -> None:
    items = [
        one_of("a", "cassandra"),
        one_of("a", "cassandra"),
        one_of("b", "secure_cassandra"),
        one_of("c", "cassandra"),
    ]
    servers = Servers(items)
    run(servers, items[0])
    servers.get("secure_cassandra")  # it is under way: wait for it
    assert events == ["+secure_cassandra", "+cassandra"]  # one after another, in a thread
    run(servers, items[1])
    run(servers, items[2])
    assert events[2:] == ["-secure_cassandra"]
    run(servers, items[3])
    assert events[3:] == ["-cassandra"]
    servers.end()
    assert len(events) == 4


def test_nothing_starts_beside_three_nodes_under_load(events: list[str]) -> None:
    items = [one_of("a", "cassandra"), one_of("b", "three_nodes"), one_of("c", "spare_cassandra")]
    servers = Servers(items)
    for item in items:
        run(servers, item)
    assert [each[1:] for each in events] == [
        name for item in items for name in cast("Any", item).fixturenames * 2
    ]
    servers.end()


def test_a_server_that_is_given_is_not_started(events: list[str]) -> None:
    items = [one_of("a", "spare_cassandra"), one_of("b", "cassandra")]
    servers = Servers(items, {"cassandra"})
    run(servers, items[0])
    servers.before(items[1])
    servers.after(items[1])
    servers.end()
    assert events == ["+spare_cassandra", "-spare_cassandra"]


def test_who_uses_a_server_that_did_not_start_hears_why(events: list[str]) -> None:
    items = [one_of("a", "cassandra"), one_of("b", "line")]
    servers = Servers(items)
    run(servers, items[0])
    for _ in range(2):
        with pytest.raises(LauncherError, match="on purpose"):
            servers.get("line")
    servers.after(items[1])
    servers.end()
    assert sorted(events) == ["+cassandra", "+line", "-cassandra"]


def test_all_end_when_the_run_ends_early(events: list[str]) -> None:
    items = [one_of("a", "cassandra"), one_of("b", "secure_cassandra")]
    servers = Servers(items)
    servers.get("cassandra")
    servers.get("secure_cassandra")
    servers.end()
    assert sorted(events[2:]) == ["-cassandra", "-secure_cassandra"]
