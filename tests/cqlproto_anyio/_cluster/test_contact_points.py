"""Contact points: names and the addresses that they resolve to."""

from __future__ import annotations

import socket
from typing import Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio._cluster import contact_points as contactpoints
from tests.support.cluster_sessions import attempts_of
from tests.support.control_connection import controlling, resolving
from tests.support.fakecluster import FakeCluster
from tests.support.server import until

pytestmark = pytest.mark.uvloop


async def test_a_name_stands_for_all_its_addresses() -> None:
    with resolving() as names:
        cluster = FakeCluster(4)
        one, two, three, four = cluster.hosts
        names["db"] = [one.address, two.address]
        names["other"] = [three.address]
        one.kill()
        points = [
            cql.Endpoint("db"),
            cql.Endpoint("other", 9042, "cert"),
            cql.Endpoint(four.address),
        ]
        async with controlling(cluster, points, resolves=True) as fixture:
            control = fixture.control
            assert control.contact_endpoints == (
                cql.Endpoint(one.address, 9042, "db"),
                cql.Endpoint(two.address, 9042, "db"),
                cql.Endpoint(three.address, 9042, "cert"),
                cql.Endpoint(four.address),
            )
            assert fixture.opened == [*control.contact_endpoints[:2]]
            # whichever node is asked, a host has the name that its certificate is for
            found = [control.topology.hosts[host.host_id].endpoint for host in cluster.hosts]
            assert found == [*control.contact_endpoints]
            fixture.owner.preferred = found
            two.cut()
            await until(lambda: fixture.owner.all("connected")[1:])
            assert fixture.here is three
            assert not fixture.owner.all("topology")


async def test_names_are_resolved_anew() -> None:
    with resolving() as names:
        cluster = FakeCluster(2)
        one, two = cluster.hosts
        names["db"] = [one.address]
        async with controlling(cluster, [cql.Endpoint("db")], resolves=True) as fixture:
            names["db"] = [two.address]
            one.kill()
            await until(lambda: fixture.owner.all("connected")[1:])
            assert fixture.control.endpoint == cql.Endpoint(two.address, 9042, "db")
            # names that can't be resolved any more keep their addresses
            names["db"] = socket.gaierror(-3, "Temporary failure in name resolution")
            two.cut()
            await until(lambda: fixture.owner.all("connected")[2:])
            assert fixture.here is two


async def test_a_fault_while_it_looks_for_a_node(caplog: pytest.LogCaptureFixture) -> None:
    with resolving() as names:
        cluster = FakeCluster(1)
        [host] = cluster.hosts
        names["db"] = [host.address]
        async with controlling(cluster, [cql.Endpoint("db")], resolves=True) as fixture:
            names["db"] = ZeroDivisionError("mine")
            host.cut()
            await until(lambda: caplog.text.count("ZeroDivisionError: mine") >= 3)
            names["db"] = [host.address]
            await until(lambda: fixture.owner.all("connected")[1:])


async def test_names_that_cannot_be_resolved() -> None:
    with resolving() as names:
        cluster = FakeCluster(1)
        names["slow"] = None
        names["odd"] = UnicodeError("label empty or too long")
        names["good"] = [cluster.hosts[0].address]
        points = [cql.Endpoint(name) for name in ("none", "slow", "odd")]
        times: dict[str, Any] = {"connect_timeout": 0.1}
        async with controlling(cluster, points, resolves=True, begin=False, **times) as fixture:
            with pytest.raises(cql.NoHostAvailable) as info:
                await fixture.control.begin()
            failures = [
                each for each in info.value.attempts if isinstance(each, cql.ConnectionFailed)
            ]
            assert {(each.stage, each.reason) for each in failures} == {
                ("resolve", "'none' can't be resolved: Name or service not known"),
                ("resolve", "'slow' can't be resolved: no answer in time"),
                ("resolve", "'odd' can't be resolved: label empty or too long"),
            }
        async with controlling(cluster, points[:1], resolves=True, begin=False) as fixture:
            with pytest.raises(cql.ConnectionFailed, match="resolve failed"):
                await fixture.control.begin()
        points.append(cql.Endpoint("good"))
        async with controlling(cluster, points, resolves=True, **times) as fixture:
            assert fixture.here is cluster.hosts[0]


async def test_a_connector_knows_what_names_mean() -> None:
    cluster = FakeCluster(2)
    cluster.names["somewhere"] = cluster.hosts[0]
    point = cql.Endpoint("somewhere", 1, "sni")
    async with controlling(cluster, [point]) as fixture:
        assert fixture.control.contact_endpoints == (point,)
        assert fixture.control.topology.hosts[cluster.hosts[0].host_id].endpoint == point


async def test_addresses_are_translated() -> None:
    cluster = FakeCluster(3)
    for number, host in enumerate(cluster.hosts):
        cluster.names[f"proxy{number}"] = host
    outside = {str(host): f"proxy{number}" for number, host in enumerate(cluster.hosts)}

    def translate(endpoint: cql.Endpoint) -> cql.Endpoint:
        return cql.Endpoint(outside[str(endpoint)], 9999)

    points = [cql.Endpoint("proxy0", 9999)]
    async with controlling(cluster, points, translate=translate) as fixture:
        assert fixture.names() == {"proxy0:9999", "proxy1:9999", "proxy2:9999"}
        cluster.tell_down(cluster.hosts[2])
        await until(lambda: fixture.owner.all("down"))
        assert fixture.owner.all("down") == [cql.Endpoint("proxy2", 9999)]


