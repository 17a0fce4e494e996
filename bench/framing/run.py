"""The cases of the framing part, and running them."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.codec.turns import CYTHON, OURS, PURE, SCYLLA, pool
from bench.framing import cases, ours

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["Plan", "measure"]

_PEERS = ((CYTHON, ""), (SCYLLA, ""), (PURE, ""))
_MODULES = {
    OURS: "bench.framing.ours",
    CYTHON: "bench.framing.peer",
    SCYLLA: "bench.framing.peer",
    PURE: "bench.framing.peer",
}
_KIB, _MIB = 1 << 10, 1 << 20
_SHORT = 200


class Plan(NamedTuple):
    """How much is measured.

    Attributes:
        rounds: samples of each contender in each case.
        seconds: the minimum CPU time of a sample.
        long: the sizes of the long frames, in bytes.
        stream: the number of frames in a stream, and of requests in flight. 8,192 frames of 200
            bytes end with the end of a 64 KiB chunk.
    """

    rounds: int
    seconds: float
    long: tuple[int, ...] = (_MIB, 16 * _MIB)
    stream: int = 8_192

    @classmethod
    def of(cls, rounds: int, quick: bool) -> Plan:
        return cls(rounds, 0.005, (_MIB,)) if quick else cls(rounds, 0.02)


def _size(size: int) -> str:
    return f"{size // _MIB} MiB" if size >= _MIB else f"{size} bytes"


def _cases(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield the cases; ``title`` is the case's name in the tables."""
    yield _case("frames", f"v4: frames of {_size(_SHORT)} out of chunks", 4, frames=plan.stream)
    for size in plan.long:
        yield _case("frames", f"v4: a frame of {_size(size)} out of chunks", 4, size=size)
    for lz4 in (False, True):
        name = "v5, LZ4" if lz4 else "v5"
        yield _case("encode", f"{name}: encode a segment of {_size(_SHORT)}", 5, lz4)
        yield _case("decode", f"{name}: decode a segment of {_size(_SHORT)}", 5, lz4)
        for frames, size in ((cases.SHARED, _SHORT), *((1, size) for size in plan.long)):
            what = (
                f"{frames} frames of {_size(size)}" if frames > 1 else f"a frame of {_size(size)}"
            )
            yield _case("write", f"{name}: {what} into segments", 5, lz4, size, frames)
            yield _case("read", f"{name}: {what} out of segments", 5, lz4, size, frames)
    for version, lz4 in ((4, False), (5, False), (5, True)):
        for chunk in (1, cases.SHARED):
            name = f"v{version}, LZ4" if lz4 else f"v{version}"
            title = f"{name}: a response of {_size(_SHORT)}, {chunk} in a chunk"
            yield _case("receive", title, version, lz4, frames=plan.stream, chunk=chunk)


def _case(
    work: str,
    title: str,
    version: int,
    lz4: bool = False,
    size: int = _SHORT,
    frames: int = 1,
    chunk: int = 0,
) -> dict[str, Any]:
    return {
        "work": work,
        "title": title,
        "version": version,
        "lz4": lz4,
        "size": size,
        "frames": frames,
        "chunk": chunk,
    }


def _write_file(folder: Path, case: dict[str, Any]) -> dict[str, Any]:
    """Write the file of a case; return the case in the form for workers."""
    version, size, frames = case["version"], case["size"], case["frames"]
    more: dict[str, Any] = {}
    if case["work"] == "receive":
        body = cases.row_body(size)
        responses = [cases.response(version, stream, body) for stream in range(1, frames + 1)]
        parts = []
        for start in range(0, frames, case["chunk"]):
            together = responses[start : start + case["chunk"]]
            part = ours.segments(together, case["lz4"]) if version >= 5 else b"".join(together)
            parts.append(part)
        data = b"".join(parts)
        more["sizes"] = [len(part) for part in parts]
    else:
        made = [cases.frame_of(version, index, size) for index in range(frames)]
        data = ours.segments(made, case["lz4"]) if version >= 5 else b"".join(made)
    (folder / "case.bytes").write_bytes(data)
    return {**case, **more, "file": "case.bytes", "folder": str(folder)}


def measure(plan: Plan, say: Callable[[str], None]) -> dict[str, object]:
    """Measure all contenders, in turns; see :func:`bench.framing.measure`."""
    records: list[dict[str, object]] = []
    with pool(_MODULES, plan.rounds, plan.seconds, say) as (run, folder):
        ours.write_files(folder)
        lz4 = importlib.util.find_spec("lz4") is not None
        if not lz4:
            run.problem("LZ4 is left out: lz4 is not installed")
        for case in _cases(plan):
            if case["lz4"] and not lz4:
                continue
            say(f"framing: {case['title']}")
            own = ["events", "rows"] if case["work"] == "receive" else [""]
            contenders = [*((OURS, variant) for variant in own), *_PEERS]
            samples = run.measure(_write_file(folder, case), contenders)
            records += [{**case, **sample} for sample in samples]
        return {
            "rounds": plan.rounds,
            "sample_seconds": plan.seconds,
            "contenders": run.about,
            "problems": run.problems,
            "framing": records,
        }
