"""When the control connection reads the tables again and when it sends a heartbeat."""

from __future__ import annotations

import math

from cqlproto_anyio._cluster.refresh_schedule import RefreshSchedule


def schedule() -> RefreshSchedule:
    return RefreshSchedule(
        quiet=1.0,
        most=5.0,
        soon=10.0,
        refresh_interval=100.0,
        heartbeat_interval=30.0,
        fraction=lambda: 0.5,
    )


def test_nothing_is_due_at_first() -> None:
    made = schedule()
    assert made.next == math.inf
    assert not made.take_refresh(1e9)
    assert not made.is_heartbeat_due(1e9)


def test_an_event_about_hosts_is_debounced() -> None:
    made = schedule()
    made.hosts.ask(0.0)
    assert made.next == 1.0
    assert not made.take_refresh(0.9)
    assert made.take_refresh(1.0)
    assert made.next == 1.0 + 112.5


def test_a_refresh_without_events_waits_longer_at_random() -> None:
    made = schedule()
    made.everything_read(0.0)
    assert made.next == 112.5
    assert not made.take_refresh(112.4)
    assert made.take_refresh(112.5)
    assert made.next == 225.0


def test_another_node_drops_what_was_due() -> None:
    made = schedule()
    made.hosts.ask(0.0)
    made.keyspaces.ask(0.0)
    made.everything_read(0.5)
    assert made.next == 113.0


def test_rows_with_errors_are_read_again_after_twice_as_long() -> None:
    made = schedule()
    made.everything_read(0.0)
    delays = []
    for new in (True, False, False, False, False, True):
        made.read_again(0.0, new=new)
        delays.append(made.next)
        made.everything_read(0.0)
    assert delays == [10.0, 20.0, 40.0, 80.0, 100.0, 10.0]


def test_rows_with_errors_do_not_delay_a_refresh() -> None:
    made = schedule()
    made.everything_read(0.0)
    made.read_again(110.0, new=True)
    assert made.next == 112.5


def test_a_heartbeat_is_due_after_an_interval_of_silence() -> None:
    made = schedule()
    made.postpone_heartbeat(5.0)
    assert made.next == 35.0
    assert not made.is_heartbeat_due(34.0)
    assert made.is_heartbeat_due(35.0)
    made.postpone_heartbeat(35.0)
    assert not made.is_heartbeat_due(35.0)
