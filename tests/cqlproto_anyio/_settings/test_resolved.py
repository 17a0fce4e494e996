"""Options of calls: checked before anything is sent, and cached."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from cqlproto.messages import Batch, Execute, Prepare, Query
from cqlproto_anyio._settings import resolved as settings_module
from cqlproto_anyio._statements import statement as prepared_module
from tests.cqlproto_anyio._settings.test_profile import GOOD
from tests.cqlproto_anyio.test_config import BAD_OPTIONS, ONE
from tests.support.replies import echo, ints, preparing
from tests.support.server import serving, start

if TYPE_CHECKING:
    from tests.support.server import Server

pytestmark = pytest.mark.usefixtures("each_session")

SELECT = "SELECT v FROM t WHERE k = ?"
INSERT = "INSERT INTO t (k) VALUES (?)"
LWT = "INSERT INTO t (k) VALUES (?) IF NOT EXISTS"


def verbs(session: cql.Session, query: str, **options: Any) -> list[Any]:
    return [
        lambda: session.execute(query, **options),
        lambda: session.execute(query, (), **options),
        lambda: session.page(query, **options),
        lambda: session.batch([query], **options),
        lambda: anext(session.stream(query, **options)),
    ]


def asked(server: Server) -> Any:
    """Return the parameters of the last request."""
    message = server.seen[-1].message
    assert isinstance(message, (Batch, Execute, Query))
    return message if isinstance(message, Batch) else message.parameters


async def test_wrong_options_are_refused_whatever_was_used_before() -> None:
    async with serving() as server, server.session() as session:
        server.answer = echo(server)
        query = "SELECT v FROM t"
        for name, values in GOOD.items():
            for value in values:
                await session.execute(SELECT, (1,), **{name: value})
                await session.execute(query, **{name: value, "row": dict})
        await session.prepare(INSERT)
        server.seen.clear()
        for name, values in BAD_OPTIONS.items():
            for value in values:
                for call in verbs(session, query, **{name: value}):
                    with pytest.raises(cql.ConfigError, match=name):
                        await call()
                with pytest.raises(cql.ConfigError, match=name):
                    await session.execute(query, row=dict, **{name: value})
        for call in verbs(session, query, timeot=3):
            with pytest.raises(TypeError, match="unexpected keyword argument 'timeot'"):
                await call()
        for wrong in ({"timeout": 3}, "fast", 0, False, cql.Profile, cql.Config()):
            for call in verbs(session, query, profile=wrong):
                with pytest.raises(cql.ConfigError, match="profile must be a Profile"):
                    await call()
        assert server.seen == []


async def test_what_is_equal_is_converted_and_not_confused() -> None:
    async with serving() as server, server.session() as session:
        server.answer = echo(server)
        level: Any
        for level in ("one", "ONE", ONE, "One"):
            await session.execute(SELECT, (1,), consistency=level)
            assert asked(server).consistency is ONE
            await session.batch([INSERT.replace("?", "1")], consistency=level)
            assert asked(server).consistency is ONE
        levels: list[Any] = ["serial", "Serial", cql.Consistency.SERIAL]
        for level in levels:
            await session.execute(SELECT, (1,), serial_consistency=level)
            assert asked(server).serial_consistency is cql.Consistency.SERIAL
        await session.execute(SELECT, (1,), serial_consistency="serial")
        await session.using(serial_consistency="serial").execute(
            SELECT, (1,), serial_consistency=None
        )
        assert asked(server).serial_consistency is None


class Counted:
    """Counts the objects made of some classes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: dict[str, int] = {}
        for module, name in (
            (prepared_module, "Binder"),
            (settings_module, "QueryParameters"),
            (settings_module, "Wire"),
        ):
            monkeypatch.setattr(module, name, self._counting(name, getattr(module, name)))

    def _counting(self, name: str, kind: Any) -> Any:
        self.made[name] = 0

        def make(*arguments: Any, **keywords: Any) -> Any:
            self.made[name] += 1
            return kind(*arguments, **keywords)

        return make


OPTIONS = {
    "timeout": lambda number: {"timeout": 1 + number / 1000},
    "timestamp": lambda number: {"timestamp": number},
    "both": lambda number: {"timeout": 1 + number / 1000, "timestamp": number},
    "with others": lambda number: {"timeout": 1 + number / 1000, "consistency": "one"},
    "profile": lambda number: {"profile": cql.Profile(timeout=1 + number / 1000)},
    "max_rows": lambda number: {"max_rows": number + 1},
    "idempotent": lambda number: {"idempotent": number % 2 == 0, "timeout": 1 + number},
}


