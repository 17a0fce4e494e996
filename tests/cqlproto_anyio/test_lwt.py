"""Settling an ambiguous LWT with a scripted session; tests/cassandra settles on a real node behind
a proxy that drops replies.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto.enums import ErrorCode
from cqlproto_anyio import lwt as settling
from cqlproto_anyio.lwt import settle
from tests.support.replies import echo
from tests.support.server import serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqlproto.messages import Response
    from tests.support.server import Asked

SELECT = "SELECT holder FROM locks WHERE name = ?"
CAS = "INSERT INTO locks (name, holder) VALUES (?, ?) IF NOT EXISTS"
SERIAL, LOCAL_SERIAL = cql.Consistency.SERIAL, cql.Consistency.LOCAL_SERIAL


def database_error(code: int, query: str | None = CAS, **details: Any) -> cql.DatabaseError:
    kind = next(each for each in cql.DatabaseError.__subclasses__() if code in each.codes)
    error = kind(code, "as told", details, host="h", query=query)
    error.maybe_applied = True
    return error


def cas_timeout(level: cql.Consistency = SERIAL) -> cql.DatabaseError:
    return database_error(
        ErrorCode.WRITE_TIMEOUT, consistency=level, received=1, required=2, write_type="CAS"
    )


def lost(maybe_applied: bool = True) -> cql.ConnectionLost:
    error = cql.ConnectionLost("gone", host="h", stage="request", elapsed=1.0)
    error.maybe_applied = maybe_applied
    return error


def timed_out() -> cql.RequestTimeout:
    error = cql.RequestTimeout("no answer")
    error.timeout = 10.0
    error.maybe_applied = True
    return error


class Scripted:
    """A session whose reads return the given answers in turn, the last one forever: a row, None, a
    list of rows, or an exception that is raised.
    """

    def __init__(self, *answers: Any, profile: cql.Profile | None = None) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []
        if profile is not None:
            self.profile = profile

    async def execute(self, query: Any, parameters: Any, /, **options: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        self.asked.append({"query": query, "parameters": parameters, **options})
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            answer = await answer()
        rows = answer if isinstance(answer, list) else [] if answer is None else [answer]
        return SimpleNamespace(rows=rows)


ME, OTHER = SimpleNamespace(holder=1), SimpleNamespace(holder=2)


def mine(row: Any) -> bool:
    return row is not None and row.holder == 1


async def settled(session: Any, error: Any, **options: Any) -> bool:
    return await settle(session, error, SELECT, ("a",), **{"applied": mine, **options})


# -- which read decides


@pytest.mark.parametrize(("row", "verdict"), [(ME, True), (OTHER, False), (None, False)])
@pytest.mark.parametrize(
    "error",
    [
        cas_timeout(),
        database_error(ErrorCode.CAS_WRITE_UNKNOWN, consistency=SERIAL, received=1, required=2),
        database_error(ErrorCode.SERVER_ERROR),
        database_error(ErrorCode.WRITE_TIMEOUT, consistency=cql.Consistency.QUORUM),
    ],
    ids=lambda each: type(each).__name__,
)
async def test_the_coordinator_has_given_up_and_one_reading_decides(
    row: Any, verdict: bool, error: cql.CQLError
) -> None:
    session = Scripted(row)
    assert await settled(session, error) is verdict
    assert len(session.asked) == 1
    asked = session.asked[0]
    assert (asked["query"], asked["parameters"]) == (SELECT, ("a",))
    assert asked["idempotent"] is True
    assert asked["consistency"] is SERIAL


@pytest.mark.parametrize("make", [lost, timed_out])
async def test_without_an_answer_a_no_is_believed_after_the_grace(
    make: Callable[[], cql.CQLError],
) -> None:
    session = Scripted(None)
    started = anyio.current_time()
    assert await settled(session, make(), grace=0.2) is False
    # The last pause begins within the grace. Its length is random: a second at most.
    assert 0.2 <= anyio.current_time() - started <= 1.2
    assert len(session.asked) >= 2


async def test_without_an_answer_a_yes_is_believed_at_once() -> None:
    session = Scripted(ME)
    started = anyio.current_time()
    assert await settled(session, lost()) is True
    assert anyio.current_time() == started
    assert len(session.asked) == 1


async def test_what_is_applied_during_the_grace_is_found() -> None:
    session = Scripted(None, None, ME)
    assert await settled(session, lost(), grace=10.0) is True
    assert len(session.asked) == 3


async def test_no_grace_believes_the_first_reading() -> None:
    session = Scripted(None, ME)
    assert await settled(session, lost(), grace=0) is False
    assert len(session.asked) == 1


async def test_the_reading_that_decides_began_after_the_grace() -> None:
    """A read that began earlier and is slow may miss a write that came since."""

    async def slow() -> None:
        await anyio.sleep(0.2)

    session = Scripted(slow, ME)
    assert await settled(session, lost(), grace=0.1) is True


def refusals() -> list[cql.CQLError]:
    invalid = database_error(ErrorCode.INVALID)
    invalid.maybe_applied = False
    return [invalid, lost(maybe_applied=False), cql.ParameterError("no"), cql.Overloaded("full")]


@pytest.mark.parametrize("error", refusals(), ids=lambda each: type(each).__name__)
async def test_what_was_not_done_needs_no_reading(error: cql.CQLError) -> None:
    session = Scripted(ME)
    assert await settled(session, error) is False
    assert session.asked == []


async def test_too_few_replicas() -> None:
    """For the commit the error says so itself: the proposal may be accepted."""
    error = database_error(ErrorCode.UNAVAILABLE, consistency=cql.Consistency.TWO)
    assert await settled(Scripted(ME), error) is True
    error = database_error(ErrorCode.UNAVAILABLE, consistency=SERIAL)
    error.maybe_applied = False
    assert await settled(Scripted(error), error) is False


# -- the consistency level


@pytest.mark.parametrize(
    ("error", "profile", "options", "expected"),
    [
        (lost(), None, {}, SERIAL),
        (lost(), cql.Profile(), {}, SERIAL),
        (lost(), cql.Profile(serial_consistency=LOCAL_SERIAL), {}, LOCAL_SERIAL),
        (lost(), None, {"serial_consistency": LOCAL_SERIAL}, LOCAL_SERIAL),
        (
            lost(),
            cql.Profile(serial_consistency=LOCAL_SERIAL),
            {"serial_consistency": SERIAL},
            SERIAL,
        ),
        (lost(), None, {"profile": cql.Profile(serial_consistency=LOCAL_SERIAL)}, LOCAL_SERIAL),
        (lost(), None, {"consistency": cql.Consistency.QUORUM}, SERIAL),
        (lost(), None, {"consistency": LOCAL_SERIAL}, LOCAL_SERIAL),
        (cas_timeout(LOCAL_SERIAL), None, {}, LOCAL_SERIAL),
        (cas_timeout(LOCAL_SERIAL), None, {"serial_consistency": SERIAL}, LOCAL_SERIAL),
        (cas_timeout(cql.Consistency.QUORUM), None, {}, SERIAL),
    ],
)
async def test_the_reading_has_the_level_of_the_paxos_round(
    error: cql.CQLError,
    profile: cql.Profile | None,
    options: dict[str, Any],
    expected: cql.Consistency,
) -> None:
    session = Scripted(ME, profile=profile)
    assert await settled(session, error, **options)
    assert session.asked[0]["consistency"] is expected
    assert "serial_consistency" not in session.asked[0]


async def test_options_go_with_the_reading() -> None:
    session = Scripted(ME)
    await settled(session, lost(), keyspace="shop", row=dict, idempotent=False, timeout=6.0)
    assert session.asked[0] == {
        "query": SELECT,
        "parameters": ("a",),
        "keyspace": "shop",
        "row": dict,
        "idempotent": True,
        "consistency": SERIAL,
        "timeout": 2.0,
    }
    await settled(session, lost(), timeout=None)
    assert "timeout" not in session.asked[1] or session.asked[1]["timeout"] is None


# -- reads that fail


PASSING = [
    lost(False),
    timed_out(),
    cql.Overloaded("full"),
    cql.NoHostAvailable([]),
    *map(
        database_error,
        [
            ErrorCode.UNAVAILABLE,
            ErrorCode.OVERLOADED,
            ErrorCode.IS_BOOTSTRAPPING,
            ErrorCode.READ_TIMEOUT,
            ErrorCode.READ_FAILURE,
            ErrorCode.SERVER_ERROR,
            ErrorCode.CAS_WRITE_UNKNOWN,
        ],
    ),
]


@pytest.mark.parametrize("failure", PASSING, ids=lambda each: type(each).__name__)
async def test_a_reading_that_fails_is_repeated(failure: cql.CQLError) -> None:
    session = Scripted(failure, failure, ME)
    assert await settled(session, cas_timeout()) is True
    assert len(session.asked) == 3


async def test_when_no_reading_succeeds_the_error_is_what_it_was() -> None:
    error = cas_timeout()
    failure = database_error(ErrorCode.READ_TIMEOUT, query=SELECT)
    session = Scripted(failure)
    with pytest.raises(cql.WriteTimeout) as info:
        await settled(session, error, timeout=0.2)
    assert info.value is error
    assert error.maybe_applied
    assert error.__cause__ is failure
    assert "ReadTimeout: as told" in error.__notes__[0]
    assert len(session.asked) >= 2


async def test_when_readings_hang_the_time_is_bounded() -> None:
    error = lost()
    error.__cause__ = cause = OSError("reset")
    session = Scripted(anyio.sleep_forever)
    started = anyio.current_time()
    with pytest.raises(cql.ConnectionLost) as info:
        await settled(session, error, timeout=0.1, grace=0.1)
    assert anyio.current_time() - started == pytest.approx(0.2)
    assert info.value is error
    assert error.__cause__ is cause
    assert "no answer came" in error.__notes__[0]


async def test_a_mistake_in_the_reading_arrives() -> None:
    mistake = database_error(ErrorCode.INVALID, query=SELECT)
    with pytest.raises(cql.InvalidQuery) as info:
        await settled(Scripted(mistake), cas_timeout())
    assert info.value is mistake
    with pytest.raises(cql.SessionClosed):
        await settled(Scripted(cql.SessionClosed("closed")), cas_timeout())


async def test_several_rows_tell_nothing() -> None:
    with pytest.raises(cql.MultipleRows, match="at most, got 2"):
        await settled(Scripted([ME, OTHER]), cas_timeout())


async def test_what_the_judge_raises_arrives() -> None:
    with pytest.raises(AttributeError):
        await settled(Scripted(None), cas_timeout(), applied=lambda row: row.holder == 1)


async def test_cancelling_ends_it() -> None:
    with anyio.move_on_after(0.05) as scope:
        await settled(Scripted(None), lost(), grace=60.0)
    assert scope.cancelled_caught


# -- wrong arguments, refused even if the error is not ambiguous


@pytest.mark.parametrize("ambiguous", [True, False])
async def test_mistakes(ambiguous: bool) -> None:
    error = cas_timeout()
    error.maybe_applied = ambiguous
    session: Any = Scripted(ME)

    async def coroutine(row: Any) -> bool:
        return True

    with pytest.raises(TypeError, match="a ValueError, not a CQLError"):
        await settled(session, ValueError())
    for judge in (coroutine, None):
        with pytest.raises(TypeError, match="must be a synchronous callable"):
            await settled(session, error, applied=judge)
    for grace in (-1, "1", None, True, float("nan")):
        with pytest.raises(cql.ConfigError, match="grace must be a number of seconds"):
            await settled(session, error, grace=grace)
    wrong: Any = 3
    with pytest.raises(TypeError, match="a query is a str"):
        await settle(session, error, wrong, applied=mine)
    with pytest.raises(cql.UsageError, match="must be the SELECT"):
        await settle(session, error, CAS, ("a", 1), applied=mine)
    plain = database_error(ErrorCode.WRITE_TIMEOUT, "UPDATE t SET v = 1 WHERE id = 1")
    plain.maybe_applied = ambiguous
    with pytest.raises(cql.UsageError, match="whether a UPDATE without one was applied"):
        await settled(session, plain)
    assert session.asked == []


async def test_a_judge_whose_answer_would_have_to_be_awaited() -> None:
    async def judge(row: Any) -> bool:
        return False

    with pytest.raises(TypeError, match="got an awaitable"):
        await settled(Scripted(ME), cas_timeout(), applied=lambda row: judge(row))


@pytest.mark.parametrize("text", [None, "", "BEGIN LOGGED BATCH of 3", f"BEGIN BATCH {CAS}"])
async def test_what_may_have_been_conditional_is_settled(text: str | None) -> None:
    assert await settled(Scripted(ME), database_error(ErrorCode.WRITE_TIMEOUT, text)) is True


@given(st.lists(st.sampled_from(PASSING), max_size=4), st.booleans())
def test_yes_if_and_only_if_a_reading_finds_the_mark(failures: list[Any], found: bool) -> None:
    """Failed reads before the deciding one change nothing."""
    session = Scripted(*failures, ME if found else OTHER)

    async def run() -> None:
        assert await settled(session, cas_timeout()) is found

    with mock.patch.object(settling, "_FIRST_PAUSE", 0.0001):
        anyio.run(run)
    assert len(session.asked) == len(failures) + 1


# -- with a session


async def test_a_session_and_what_it_prepared() -> None:
    async with serving() as server:
        echoed = echo(server)

        def answer(asked: Asked) -> Response | None:
            if asked.text.startswith("INSERT") and asked.values:
                asked.peer.close()
                return None
            return echoed(asked)

        server.answer = answer
        async with server.session() as session:
            prepared: cql.Prepared[dict[str, Any]] = await session.prepare(
                "SELECT v FROM t WHERE id = ?", row=dict
            )
            with pytest.raises(cql.ConnectionLost) as info:
                await session.execute("INSERT INTO t (id, v) VALUES (?, ?) IF NOT EXISTS", (7, 7))
            assert info.value.maybe_applied
            found = await settle(
                session, info.value, prepared, (7,), applied=lambda row: row == {"v": 7}
            )
            assert found is True
            assert (
                await settle(
                    session, info.value, prepared, (8,), applied=lambda row: row is None, grace=0
                )
                is False
            )
            assert server.seen[-1].message.parameters.consistency is SERIAL  # type: ignore[union-attr]  # it has parameters