# -- the argument of connect()


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ("db1", ["db1:9043"]),
        ("db1,db2:9042", ["db1:9043", "db2:9042"]),
        (" db1 , [::1]:9042, ::2 ", ["db1:9043", "[::1]:9042", "[::2]:9043"]),
        (["db1,db2", "db3"], ["db1:9043", "db2:9043", "db3:9043"]),
        (("db1", "db1:9043", "db2"), ["db1:9043", "db2:9043"]),
        (cql.Endpoint("db1"), ["db1:9042"]),
        ([cql.Endpoint("db1", 9999, "cert"), "db2"], ["db1:9999", "db2:9043"]),
        (iter(["db1"]), ["db1:9043"]),
    ],
)
def test_contact_points(hosts: Any, expected: list[str]) -> None:
    assert list(map(str, cql.connect(hosts, port=9043)._endpoints)) == expected


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


UNPRINTABLE: Any = Unprintable()


@pytest.mark.parametrize(
    ("hosts", "match"),
    [
        ("", "must be host or host:port, got ''"),
        ("db1,,db2", "must be host or host:port, got ''"),
        ("db1,", "must be host or host:port, got ''"),
        ([], "hosts is empty"),
        (None, "hosts can't be a NoneType"),
        (b"db1", "hosts can't be a bytes"),
        (["db1", 5], "a contact point must be a str or an Endpoint, got a int"),
        ([b"db1"], "got a bytes"),
        (cql.Endpoint(""), "address must be a name or an IP address"),
        ([cql.Endpoint("db1", 0)], "port"),
        (cql.Endpoint(UNPRINTABLE), "^a Endpoint: address must be a name"),
        ([cql.Endpoint("db1", 9042, UNPRINTABLE)], "^a Endpoint: server_name must be a name"),
        ([cql.Endpoint("db1", 9042, "")], "server_name must be a name or None"),
    ],
)
def test_what_is_no_contact_point(hosts: Any, match: str) -> None:
    with pytest.raises(cql.ConfigError, match=match):
        cql.connect(hosts)


# -- translation


async def test_contact_points_are_translated() -> None:
    """Both contact points as the user named them and the addresses of a name are translated."""
    asked: list[cql.Endpoint] = []
    with resolving() as names:
        cluster = FakeCluster(3)
        one, two, three = cluster.hosts
        inside = {"192.0.2.1": one, "192.0.2.2": two, "inner": three}
        names["db"] = ["192.0.2.1", "192.0.2.2"]

        def translate(endpoint: cql.Endpoint) -> cql.Endpoint:
            asked.append(endpoint)
            host = inside.get(endpoint.address)
            return endpoint if host is None else cql.Endpoint(host.address, host.port)

        points = [cql.Endpoint("db", 9142), cql.Endpoint("inner", server_name="cert")]
        async with controlling(cluster, points, resolves=True, translate=translate) as fixture:
            assert set(fixture.control.contact_endpoints) == {
                cql.Endpoint(one.address, 9042, "db"),
                cql.Endpoint(two.address, 9042, "db"),
                cql.Endpoint(three.address, 9042, "cert"),
            }
            assert points[0] in asked
            assert cql.Endpoint("192.0.2.1", 9142) in asked
            assert points[1] in asked


@pytest.mark.parametrize("discovery", [True, False])
async def test_a_contact_point_is_translated(discovery: bool) -> None:
    cluster = FakeCluster(1)
    [host] = cluster.hosts

    def translate(endpoint: cql.Endpoint) -> cql.Endpoint:
        return host.endpoint if endpoint.address == "outside" else endpoint

    config = cluster.config(translate=translate, discovery=discovery)
    async with cql.connect("outside", config=config) as session:
        assert [each.address for each in session.statistics().hosts] == [str(host)]


NOWHERE = [cql.Endpoint(5), cql.Endpoint("a", "9042"), cql.Endpoint("a", 0), cql.Endpoint("")]  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [KeyError("no such address"), SystemExit(3), None, *NOWHERE])
async def test_a_contact_point_that_can_not_be_translated(
    wrong: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A contact point whose translation fails is used as the user named it."""
    cluster = FakeCluster(1)

    def translate(endpoint: cql.Endpoint) -> Any:
        if isinstance(wrong, BaseException):
            raise wrong
        return wrong

    for discovery in (True, False):
        config = cluster.config(translate=translate, discovery=discovery)
        async with cql.connect(cluster.addresses, config=config) as session:
            assert len(session.statistics().hosts) == 1
    assert "Config.translate, asked for a contact point, raised, 1 times" in caplog.text


async def test_a_name_that_is_not_resolved_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(contactpoints, "PATIENCE", 0.02)
    with resolving() as names:
        cluster = FakeCluster(2)
        names["slow"] = None
        names["good"] = [cluster.hosts[0].address]
        points = [cql.Endpoint(name) for name in ("slow", "bad", "good")]
        with anyio.fail_after(3):
            async with controlling(cluster, points, resolves=True) as fixture:
                assert fixture.here is cluster.hosts[0]
                assert len(fixture.opened) == 1
        # it is used if the others don't work
        cluster.hosts[0].kill()
        async with controlling(
            cluster, points, resolves=True, begin=False, connect_timeout=0.1
        ) as fixture:
            with pytest.raises(cql.NoHostAvailable) as info:
                await fixture.control.begin()
            stages = [each.stage for each in attempts_of(info.value)]
            assert sorted(stages) == ["connect", "resolve", "resolve"]
            assert len(fixture.opened) == 1
