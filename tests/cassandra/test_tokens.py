"""Tokens as a real Cassandra computes them, of keys of every type that a partition key may have.

A row is written under a key that Hypothesis made, and read by the same key together with the
server's ``token()`` of it. The partition key is found as a client finds it: by the indexes that
PREPARED names, from the values as they are bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqlproto.cqltypes import NATIVE_TYPES, encoder
from cqlproto.messages import Rows
from cqlproto.routing import MAX_TOKEN, MIN_TOKEN, key_function, murmur3_token
from cqlproto.rows import decode_rows
from cqlproto.testing import values_of
from tests.cassandra.core import CoreConnection
from tests.support.murmur3 import key_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqlproto.cqltypes import CQLType
    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra

SCALARS = sorted(name for name in NATIVE_TYPES if name not in ("counter", "duration"))
NESTED = [
    "frozen<list<int>>",
    "frozen<set<text>>",
    "frozen<map<text, uuid>>",
    "tuple<int, text>",
    "frozen<tuple<timestamp, frozen<set<int>>>>",
    "vector<float, 3>",
]
SINGLE = [*SCALARS, *NESTED]
COMPOSITE = [
    ("int", "text"),
    ("text", "text", "blob"),
    ("uuid", "bigint", "boolean", "date"),
    ("blob", "frozen<list<text>>"),
    ("smallint", "decimal", "inet", "ascii", "varint"),
]
RUNS = settings(max_examples=60)


class Table:
    """A table whose whole primary key is its partition key."""

    def __init__(self, connection: CoreConnection, name: str, types: tuple[str, ...]) -> None:
        names = [f"k{number}" for number in range(len(types))]
        fields = ", ".join(f"{each} {kind}" for each, kind in zip(names, types, strict=True))
        connection.query(f"CREATE TABLE {name} ({fields}, PRIMARY KEY (({', '.join(names)})))")
        # The markers are in another order than the key, so that the indexes count.
        backwards = names[::-1]
        markers = ", ".join("?" * len(types))
        given = " AND ".join(f"{each} = ?" for each in backwards)
        self.connection = connection
        self.write = connection.prepare(
            f"INSERT INTO {name} ({', '.join(backwards)}) VALUES ({markers})"
        )
        self.read = connection.prepare(
            f"SELECT token({', '.join(names)}) FROM {name} WHERE {given}"
        )
        self.types: list[CQLType] = [column.type for column in self.write.bind.columns]
        self.keys = [
            key_function(statement.bind.columns, statement.bind.key_indices)
            for statement in (self.write, self.read)
        ]

    def check(self, values: list[Any]) -> None:
        """Write a row, read its token by its key, and compare."""
        self.connection.execute(self.write, values)
        answer = self.connection.execute(self.read, values)
        assert isinstance(answer, Rows)
        ((token,),) = decode_rows(answer, tuple)
        for found in self.keys:
            key = found(values)
            assert key is not None
            assert murmur3_token(key) == token


@pytest.fixture(scope="module")
def connection(cassandra: Node) -> Iterator[CoreConnection]:
    with CoreConnection(cassandra) as made:
        yield made


def values(cql_type: CQLType) -> st.SearchStrategy[Any]:
    """Values whose cell isn't empty: some types have one such value, which no key may be."""
    encode = encoder(cql_type)
    return values_of(cql_type).filter(lambda value: 0 < len(encode(value)) < 60_000)


@pytest.mark.parametrize("kind", SINGLE)
def test_key_of_one_column(connection: CoreConnection, keyspace: str, kind: str) -> None:
    table = Table(connection, f"{keyspace}.single{SINGLE.index(kind)}", (kind,))

    @RUNS
    @given(values(table.types[0]))
    def check(value: Any) -> None:
        table.check([value])

    check()


@pytest.mark.parametrize("kinds", COMPOSITE, ids=", ".join)
def test_composite_key(connection: CoreConnection, keyspace: str, kinds: tuple[str, ...]) -> None:
    table = Table(connection, f"{keyspace}.composite{COMPOSITE.index(kinds)}", kinds)

    @RUNS
    @given(st.tuples(*map(values_of, table.types)))
    def check(row: tuple[Any, ...]) -> None:
        table.check(list(row))

    check()


def test_keys_of_every_size(connection: CoreConnection, keyspace: str) -> None:
    table = Table(connection, f"{keyspace}.sizes", ("blob",))
    for size in range(1, 70):
        for byte in (0x00, 0x7F, 0x80, 0xFF):
            table.check([bytes([byte]) * size])
        table.check([bytes((131 * place + size) % 256 for place in range(size))])


def test_keys_of_chosen_tokens(connection: CoreConnection, keyspace: str) -> None:
    """The lowest token is no key's: the server gives the highest instead."""
    table = Table(connection, f"{keyspace}.chosen", ("blob",))
    for token in (MIN_TOKEN, MIN_TOKEN + 1, -1, 0, 1, MAX_TOKEN - 1, MAX_TOKEN):
        key = key_of(token)
        table.check([key])
        assert murmur3_token(key) == (token if token != MIN_TOKEN else MAX_TOKEN)
