"""Tokens, partition keys and shards.

Murmur3 is compared with a plain implementation that works byte by byte, and with tokens of a
Cassandra 5.0.5. Murmur3 is invertible, so a key can be made for any token, the lowest included.
"""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from cqlproto.cqltypes import (
    EMPTY,
    NATIVE_TYPES,
    UNSET,
    CustomType,
    ListType,
    MapType,
    SetType,
    TupleType,
    encoder,
)
from cqlproto.exceptions import LocalProtocolError
from cqlproto.messages.metadata import Column
from cqlproto.routing import (
    MAX_TOKEN,
    MIN_TOKEN,
    Sharding,
    composite_key,
    key_function,
    murmur3_token,
    shard_of,
)
from cqlproto.testing import values_of
from tests.support.murmur3 import key_of, slow_token

tokens = st.integers(MIN_TOKEN, MAX_TOKEN)


# --- tokens ---------------------------------------------------------------------------------------


@given(st.binary(min_size=1, max_size=100))
@example(b"\x80")
@example(b"\xff" * 7)
@example(b"\xff" * 8)
@example(b"\x7f\x80" * 7)
@example(b"\xff" * 15)
@example(b"\x01" * 12)
@example(b"\xff" * 16)
@example(b"\xff" * 17)
@example(b"\xff" * 25)
@example(b"\x01" * 40)
def test_token(key: bytes) -> None:
    assert murmur3_token(key) == slow_token(key)


@pytest.mark.parametrize("size", range(1, 50))
def test_token_of_every_size(size: int) -> None:
    for start in range(0, 256, 5):
        key = bytes((start + 37 * place) % 256 for place in range(size))
        assert murmur3_token(key) == slow_token(key)


# What ``SELECT token(key)`` says of keys of a blob column; the last is ``token(0x)``.
VECTORS = [
    ("4d", -7912594386904524724),
    ("40b2", -6953770795381575627),
    ("a321d8b4", 4074343471873226889),
    ("f05210c5b4263f", -880670574649810977),
    ("bc23b8b01772d2dd", -6248437313475731763),
    ("0dc526d8c4fa04084f", -5671766297290834673),
    ("5aadb45520dcd8726b2822a7", -5983555847142028445),
    ("9a6398cffc55ade35b39f1e41cf46c", -960029266391495951),
    ("7c73947fa1821233428dd9684e52ce90", -4956890357536238797),
    ("dc2de67eb248dcdc50c63aabd1bca8335a", 7268098391636041565),
    ("c0033b5f5a4815a172984d64037dd49a8663fb8b3a71e47f", 907361076557600809),
    ("5305f867c631e8335813a103a4942a93037c3d3b1982eab342fb495047dcc7", 804240058995428595),
    ("e63006bd9f35f06cd20582fc8b34ae76a15080297be886decd6dfd42f59e5174", -35480563217339617),
    (
        "5e108bc2842d7716815913af0b3d5cb59563fa9116f71b9a17b37d6d445fe778a071b6abcf9b1c5b",
        -4499502629045595336,
    ),
    ("", MIN_TOKEN),
]


@pytest.mark.parametrize(("key", "token"), VECTORS)
def test_token_of_a_server(key: str, token: int) -> None:
    assert murmur3_token(bytes.fromhex(key)) == token


@given(tokens)
@example(MAX_TOKEN)
@example(MIN_TOKEN + 1)
@example(-1)
@example(0)
def test_token_of_a_key_that_was_made_for_it(token: int) -> None:
    assume(token != MIN_TOKEN)
    assert murmur3_token(key_of(token)) == token


def test_the_lowest_token_of_a_key_is_the_highest() -> None:
    key = key_of(MIN_TOKEN)
    assert key != key_of(MAX_TOKEN)
    assert murmur3_token(key) == MAX_TOKEN


# --- partition keys -------------------------------------------------------------------------------


def columns(*types: Any) -> list[Column]:
    return [Column("ks", "t", f"c{number}", each) for number, each in enumerate(types)]


