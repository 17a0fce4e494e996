"""Passwords never appear in a repr, log or exception, whatever fails while they are used.

More people read a program's logs and error reports than may know its passwords. Reports can show
the local variables of every frame, so the tests check these too.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import dataclasses
import hashlib
import hmac
import logging
import pprint
import traceback
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

import cqlproto_anyio as cql
from cqlproto.enums import ErrorCode, Opcode
from cqlproto.messages import (
    AuthChallenge,
    Authenticate,
    AuthResponse,
    AuthSuccess,
    Error,
    Startup,
)
from tests.support.replies import echo
from tests.support.server import serving, turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cqlproto.messages import Response
    from tests.support.server import Asked, Server

SELECT = "SELECT v FROM t WHERE v = ?"
SECRET = "hunter2-in-the-clear"
AUTH = cql.PlainAuth("ann", SECRET)
TOKEN = f"\0ann\0{SECRET}".encode()
FORMS = (SECRET, base64.b64encode(TOKEN).decode()[8:24], SECRET.encode().hex())


def assert_hidden(told: str) -> None:
    for form in FORMS:
        assert form not in told, told


def all_of(error: BaseException) -> str:
    """Return all that a report of an error could show, including the locals of its frames."""
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    told = [*shown.format(), repr(error), str(error), repr(vars(error)), repr(error.args)]
    told += [all_of(each) for each in getattr(error, "attempts", ()) if each is not error]
    return "\n".join(told)


def wants_password(server: Server) -> None:
    server.verify = lambda token: token == TOKEN


def instead(reply: Callable[[Asked], Response | None]) -> Callable[[Server], None]:
    """Return a server script that answers AUTH_RESPONSE differently."""

    def script(server: Server) -> None:
        wants_password(server)
        usual = server.handshake
        server.handshake = lambda asked: (
            reply(asked) if isinstance(asked.message, AuthResponse) else usual(asked)
        )

    return script


def hang_up(asked: Asked) -> None:
    asked.peer.close()


def garbage(asked: Asked) -> None:
    asked.peer.send_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def damaged(asked: Asked) -> None:
    asked.peer.send_raw(asked.peer.frame(0, Opcode.ERROR, b"\x00"))


# -- objects that hold a password


@pytest.mark.parametrize("auth", [AUTH, cql.PlainAuth("ann", lambda: SECRET)])
async def test_what_is_made_of_a_password(auth: cql.PlainAuth) -> None:
    connecting = cql.connect("node", auth=auth)
    authenticator = await auth.authenticator(cql.Endpoint("node"))
    assert authenticator.initial_response("") == TOKEN
    for each in (auth, copy.copy(auth), connecting, authenticator, AuthResponse(TOKEN)):
        assert_hidden(repr(each) + str(each) + f"{each}" + pprint.pformat(each))
    assert_hidden(pprint.pformat(vars(connecting)))
    assert repr(auth) == "PlainAuth('ann', ...)"
    assert repr(authenticator) == "PlainAuthenticator('ann', ...)"
    for each in (auth, authenticator):
        assert not hasattr(each, "__dict__")


async def test_a_session_that_has_one() -> None:
    async with serving() as server:
        wants_password(server)
        server.answer = echo(server)
        async with cql.connect("node", auth=AUTH, config=server.config()) as session:
            await session.execute(SELECT, (1,))
            statistics = repr(session.statistics())
            assert_hidden(repr(session) + str(session) + repr(session.profile) + statistics)


# -- failures

SCRIPTS: dict[str, tuple[Callable[[Server], None], type[cql.CQLError]]] = {
    "refused": (
        instead(lambda asked: Error(ErrorCode.BAD_CREDENTIALS, "no", {})),
        cql.AuthenticationFailed,
    ),
    "another error": (instead(lambda asked: Error(0x1001, "busy", {})), cql.ConnectionFailed),
    "closed": (instead(hang_up), cql.ConnectionFailed),
    "garbage": (instead(garbage), cql.ConnectionFailed),
    "damaged": (instead(damaged), cql.ConnectionFailed),
    "silence": (instead(lambda asked: None), cql.ConnectionFailed),
    "asked for ever": (
        instead(lambda asked: AuthChallenge(b"again")),
        cql.ConnectionFailed,
    ),
}


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("points", [1, 2])
async def test_no_error_shows_it(name: str, points: int) -> None:
    script, kind = SCRIPTS[name]
    async with serving() as server:
        script(server)
        config = server.config(connect_timeout=0.3)
        nodes = [f"node{number}" for number in range(points)]
        with pytest.raises(kind if points == 1 else cql.NoHostAvailable) as info:
            async with cql.connect(nodes, auth=AUTH, config=config):
                pass
        assert_hidden(all_of(info.value))


class Breaking(anyio.abc.ByteStream):
    """A transport that raises when the password is sent."""

    def __init__(self, stream: anyio.abc.ByteStream, error: Exception) -> None:
        self._stream = stream
        self._error = error

    async def send(self, item: bytes) -> None:
        if SECRET.encode() in item:
            raise self._error
        await self._stream.send(item)

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await self._stream.receive(max_bytes)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


@pytest.mark.parametrize(
    "error",
    [anyio.BrokenResourceError(), OSError(104, "reset")],
    ids=lambda each: type(each).__name__,
)
async def test_the_transport_breaks_while_it_is_sent(error: Exception) -> None:
    """Its own frames hold the bytes it was given to send: the report leaves them out."""
    async with serving() as server:
        wants_password(server)

        async def connector(endpoint: cql.Endpoint) -> anyio.abc.ByteStream:
            return Breaking(await server.connector(endpoint), error)

        config = dataclasses.replace(server.config(), connector=connector)
        with pytest.raises(cql.ConnectionFailed) as info:
            async with cql.connect("node", auth=AUTH, config=config):
                pass
        assert info.value.__cause__ is error
        assert_hidden(all_of(info.value))


async def test_the_keyspace_cannot_be_used() -> None:
    async with serving() as server:
        wants_password(server)
        usual = server.handshake
        server.handshake = lambda asked: (
            usual(asked) if asked.stream_id == 0 else Error(ErrorCode.INVALID, "no keyspace", {})
        )
        with pytest.raises(cql.InvalidQuery) as info:
            async with cql.connect("node", auth=AUTH, keyspace="ks", config=server.config()):
                pass
        assert_hidden(all_of(info.value))


async def test_requests_that_fail_later() -> None:
    async with serving() as server:
        wants_password(server)
        server.answer = lambda asked: Error(ErrorCode.INVALID, "no such table", {})
        async with cql.connect("node", auth=AUTH, config=server.config()) as session:
            with pytest.raises(cql.InvalidQuery) as invalid:
                await session.execute(SELECT)
            server.answer = lambda asked: None
            with pytest.raises(cql.RequestTimeout) as late:
                await session.execute(SELECT, timeout=0.05)
            server.verify = lambda token: False
            server.answer = hang_up
            with pytest.raises(cql.ConnectionLost) as lost:
                await session.execute("INSERT INTO t (v) VALUES (1)")
            with pytest.raises(cql.CQLError) as refused:
                await session.execute(SELECT, timeout=0.2)
        with pytest.raises(cql.SessionClosed) as closed:
            await session.execute(SELECT)
        for info in (invalid, late, lost, refused, closed):
            assert_hidden(all_of(info.value))


# -- providers


class Vault:
    """A password provider. Its exceptions are its own; the client's messages are tested."""

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome
        self.calls = 0

    def now(self) -> Any:
        self.calls += 1
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    async def soon(self) -> Any:
        await anyio.lowlevel.checkpoint()
        return self.now()


