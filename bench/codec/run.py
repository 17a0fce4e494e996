"""The cases of the codec part, and running them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bench.codec.bodies import write_bodies
from bench.codec.shapes import SHAPES, rows_of
from bench.codec.turns import CYTHON, OURS, PURE, SCYLLA, pool

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DECODERS", "ENCODERS", "FLOOR", "Plan", "measure"]

FLOOR = "marshal"
DECODERS: tuple[tuple[str, str], ...] = (
    (CYTHON, "tuple"),
    (CYTHON, "namedtuple"),
    (CYTHON, "described"),
    (OURS, "tuple"),
    (OURS, "Row"),
    (OURS, "described"),
    (OURS, "reference"),
    (SCYLLA, "tuple"),
    (PURE, "tuple"),
    (FLOOR, "tuple"),
)
ENCODERS: tuple[tuple[str, str], ...] = (
    (CYTHON, "frame"),
    (OURS, "frame"),
    (SCYLLA, "frame"),
    (PURE, "frame"),
)
_MODULES = {
    OURS: "bench.codec.ours",
    CYTHON: "bench.codec.peer",
    SCYLLA: "bench.codec.peer",
    PURE: "bench.codec.peer",
    FLOOR: "bench.codec.floor",
}


class Plan(NamedTuple):
    """How much is measured.

    Attributes:
        rounds: samples of each contender in each case.
        seconds: the minimum CPU time of a sample.
        shapes: the column lists, by name.
        rows: the numbers of rows.
    """

    rounds: int
    seconds: float
    shapes: tuple[str, ...] = tuple(SHAPES)
    rows: tuple[int, ...] = (1, 10, 100, 5_000)

    @classmethod
    def of(cls, rounds: int, quick: bool) -> Plan:
        if quick:
            return cls(rounds, 0.005, rows=(1, 5_000))
        return cls(rounds, 0.02)


def measure(plan: Plan, say: Callable[[str], None]) -> dict[str, object]:
    """Measure all contenders, in turns; see :func:`bench.codec.measure`."""
    decode: list[dict[str, object]] = []
    encode: list[dict[str, object]] = []
    with pool(_MODULES, plan.rounds, plan.seconds, say) as (run, folder):
        for name in plan.shapes:
            say(f"codec: {SHAPES[name].title}")
            write_bodies(folder, name, plan.rows)
            for count in plan.rows:
                size = (folder / f"{name}-{count}.rows").stat().st_size
                case = {"part": "decode", "shape": name, "rows": count}
                samples = run.measure({**case, "folder": str(folder)}, DECODERS)
                decode += [{**case, "bytes": size, **sample} for sample in samples]
            for version in (4, 5):
                size = (folder / f"{name}-v{version}.execute").stat().st_size
                case = {"part": "encode", "shape": name, "version": version}
                samples = run.measure({**case, "folder": str(folder)}, ENCODERS)
                encode += [{**case, "bytes": size, **sample} for sample in samples]
        rows_of.cache_clear()
        return {
            "rounds": plan.rounds,
            "sample_seconds": plan.seconds,
            "contenders": run.about,
            "problems": run.problems,
            "decode": decode,
            "encode": encode,
        }