@pytest.mark.parametrize("name", OPTIONS)
async def test_what_is_not_on_the_wire_makes_no_binder(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: Any = OPTIONS[name]
    async with serving() as server, server.session(client_timestamps=True) as session:
        server.answer = echo(server)
        await session.execute(SELECT, (1,))
        counted = Counted(monkeypatch)
        for number in range(80):
            await session.execute(SELECT, (number,), **options(number))
            await session.using(**options(number)).execute(SELECT, (number,))
        # if the default settings' binder doesn't fit, one more is made for all
        most = 0 if name in ("timeout", "profile", "max_rows", "idempotent") else 1
        assert counted.made == {"Binder": most, "QueryParameters": most, "Wire": most}


async def test_each_call_has_its_own_timestamp() -> None:
    """Also if calls wait, and are packed in another order than they were started."""
    async with serving() as server, server.session(max_in_flight=2, grow_at=2) as session:
        server.answer = preparing(server)
        await session.prepare(INSERT)
        stamps = {}
        async with anyio.create_task_group() as group:
            for number in range(1, 40):
                start(group, lambda n=number: session.execute(INSERT, (n,), timestamp=n * 1000))  # type: ignore[misc]  # a lambda with a default
            for _ in range(1, 40):
                request = await server.next()
                stamps[request.number] = asked_of(request).timestamp
                request.reply(ints(0))
        assert stamps == {number: number * 1000 for number in range(1, 40)}
        server.answer = echo(server)
        await session.execute(INSERT, (1,))
        assert asked(server).timestamp is None
        for value in (-(2**63) + 1, 2**63 - 1, 0):
            await session.execute(INSERT, (1,), timestamp=value)
            assert asked(server).timestamp == value
            await session.using(timestamp=value).batch([(INSERT, (1,))])
            assert asked(server).timestamp == value
            await session.using(timestamp=value).batch([(INSERT, (1,))], timestamp=None)
            assert asked(server).timestamp is None


def asked_of(request: Any) -> Any:
    return request.message.parameters


async def test_the_binders_of_other_options_are_other_ones() -> None:
    async with serving() as server, server.session() as session:
        server.answer = echo(server)
        axes: dict[str, list[Any]] = {
            "consistency": [cql.Consistency.ONE, cql.Consistency.ALL],
            "page_size": [7, 8, None],
            "serial_consistency": [cql.Consistency.SERIAL, None],
            "now_in_seconds": [5, None],
            "timestamp": [9, None],
        }
        for values in itertools.product(*axes.values()):
            options = dict(zip(axes, values, strict=True))
            for user, more in ((session, options), (session.using(**options), {})):
                await user.execute(SELECT, (1,), **more)
                assert {name: getattr(asked(server), name) for name in axes} == options


class Unhashable:
    """A policy of the user's: comparable, but not hashable."""

    __hash__ = None  # type: ignore[assignment]  # makes it unhashable

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unhashable)

    def decide(self, error: cql.CQLError, **_: object) -> cql.Retry | None:
        return None

    def tracker(self) -> cql.Tracker:
        return cql.ConstantSpeculation(60.0).tracker()


async def test_policies_without_a_hash() -> None:
    async with serving() as server, server.session() as session:
        server.answer = echo(server)
        policy: Any = Unhashable()
        choices: list[dict[str, Any]] = [{"retry": policy}, {"speculation": policy}]
        for options in choices:
            users: list[tuple[cql.Session, dict[str, Any]]] = [
                (session, options),
                (session, {"profile": cql.Profile(**options)}),
                (session.using(**options), {}),
            ]
            for user, more in users:
                for call in verbs(user, "SELECT v FROM t", **more):
                    try:
                        await call()
                    except cql.UsageError as error:  # a batch takes no SELECT
                        assert "takes INSERT" in str(error)
                assert (await user.execute(SELECT, (5,), **more)).one().v == 5


@pytest.mark.parametrize("where", ["call", "profile", "using"])
async def test_a_payload_that_is_changed_afterwards(where: str) -> None:
    async with serving() as server, server.session(max_in_flight=1, grow_at=1) as session:
        server.answer = preparing(server)
        await session.prepare(INSERT)
        payload = {"a": b"before"}
        profile = cql.Profile(payload=payload)
        calls = {
            "call": lambda: session.execute(INSERT, (2,), payload=payload),
            "profile": lambda: session.execute(INSERT, (2,), profile=profile),
            "using": lambda: session.using(profile=profile).execute(INSERT, (2,)),
        }
        async with anyio.create_task_group() as group:
            start(group, lambda: session.execute(INSERT, (1,)))
            first = await server.next()
            start(group, calls[where])
            await server.until(lambda: session.statistics().hosts[0].waiting == 1)
            payload["a"] = b"after"
            first.reply(ints(0))
            second = await server.next()
            assert second.payload == {"a": b"before"}
            second.reply(ints(0))
        server.answer = echo(server)
        await session.execute(INSERT, (1,), payload=payload)
        assert server.seen[-1].payload == {"a": b"after"}