@pytest.mark.parametrize("way", ["now", "soon"])
async def test_a_provider_that_fails(way: str) -> None:
    vault = Vault(LookupError("sealed"))
    async with serving() as server:
        auth = cql.PlainAuth("ann", getattr(vault, way))
        with pytest.raises(cql.AuthenticationFailed) as info:
            async with cql.connect("node", auth=auth, config=server.config()):
                pass
        assert info.value.__cause__ is vault.outcome
        assert "the credential provider raised LookupError" in str(info.value)
        assert "sealed" not in str(info.value)
        assert server.peers == []


@pytest.mark.parametrize("way", ["now", "soon"])
@pytest.mark.parametrize("wrong", [SECRET.encode(), [SECRET], {"password": SECRET}, None])
async def test_a_provider_that_returns_something_else(way: str, wrong: Any) -> None:
    """A password as bytes is the most likely mistake."""

    auth = cql.PlainAuth("ann", getattr(Vault(wrong), way))
    async with serving() as server:
        with pytest.raises(cql.ConfigError, match="the password must be a str, got a") as info:
            async with cql.connect("node", auth=auth, config=server.config()):
                pass
        shown = traceback.TracebackException.from_exception(info.value, capture_locals=True)
        ours = [
            line
            for frame in shown.stack
            if "cqlproto_anyio/" in frame.filename and "tests" not in frame.filename
            for line in (frame.locals or {}).values()
        ]
        assert_hidden("\n".join(ours) + str(info.value) + repr(info.value))


