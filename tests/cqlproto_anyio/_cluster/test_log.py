"""Log records of the control connection, which must never raise."""

from __future__ import annotations

import logging

import pytest

import cqlproto_anyio as cql
from cqlproto_anyio._cluster.log import log


@pytest.fixture(autouse=True)
def _everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "cqlproto_anyio")


def test_a_text_alone(caplog: pytest.LogCaptureFixture) -> None:
    log(logging.INFO, "100 % of the hosts")
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [
        ("INFO", "100 % of the hosts")
    ]


def test_an_error_of_the_clusters_has_the_level(caplog: pytest.LogCaptureFixture) -> None:
    log(logging.DEBUG, "no control connection", cql.RemoteProtocolError("no rows"))
    [record] = caplog.records
    assert (record.levelname, record.exc_info) == ("DEBUG", None)
    assert record.getMessage() == "no control connection: no rows"


def test_any_other_error_is_a_warning_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = ZeroDivisionError("a bug")
    log(logging.DEBUG, "the topology", error)
    [record] = caplog.records
    assert (record.levelname, record.getMessage()) == ("WARNING", "the topology")
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_a_filter_that_raises_harms_nothing() -> None:
    class Broken(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise SystemExit(3)

    logger, broken = logging.getLogger("cqlproto_anyio"), Broken()
    logger.addFilter(broken)
    try:
        for error in (None, cql.RemoteProtocolError("no rows"), ZeroDivisionError("a bug")):
            log(logging.WARNING, "text", error)
    finally:
        logger.removeFilter(broken)