async def test_no_paging() -> None:
    async with serving() as server, server.session() as session:
        server.answer = lambda request: (
            echo(server)(request) if isinstance(request.message, Prepare) else ints(1, 2, 3)
        )
        for query, parameters in (("SELECT v FROM t", None), (SELECT, (1,))):
            for user in (session, session.using(page_size=None)):
                more: dict[str, Any] = {"page_size": None} if user is session else {}
                assert len(await user.execute(query, parameters, **more)) == 3
                assert asked(server).page_size is None
                assert asked(server).paging_state is None
                page = await user.page(query, parameters, **more)
                assert (len(page.rows), page.next_token) == (3, None)
                assert asked(server).page_size is None
                rows = [row.v async for row in user.stream(query, parameters, **more)]
                assert rows == [1, 2, 3]
                assert asked(server).page_size is None
                with pytest.raises(cql.ResultTooLarge, match="max_rows=2"):
                    await user.execute(query, parameters, max_rows=2, **more)
        await session.using(page_size=None).execute(SELECT, (1,), page_size=2)
        assert asked(server).page_size == 2
        server.answer = lambda request: ints(1, state=b"more")
        token = (await session.page("SELECT v FROM t")).next_token
        server.seen.clear()
        with pytest.raises(cql.UsageError, match="token= continues a paged result"):
            await session.page("SELECT v FROM t", token=token, page_size=None)
        assert server.seen == []


async def test_a_conditional_statement_has_no_timestamp_of_ours() -> None:
    text = LWT.replace("?", "1")
    async with serving() as server, server.session() as session:
        server.answer = echo(server)
        prepared = await session.prepare(LWT)
        plain = INSERT.replace("?", "1")
        server.seen.clear()
        profile = cql.Profile(timestamp=5)
        for user, more in (
            (session, {"timestamp": 5}),
            (session, {"timestamp": 0}),
            (session, {"profile": profile}),
            (session.using(timestamp=5), {}),
            (session.using(profile=profile), {"timeout": 3}),
        ):
            calls: list[Any] = [
                lambda u=user, m=more: u.execute(text, **m),
                lambda u=user, m=more: u.execute(prepared, (1,), **m),
                lambda u=user, m=more: u.execute(LWT + " /* new */", (1,), **m),
                lambda u=user, m=more: u.page(text, **m),
                lambda u=user, m=more: anext(u.stream(text, **m)),
                lambda u=user, m=more: u.batch([text], **m),
                lambda u=user, m=more: u.batch([plain, (prepared, (1,))], **m),
                lambda u=user, m=more: u.batch([(INSERT + " -- new", (1,)), text], **m),
            ]
            for call in calls:
                with pytest.raises(cql.UsageError, match=r"timestamp=\d can't go with a condition"):
                    await call()
        assert server.seen == []
        # PREPARE has no timestamp, and a call can omit it
        user = session.using(timestamp=5)
        again = await user.prepare(LWT + " -- again")
        await user.execute(again, (1,), timestamp=None)
        assert asked(server).timestamp is None
        await user.batch([text], timestamp=None)
        assert asked(server).timestamp is None
        await user.execute("SELECT v FROM t")
        assert asked(server).timestamp == 5


async def test_a_batch_is_looked_at_before_anything_is_sent() -> None:
    async with serving() as server, server.session() as session:
        server.answer = echo(server)
        for wrong, error in (("SELECT v FROM t", cql.UsageError), (5, TypeError)):
            with pytest.raises(error):
                await session.batch([(INSERT, (1,)), wrong])  # type: ignore[list-item]
        assert server.seen == []


async def test_a_payload_needs_v4() -> None:
    v3 = ProtocolVersion.V3
    async with serving() as server, server.session(protocol_version=v3) as session:
        server.answer = echo(server)
        prepared = await session.prepare(INSERT)
        text = INSERT.replace("?", "1")
        server.seen.clear()
        more: Any = {"payload": {"a": b"b"}}
        for call in (
            lambda: session.execute(text, **more),
            lambda: session.execute(prepared, (1,), **more),
            lambda: session.page(prepared, (1,), **more),
            lambda: session.batch([text], **more),
            lambda: session.batch([(prepared, (1,))], **more),
            lambda: session.using(**more).execute(text),
        ):
            with pytest.raises(cql.UsageError, match="payload= needs protocol v4"):
                await call()
        assert server.seen == []
