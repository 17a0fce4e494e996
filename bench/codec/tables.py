"""The tables and gates of the codec part."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from bench.codec.figures import Samples, cell, contenders, ratios, table
from bench.codec.run import FLOOR
from bench.codec.shapes import SHAPES
from bench.codec.turns import CYTHON, OURS, PURE, SCYLLA

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["gates", "markdown"]

_DECODERS = {
    (OURS, "tuple"): "cqlproto tuple",
    (OURS, "Row"): "cqlproto Row",
    (OURS, "reference"): "cqlproto reference loop",
    (CYTHON, "namedtuple"): "cassandra-driver namedtuple",
    (SCYLLA, "tuple"): "scylla-driver",
    (PURE, "tuple"): "cassandra-driver pure",
    (FLOOR, "tuple"): "marshal",
}
_ENCODERS = {
    (OURS, "frame"): "cqlproto",
    (SCYLLA, "frame"): "scylla-driver",
    (PURE, "frame"): "cassandra-driver pure",
}
_HOW = (
    "CPU time of the process, with the garbage collector on. From the body of a RESULT to a list of"
    " rows, whose columns are known from PREPARED. All decode the same bytes, of random values."
    " `marshal` is the floor: `marshal.loads` of equal data, with ints for timestamps,"
    " dates and times, bytes for uuids and inets, pairs of ints for decimals; it does not create"
    " those objects. Ratios are medians of the rounds' ratios.\n"
)
_PAGE = 5_000
_LIMITS = {"A": 0.60, "B": 0.75, "C": 1.40}
_ONE_ROW_LIMIT = 0.40
_ROW_LIMIT = 1.20
_ENCODE_LIMIT = 0.12


def _decode(data: dict[str, Any]) -> Samples:
    return Samples(data["decode"], ("shape", "rows"))


def _encode(data: dict[str, Any]) -> Samples:
    return Samples(data["encode"], ("shape", "version"))


def markdown(data: dict[str, Any]) -> str:
    """See :func:`bench.codec.markdown`."""
    return "\n".join([contenders(data), _HOW, *_decode_tables(data), *_encode_tables(data)])


def _decode_tables(data: dict[str, Any]) -> Iterator[str]:
    samples = _decode(data)
    counts = list(dict.fromkeys(rows for _, rows in samples.cases()))
    shapes = list(dict.fromkeys(shape for shape, _ in samples.cases()))
    for count in reversed(counts):
        yield f"### Decoding a result of {_rows(count)}\n"
        yield (
            "cassandra-driver (Cython, rows as tuples) in microseconds, the others as multiples of"
            " it: lower is faster.\n"
        )
        lines = []
        for shape in shapes:
            base = samples.get(shape, count, CYTHON, "tuple")
            shares = [ratios(samples.get(shape, count, *who), base) for who in _DECODERS]
            lines.append([SHAPES[shape].title, cell(base), *(cell(share, 2) for share in shares)])
        yield table(["columns", "cassandra-driver, us", *_DECODERS.values()], lines)
    yield "### Metadata in the body (v4)\n"
    yield (
        "How much longer a result with column metadata in its body takes. cqlproto compares the"
        " metadata's bytes with those of PREPARED, cassandra-driver parses them.\n"
    )
    lines = []
    for shape in shapes:
        for count in counts:
            case = (shape, count)
            own, peer = (
                ratios(samples.get(*case, who, "described"), samples.get(*case, who, "tuple"))
                for who in (OURS, CYTHON)
            )
            both = ratios(
                samples.get(*case, OURS, "described"), samples.get(*case, CYTHON, "described")
            )
            title = f"{SHAPES[shape].title}; {_rows(count)}"
            lines.append([title, cell(own, 2), cell(peer, 2), cell(both, 2)])
    yield table(
        ["columns", "cqlproto", "cassandra-driver", "cqlproto / cassandra-driver, both with it"],
        lines,
    )


def _encode_tables(data: dict[str, Any]) -> Iterator[str]:
    samples = _encode(data)
    yield "### Binding values and making the frame of an EXECUTE\n"
    yield "cassandra-driver in microseconds, the others as multiples of it.\n"
    lines = []
    for shape, version in samples.cases():
        base = samples.get(shape, version, CYTHON, "frame")
        shares = [ratios(samples.get(shape, version, *who), base) for who in _ENCODERS]
        title = f"{SHAPES[shape].title}; v{version}"
        lines.append([title, cell(base), *(cell(share, 2) for share in shares)])
    yield table(["columns", "cassandra-driver, us", *_ENCODERS.values()], lines)


def _rows(count: int) -> str:
    return f"{count:,} row" if count == 1 else f"{count:,} rows"


def gates(data: dict[str, Any]) -> list[tuple[str, float, float]]:
    """See :func:`bench.codec.gates`."""
    decode, encode = _decode(data), _encode(data)
    found: list[tuple[str, float, list[float] | None]] = []
    for shape, limit in _LIMITS.items():
        base = decode.get(shape, _PAGE, CYTHON, "tuple")
        own = decode.get(shape, _PAGE, OURS, "tuple")
        row = decode.get(shape, _PAGE, OURS, "Row")
        what = f"decode {shape}, {_rows(_PAGE)}"
        found.append((f"{what}, row=tuple / cassandra-driver", limit, ratios(own, base)))
        found.append((f"{what}, Row / row=tuple", _ROW_LIMIT, ratios(row, own)))
        share = ratios(decode.get(shape, 1, OURS, "tuple"), decode.get(shape, 1, CYTHON, "tuple"))
        what = f"decode {shape}, {_rows(1)}, row=tuple / cassandra-driver"
        found.append((what, _ONE_ROW_LIMIT, share))
    for version in (4, 5):
        share = ratios(
            encode.get("A", version, OURS, "frame"), encode.get("A", version, CYTHON, "frame")
        )
        found.append((f"bind and frame A, v{version} / cassandra-driver", _ENCODE_LIMIT, share))
    return [
        (what, limit, statistics.median(values))
        for what, limit, values in found
        if values is not None
    ]
