"""The benchmarks of codec and framing run with all installed contenders, and report missing ones.

Each case runs with one call. A contender whose results differ from the others' fails its own check,
which is a problem here. The figures don't matter.
"""

from __future__ import annotations

import functools
import importlib.util
import json
from typing import TYPE_CHECKING, Any

import pytest

from bench import codec, framing
from bench.codec import figures, run, shapes, turns
from bench.codec.bodies import write_bodies
from bench.codec.turns import CYTHON, OURS, PURE, SCYLLA
from bench.framing import run as framing_run
from bench.rounds import ROOT

if TYPE_CHECKING:
    from pathlib import Path

FOLDERS = {PURE: "cassandra-driver-pure", SCYLLA: "scylla-driver"}
MISSING = [name for name in FOLDERS if not (ROOT / ".bench" / FOLDERS[name]).is_dir()]


@functools.cache
def codec_data() -> dict[str, Any]:
    plan = run.Plan(rounds=1, seconds=0, rows=(20,))
    data: dict[str, Any] = json.loads(json.dumps(run.measure(plan, lambda line: None)))
    return data


@functools.cache
def framing_data() -> dict[str, Any]:
    plan = framing_run.Plan(rounds=1, seconds=0, long=(1 << 18,), stream=256)
    data: dict[str, Any] = json.loads(json.dumps(framing_run.measure(plan, lambda line: None)))
    return data


def expected_problems() -> list[str]:
    return sorted(f"{name} is left out: no .bench/{FOLDERS[name]}" for name in MISSING)


def test_everyone_decodes_and_encodes_the_same() -> None:
    data = codec_data()
    assert sorted(data["problems"]) == expected_problems()
    decoders = [who for who in run.DECODERS if who[0] not in MISSING]
    encoders = [who for who in run.ENCODERS if who[0] not in MISSING]
    cases = {(one["shape"], one["rows"]) for one in data["decode"]}
    assert cases == {(shape, rows) for shape in shapes.SHAPES for rows in (20,)}
    assert len(data["decode"]) == len(cases) * len(decoders)
    assert len(data["encode"]) == len(shapes.SHAPES) * 2 * len(encoders)
    values = [value for one in data["decode"] + data["encode"] for value in one["microseconds"]]
    assert min(values) > 0


def test_everyone_cuts_the_same_frames() -> None:
    data = framing_data()
    assert sorted(data["problems"]) == expected_problems()
    peers = 3 - len(MISSING)
    for work, own in {"frames": 1, "encode": 1, "read": 1, "receive": 2}.items():
        records = [one for one in data["framing"] if one["work"] == work]
        titles = {one["title"] for one in records}
        assert len(titles) > 1
        assert len(records) == len(titles) * (own + peers)


def test_peers_are_what_they_are_called() -> None:
    about = codec_data()["contenders"]
    assert about[CYTHON]["kind"] == "Cython"
    assert OURS in about
    assert set(MISSING).isdisjoint(about)


@pytest.mark.parametrize("part", [codec, framing])
def test_tables_come_from_the_data_alone(part: Any) -> None:
    data = codec_data() if part is codec else framing_data()
    text = part.markdown(data)
    lines = text.splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) > 20
    assert not [line for line in lines if line.startswith(("# ", "## ", "#### "))]
    for problem in data["problems"]:
        assert f"PROBLEM: {problem}" in text


def test_gates_that_were_measured() -> None:
    # The gates of decoding are about results with other numbers of rows.
    frames = [f"bind and frame A, v{version} / cassandra-driver" for version in (4, 5)]
    assert [what for what, _, _ in codec.gates(codec_data())] == frames
    assert len(framing.gates(framing_data())) == 2


def test_a_gate_is_the_median_of_the_rounds_ratios() -> None:
    def record(rows: int, contender: str, variant: str, *values: float) -> dict[str, object]:
        case = {"shape": "A", "rows": rows, "contender": contender, "variant": variant}
        return {**case, "microseconds": values}

    data = {
        "decode": [
            record(1, CYTHON, "tuple", 4, 5),
            record(1, OURS, "tuple", 1, 1),
            record(5_000, CYTHON, "tuple", 10, 20, 30),
            record(5_000, OURS, "tuple", 5, 14, 18),
            record(5_000, OURS, "Row", 10, 14, 9),
        ],
        "encode": [],
    }
    assert codec.gates(data) == [
        ("decode A, 5,000 rows, row=tuple / cassandra-driver", 0.60, 0.6),
        ("decode A, 5,000 rows, Row / row=tuple", 1.20, 1.0),
        ("decode A, 1 row, row=tuple / cassandra-driver", 0.40, 0.225),
    ]


def test_a_figure_names_its_spread() -> None:
    assert figures.cell([3.0, 1.0, 2.0]) == "2.00 (1.00 - 3.00)"
    assert figures.cell([1234.5]) == "1,234 (1,234 - 1,234)"
    assert figures.cell(None) == figures.ABSENT


def test_a_missing_peer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "ROOT", tmp_path)
    monkeypatch.setattr(turns, "_FOLDERS", {SCYLLA: tmp_path / "none"})
    said: list[str] = []
    with turns.pool({SCYLLA: "bench.codec.peer"}, 1, 0, said.append) as (workers, _):
        assert workers.measure({"part": "decode"}, [(SCYLLA, "tuple")]) == []
        assert workers.problems == [f"{SCYLLA} is left out: no none"]
    assert said == [f"PROBLEM: {SCYLLA} is left out: no none"]


def test_a_peer_that_is_something_else_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(turns._EXPECTED, CYTHON, {"kind": "Fortran"})
    with turns.pool({CYTHON: "bench.codec.peer"}, 1, 0, lambda line: None) as (workers, _):
        assert workers.workers == {}
        assert workers.problems == [f"{CYTHON} is left out: its kind is 'Cython', not 'Fortran'"]


def test_a_worker_that_ends_is_named_once() -> None:
    with turns.pool({OURS: "bench.codec.ours"}, 1, 0, lambda line: None) as (workers, folder):
        write_bodies(folder, "int", [1])
        worker = workers.workers[OURS]
        worker.process.kill()
        worker.process.wait()
        case = {"part": "decode", "shape": "int", "rows": 1, "folder": str(folder)}
        assert workers.measure(case, [(OURS, "tuple"), (OURS, "Row")]) == []
        assert workers.measure(case, [(OURS, "tuple")]) == []
        assert workers.workers == {}
        assert workers.problems == [f"{OURS}, decode int 1: it has ended"]


def test_without_lz4_its_cases_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == "lz4" else find_spec(name),
    )
    monkeypatch.setattr(framing_run, "_MODULES", {OURS: "bench.framing.ours"})
    plan = framing_run.Plan(rounds=1, seconds=0, long=(), stream=128)
    data: dict[str, Any] = framing_run.measure(plan, lambda line: None)
    assert data["problems"] == ["LZ4 is left out: lz4 is not installed"]
    assert {one["version"] for one in data["framing"]} == {4, 5}
    assert not any(one["lz4"] for one in data["framing"])


def test_a_wrong_value_is_a_problem_and_no_figure() -> None:
    with turns.pool({OURS: "bench.codec.ours"}, 1, 0, lambda line: None) as (workers, folder):
        write_bodies(folder, "int", [1])
        path = folder / "int-1.rows"
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
        case = {"part": "decode", "shape": "int", "rows": 1, "folder": str(folder)}
        assert workers.measure(case, [(OURS, "tuple")]) == []
        [problem] = workers.problems
        assert problem.startswith(f"{OURS}, decode int 1: ValueError: the decoded values differ")
