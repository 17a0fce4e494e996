"""A wrong value is refused where it is given, with its name; a secret is never shown."""

from __future__ import annotations

import dataclasses
import math
import typing
from typing import Any

import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from cqlproto.connection import Limits
from tests.cqlproto_anyio.answers import echo
from tests.cqlproto_anyio.server import serving

BAD_OPTIONS: dict[str, list[Any]] = {
    "timeout": [0, -1, math.nan, "5", True, b""],
    "consistency": [1, "ONE", None],
    "serial_consistency": [cql.Consistency.ONE, 8, "SERIAL"],
    "page_size": [0, -1, 2.0, "10", True, None, 1 << 31],
    "max_rows": [0, -5, 1.5, True, None],
    "idempotent": ["yes", 1, None],
    "timestamp": ["now", 1.5, True, 1 << 63, -(1 << 63)],
    "now_in_seconds": ["now", 1.5, False, 1 << 31],
    "keyspace": [5, b"ks", ""],
    "retry": [None, 3, "never"],
    "speculation": [0.5, True, "slow"],
    "trace": ["yes", 1, None],
    "payload": ["x", [], {"a": "b"}, {1: b""}],
}
BAD_SECONDS: list[Any] = [0, -1, math.nan, "5", None, True]
BAD_SWITCH: list[Any] = ["yes", 1, None]
BAD_NUMBER: list[Any] = [0, -1, 1.5, "10", None, True]
BAD_CONFIG: dict[str, list[Any]] = {
    "connect_timeout": BAD_SECONDS,
    "close_timeout": BAD_SECONDS,
    "compression": ["zstd", "LZ4", 4, True, ""],
    "discovery": BAD_SWITCH,
    "eager": BAD_SWITCH,
    "connections_per_host": [*BAD_NUMBER, 5],  # by itself: more than there may be under load
    "max_connections_per_host": BAD_NUMBER,
    "grow_at": BAD_NUMBER,
    "max_connecting": BAD_NUMBER,
    "max_in_flight": [*BAD_NUMBER, 40_000],
    "max_orphans": BAD_NUMBER,
    "max_waiting": [-1, 1.5, "10", None, True],
    "max_unsent": BAD_NUMBER,
    "max_prepared": BAD_NUMBER,
    "routing": [None, "token aware", {}, cql.Routing],
    "reconnection": [None, 1.0, "fast"],
    "heartbeat_interval": BAD_SECONDS,
    "heartbeat_timeout": BAD_SECONDS,
    "refresh_interval": BAD_SECONDS,
    "control_timeout": BAD_SECONDS,
    "schema_agreement_timeout": [-1, math.nan, "5", None, True],
    "client_timestamps": BAD_SWITCH,
    "translate": ["10.0.0.1", {}],
    "hooks": [print, {}, cql.Hooks],
    "limits": [None, 5, {}],
    "connector": ["tcp", 5],
    "application_name": [5, b"x"],
    "application_version": [1.2, ["1"]],
    "protocol_version": [2, 6, "v5", "5"],
    "startup_options": [None, ["x"], {"a": 1}, {1: "a"}],
}
BAD_ARGUMENTS: dict[str, list[Any]] = {
    "hosts": [[], "", "a:b", "a:0", "a:65536", "[::1", "[::1]9042", ":9042", 5, None, b"db1", [5]],
    "port": [0, -1, 65536, "9042", None, 1.5],
    "keyspace": [5, b"ks", ""],
    "auth": ["ann", ("ann", "secret"), 5],
    "tls": ["yes", 1, None],
    "local_dc": [5],
    "profile": [{}, "fast", cql.Config()],
    "config": [{}, cql.Profile()],
}


def cases(table: dict[str, list[Any]]) -> list[Any]:
    return [
        pytest.param(name, value, id=f"{name}={value!r}")
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


def test_more_requests_than_streams() -> None:
    with pytest.raises(cql.ConfigError, match="100 streams"):
        cql.Config(max_in_flight=101, limits=Limits(max_streams=100))
    cql.Config(max_in_flight=100, limits=Limits(max_streams=100))


async def test_wrong_options_of_a_call() -> None:
    async with serving() as server, server.session() as session:
        server.answer = echo(server)
        query = "SELECT v FROM t"

        def verbs(**options: Any) -> list[Any]:
            return [
                lambda: session.execute(query, **options),
                lambda: session.page(query, **options),
                lambda: session.batch([query], **options),
                lambda: anext(session.stream(query, **options)),
            ]

        for name, values in BAD_OPTIONS.items():
            for value in values:
                for call in verbs(**{name: value}):
                    with pytest.raises(cql.ConfigError, match=name):
                        await call()
        for call in verbs(timeot=3):
            with pytest.raises(TypeError, match="timeot"):
                await call()
        for call in verbs(profile={"timeout": 3}):
            with pytest.raises(cql.ConfigError, match="profile"):
                await call()
        for call in (lambda: session.using(profile={}), lambda: session.using(keyspace="")):  # type: ignore[arg-type]
            with pytest.raises(cql.ConfigError):
                call()
        assert server.seen == []


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


async def test_options_go_before_the_profile_and_that_before_the_sessions() -> None:
    own = cql.Profile(consistency=cql.Consistency.TWO, page_size=7)
    async with serving() as server, server.session(profile=own) as session:
        server.answer = echo(server)

        async def asked(verbs: cql.Session, **options: Any) -> tuple[str, int | None]:
            await verbs.execute("SELECT v FROM t", **options)
            parameters = server.seen[-1].message.parameters  # type: ignore[union-attr]
            return parameters.consistency.name, parameters.page_size

        other = cql.Profile(page_size=9)
        assert await asked(session) == ("TWO", 7)
        assert await asked(session, page_size=8) == ("TWO", 8)
        assert await asked(session, profile=other) == ("LOCAL_QUORUM", 9)
        assert await asked(session, profile=other, page_size=3) == ("LOCAL_QUORUM", 3)
        assert await asked(session.using(profile=other)) == ("LOCAL_QUORUM", 9)


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
    for shown in (auth, cql.connect("a", auth=auth)):
        assert secret not in f"{shown!r} {shown}"
    assert "ann" in repr(auth)


async def test_secrets_of_an_authenticator_are_not_shown() -> None:
    secret = "correct horse battery staple"
    endpoint = cql.Endpoint("db1", 9042)
    authenticator = await cql.PlainAuth("ann", secret).authenticator(endpoint)
    assert secret not in repr(authenticator)
    assert authenticator.initial_response("any") == f"\0ann\0{secret}".encode()
