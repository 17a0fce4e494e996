"""The fuzz targets, without Atheris, on known regressions and on seeds with a few mutations.

Each target must also find a fault that the test plants in the library.
"""

from __future__ import annotations

import importlib.util
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cqlproto.connection.client
import cqlproto.cqltypes.model
import cqlproto.messages.events
import cqlproto.messages.requests
import fuzz.__main__
import fuzz.runner
from cqlproto import ClientConnection, ProtocolVersion, RemoteProtocolError, ServerConnection
from cqlproto.compression import compressor
from cqlproto.enums import Opcode
from cqlproto.frames import FrameReader, write_frame
from cqlproto.messages import Options
from cqlproto.segments import SegmentReader, write_segment
from cqlproto_anyio.results import PageToken
from fuzz.__main__ import main
from fuzz.checks import Finding
from fuzz.repair import repair_frames, repair_segments
from fuzz.runner import Outcome, read_log, run_all, table
from fuzz.targets import TARGETS, Target, connections, framing, rows, texts, types
from fuzz.targets.connections import busy_client
from fuzz.targets.messages import REQUESTS, RESPONSES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqlproto.rows import Binder

ROOT = Path(__file__).parent.parent
REGRESSIONS = sorted((ROOT / "fuzz" / "regressions").glob("*/*.bin"))
MUTATIONS = 3
"""The number of mutations for each seed."""


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_was_found_before_is_mended(path: Path) -> None:
    TARGETS[path.parent.name].run(path.read_bytes())


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Replace, remove or insert some bytes."""
    out = bytearray(data)
    for _ in range(chance.randrange(1, 4)):
        start = chance.randrange(len(out) + 1)
        new = chance.choice([b"", b"\xff\xff\xff\xff", b"\0\0\0\x01", chance.randbytes(2)])
        out[start : start + chance.randrange(4)] = new
    return bytes(out)


def inputs(target: Target) -> Iterator[bytes]:
    """Yield the seeds of a target and their mutations, the same in each run."""
    chance = random.Random(0)
    for seed in target.seeds():
        yield seed
        for _ in range(MUTATIONS):
            changed = mutated(seed, chance)
            yield changed if target.repair is None else target.repair(changed)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_their_mutations(name: str) -> None:
    target = TARGETS[name]
    tried = 0
    for data in inputs(target):
        target.run(data)
        tried += 1
    assert tried >= 20


@pytest.mark.parametrize("name", TARGETS)
def test_any_input_can_be_tried(name: str) -> None:
    """Including inputs shorter than the bytes that select a version or a type."""
    chance = random.Random(1)
    for size in range(40):
        for _ in range(20):
            TARGETS[name].run(chance.randbytes(size))


LONG = 200_000
"""The length of the repetitions in a long input, in bytes."""


@pytest.mark.parametrize("name", TARGETS)
def test_long_inputs_take_no_quadratic_time(name: str) -> None:
    """The fuzzers' own inputs are too short to show this, so some bytes are repeated often."""
    target = TARGETS[name]
    chance = random.Random(2)
    seeds = [seed for seed in target.seeds() if len(seed) > 4]
    for seed in chance.choices(seeds, k=40):
        start = chance.randrange(3, len(seed))
        unit = seed[start : start + chance.randrange(1, 12)]
        data = seed[:start] + unit * (LONG // len(unit)) + seed[start:]
        if target.repair is not None:
            # The second and third byte of these inputs are the sizes of the pieces.
            data = target.repair(data[:1] + b"\xff\xff" + data[3:])
        started = time.process_time()
        target.run(data)
        assert time.process_time() - started < 5, (seed, start, unit)


# --- planted faults -------------------------------------------------------------------------------


def changed(original: Callable[..., Any], change: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return a function that changes the results of ``original``."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return change(original(*args, **kwargs))

    return wrapped


def raising(original: Callable[..., Any], error: type[Exception]) -> Callable[..., Any]:
    """Return a function that raises ``error`` in place of RemoteProtocolError."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        except RemoteProtocolError as exc:
            raise error(str(exc)) from exc

    return wrapped


def dropping_single_bytes(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method for received bytes that ignores single bytes."""

    def wrapped(reader: Any, data: bytes) -> None:
        if len(data) != 1:
            original(reader, data)

    return wrapped


def swapping_first(original: Callable[..., Binder]) -> Callable[..., Any]:
    """Return a factory of binders whose compiled packers write null for the first value."""

    def wrapped(*args: Any) -> Any:
        right = original(*args)

        def frame(stream: int, values: list[Any]) -> bytes:
            return right.frame(stream, [None, *values[1:]])

        return SimpleNamespace(frame=frame, plain_frame=right.plain_frame)

    return wrapped


class Fault(NamedTuple):
    """A planted fault: its place, the function that creates it, and the target's complaint."""

    owner: Any
    attribute: str
    plant: Callable[[Any], Any]
    complaint: type[Exception] = Finding


def results(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda original: changed(original, change)


def errors(error: type[Exception]) -> Callable[[Any], Any]:
    return lambda original: raising(original, error)


FAULTS = {
    "frames": Fault(FrameReader, "feed", dropping_single_bytes),
    "segments": Fault(SegmentReader, "feed", dropping_single_bytes),
    "envelopes": Fault(SegmentReader, "feed", dropping_single_bytes),
    "compression": Fault(type(framing.LZ4), "decompress", errors(KeyError), KeyError),
    "requests": Fault(
        cqlproto.messages.requests, "read_string_list", results(lambda names: names[::-1])
    ),
    "responses": Fault(
        cqlproto.messages.events, "read_inet", results(lambda inet: (inet[0], inet[1] ^ 1))
    ),
    "options": Fault(types, "read_option", errors(RecursionError), RecursionError),
    "class_names": Fault(types, "class_name", results(str.lower)),
    "type_strings": Fault(
        cqlproto.cqltypes.model, "_quoted", results(lambda name: name.replace('""', '"'))
    ),
    "cells": Fault(
        types,
        "encoder",
        results(lambda encode: lambda value: encode(value)[:4]),
        RemoteProtocolError,
    ),
    "bindings": Fault(types, "decoder", results(lambda decode: lambda cell: decode(cell[:4]))),
    "rows": Fault(rows, "decoder", results(lambda decode: lambda message: decode(message)[:1])),
    "parameters": Fault(rows, "_binder", swapping_first),
    "handshakes": Fault(ClientConnection, "receive_data", dropping_single_bytes),
    "clients": Fault(cqlproto.connection.client, "read_result", errors(IndexError), IndexError),
    "servers": Fault(ServerConnection, "receive_data", dropping_single_bytes),
    "statements": Fault(
        texts, "read_statement", lambda right: lambda text: right(text.lstrip("-"))
    ),
    "page_tokens": Fault(PageToken, "read", results(lambda state: state[:-1])),
}


@pytest.mark.parametrize("name", TARGETS)
def test_a_planted_fault_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = FAULTS[name]
    target = TARGETS[name]
    tried = list(inputs(target))
    rows.kept_decoders.cache_clear()
    monkeypatch.setattr(
        fault.owner, fault.attribute, fault.plant(getattr(fault.owner, fault.attribute))
    )
    try:
        with pytest.raises((Finding, fault.complaint)) as found:
            for data in tried:
                target.run(data)
    finally:
        rows.kept_decoders.cache_clear()
    assert found.type in (Finding, fault.complaint)


# --- what the fuzzers rely on ---------------------------------------------------------------------


def test_every_message_is_read_by_a_target() -> None:
    assert sorted([*REQUESTS, *RESPONSES]) == sorted(Opcode)


def test_every_module_of_parsers_has_a_target() -> None:
    """Also fails for a folder of regressions without a target."""
    assert {path.parent.name for path in REGRESSIONS} <= set(TARGETS)
    assert set(FAULTS) == set(TARGETS)


@pytest.mark.parametrize("version", ProtocolVersion)
def test_busy_clients_share_nothing_that_changes(version: ProtocolVersion) -> None:
    one, other = busy_client(version, "lz4"), busy_client(version, "lz4")
    assert (one.in_flight, one.orphans, one.available) == (7, 1, 32_760)
    one.send(Options())
    one.abandon(1)
    one.receive_data(b"\x00" * 20)
    with pytest.raises(RemoteProtocolError):
        one.next_event()
    assert (other.in_flight, other.orphans) == (7, 1)
    assert other.data_to_send() == b""
    assert other.next_event() is None
    assert busy_client(version, "lz4").in_flight == 7


def events_of(name: str) -> set[str]:
    """Return the kinds of events that a target's seeds cause."""
    seen: set[str] = set()
    kept = connections.Run

    def noting(events: list[Any], error: Any) -> Any:
        seen.update(type(event).__name__ for event in events)
        for event in events:
            seen.update({type(getattr(event, "message", None)).__name__})
        return kept(events, error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "Run", noting)
        for seed in TARGETS[name].seeds():
            TARGETS[name].run(seed)
    return seen


def test_seeds_of_connections_reach_all_events() -> None:
    assert events_of("handshakes") >= {"HandshakeCompleted", "HandshakeFailed", "PushReceived"}
    assert events_of("clients") >= {"ResponseReceived", "PushReceived", "Rows", "Prepared", "Error"}
    assert events_of("servers") >= {"Startup", "AuthResponse", "Query", "Execute", "Batch"}


@given(st.lists(st.binary(max_size=30)), st.binary(max_size=7))
def test_repaired_frames_are_whole(bodies: list[bytes], rest: bytes) -> None:
    stream = b"".join(write_frame(4, 0, 1, 7, body) for body in bodies)
    rest = b"\x04" + rest
    for broken in (stream + rest, stream[:-1], stream + b"\x04\0\0\0\x07\x7f\xff\xff\xff" + rest):
        reader = FrameReader(max_body=1 << 30, responses=False)
        reader.feed(repair_frames(broken))
        while reader.read() is not None:
            pass
        assert reader.pending < 9


@given(st.lists(st.binary(min_size=1, max_size=30), min_size=1), st.booleans(), st.integers(0, 255))
def test_repaired_segments_are_whole(payloads: list[bytes], compressed: bool, noise: int) -> None:
    codec = compressor("lz4") if compressed else None
    made = [write_segment(part, self_contained=False, compressor=codec) for part in payloads]
    broken = bytearray(b"".join(made))
    broken[-1] ^= noise  # of the checksum of the last payload
    broken[3 if codec is None else 5] ^= noise  # of the checksum of the first header
    reader = SegmentReader(codec)
    reader.feed(repair_segments(bytes(broken), compressed=compressed))
    found = []
    while (segment := reader.read()) is not None:
        found.append(segment.payload)
    assert found == payloads


# --- the command ----------------------------------------------------------------------------------

LOG = """\
INFO: Seed: 1
#1090\tINITED cov: 577 ft: 915 corp: 87/6953b exec/s: 1090 rss: 58Mb
#1091\tNEW    cov: 578 ft: 916 corp: 88/7033b lim: 500 exec/s: 1091 rss: 58Mb L: 80/413 MS: 1
#1412\tDONE   cov: 613 ft: 1000 corp: 122/9731b lim: 500 exec/s: 706 rss: 58Mb
"""
STATISTICS = "Done 1412 runs in 2 second(s)\nstat::number_of_executed_units: 1412\n"
CRASH = """\
 === Uncaught Python exception: ===
Finding: another row: 1
Traceback (most recent call last):
==1== ERROR: libFuzzer: fuzz target exited
artifact_prefix='x/'; Test unit written to x/crash-ab
"""
HANG = """\
==1== ERROR: libFuzzer: timeout after 10 seconds
artifact_prefix='x/'; Test unit written to x/timeout-ab
"""


def test_a_log_is_read() -> None:
    clean = read_log("cells", LOG + STATISTICS, 0, 2.0)
    assert clean == Outcome("cells", 1412, 2.0, 1000, 122)
    assert table(clean).split() == ["cells", "1,412", "706", "1,000", "122", "ok"]
    crashed = read_log("cells", LOG + CRASH, 77, 2.0)
    assert crashed.finding == "Finding: another row: 1"
    assert crashed.artifact == Path("x/crash-ab")
    assert crashed.executions == 1412
    hung = read_log("cells", LOG + HANG, 70, 2.0)
    assert hung.finding == "timeout after 10 seconds"
    assert hung.artifact == Path("x/timeout-ab")
    assert read_log("cells", "", -9, 2.0).finding == "the worker ended with status -9"


def worker(script: str) -> tuple[str, ...]:
    return sys.executable, "-c", script


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(fuzz.runner, "FOLDER", tmp_path)
    return tmp_path


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_target_gets_its_share(
    folder: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    script = "import sys, time; time.sleep(max(0, float(sys.argv[-1]) - time.time()))"
    monkeypatch.setattr(fuzz.runner, "WORKER", worker(script))
    told: list[Outcome] = []
    started = time.monotonic()
    outcomes = run_all(["a", "b", "c"], seconds=1.5, runs=None, jobs=jobs, report=told.append)
    assert 1.4 < time.monotonic() - started < 10
    assert told == outcomes
    assert sorted(outcome.target for outcome in outcomes) == ["a", "b", "c"]
    assert [outcome.finding for outcome in outcomes] == [None] * 3


def test_a_worker_that_does_not_end_is_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz.runner, "WORKER", worker("import time; time.sleep(100)"))
    monkeypatch.setattr(fuzz.runner, "PATIENCE", 0.1)
    (outcome,) = run_all(["a"], seconds=0.1, runs=None, jobs=1, report=lambda outcome: None)
    assert outcome.finding == "the worker ended with status -9"


@pytest.mark.parametrize(("started", "killed_at"), [(10.0, 40.0 + 90), (130.0, 130.0 + 90)])
def test_a_worker_started_after_its_time_gets_the_same_patience(
    started: float, killed_at: float
) -> None:
    assert fuzz.runner.last_moment(started, until=40.0) == killed_at


def test_the_number_of_runs_is_passed_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz.runner, "WORKER", worker("import sys; sys.exit(sys.argv[-2:])"))
    (outcome,) = run_all(["a"], seconds=None, runs=7, jobs=1, report=lambda outcome: None)
    assert outcome.finding == "the worker ended with status 1"
    assert (folder / "a" / "log").read_text() == "['--runs', '7']\n"


def test_inputs_are_tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"text")
    assert main(["--target", "statements", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: ok\n"

    def broken(data: bytes) -> None:
        raise Finding(data.decode())

    monkeypatch.setitem(TARGETS, "statements", Target(broken, lambda: iter(()), 10))
    assert main(["--target", "statements", str(path)]) == 1
    assert "Finding: text" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main([str(path)])


def test_targets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(TARGETS)
    assert all(len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize("found", [None, "Finding: wrong"])
def test_a_finding_is_reported(
    found: str | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = Path("crash-ab") if found else None

    def run(targets: list[str], *, report: Callable[[Outcome], object], **_: Any) -> list[Outcome]:
        outcomes = [Outcome(name, 1000, 2.0, 5, 6, found, artifact) for name in targets]
        for outcome in outcomes:
            report(outcome)
        return outcomes

    monkeypatch.setattr(fuzz.__main__, "run_all", run)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert main(["--target", "rows", "--target", "cells"]) == (1 if found else 0)
    out = capsys.readouterr().out
    assert "2,000" in out
    assert ("replay: python -m fuzz --target cells crash-ab" in out) == bool(found)


def test_without_atheris_the_command_says_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "pip install atheris" in capsys.readouterr().err


@pytest.mark.parametrize("required", [False, True])
def test_without_atheris_nothing_is_left_out_silently(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], required: bool
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("CQLPROTO_REQUIRE_CASSANDRA", "1" if required else "")
    if required:
        with pytest.raises(SystemExit):
            main(["--if-possible"])
    else:
        assert main(["--if-possible"]) == 0
        assert "NOT FUZZED" in capsys.readouterr().out
