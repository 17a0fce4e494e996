"""Turns, calibration and latencies, which all figures depend on."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import jobs, parts, rounds
from bench.clients import base
from bench.jobs import Job, Outcome
from bench.meter import percentile, timed

ROOT = Path(__file__).parent.parent.parent


def job(client: str = "x", **more: Any) -> Job:
    return dataclasses.replace(Job(client, "read", "127.0.0.1", 1), **more)


def outcome(operations: int = 10, seconds: float = 1.0) -> Outcome:
    return Outcome(count=operations, operations=operations, seconds=seconds, cpu=0.5)


def test_clients_take_turns_cell_by_cell_and_each_is_first_once() -> None:
    ran: list[tuple[str, str]] = []

    def run(each: Job) -> Outcome:
        ran.append((each.client, each.work))
        return outcome()

    cells = [[job(client, work=work) for client in "abc"] for work in ("read", "write")]
    samples = rounds.interleaved(cells, 3, run, lambda each, text: pytest.fail(text))
    assert [work for _, work in ran] == (["read"] * 3 + ["write"] * 3) * 3
    assert {client for client, _ in ran[::3]} == set("abc")
    first = collections.Counter(client for client, work in ran[::3] if work == "read")
    assert first == {"a": 1, "b": 1, "c": 1}
    assert [(each.client, each.work, len(each.outcomes)) for each in samples] == [
        (client, work, 3) for work in ("read", "write") for client in "abc"
    ]


def test_later_rounds_do_as_many_operations_as_the_first() -> None:
    asked: list[int] = []

    def run(each: Job) -> Outcome:
        asked.append(each.operations)
        return outcome(each.operations or 123)

    rounds.interleaved([[job()]], 3, run, lambda each, text: pytest.fail(text))
    assert asked == [0, 123, 123]


def test_failure_leaves_a_cell_out_and_three_leave_the_client_out() -> None:
    told: list[str] = []
    ran: list[int] = []

    def run(each: Job) -> Outcome:
        if each.client == "bad":
            ran.append(each.in_flight)
            raise rounds.WorkerFailed("no")
        return outcome()

    cells = [[job(client, in_flight=n) for client in ("bad", "good")] for n in (1, 2, 3, 4)]
    samples = rounds.interleaved(cells, 2, run, lambda each, text: told.append(text))
    assert {each.client for each in samples} == {"good"}
    assert len(samples) == 4
    assert ran == [1, 2, 3]
    assert told == ["no"] * 3


def test_slow_job_has_one_round() -> None:
    samples = rounds.interleaved(
        [[job("slow"), job("fast")]],
        3,
        lambda each: outcome(seconds=9.0 if each.client == "slow" else 1.0),
        lambda each, text: pytest.fail(text),
        5.0,
    )
    assert [(each.client, len(each.outcomes)) for each in samples] == [("slow", 1), ("fast", 3)]


def test_sample_keeps_every_value_and_percentiles_only_if_all_have_them() -> None:
    sample = rounds.Sample("x", "read", 1, [outcome(10), outcome(20, 3.0)])
    for each in sample.outcomes:
        each.p50 = 1.23456
    sample.outcomes[0].p99 = 5.0
    found = sample.to_json()
    assert found["rate"] == [10, 6.667]
    assert found["cpu_us"] == [50000, 25000]
    assert found["p50_us"] == [1.235, 1.235]
    assert "p99_us" not in found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ""),
        ("Traceback\n  line\nValueError: no", "ValueError: no"),
        ("a.b.SomeError: first line\nsecond line\n   8: tokio::poll", "a.b.SomeError: first line"),
        ("nothing known\nlast", "last"),
    ],
)
def test_what_a_process_said_last(text: str, said: str) -> None:
    assert rounds.said(text) == said


def test_worker_that_fails_says_why() -> None:
    with pytest.raises(rounds.WorkerFailed, match="KeyError: 'unheard-of'"):
        rounds.measure(job("unheard-of"))


def test_scylla_driver_comes_first_on_its_own_path() -> None:
    assert rounds.environment("scylla-driver")["PYTHONPATH"].startswith(str(rounds.SCYLLA_DRIVER))
    assert str(rounds.SCYLLA_DRIVER) not in rounds.environment("cassandra-driver")["PYTHONPATH"]


def test_clients_not_installed_are_told_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(parts.NEEDS, "trio", "no_such_module")
    told: list[str] = []
    context = parts.Context(1, True, 0.1, 1, ("cqlproto/*",), lambda text: None, told.append)
    found = context.present(["cqlproto/asyncio", "cqlproto/trio", "acsylla"])
    assert found == ["cqlproto/asyncio"]
    assert told == ["trio is not installed: left out"]


@settings(max_examples=20)
@given(st.integers(0, 50_000), st.sampled_from(["read", "write", "mixed"]), st.booleans())
def test_keys_are_counted_among_the_cycled_requests(
    count: int, work: jobs.Work, one_key: bool
) -> None:
    each = job(work=work, one_key=one_key and work != "mixed")
    values = base.cycled(jobs.shaped(each, list), count)
    assert jobs.keys_among(each, count) == sum(len(value) == 1 for value in values)


def test_mixed_work_is_half_writes() -> None:
    share = statistics.mean(len(each) == 1 for each in jobs.requests(job(work="mixed")))
    assert share == pytest.approx(0.5, abs=0.02)


def test_requests_are_the_same_each_time() -> None:
    assert jobs.requests(job(work="mixed")) == jobs.requests(job("y", work="mixed"))
    assert jobs.as_dict(("k",)) == {"id": "k"}
    assert list(jobs.as_dict(jobs.item(1))) == list(jobs.NAMES)


@given(st.floats(1, 1e6), st.sampled_from([1, 16, 128, 1024]))
def test_operations_fit_the_time(rate: float, in_flight: int) -> None:
    count = base.operations(job(in_flight=in_flight, seconds=0.5), rate)
    assert count >= 2
    assert count <= max(2, rate * 1.2)
    assert count >= min(int(rate * 0.5), 8 * in_flight)


def test_calibration_warms_up_until_it_knows() -> None:
    ran: list[int] = []

    async def run(count: int) -> None:
        ran.append(count)
        time.sleep(count * 1e-5)  # noqa: ASYNC251  # the clock is what is under test

    coroutine = base.calibrated(run, job(in_flight=16, seconds=0.3))
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    assert ran[0] == base.LEAST_WARM_UP
    assert ran == sorted(ran)
    assert stopped.value.value == pytest.approx(30_000, rel=0.9)


def test_latency_is_from_the_values_to_the_next_request() -> None:
    latencies: list[float] = []
    for value in timed(range(3), latencies):
        time.sleep(0.002 if value == 1 else 0)
    assert len(latencies) == 3
    assert latencies[1] >= 0.002


def test_percentiles_need_a_request_beyond_them() -> None:
    values = [each / 1e6 for each in range(1000)]
    assert percentile(values, 0.5) == pytest.approx(500)
    assert percentile(values, 0.99) == pytest.approx(990)
    assert percentile(values, 0.999) == pytest.approx(999)
    assert percentile(values[:999], 0.999) is None
    assert percentile(values[:99], 0.99) is None


MEASURE_50_MB = """
from bench.meter import Meter
meter = Meter()
meter.start()
held = bytearray(b"x") * 50_000_000
meter.stop(7)
print(meter.outcome.to_json())
"""


def test_meter_knows_its_peak_of_memory() -> None:
    """In a process of its own, as workers are: the peak of this one may lie before the test."""
    ran = subprocess.run(
        [sys.executable, "-c", MEASURE_50_MB], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = Outcome.from_json(ran.stdout)
    assert found.memory_peak - found.memory_before > 40_000_000
    assert (found.count, found.operations) == (7, 7)
    assert found.seconds > 0
    assert Outcome.from_json(found.to_json()) == found


def test_wrong_rows_of_a_scan_are_found() -> None:
    rows = list(jobs.items())
    base.check_scan(list(reversed(rows)), tuple)
    with pytest.raises(jobs.WrongResult):
        base.check_scan(rows[:-1], tuple)
    wrong = [*itertools.islice(rows, len(rows) - 1), (*rows[-1][:4], None)]
    with pytest.raises(jobs.WrongResult):
        base.check_scan(wrong, tuple)
