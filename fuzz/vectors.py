"""Seeds of the fuzzers, taken from the tests' vectors.

Long vectors are left out: a short input that reaches the same code runs more often.
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
    """Compressed bytes and the algorithm: ``none``, ``lz4`` or ``snappy``."""

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
    """Return frames of requests and responses in v3, v4 and v5.

    The vectors have no v3; frames of v4 with the version number of v3 stand in for it.
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
    """Return complete frames with compressed bodies."""
    rows = [row for row in _load("compressed.jsonl") if row["kind"] == "frame"]
    found = [Packed(row["compression"], bytes.fromhex(row["hex_compressed_frame"])) for row in rows]
    return [packed for packed in found if len(packed.data) <= LONGEST]


@cache
def segments() -> list[Packed]:
    """Return v5 segments."""
    rows = [row for row in _load("compressed.jsonl") if row["kind"] == "segment"]
    found = [
        Packed(row["compression"], bytes.fromhex(row["segment_hex"]))
        for row in rows
        if row["segment_hex"]
    ]
    return [packed for packed in found if len(packed.data) <= LONGEST]


@cache
def values() -> list[tuple[CQLType, bytes]]:
    """Return pairs of a type and a cell of this type."""
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
