"""The package: its names, loaded on first use, and its errors."""

from __future__ import annotations

import pickle
import subprocess
import sys
from uuid import uuid4

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto_anyio import patterns
from tests.support.replies import echo
from tests.support.server import serving


def test_every_name_is_there() -> None:
    assert list(patterns.__all__) == sorted(patterns.__all__)
    assert set(patterns.__all__) == set(patterns._LATER)
    assert dir(patterns) == patterns.__all__
    for name in patterns.__all__:
        assert getattr(patterns, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = patterns.Nothing


def test_nothing_is_loaded_before_it_is_used() -> None:
    program = (
        "import sys, cqlproto_anyio\n"
        "def loaded(): return sorted(m for m in sys.modules if 'anyio.patterns' in m)\n"
        "assert loaded() == [], loaded()\n"
        "from cqlproto_anyio import patterns\n"
        "assert loaded() == ['cqlproto_anyio.patterns'], loaded()\n"
        "assert patterns.PatternError\n"
        "assert loaded() == ['cqlproto_anyio.patterns', 'cqlproto_anyio.patterns._errors']\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_errors_are_in_one_tree() -> None:
    errors = [getattr(patterns, name) for name in patterns.__all__]
    errors = [each for each in errors if isinstance(each, type) and issubclass(each, Exception)]
    assert len(errors) >= 9
    for each in errors:
        assert issubclass(each, patterns.PatternError)
        assert issubclass(each, cql.CQLError)


def test_errors_have_what_a_program_decides_by() -> None:
    error = patterns.ConcurrencyError("order-7", 3, 5)
    assert (error.stream, error.expected, error.actual) == ("order-7", 3, 5)
    assert str(error) == "stream 'order-7' is at version 5, expected 3"
    timeout = patterns.LockTimeout("nightly", 1.5, "host-1")
    assert (timeout.name, timeout.waited, timeout.holder) == ("nightly", 1.5, "host-1")
    assert isinstance(timeout, TimeoutError)
    assert str(timeout) == "lock 'nightly' was not free for 1.500 s; its holder: host-1"
    ids = (uuid4(),)
    assert patterns.DuplicateEvent("s", ids).ids == ids
    unknown = patterns.OutcomeUnknown("append", ids[0], "no read")
    assert unknown.operation == ids[0]
    assert pickle.loads(pickle.dumps(unknown)).operation == ids[0]


async def test_a_statement_is_prepared_once_for_a_hundred_tasks() -> None:
    """Recipes pass texts, which a session prepares once, also for tasks that arrive together."""
    async with serving() as server:
        server.answer = echo(server)
        async with server.session() as session, anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(session.execute, "SELECT v FROM t WHERE id = ?", (number,))
    opcodes = [type(asked.message).__name__ for asked in server.seen]
    assert opcodes.count("Prepare") == 1
    assert opcodes.count("Execute") == 100
