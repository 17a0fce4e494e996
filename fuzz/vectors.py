"""Where the fuzzers begin: the vectors of the tests.

Long ones are left out, for a short input that reaches the same place is executed more often.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from cqlproto.cqltypes import (
    NATIVE_TYPES,
    CQLType,
    CustomType,
    ListType,
    MapType,
    SetType,
    TupleType,
    UserType,
)
from cqlproto.frames import FrameReader, RawFrame

__all__ = ["Packed", "frames", "packed_frames", "segments", "values"]

FOLDER = Path(__file__).parent.parent / "tests" / "vectors"
LONGEST = 512


class Packed(NamedTuple):
    """Bytes, and the compression that they are in: ``none``, ``lz4`` or ``snappy``."""

    compression: str
    data: bytes


@cache
def _load(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text().splitlines()]


def _frame(data: bytes) -> RawFrame:
    reader = FrameReader(max_body=len(data), responses=bool(data[0] & 0x80))
    reader.feed(data)
    frame = reader.read()
    assert frame is not None
    return frame


@cache
def frames() -> list[RawFrame]:
    """Return the frames of requests and responses, of v3, v4 and v5.

    There are no vectors of v3: those of v4 under its number are a beginning.
    """
    found = [_frame(bytes.fromhex(row["hex"])) for row in _load("frames.jsonl")]
    short = [frame for frame in found if len(frame.body) <= LONGEST]
    older = [
        RawFrame(frame.version - 1, frame.flags, frame.stream, frame.opcode, frame.body)
        for frame in short
        if frame.version & 0x7F == 4
    ]
    return [*short, *older]


@cache
def packed_frames() -> list[Packed]:
    """Return whole frames whose bodies are compressed."""
    rows = [row for row in _load("compressed.jsonl") if row["kind"] == "frame"]
    found = [Packed(row["compression"], bytes.fromhex(row["hex_compressed_frame"])) for row in rows]
    return [packed for packed in found if len(packed.data) <= LONGEST]


@cache
def segments() -> list[Packed]:
    """Return segments of v5."""
    rows = [row for row in _load("compressed.jsonl") if row["kind"] == "segment"]
    found = [
        Packed(row["compression"], bytes.fromhex(row["segment_hex"]))
        for row in rows
        if row["segment_hex"]
    ]
    return [packed for packed in found if len(packed.data) <= LONGEST]


@cache
def values() -> list[tuple[CQLType, bytes]]:
    """Return cells and their types."""
    rows = _load("values.jsonl")
    found = {(_type_of(row["type_spec"]), bytes.fromhex(row["hex"])) for row in rows}
    short = [(cql_type, cell) for cql_type, cell in found if len(cell) <= LONGEST]
    return sorted(short, key=lambda value: (str(value[0]), value[1]))


def _type_of(spec: Any) -> CQLType:
    if isinstance(spec, str):
        return NATIVE_TYPES[spec]
    kind = spec["kind"]
    if kind == "custom":
        return CustomType(spec["class"])
    if kind == "list":
        return ListType(_type_of(spec["element"]))
    if kind == "set":
        return SetType(_type_of(spec["element"]))
    if kind == "map":
        return MapType(_type_of(spec["key"]), _type_of(spec["value"]))
    if kind == "tuple":
        return TupleType(tuple([_type_of(part) for part in spec["fields"]]))
    assert kind == "udt"
    fields = [(name, _type_of(part)) for name, part in spec["fields"]]
    return UserType(spec["keyspace"], spec["name"], tuple(fields))