@pytest.mark.parametrize("way", ["now", "soon"])
async def test_a_provider_is_asked_for_every_connection(way: str) -> None:
    """The next connection uses a password that was rotated."""
    vault = Vault(SECRET)
    async with serving() as server:
        wants_password(server)
        server.answer = echo(server)
        auth = cql.PlainAuth("ann", getattr(vault, way))
        async with cql.connect("node", auth=auth, config=server.config()) as session:
            for number in range(1, 4):
                assert (await session.execute(SELECT, (number,))).scalar() == number
                assert vault.calls == len(server.peers) == number
                rotated = vault.outcome = f"{SECRET}-{number}"
                server.verify = lambda token, rotated=rotated: token.endswith(rotated.encode())
                server.peers[-1].close()
                await turns()


# -- other authentication schemes


class Scram:
    """Authenticates by a challenge in two steps; the password itself is never sent. One object per
    connection.
    """

    def __init__(self, password: str) -> None:
        self._password = password
        self.steps: list[Any] = []

    def initial_response(self, mechanism: str) -> bytes:
        self.steps.append(mechanism)
        return b"ann"

    def evaluate_challenge(self, challenge: bytes | None) -> bytes:
        self.steps.append(challenge)
        return hmac.digest(self._password.encode(), challenge or b"", "sha256")


class ScramAuth:
    def __init__(self, password: str = SECRET, kind: Callable[[str], Any] = Scram) -> None:
        self.made: list[tuple[cql.Endpoint, Any]] = []
        self._password = password
        self._kind = kind

    async def authenticator(self, endpoint: cql.Endpoint) -> Any:
        await anyio.lowlevel.checkpoint()
        made = self._kind(self._password)
        self.made.append((endpoint, made))
        return made


MECHANISM = "org.example.ScramAuthenticator"


def challenges(server: Server) -> None:
    """Ask twice; the second challenge depends on the first answer."""
    usual = server.handshake
    steps: dict[Any, list[bytes]] = {}

    def right(challenge: bytes) -> bytes:
        return hmac.digest(SECRET.encode(), challenge, "sha256")

    def handshake(asked: Asked) -> Response | None:
        message = asked.message
        if isinstance(message, Startup):
            steps[asked.peer] = []
            return Authenticate(MECHANISM)
        if not isinstance(message, AuthResponse):
            return usual(asked)
        sent = steps[asked.peer]
        sent.append(message.token or b"")
        first = b"nonce 1"
        second = hashlib.sha256(sent[1]).digest() if len(sent) > 1 else b""
        expected = [b"ann", right(first), right(second)]
        if sent != expected[: len(sent)]:
            return Error(ErrorCode.BAD_CREDENTIALS, "wrong answer", {})
        if len(sent) == 3:
            return AuthSuccess(b"welcome")
        return AuthChallenge(first if len(sent) == 1 else second)

    server.handshake = handshake


async def test_a_scheme_of_several_steps() -> None:
    async with serving() as server:
        challenges(server)
        server.answer = echo(server)
        auth = ScramAuth()
        async with cql.connect("node", port=9043, auth=auth, config=server.config()) as session:
            assert (await session.execute(SELECT, (1,))).scalar() == 1
            server.peers[-1].close()
            await turns()
            assert (await session.execute(SELECT, (2,))).scalar() == 2
        assert [endpoint for endpoint, _ in auth.made] == [cql.Endpoint("node", 9043)] * 2
        for _, made in auth.made:
            assert made.steps[:2] == [MECHANISM, b"nonce 1"]
            assert len(made.steps) == 3


