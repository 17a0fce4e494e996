"""Logging and describing errors of user code."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import anyio

from cqlproto_anyio._checks.callables import Report, contains, described, throwable
from cqlproto_anyio._eventloop.auto import current_backend

if TYPE_CHECKING:
    import pytest


def test_failures_are_logged_at_growing_distances(caplog: pytest.LogCaptureFixture) -> None:
    report = Report("the policy")
    for _ in range(20):
        report(LookupError("as told"))
    assert [record.args and record.args[-1] for record in caplog.records] == [1, 2, 4, 8, 16]  # type: ignore[index]  # args is a tuple
    assert all(record.name == "cqlproto_anyio" for record in caplog.records)
    assert "LookupError: as told" in caplog.text


def test_logging_that_raises_breaks_nothing() -> None:
    class Filter(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise SystemExit

    logger, broken = logging.getLogger("cqlproto_anyio"), Filter()
    logger.addFilter(broken)
    try:
        Report("the policy")(LookupError())
    finally:
        logger.removeFilter(broken)


def test_errors_are_described() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise LookupError

    assert described(ValueError("as told")) == "ValueError: as told"
    assert described(SystemExit()) == "SystemExit"
    assert described(Mute()) == "Mute"

    class Deadly(BaseException):
        def __str__(self) -> str:
            raise SystemExit

    assert described(Deadly()) == "Deadly"


def test_what_a_coroutine_cannot_be_thrown_is_wrapped() -> None:
    error = ValueError()
    assert throwable(error) is error
    for unseen in (GeneratorExit(), StopIteration(), StopAsyncIteration()):
        assert type(throwable(unseen)) is RuntimeError
        assert throwable(unseen).__cause__ is unseen


def test_groups_contain_what_is_in_them() -> None:
    group = BaseExceptionGroup("", [ValueError(), BaseExceptionGroup("", [SystemExit()])])
    assert contains(group, SystemExit)
    assert not contains(group, KeyboardInterrupt)
    assert contains(ValueError(), Exception)


async def test_a_cancellation_that_nobody_asked_for_is_none() -> None:
    backend = current_backend()
    for error in (asyncio.CancelledError(), GeneratorExit(), ValueError()):
        assert not backend.is_cancellation(error)


async def test_a_cancellation_is_told_by_the_scope() -> None:
    backend = current_backend()
    seen: list[bool] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.sleep_forever()
        except BaseException as exc:
            seen.append(backend.is_cancellation(exc))
            seen.append(backend.is_cancellation(BaseExceptionGroup("", [exc])))
            seen.append(backend.is_cancellation(ValueError()))
            kept = exc
            raise
    assert seen == [True, True, False]
    assert not backend.is_cancellation(kept)  # somebody keeps the exception and raises it again
