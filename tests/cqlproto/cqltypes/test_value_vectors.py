"""The value vectors: decoding and encoding cells of an independent implementation."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cqlproto.cqltypes import (
    EMPTY,
    NATIVE_TYPES,
    CQLType,
    CustomType,
    Date,
    Duration,
    ListType,
    MapType,
    SetType,
    Time,
    Timestamp,
    TupleType,
    UserType,
    decoder,
    encoder,
)

VECTORS = Path(__file__).parents[2] / "vectors" / "values.jsonl"


def load() -> list[Any]:
    lines = VECTORS.read_text(encoding="utf-8").splitlines()
    return [pytest.param(vector, id=vector["name"]) for vector in map(json.loads, lines)]


def to_type(spec: Any) -> CQLType:
    """Return the type of a vector's ``type_spec``."""
    if isinstance(spec, str):
        return NATIVE_TYPES[spec]
    match spec["kind"]:
        case "list":
            return ListType(to_type(spec["element"]))
        case "set":
            return SetType(to_type(spec["element"]))
        case "map":
            return MapType(to_type(spec["key"]), to_type(spec["value"]))
        case "tuple":
            return TupleType(tuple(map(to_type, spec["fields"])))
        case "udt":
            fields = tuple((name, to_type(field)) for name, field in spec["fields"])
            return UserType(spec["keyspace"], spec["name"], fields)
        case "custom":
            return CustomType(spec["class"])
        case kind:
            raise AssertionError(kind)


def to_bits(value: float, code: str) -> str:
    return struct.pack(f">{code}", value).hex()


def to_decimal(unscaled: int, scale: int) -> Decimal:
    digits = tuple(map(int, str(abs(unscaled))))
    return Decimal((int(unscaled < 0), digits, -scale))


def check(value: Any, tagged: Any) -> None:
    """Compare a decoded value with a tagged one, which describes its meaning."""
    if tagged is None:
        assert value is None
        return
    [(tag, payload)] = tagged.items()
    match tag:
        case "tinyint" | "smallint" | "int" | "bigint" | "counter" | "varint":
            assert type(value) is int
            assert value == int(payload)
        case "ascii" | "text" | "boolean":
            assert type(value) is type(payload)
            assert value == payload
        case "blob" | "custom":
            assert value == bytes.fromhex(payload)
        case "float" | "double":
            assert to_bits(value, tag[0]) == payload["bits"]
        case "decimal":
            assert value.compare_total(to_decimal(int(payload["unscaled"]), payload["scale"])) == 0
        case "uuid" | "timeuuid":
            assert value == UUID(payload)
        case "inet":
            assert value == ip_address(payload)
        case "duration":
            nanoseconds = int(payload["nanos"])
            assert value == Duration(payload["months"], payload["days"], nanoseconds)
        case "timestamp":
            milliseconds = int(payload["millis"])
            if payload["iso"] is None:
                assert value == Timestamp(milliseconds)
            else:
                assert value == datetime.fromisoformat(payload["iso"])
                assert value.tzinfo is UTC
        case "date":
            iso = payload["iso"]
            assert value == (Date(payload["days"]) if iso is None else date.fromisoformat(iso))
        case "time":
            check_time(value, int(payload["nanos"]))
        case "empty":
            assert value is EMPTY
        case "list" | "tuple":
            assert isinstance(value, list | tuple)
            check_all(value, payload)
        case "set":
            check_members(list(value), payload)
        case "map":
            assert isinstance(value, Mapping)
            check_all(value, [key for key, _ in payload])
            check_all(value.values(), [item for _, item in payload])
        case "udt":
            assert value._fields == tuple(name for name, _ in payload)
            check_all(value, [field for _, field in payload])
        case _:
            raise AssertionError(tag)


def check_time(value: Any, nanoseconds: int) -> None:
    if nanoseconds % 1000:
        assert value == Time(nanoseconds)
    else:
        midnight = datetime.combine(date.min, time())
        assert value == (midnight + timedelta(microseconds=nanoseconds // 1000)).time()


def check_all(values: Any, tagged: list[Any]) -> None:
    assert len(values) == len(tagged)
    for value, expected in zip(values, tagged, strict=True):
        check(value, expected)


def check_members(members: list[Any], tagged: list[Any]) -> None:
    """Compare members in any order: each is one of the tagged ones."""
    assert len(members) == len(tagged)
    for expected in tagged:
        for position, member in enumerate(members):
            try:
                check(member, expected)
            except AssertionError:
                continue
            del members[position]
            break
    assert not members


@pytest.mark.parametrize("vector", load())
def test_a_cell_is_read(vector: dict[str, Any]) -> None:
    value = decoder(to_type(vector["type_spec"]))(bytes.fromhex(vector["hex"]))
    check(value, vector["value"])


WRITTEN = [param for param in load() if not param.values[0].get("decode_only")]


@pytest.mark.parametrize("vector", WRITTEN)
def test_a_cell_is_written(vector: dict[str, Any]) -> None:
    cql_type = to_type(vector["type_spec"])
    cell = bytes.fromhex(vector["hex"])
    assert encoder(cql_type)(decoder(cql_type)(cell)) == cell
