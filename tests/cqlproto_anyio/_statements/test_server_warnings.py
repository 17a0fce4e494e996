"""Server warnings are logged: the first of each kind, without values."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

import cqlproto_anyio as cql
from cqlproto.enums import ErrorCode
from cqlproto.messages import Prepare
from cqlproto_anyio._statements.server_warnings import LOGGER, MAX_KINDS, ServerWarnings
from tests.support.replies import error, ints, prepared
from tests.support.server import serving

if TYPE_CHECKING:
    from cqlproto.messages import Response
    from tests.support.server import Asked

SELECT = "SELECT v FROM t WHERE k = ?"
SECRET = "hunter2"
TOMBSTONES = "Read 0 live rows and 1001 tombstone cells for query SELECT * FROM ks.t WHERE id ="


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged since the last call."""
    records = [record for record in caplog.records if record.name == LOGGER]
    assert all(record.levelno == logging.WARNING for record in records)
    assert all(record.name.startswith("cqlproto_anyio.") for record in records)
    messages = [record.getMessage() for record in records]
    caplog.clear()
    return messages


@pytest.mark.parametrize(
    ("texts", "shown"),
    [
        (
            ["Aggregation query used without partition key"] * 2,
            "Aggregation query used without partition key",
        ),
        (
            [
                "Batch for [ks.t2] is of size 6.2KiB, exceeding specified threshold of 5.000KiB",
                "Batch for [ks.t2] is of size 7KiB,  exceeding specified threshold of 5KiB",
            ],
            "Batch for [ks.t2] is of size N exceeding specified threshold of N",
        ),
        (
            [
                f"{TOMBSTONES} '{SECRET}' AND n = 4711 LIMIT 10 (see tombstone_warn_threshold)",
                f"{TOMBSTONES.replace('1001', '4711')} {SECRET} LIMIT 10",
            ],
            "Read N live rows and N tombstone cells for query SELECT * FROM ks.t WHERE ..",
        ),
        (
            [f"x: insert into t (k) values ('{SECRET}')", f"insert into t (k) values(\n{SECRET}"],
            None,
        ),
        ([f"odd: UPDATE t SET k = {SECRET}"], "odd: UPDATE t SET .."),
        (["Provided values [ONE] are not set"], "Provided values [ONE] are not set"),
        (
            [f"the value '{SECRET}' of \"{SECRET}\"", "the value 'it''s' of \"x\"\"y\""],
            "the value '..' of \"..\"",
        ),
        ([f"cut off: '{SECRET}"], "cut off: '..'"),
        (["id 3f2504e0-4f89-41d3-9a0c-0305e82c3301 or c3301aaa-4f89-41d3-9a0c-0305e82c3301"],
         "id N or N"),
        (["blob 0xcafe at 10.0.0.1:9042, t1 v2_3"], "blob N at N t1 v2_3"),
        ([f"{'x' * 600} {SECRET}"], "x" * 500),
    ],
)  # fmt: skip
def test_a_kind_is_logged_once_and_without_values(
    texts: list[str], shown: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    warnings = ServerWarnings()
    warnings.log(texts, f"SELECT v FROM t WHERE k = '{SECRET}'", "h:1")
    messages = told(caplog)
    if shown is not None:
        (message,) = messages
        assert message.startswith(f"h:1 warns: {shown} (of SELECT v FROM t WHERE k = '..'; ")
    assert SECRET not in repr(messages)
    assert "4711" not in repr(messages)
    warnings.log(texts, "SELECT", "h:1")
    assert told(caplog) == []


def test_kinds_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    warnings = ServerWarnings()
    names = [f"{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(26 * 26)]
    warnings.log(names, "SELECT", "h:1")
    assert len(told(caplog)) == MAX_KINDS
    warnings.log(["quite new"], "SELECT", "h:1")
    assert told(caplog) == []


def test_long_texts_take_no_time() -> None:
    warnings = ServerWarnings()
    for text in ("'" * 10**6, "1." * 10**6, "set " * 10**6, "a-" * 10**6):
        warnings.log([text], "SELECT", "h:1")


def test_it_can_be_turned_off_and_a_filter_that_raises_harms_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = logging.getLogger(LOGGER)

    def broken(record: Any) -> bool:
        raise ValueError("broken")

    logger.addFilter(broken)
    try:
        ServerWarnings().log(["odd"], "SELECT", "h:1")
    finally:
        logger.removeFilter(broken)
    logger.disabled = True
    try:
        ServerWarnings().log(["odd"], "SELECT", "h:1")
    finally:
        logger.disabled = False
    assert told(caplog) == []


class Quiet(cql.Hooks):
    def request_finished(self, record: cql.RequestRecord) -> None:
        pass


@pytest.mark.parametrize("hooks", [None, Quiet()], ids=["plain", "observed"])
async def test_every_verb_tells(hooks: cql.Hooks | None, caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as server, server.session(hooks=hooks) as session:
        kind = "one"

        def answer(asked: Asked) -> Response | None:
            reply: Response = ints(1)
            if isinstance(asked.message, Prepare):
                reply = prepared(server, asked.text)
            elif kind == "error":
                reply = error(ErrorCode.INVALID)
            asked.reply(reply, warnings=[f"{kind} 12"])
            return None

        server.answer = answer
        await session.prepare(SELECT)
        assert [text[: text.index(" (")] for text in told(caplog)] == ["node:9042 warns: one N"]
        calls: dict[str, Any] = {
            "short": lambda: session.execute(SELECT, (4711,)),
            "text": lambda: session.execute("SELECT v FROM t"),
            "page": lambda: session.page(SELECT, (4711,)),
            "stream": lambda: anext(session.stream(SELECT, (4711,))),
            "batch": lambda: session.batch([("INSERT INTO t (k) VALUES (?)", (4711,))]),
        }
        for kind, call in calls.items():  # read by the server
            for _ in range(3):
                await call()
            (message,) = told(caplog)
            assert message.startswith(f"node:9042 warns: {kind} N (of ")
            assert "4711" not in message
        kind = "error"
        for query, parameters in [(SELECT, (1,)), ("SELECT v FROM t", None)]:
            with pytest.raises(cql.InvalidQuery):
                await session.execute(query, parameters)
        assert len(told(caplog)) == 1
        server.answer = lambda asked: ints(1)
        await session.execute("SELECT v FROM t")
        assert told(caplog) == []