N = NATIVE_TYPES
KEY_TYPES = [
    *(each for name, each in N.items() if name not in ("counter", "duration")),
    CustomType("com.example.Own"),
    ListType(N["int"]),
    SetType(N["text"]),
    MapType(N["text"], ListType(N["int"])),
    TupleType((N["int"], SetType(N["int"]))),
]


@given(st.lists(st.binary(max_size=20), min_size=2, max_size=5))
def test_composite_key(parts: list[bytes]) -> None:
    rest = composite_key(parts)
    for part in parts:
        size = int.from_bytes(rest[:2], "big")
        assert (rest[2 : 2 + size], rest[2 + size : 3 + size]) == (part, b"\0")
        rest = rest[3 + size :]
    assert rest == b""


@given(st.binary(max_size=20))
def test_composite_key_of_one_part(part: bytes) -> None:
    assert composite_key([part]) == part


def test_composite_key_refuses() -> None:
    with pytest.raises(LocalProtocolError, match="at least one column"):
        composite_key([])
    for parts in ([bytes(65536)], [b"", bytes(65536)]):
        with pytest.raises(LocalProtocolError, match="at most 65,535 bytes, got 65,536"):
            composite_key(parts)
    assert len(composite_key([bytes(65535)] * 2)) == 2 * 65538


@given(st.data())
def test_key_function(data: st.DataObject) -> None:
    types = data.draw(st.lists(st.sampled_from(KEY_TYPES), min_size=1, max_size=4))
    values = [data.draw(values_of(each)) for each in types]
    indexes = data.draw(
        st.lists(st.integers(0, len(types) - 1), min_size=1, max_size=4, unique=True)
    )
    expected = composite_key([encoder(types[index])(values[index]) for index in indexes])
    assert key_function(columns(*types), indexes)(values) == expected


@pytest.mark.parametrize(
    "bad", [None, UNSET, object(), [object()]], ids=["None", "UNSET", "object", "list"]
)
@pytest.mark.parametrize("key_type", KEY_TYPES, ids=str)
def test_no_key_of_a_value_that_cannot_be_encoded(key_type: Any, bad: object) -> None:
    assert key_function(columns(key_type), [0])([bad]) is None
    assert key_function(columns(N["int"], key_type), [0, 1])([1, bad]) is None


@pytest.mark.parametrize("name", ["int", "double", "text", "uuid"])
def test_no_key_of_too_few_values(name: str) -> None:
    assert key_function(columns(N[name], N[name]), [1])([]) is None
    assert key_function(columns(N[name], N[name]), [0, 1])([]) is None


def test_no_key_that_is_too_long() -> None:
    single = key_function(columns(N["blob"]), [0])
    double = key_function(columns(N["blob"], N["blob"]), [1, 0])
    assert single([bytes(65535)]) == bytes(65535)
    assert single([bytes(65536)]) is None
    assert double([bytes(65535), b""]) is not None
    assert double([bytes(65536), b""]) is None


def test_numbers() -> None:
    key = key_function(columns(N["int"]), [0])
    assert key([-2]) == b"\xff\xff\xff\xfe"
    assert key([2**31]) is None
    assert key([-(2**31) - 1]) is None
    assert key([True]) is None
    assert key([EMPTY]) == b""

    class Index:
        def __index__(self) -> int:
            return 7

    assert key([Index()]) == b"\0\0\0\x07"
    huge = key_function(columns(N["float"]), [0])
    assert huge([1e300]) is None
    assert huge([1]) == b"\x3f\x80\0\0"


def test_a_value_that_raises() -> None:
    class Bad:
        def __index__(self) -> int:
            raise RuntimeError("no")

    assert key_function(columns(N["int"]), [0])([Bad()]) is None
    assert key_function(columns(N["int"], N["int"]), [0, 1])([1, Bad()]) is None


@pytest.mark.parametrize(
    ("key_type", "wrap"),
    [
        (ListType(N["int"]), lambda values: values),
        (ListType(ListType(N["int"])), lambda values: [[1], values]),
        (TupleType((N["int"], ListType(N["int"]))), lambda values: (1, values)),
        (MapType(N["int"], ListType(N["int"])), lambda values: {1: [1], 2: values}),
    ],
)
def test_an_iterator_is_not_used_up(key_type: Any, wrap: Any) -> None:
    for types, indexes in (([key_type], [0]), ([key_type, N["int"]], [0, 1])):
        values = iter([1, 2])
        assert key_function(columns(*types), indexes)([wrap(values), 1]) is None
        assert list(values) == [1, 2]