async def test_a_wrong_answer_to_a_challenge() -> None:
    async with serving() as server:
        challenges(server)
        with pytest.raises(cql.AuthenticationFailed, match="wrong answer") as info:
            async with cql.connect("node", auth=ScramAuth("other"), config=server.config()):
                pass
        assert info.value.stage == "handshake"


class Failing(Scram):
    """Raises for the server's challenge."""

    def evaluate_challenge(self, challenge: bytes | None) -> bytes:
        raise ValueError("the server's nonce is not ours")


class FailingAtOnce(Scram):
    def initial_response(self, mechanism: str) -> bytes:
        raise NotImplementedError(mechanism)


@pytest.mark.parametrize("kind", [Failing, FailingAtOnce, lambda password: object()])
async def test_an_authenticator_that_raises(kind: Callable[[str], Any]) -> None:
    async with serving() as server:
        challenges(server)
        with pytest.raises(cql.AuthenticationFailed) as info:
            async with cql.connect("node", auth=ScramAuth(kind=kind), config=server.config()):
                pass
        cause = info.value.__cause__
        assert cause is not None
        assert f"the authenticator raised {type(cause).__name__}" in str(info.value)
        assert "nonce" not in str(info.value)
        assert info.value.stage == "handshake"


@pytest.mark.parametrize("wrong", [SECRET, 5, [SECRET]])
async def test_an_authenticator_whose_token_is_no_bytes(wrong: Any) -> None:
    class Wrong(Scram):
        def initial_response(self, mechanism: str) -> Any:
            return wrong

    async with serving() as server:
        challenges(server)
        with pytest.raises(cql.AuthenticationFailed, match="raised TypeError") as info:
            async with cql.connect("node", auth=ScramAuth(kind=Wrong), config=server.config()):
                pass
        assert_hidden(str(info.value) + repr(info.value) + str(info.value.__cause__))


async def test_no_token_at_all_may_be_an_answer() -> None:
    class Silent(Scram):
        def initial_response(self, mechanism: str) -> Any:
            return None

    async with serving() as server:
        server.verify = lambda token: not token
        server.answer = echo(server)
        config = server.config()
        async with cql.connect("node", auth=ScramAuth(kind=Silent), config=config) as session:
            assert (await session.execute(SELECT, (1,))).scalar() == 1


# -- logs


async def tour(server: Server) -> None:
    """Connect over TCP, correctly and with errors, and execute some statements."""
    port = await server.listen()
    point = f"127.0.0.1:{port}"
    config = cql.Config(discovery=False, connect_timeout=1.0)
    wants_password(server)
    server.answer = echo(server)
    async with cql.connect(point, auth=AUTH, config=config) as session:
        assert (await session.execute(SELECT, (1,))).scalar() == 1
        server.peers[-1].close()
        await turns()
        assert (await session.execute(SELECT, (2,))).scalar() == 2
    server.verify = lambda token: False
    with pytest.raises(cql.AuthenticationFailed):
        async with cql.connect(point, auth=AUTH, config=config):
            pass
    server.handshake = lambda asked: (
        hang_up(asked) if isinstance(asked.message, AuthResponse) else server.usual_handshake(asked)
    )
    with pytest.raises(cql.ConnectionFailed):
        async with cql.connect(point, auth=AUTH, config=config):
            pass


async def test_logs_do_not_show_it(
    caplog: pytest.LogCaptureFixture, anyio_backend_name: str
) -> None:
    """With asyncio's debug mode, which logs its calls with their arguments."""
    caplog.set_level(logging.DEBUG)
    async with serving() as server:
        if anyio_backend_name == "asyncio":
            loop = asyncio.get_running_loop()
            loop.set_debug(True)
            loop.slow_callback_duration = 0.0
            try:
                await tour(server)
            finally:
                loop.set_debug(False)
            assert "took" in caplog.text
        else:
            await tour(server)
    assert_hidden(caplog.text)
    for record in caplog.records:
        assert record.name != "cqlproto_anyio"
        assert_hidden(repr(record.args) + repr(record.__dict__))


async def test_the_test_finds_what_is_shown() -> None:
    """The check finds a local variable of a frame, which a report would show."""

    async def careless(password: str) -> Awaitable[None]:
        raise ValueError

    with pytest.raises(ValueError) as info:
        await careless(AUTH._password)  # type: ignore[arg-type]  # it is a str
    with pytest.raises(AssertionError):
        assert_hidden(all_of(info.value))
