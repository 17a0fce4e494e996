"""Invalid values are refused with the name of the setting; secrets are never shown."""

from __future__ import annotations

import dataclasses
import math
import typing
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from cqlproto.connection import Limits
from cqlproto_anyio._checks.values import shown
from tests.support.replies import echo
from tests.support.server import serving

HUGE = 10**5000
ONE = cql.Consistency.ONE


class WaitsItself:
    async def __call__(self, *_: object) -> None: ...


class Waits:
    async def decide(self, *_: object, **__: object) -> None: ...


# Includes values that compare equal to valid ones, overflow, or don't fit the wire format.
BAD_OPTIONS: dict[str, list[Any]] = {
    "timeout": [0, -1, -0.0, math.nan, -math.inf, "5", True, b"", HUGE, Decimal(1), ONE, [1], 1j],
    "consistency": [1, 1.0, True, None, "", "ON", "ONE ", b"ONE", ONE.value, ["ONE"], "QUORUM1"],
    "serial_consistency": [ONE, "ONE", 8, 8.0, "serially", True, [], b"SERIAL"],
    "page_size": [0, -1, 2.0, "10", True, 1 << 31, HUGE, ONE, Decimal(1), math.inf, [5]],
    "max_rows": [0, -5, 1.5, True, None, HUGE, ONE, "1", math.inf],
    "idempotent": ["yes", 1, 1.0, 0, None, []],
    "timestamp": ["now", 1.5, True, 1 << 63, -(1 << 63), HUGE, ONE, 1.0, datetime(2024, 1, 1)],
    "now_in_seconds": ["now", 1.5, False, 1 << 31, HUGE, ONE, 1.0],
    "keyspace": [5, b"ks", "", "a\0b", "a\nb", "\ud800", "k" * 65_536, ["ks"]],
    "retry": [None, 3, "never", cql.DefaultRetry, Waits()],
    "speculation": [0.5, True, "slow", cql.ConstantSpeculation],
    "trace": ["yes", 1, 1.0, 0, None],
    "payload": ["x", [], {"a": "b"}, {1: b""}, {"a": None}, {"k" * 65_536: b""}, {"\ud800": b""}],
}