def test_a_set_in_any_order() -> None:
    key = key_function(columns(SetType(N["uuid"])), [0])
    members = {uuid.uuid5(uuid.NAMESPACE_DNS, str(number)) for number in range(5)}
    assert key([members]) == key([sorted(members, key=lambda each: each.bytes)])


def test_key_function_refuses() -> None:
    with pytest.raises(LocalProtocolError, match="at least one column"):
        key_function(columns(N["int"]), [])
    for indexes in ([1], [0, 1], [-1]):
        with pytest.raises(LocalProtocolError, match="partition key indexes must be"):
            key_function(columns(N["int"]), indexes)


# --- shards ---------------------------------------------------------------------------------------

SCYLLA = {
    "SCYLLA_SHARD": ["3"],
    "SCYLLA_NR_SHARDS": ["12"],
    "SCYLLA_PARTITIONER": ["org.apache.cassandra.dht.Murmur3Partitioner"],
    "SCYLLA_SHARDING_ALGORITHM": ["biased-token-round-robin"],
    "SCYLLA_SHARDING_IGNORE_MSB": ["12"],
    "SCYLLA_SHARD_AWARE_PORT": ["19042"],
    "SCYLLA_SHARD_AWARE_PORT_SSL": ["19142"],
}


@given(tokens, st.integers(1, 256), st.integers(0, 20))
def test_shards_share_the_tokens_that_are_left(token: int, shards: int, ignored: int) -> None:
    # The highest bits dropped, the rest is divided into as many equal parts as there are shards.
    span = 1 << (64 - ignored)
    place = (token - MIN_TOKEN) % span
    shard = shard_of(token, shards, ignored)
    assert shard * span <= place * shards < (shard + 1) * span
    assert 0 <= shard < shards


def test_shards_in_order() -> None:
    assert [shard_of(token, 4, 0) for token in (MIN_TOKEN, -(1 << 62), -1, 0, MAX_TOKEN)] == [
        0, 1, 1, 2, 3,
    ]  # fmt: skip
    assert shard_of(MAX_TOKEN, 1, 12) == 0


def test_sharding() -> None:
    sharding = Sharding.from_supported(SCYLLA)
    assert sharding == Sharding(12, 12, 3, 19042, 19142)
    assert sharding.shard_of(12345) == shard_of(12345, 12, 12)


def test_sharding_without_ports() -> None:
    options = {name: value for name, value in SCYLLA.items() if "PORT" not in name}
    assert Sharding.from_supported(options) == Sharding(12, 12, 3)
    for bad in ("0", "65536", "x", ""):
        assert Sharding.from_supported(options | {"SCYLLA_SHARD_AWARE_PORT": [bad]}) == Sharding(
            12, 12, 3
        )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SCYLLA_SHARD", "12"),
        ("SCYLLA_SHARD", "-1"),
        ("SCYLLA_SHARD", "\u0663"),
        ("SCYLLA_NR_SHARDS", "0"),
        ("SCYLLA_NR_SHARDS", "65536"),
        ("SCYLLA_NR_SHARDS", "9" * 5000),
        ("SCYLLA_PARTITIONER", "org.apache.cassandra.dht.RandomPartitioner"),
        ("SCYLLA_SHARDING_ALGORITHM", "another"),
        ("SCYLLA_SHARDING_IGNORE_MSB", "64"),
    ],
)
def test_unknown_sharding(name: str, value: str) -> None:
    assert Sharding.from_supported(SCYLLA | {name: [value]}) is None
    assert Sharding.from_supported(SCYLLA | {name: []}) is None
    assert Sharding.from_supported({key: SCYLLA[key] for key in SCYLLA if key != name}) is None


def test_no_sharding() -> None:
    assert Sharding.from_supported({"CQL_VERSION": ["3.4.7"]}) is None
