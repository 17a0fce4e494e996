"""Names of contact points, and what they are resolved to."""

from __future__ import annotations

import socket
from typing import Any

import pytest

import cqlproto_anyio as cql
from tests.cqlproto_anyio.controls import controlling, resolving
from tests.cqlproto_anyio.fakecluster import FakeCluster
from tests.cqlproto_anyio.server import until

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
            # whatever node is asked, a host bears the name that its certificate is for
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
            # what is not known any more is what it was
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
