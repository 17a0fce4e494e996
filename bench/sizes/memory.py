"""Memory against size: the peak of receiving and decoding a response, and that of column lists.

tracemalloc counts the memory in separate runs that are not timed. Counting is exact, so there is
one sample of each size.

The received chunks count as the transport's memory: they are created before and held by the caller.
So the peak includes the client's buffers, the body and the result.
"""

from __future__ import annotations

import gc
import tracemalloc
from typing import TYPE_CHECKING, Any

from bench.sizes.decoding import (
    BODIES,
    LISTS,
    body_received,
    forget_compiled,
    list_of_types,
)
from bench.sizes.material import Wire, metadata
from bench.sizes.timing import DEFAULT_LIMIT, Series
from cqlproto import ProtocolVersion
from cqlproto.messages import Rows
from cqlproto.rows import ROWS_BEFORE_COMPILING, decode_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.sizes.timing import Plan, Prepare
    from cqlproto.messages import ResultMetadata

__all__ = ["memory_series"]

FLAT = 0.10
"""The limit for memory that must not grow; not 0, because a few hash tables double at times."""
_HELD = [64, 128, 256, 512, 1024]
_GONE = [600, 700, 800, 900, 1400, 2000]
"""Larger than all caches, so that these are full at the first reading."""


def memory_series(plan: Plan) -> Iterator[dict[str, Any]]:
    """Return the series of peaks for bodies, and of memory for column lists, held and dropped."""
    v4, v5 = ProtocolVersion.V4, ProtocolVersion.V5
    for wire, kind, most in (
        (Wire(v4), "one blob", BODIES[-1]),
        (Wire(v5), "one blob", BODIES[-1]),
        (Wire(v5, "lz4"), "one blob", BODIES[-1]),
        (Wire(v4), "many rows", 4 << 20),  # small, because counting every object is slow
    ):
        # There is one run of each size, and blobs are few objects: smaller sizes would save little.
        full = [size for size in BODIES if size <= most]
        sizes = plan.sizes(full, 4)
        peaks = [[_peak(body_received(size, wire, kind))] for size in sizes]
        name = f"{kind}, {wire.name}"
        yield _record(f"peak memory, {name}", "memory", name, sizes, peaks)
    for key, label, ladder, work, held, limit in (
        ("held", "lists that are held", LISTS, decode_new, True, DEFAULT_LIMIT),
        ("compiled", "lists that are held, compiled", _HELD, compile_new, True, DEFAULT_LIMIT),
        ("gone", "lists that were compiled and dropped", _GONE, compile_new, False, FLAT),
    ):
        sizes = plan.sizes(ladder, 4 if held else 2)
        kept = _kept(sizes, work, held=held)
        yield _record(
            f"memory of column lists, {key}", "lists-memory", label, sizes, kept, limit=limit
        )


def _record(
    key: str,
    plot: str,
    label: str,
    sizes: list[int],
    values: list[list[float]],
    limit: float = DEFAULT_LIMIT,
) -> dict[str, Any]:
    series = Series(key, plot, label, sizes, _not_timed, limit=limit)
    return series.record(values, unit="bytes")


def _not_timed(size: int) -> Prepare:
    raise NotImplementedError("memory is not timed")


def _peak(prepare: Prepare) -> float:
    """Return the peak of memory above that before the run, in bytes."""
    run = prepare(1)
    run()
    run = prepare(1)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        run()
        return max(1, tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()


def _kept(sizes: Sequence[int], work: Callable[[int], object], *, held: bool) -> list[list[float]]:
    """Call a function for consecutive numbers, and read the memory after some of them.

    Arguments:
        sizes: the number of calls at each reading.
        work: the function.
        held: whether to keep its results until the end.

    Returns:
        for each reading, the memory above that at the start, in bytes.
    """
    forget_compiled()
    decode_new(0)  # objects that are created once
    gc.collect()
    readings: list[list[float]] = []
    kept = []
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(sizes[-1]):
            made = work(number)
            if held:
                kept.append(made)
            if number + 1 in sizes:
                del made
                gc.collect()
                readings.append([max(1, tracemalloc.get_traced_memory()[0] - before)])
        return readings
    finally:
        tracemalloc.stop()


def _decode_nulls(known: ResultMetadata, count: int) -> None:
    """Decode ``count`` rows of nulls, whose values take no memory."""
    nulls = b"\xff\xff\xff\xff" * known.column_count
    decode_rows(Rows.of(known, count, nulls * count), tuple)


def decode_new(number: int) -> object:
    """Decode a row of a new list, and return the list."""
    known = metadata(list_of_types(number), f"table_{number}")
    _decode_nulls(known, 1)
    return known


def compile_new(number: int) -> object:
    """Compile the decoder of a new list, and return the list."""
    known = metadata(list_of_types(number), f"table_{number}")
    _decode_nulls(known, ROWS_BEFORE_COMPILING + 1)
    return known
