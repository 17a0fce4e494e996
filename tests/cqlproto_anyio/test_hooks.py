"""Hooks: which are called, what they cost if not overridden, and what happens if they raise."""

from __future__ import annotations

import logging
import subprocess
import sys
from asyncio import CancelledError
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion
from cqlproto_anyio.hooks import (
    HOOKS,
    ConnectionRecord,
    ControlRecord,
    Hooks,
    HostRecord,
    RequestRecord,
    active,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NODE = cql.Endpoint("10.0.0.1")
RECORDS: dict[str, Any] = {
    "request_finished": RequestRecord(
        "execute", "SELECT 1", "shop", cql.Consistency.ONE, "10.0.0.1:9042", 0.5, rows=3
    ),
    **dict.fromkeys(
        ("host_added", "host_removed", "host_up", "host_down"),
        HostRecord(NODE, UUID(int=1), "", ""),
    ),
    **dict.fromkeys(
        ("connection_opened", "connection_lost"), ConnectionRecord(NODE, ProtocolVersion.V5, 0.1)
    ),
    "control_moved": ControlRecord(NODE),
    "clock_drifted": cql.ClockRecord(0.5, True),
}


def listener(names: Iterable[str], told: Callable[[str, Any], object]) -> Hooks:
    """Return hooks that override these methods only."""

    def method(name: str) -> Callable[[Hooks, Any], None]:
        def hook(self: Hooks, record: Any) -> None:
            told(name, record)

        return hook

    hooks: Hooks = type("Some", (Hooks,), {name: method(name) for name in names})()
    return hooks


@given(st.lists(st.sets(st.sampled_from(HOOKS)), max_size=4))
def test_just_what_is_overridden_is_called_in_order(overridden: list[set[str]]) -> None:
    told: list[tuple[int, str, Any]] = []

    def teller(number: int) -> Callable[[str, Any], object]:
        return lambda name, record: told.append((number, name, record))

    result = active([listener(names, teller(number)) for number, names in enumerate(overridden)])
    for name in HOOKS:
        function = getattr(result, name)
        numbers = [number for number, names in enumerate(overridden) if name in names]
        assert (function is None) == (not numbers)
        if function is not None:
            told.clear()
            function(RECORDS[name])
            assert told == [(number, name, RECORDS[name]) for number in numbers]


def test_every_hook_has_a_record_of_the_tests() -> None:
    assert set(RECORDS) == set(HOOKS)


def test_nobody_listens() -> None:
    for nobody in (None, (), [], Hooks(), [Hooks(), Hooks()]):
        result = active(nobody)
        assert [getattr(result, name) for name in HOOKS] == [None] * len(HOOKS)


@pytest.mark.parametrize("name", HOOKS)
def test_the_base_class_does_nothing(name: str) -> None:
    assert getattr(Hooks(), name)(RECORDS[name]) is None


def test_a_function_of_the_instance_counts() -> None:
    told: list[RequestRecord] = []
    hooks = Hooks()
    hooks.request_finished = told.append  # type: ignore[assignment, method-assign]  # on the instance
    result = active(hooks)
    assert result.host_up is None
    assert result.request_finished is not None
    result.request_finished(RECORDS["request_finished"])
    assert told == [RECORDS["request_finished"]]


def test_what_a_subclass_calls_of_the_base_is_no_override() -> None:
    class Base(Hooks):
        def host_up(self, record: HostRecord) -> None:
            raise NotImplementedError

    class Derived(Base):
        pass

    assert active(Derived()).host_up is not None
    assert active(Derived()).host_down is None


def test_an_iterable_listener_is_one_listener() -> None:
    class Collected(Hooks, list[Any]):
        def control_moved(self, record: ControlRecord) -> None:
            self.append(record)

    hooks = Collected()
    tell = active(hooks).control_moved
    assert tell is not None
    tell(RECORDS["control_moved"])
    assert hooks == [RECORDS["control_moved"]]


@pytest.mark.parametrize("wrong", [object(), 3, [Hooks(), None], Hooks, print])
def test_what_is_no_hooks_is_refused(wrong: Any) -> None:
    with pytest.raises(cql.ConfigError, match="hooks must be Hooks objects"):
        active(wrong)


def test_a_coroutine_function_is_refused() -> None:
    class Async(Hooks):
        async def request_finished(self, record: RequestRecord) -> None:  # type: ignore[override]  # the mistake under test
            pytest.fail("called")

    with pytest.raises(cql.ConfigError, match=r"Async\.request_finished is a coroutine function"):
        active(Async())


def test_what_cannot_be_called_is_refused() -> None:
    class Wrong(Hooks):
        host_up = "no"  # type: ignore[assignment]  # the mistake under test

    with pytest.raises(cql.ConfigError, match=r"Wrong\.host_up must be a function"):
        active(Wrong())


# -- hooks that raise


def test_one_that_raises_is_logged_and_the_others_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[Any] = []

    class Broken(Hooks):
        def host_down(self, record: HostRecord) -> None:
            raise LookupError("no such metric")

    class Sound(Hooks):
        def host_down(self, record: HostRecord) -> None:
            told.append(record)

    tell = active([Broken(), Sound(), Broken()]).host_down
    assert tell is not None
    tell(RECORDS["host_down"])
    assert told == [RECORDS["host_down"]]
    assert len(caplog.records) == 2
    for entry in caplog.records:
        assert entry.name == "cqlproto_anyio"
        assert entry.levelno == logging.ERROR
        assert "Broken.host_down raised, 1 times" in entry.getMessage()
        assert entry.exc_info is not None
        assert isinstance(entry.exc_info[1], LookupError)


def test_one_that_always_raises_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def fail(name: str, record: Any) -> None:
        raise ValueError(name)

    tell = active(listener(["request_finished"], fail)).request_finished
    assert tell is not None
    for _ in range(1000):
        tell(RECORDS["request_finished"])
    assert [entry.args and entry.args[-1] for entry in caplog.records] == [  # type: ignore[index]  # args is a tuple
        1 << power for power in range(10)
    ]


def test_logging_that_raises_breaks_nothing() -> None:
    def fail(name: str, record: Any) -> None:
        raise ValueError(name)

    class Filter(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise RuntimeError("a broken filter")

    logger = logging.getLogger("cqlproto_anyio")
    broken = Filter()
    logger.addFilter(broken)
    try:
        tell = active(listener(["host_up"], fail)).host_up
        assert tell is not None
        tell(RECORDS["host_up"])
    finally:
        logger.removeFilter(broken)


@pytest.mark.parametrize("name", HOOKS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, CancelledError, GeneratorExit])
def test_what_ends_the_program_ends_the_callers_task_alone(
    name: str, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """A hook that is called in a task of the session must not end the task."""

    def fail(name: str, record: Any) -> None:
        raise error

    tell = getattr(active(listener([name], fail)), name)
    if name == "request_finished" and error in (KeyboardInterrupt, SystemExit):
        with pytest.raises(error):
            tell(RECORDS[name])
        assert not caplog.records
    else:
        tell(RECORDS[name])
        assert f"Some.{name} raised, 1 times" in caplog.text


def test_logging_is_loaded_by_the_first_failure_alone() -> None:
    script = """
import sys
from cqlproto_anyio.hooks import Hooks, active
class Fine(Hooks):
    def host_up(self, record): pass
class Broken(Hooks):
    def host_up(self, record): raise ValueError
for name in [each for each in sys.modules if each.startswith('logging')]:
    del sys.modules[name]  # anyio may have loaded it
active(Fine()).host_up(None)
assert 'logging' not in sys.modules
active(Broken()).host_up(None)
assert 'logging' in sys.modules
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


# -- records


@pytest.mark.parametrize(
    "name", ["request_finished", "host_up", "connection_lost", "control_moved"]
)
def test_records_are_slots_and_show_themselves(name: str) -> None:
    record = RECORDS[name]
    assert not hasattr(record, "__dict__")
    shown = repr(record)
    assert shown.startswith(type(record).__name__ + "(")
    for slot in type(record).__slots__:
        assert f"{slot}={getattr(record, slot)!r}" in shown