class Incomparable:
    """Like an array: == doesn't return a bool."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value is ambiguous")

    __hash__ = None  # type: ignore[assignment]  # makes it unhashable

    def __repr__(self) -> str:
        return "Incomparable()"


BAD_SECONDS: list[Any] = [0, -1, math.nan, -math.inf, "5", None, True, HUGE, Decimal(1), ONE]
BAD_SWITCH: list[Any] = ["yes", 1, 1.0, 0, None]
BAD_NUMBER: list[Any] = [0, -1, 1.5, 1.0, "10", None, True, HUGE, ONE, math.inf]
BAD_CONFIG: dict[str, list[Any]] = {
    "connect_timeout": BAD_SECONDS,
    "start_timeout": [0, -1, math.nan, "5", True],
    "close_timeout": BAD_SECONDS,
    "compression": ["zstd", "LZ4", 4, True, "", ["lz4"], Incomparable()],
    "discovery": BAD_SWITCH,
    "eager": BAD_SWITCH,
    "connections_per_host": BAD_NUMBER,
    "max_connections_per_host": [0, -1, 1.5, "10", True],
    "grow_at": BAD_NUMBER,
    "max_connecting": BAD_NUMBER,
    "max_in_flight": [*BAD_NUMBER, 40_000],
    "max_orphans": BAD_NUMBER,
    "max_waiting": [-1, 1.5, "10", None, True, False, HUGE],
    "max_unsent": BAD_NUMBER,
    "max_prepared": BAD_NUMBER,
    "routing": [None, "token aware", {}, cql.Routing],
    "reconnection": [None, 1.0, "fast", cql.ConstantReconnection],
    "heartbeat_interval": BAD_SECONDS,
    "heartbeat_timeout": BAD_SECONDS,
    "refresh_interval": BAD_SECONDS,
    "control_timeout": BAD_SECONDS,
    "schema_agreement_timeout": [-1, math.nan, "5", None, True, False, HUGE],
    "client_timestamps": BAD_SWITCH,
    "translate": ["10.0.0.1", {}, Waits().decide, WaitsItself()],
    "hooks": [print, {}, cql.Hooks],
    "limits": [
        None,
        5,
        {},
        Limits(max_request=True),
        Limits(max_response=0),
        Limits(max_response=1e9),  # type: ignore[arg-type]
        Limits(max_request=HUGE),
    ],
    "connector": ["tcp", 5],
    "application_name": [5, b"x", "\ud800", "x" * 65_536],
    "application_version": [1.2, ["1"], "x" * 65_536],
    "protocol_version": [2, 6, "v5", "5", 5.0, True, Decimal(5), HUGE, cql.Consistency.QUORUM],
    "startup_options": [None, ["x"], {"a": 1}, {1: "a"}, {"a": "x" * 65_536}, {"\ud800": ""}],
}
BAD_ARGUMENTS: dict[str, list[Any]] = {
    "hosts": [[], "", "a:b", "a:0", "a:65536", "[::1", "[::1]9042", ":9042", 5, None, b"db1", [5]],
    "port": [0, -1, 65536, "9042", None, 1.5, 9042.0, True, HUGE],
    "keyspace": [5, b"ks", "", "a\0b", "\ud800", "k" * 65_536],
    "auth": ["ann", ("ann", "secret"), 5],
    "tls": ["yes", 1, None],
    "local_dc": [5],
    "profile": [{}, "fast", cql.Config()],
    "config": [{}, cql.Profile()],
}


def cases(table: dict[str, list[Any]]) -> list[Any]:
    return [
        pytest.param(name, value, id=f"{name}={shown(value).partition(' at 0x')[0]}")
        for name, values in table.items()
        for value in values
    ]


def test_every_field_is_tried() -> None:
    fields = {field.name for field in dataclasses.fields(cql.Profile)}
    assert set(BAD_OPTIONS) == fields
    assert set(typing.get_type_hints(cql.Options, vars(cql) | _names())) == fields | {"profile"}
    assert set(BAD_CONFIG) == {field.name for field in dataclasses.fields(cql.Config)}


def _names() -> dict[str, Any]:
    from collections.abc import Mapping

    return {"Mapping": Mapping}


@pytest.mark.parametrize(("name", "value"), cases(BAD_OPTIONS))
def test_a_wrong_default(name: str, value: Any) -> None:
    with pytest.raises(cql.ConfigError, match=name):
        cql.Profile(**{name: value})


@pytest.mark.parametrize(("name", "value"), cases(BAD_CONFIG))
def test_a_wrong_setting(name: str, value: Any) -> None:
    with pytest.raises(cql.ConfigError, match=name):
        cql.Config(**{name: value})


@pytest.mark.parametrize(("name", "value"), cases(BAD_ARGUMENTS))
def test_a_wrong_argument(name: str, value: Any) -> None:
    with pytest.raises(cql.ConfigError):
        cql.connect(**{"hosts": "127.0.0.1", name: value})
    if name != "hosts":
        with pytest.raises(cql.ConfigError):
            cql.connect(**{"hosts": "127.0.0.1:9043", name: value})


def test_what_is_converted() -> None:
    config = cql.Config(
        connect_timeout=Fraction(1, 2),  # type: ignore[arg-type]
        heartbeat_interval=math.inf,
        grow_at=5,
        protocol_version=4,  # type: ignore[arg-type]
        startup_options=MappingProxyType({"a": "b"}),
    )
    assert (config.connect_timeout, type(config.connect_timeout)) == (0.5, float)
    assert config.protocol_version is ProtocolVersion.V4
    assert config.startup_options == {"a": "b"}
    given = {"a": "b"}
    config = cql.Config(startup_options=given)
    given["a"] = "c"
    assert config.startup_options == {"a": "b"}


async def test_times_without_end() -> None:
    """Infinite times don't overflow in the session's computations."""
    for endless in (math.inf, 1e308, 10**308):
        fields: dict[str, Any] = {
            name: endless for name in BAD_CONFIG if name.endswith(("_timeout", "_interval"))
        }
        async with serving() as server, server.session(**fields) as session:
            server.answer = echo(server)
            result = await session.execute("SELECT v FROM t WHERE k = ?", (1,), timeout=endless)
            assert result.one().v == 1
            await session.execute("SELECT v FROM t WHERE k = ?", (1,), timeout=endless, trace=True)
            assert (await session.using(timeout=endless).page("SELECT v FROM t")).rows


def test_more_connections_than_there_may_be() -> None:
    with pytest.raises(cql.ConfigError, match="at most max_connections_per_host \\(4\\), got"):
        cql.Config(connections_per_host=5, max_connections_per_host=4)
    assert cql.Config().most_connections == 4
    assert cql.Config(connections_per_host=5).most_connections == 5
    assert cql.Config(max_connections_per_host=2).most_connections == 2


def test_the_whole_of_connecting_has_a_bound() -> None:
    assert cql.Config().start_limit == 30.0
    assert cql.Config(connect_timeout=1, control_timeout=2).start_limit == 9.0
    assert cql.Config(start_timeout=2.5).start_limit == 2.5


def test_more_requests_than_streams() -> None:
    with pytest.raises(cql.ConfigError, match=r"at most limits.max_streams \(100\), got"):
        cql.Config(max_in_flight=101, limits=Limits(max_streams=100))
    cql.Config(max_in_flight=100, limits=Limits(max_streams=100))


@pytest.mark.parametrize("version", [ProtocolVersion.V3, ProtocolVersion.V4])
async def test_options_that_only_v5_knows(version: ProtocolVersion) -> None:
    async with serving() as server, server.session(protocol_version=version) as session:
        server.answer = echo(server)
        query = "SELECT v FROM t"
        insert = "INSERT INTO t (k) VALUES (1)"
        handle = await session.prepare(query)
        prepared = await session.prepare(insert)
        server.seen.clear()
        for options in ({"keyspace": "ks"}, {"now_in_seconds": 5}):
            calls: list[Any] = [
                lambda o=options: session.execute(query, **o),
                lambda o=options: session.execute(query, (), **o),
                lambda o=options: session.execute(handle, **o),
                lambda o=options: session.page(query, **o),
                lambda o=options: session.batch([insert], **o),
                lambda o=options: session.batch([prepared], **o),
                lambda o=options: anext(session.stream(query, **o)),
                lambda o=options: session.using(profile=cql.Profile(**o)).execute(query),
                lambda o=options: session.using(profile=cql.Profile(**o)).prepare("SELECT w"),
            ]
            for call in calls:
                with pytest.raises(cql.UsageError, match=r"needs protocol v5"):
                    await call()
        with pytest.raises(cql.UsageError, match="needs protocol v5"):
            session.using(keyspace="ks")
        assert server.seen == []


@pytest.mark.parametrize(
    ("given", "endpoint"),
    [
        ("db1", "db1:9042"),
        ("db1:9043", "db1:9043"),
        ("10.0.0.1", "10.0.0.1:9042"),
        ("::1", "[::1]:9042"),
        ("[::1]", "[::1]:9042"),
        ("[fe80::1]:19042", "[fe80::1]:19042"),
    ],
)
async def test_contact_points(given: str, endpoint: str) -> None:
    seen = []

    async def connector(endpoint: cql.Endpoint) -> Any:
        seen.append(str(endpoint))
        raise OSError(111, "Connection refused")

    with pytest.raises(cql.ConnectionFailed) as info:
        async with cql.connect(given, config=cql.Config(discovery=False, connector=connector)):
            pass
    assert seen == [endpoint] == [info.value.host]


def test_secrets_are_not_shown() -> None:
    secret = "correct horse battery staple"
    auth = cql.PlainAuth("ann", secret)
    for each in (auth, cql.connect("a", auth=auth)):
        assert secret not in f"{each!r} {each}"
    assert "ann" in repr(auth)


async def test_secrets_of_an_authenticator_are_not_shown() -> None:
    secret = "correct horse battery staple"
    endpoint = cql.Endpoint("db1", 9042)
    authenticator = await cql.PlainAuth("ann", secret).authenticator(endpoint)
    assert secret not in repr(authenticator)
    assert authenticator.initial_response("any") == f"\0ann\0{secret}".encode()


def test_credentials_are_equal_if_name_and_password_are() -> None:
    ann = cql.PlainAuth("ann", "xyzzy")
    assert ann == cql.PlainAuth("ann", "xyzzy")
    assert hash(ann) == hash(cql.PlainAuth("ann", "xyzzy"))
    others = (
        cql.PlainAuth("ann", "other"),
        cql.PlainAuth("bob", "xyzzy"),
        cql.PlainAuth("ann", lambda: "xyzzy"),
        type("Special", (cql.PlainAuth,), {})("ann", "xyzzy"),
        ("ann", "xyzzy"),
    )
    for other in others:
        assert ann != other
