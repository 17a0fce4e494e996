"""Edge cases of values: empty, null, unset, ends of ranges, altered user-defined types."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import itertools
import math
import random
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import cqlproto_anyio as cql
from cqlproto.cqltypes import EMPTY, UNSET, LosslessMap, LosslessSet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra

# The types whose cells may be empty on this server; the others it refuses.
EMPTY_IS_A_VALUE = {
    "ascii": "",
    "bigint": EMPTY,
    "blob": b"",
    "boolean": EMPTY,
    "decimal": EMPTY,
    "double": EMPTY,
    "float": EMPTY,
    "inet": EMPTY,
    "int": EMPTY,
    "text": "",
    "timestamp": EMPTY,
    "timeuuid": EMPTY,
    "uuid": EMPTY,
    "varint": EMPTY,
}
EMPTY_IS_REFUSED = ("date", "duration", "smallint", "time", "tinyint")
OTHERS = {
    "address": "frozen<address>",
    "grown": "frozen<grown>",
    "pair": "tuple<int, text>",
    "pairs": "list<frozen<tuple<int, text>>>",
    "doubles": "set<double>",
    "by_double": "map<double, text>",
    "frozen_list": "frozen<list<int>>",
    "loose": "loose",
}
keys = itertools.count()


@dataclasses.dataclass
class Address:
    street: str | None
    no: int | None = None


class Named(NamedTuple):
    no: int
    street: str


@pytest.fixture(scope="module")
async def session(
    cassandra: Node, keyspace: str, anyio_backend: object
) -> AsyncIterator[cql.Session]:
    async with cql.connect(cassandra.host, port=cassandra.port, keyspace=keyspace) as session:
        for name in ("address", "grown", "loose"):
            await session.execute(f"CREATE TYPE IF NOT EXISTS {name} (street text, no int)")
        names = (*EMPTY_IS_A_VALUE, *EMPTY_IS_REFUSED)
        columns = [f"v_{name} {name}" for name in names]
        columns += [f"v_{name} {cql_type}" for name, cql_type in OTHERS.items()]
        await session.execute(
            f"CREATE TABLE IF NOT EXISTS edges (id int PRIMARY KEY, {', '.join(columns)})"
        )
        yield session


async def sent(session: cql.Session, name: str, value: Any) -> Any:
    """Write a value into a row of its own and return what comes back."""
    key = next(keys)
    await session.execute(f"INSERT INTO edges (id, v_{name}) VALUES (?, ?)", (key, value))
    return await read(session, name, key)


async def read(session: cql.Session, name: str, key: int) -> Any:
    return (await session.execute(f"SELECT v_{name} FROM edges WHERE id = ?", (key,))).scalar()


# -- empty, null, unset


@pytest.mark.parametrize("name", EMPTY_IS_A_VALUE)
async def test_empty_null_and_unset_differ(session: cql.Session, name: str) -> None:
    key = next(keys)
    insert = f"INSERT INTO edges (id, v_{name}) VALUES (?, ?)"
    cell = "v_blob" if name == "blob" else f"{name}AsBlob(v_{name})"
    blob = f"SELECT {cell} FROM edges WHERE id = ?"
    empty = EMPTY_IS_A_VALUE[name]
    await session.execute(insert, (key, empty))
    again = await read(session, name, key)
    assert again == empty
    assert type(again) is type(empty)
    assert (await session.execute(blob, (key,))).scalar() == b""
    await session.execute(insert, (key, UNSET))
    assert await read(session, name, key) == empty
    await session.execute(insert, (key, None))
    assert await read(session, name, key) is None
    await session.execute(insert, {"id": key, f"v_{name}": UNSET})
    assert await read(session, name, key) is None


@pytest.mark.parametrize("name", EMPTY_IS_REFUSED)
async def test_the_server_refuses_some_empty_values(session: cql.Session, name: str) -> None:
    with pytest.raises(cql.InvalidQuery, match="[Ee]xpected"):
        await sent(session, name, EMPTY)


async def test_unset_in_a_batch_and_where_it_cannot_be(session: cql.Session) -> None:
    key = next(keys)
    insert = "INSERT INTO edges (id, v_int, v_text) VALUES (?, ?, ?)"
    await session.batch([(insert, (key, 1, "a")), (insert, (key, UNSET, "b"))])
    row = await session.execute("SELECT v_int, v_text FROM edges WHERE id = ?", (key,), row=tuple)
    assert row.one() == (1, "b")
    with pytest.raises(cql.InvalidQuery, match="unset"):
        await session.execute("SELECT * FROM edges WHERE id = ?", (UNSET,))
    with pytest.raises(cql.InvalidQuery, match="null"):
        await session.execute(insert, (None, 1, "a"))


async def test_empty_collections(session: cql.Session) -> None:
    assert await sent(session, "doubles", set()) is None
    assert await sent(session, "frozen_list", []) == []


# -- the ends of ranges


@pytest.mark.parametrize(
    ("name", "bits"), [("tinyint", 8), ("smallint", 16), ("int", 32), ("bigint", 64)]
)
async def test_the_ends_of_integers(session: cql.Session, name: str, bits: int) -> None:
    last = (1 << bits - 1) - 1
    for value in (0, -1, 1, last, -last - 1):
        assert await sent(session, name, value) == value
    for value in (last + 1, -last - 2):
        with pytest.raises(cql.ValueConversionError, match=f"must be {-last - 1} to {last}, got"):
            await sent(session, name, value)


async def test_the_ends_of_varint_and_decimal(session: cql.Session) -> None:
    for bits in (7, 8, 15, 16, 63, 64, 127, 128, 4096):
        for value in (1 << bits, (1 << bits) - 1, -(1 << bits), -(1 << bits) - 1):
            assert await sent(session, "varint", value) == value
    for text in ("0", "0E+10", "-1E-30", "1E+1000", "1E-10000", "-99999999999999999999.5"):
        again = await sent(session, "decimal", decimal.Decimal(text))
        assert str(again) == text
    assert str(await sent(session, "decimal", decimal.Decimal("-0.00"))) == "0.00"
    assert await sent(session, "decimal", 17) == 17


async def test_floats_keep_every_bit(session: cql.Session) -> None:
    for value in (-0.0, math.inf, -math.inf, 5e-324, 1.7976931348623157e308, 0.1):
        assert struct.pack(">d", await sent(session, "double", value)) == struct.pack(">d", value)
    assert math.isnan(await sent(session, "double", math.nan))
    assert math.isnan(await sent(session, "float", math.nan))
    assert await sent(session, "float", 3.4028234663852886e38) == 3.4028234663852886e38
    assert await sent(session, "float", 0.1) == struct.unpack(">f", struct.pack(">f", 0.1))[0]


async def test_zeros_that_python_would_merge(session: cql.Session) -> None:
    zeros = await sent(session, "doubles", [0.0, -0.0])
    assert zeros == LosslessSet([-0.0, 0.0])
    assert await sent(session, "doubles", zeros) == zeros
    assert [math.copysign(1, zero) for zero in zeros] == [-1, 1]
    by_zero = await sent(session, "by_double", LosslessMap([(0.0, "a"), (-0.0, "b")]))
    assert [(math.copysign(1, key), value) for key, value in by_zero.items()] == [
        (-1, "b"),
        (1, "a"),
    ]
    assert await sent(session, "by_double", by_zero) == by_zero
    nans = await sent(session, "doubles", {math.nan, 1.0})
    assert sorted(map(str, nans)) == ["1.0", "nan"]


async def test_beyond_what_datetime_holds(session: cql.Session) -> None:
    ends = ((1 << 63) - 1, -(1 << 63), 253_402_300_800_000, -62_135_596_800_001)
    for milliseconds in ends:
        value = cql.Timestamp(milliseconds)
        assert await sent(session, "timestamp", value) == value
    for at in (datetime.datetime.max.replace(microsecond=999_000), datetime.datetime.min):
        aware = at.replace(tzinfo=datetime.UTC)
        assert await sent(session, "timestamp", aware) == aware
    for days in ((1 << 31) - 1, -(1 << 31), 2_932_897, -719_163):
        assert await sent(session, "date", cql.Date(days)) == cql.Date(days)
    for day in (datetime.date.max, datetime.date.min):
        assert await sent(session, "date", day) == day
    assert await sent(session, "date", cql.Date(0)) == datetime.date(1970, 1, 1)
    assert await sent(session, "time", cql.Time(1)) == cql.Time(1)
    assert await sent(session, "time", datetime.time.max) == datetime.time.max
    longest = cql.Duration((1 << 31) - 1, (1 << 31) - 1, (1 << 63) - 1)
    assert await sent(session, "duration", longest) == longest
    lowest = cql.Duration(-(1 << 31), -(1 << 31), -(1 << 63))
    assert await sent(session, "duration", lowest) == lowest


async def test_other_time_zones_and_microseconds(session: cql.Session) -> None:
    zone = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
    at = datetime.datetime(2024, 2, 29, 1, 2, 3, 456_789, zone)
    again = await sent(session, "timestamp", at)
    assert again == at.replace(microsecond=456_000)
    assert again.tzinfo is datetime.UTC
    before = datetime.datetime(1969, 12, 31, 23, 59, 59, 999_999, datetime.UTC)
    assert await sent(session, "timestamp", before) == before.replace(microsecond=999_000)


# -- tuples and user-defined types


async def test_nulls_in_tuples(session: cql.Session) -> None:
    for value in ((1, "a"), (None, "a"), (1, None), (None, None), (EMPTY, "")):
        assert await sent(session, "pair", value) == value
    assert await sent(session, "pair", (1,)) == (1, None)
    assert await sent(session, "pair", [1, "a"]) == (1, "a")
    pairs = [(1, None), (None, "b")]
    assert await sent(session, "pairs", pairs) == pairs


@pytest.mark.parametrize(
    "value",
    [
        {"street": "Hill", "no": 7},
        {"no": 7, "street": "Hill"},
        Address("Hill", 7),
        Named(7, "Hill"),
        ("Hill", 7),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("name", ["address", "loose"])
async def test_a_user_defined_type_from_what_has_its_fields(
    session: cql.Session, name: str, value: Any
) -> None:
    again = await sent(session, name, value)
    assert (again.street, again.no) == ("Hill", 7)
    assert again["street"] == again[0] == "Hill"
    assert again._asdict() == {"street": "Hill", "no": 7}
    assert await sent(session, name, again) == again


async def test_nulls_in_user_defined_types(session: cql.Session) -> None:
    for value in ({"no": 1}, Address(None, 1), (None, 1)):
        assert await sent(session, "address", value) == (None, 1)
    assert await sent(session, "address", {}) == (None, None)
    assert await sent(session, "address", ("", EMPTY)) == ("", EMPTY)
    assert await sent(session, "loose", {}) is None


async def test_a_user_defined_type_that_grows(session: cql.Session) -> None:
    field = f"field{next(keys)}"
    key = next(keys)
    insert = await session.prepare("INSERT INTO edges (id, v_grown) VALUES (?, ?)")
    select = await session.prepare("SELECT v_grown FROM edges WHERE id = ?")
    await session.execute(insert, (key, {"street": "Hill", "no": 7}))
    old = (await session.execute(select, (key,))).scalar()
    await session.execute(f"ALTER TYPE grown ADD {field} text")
    # What was written before has one field less on disk; the new one is null.
    for query in (select, "SELECT v_grown FROM edges WHERE id = ?"):
        again = (await session.execute(query, (key,))).scalar()
        assert again._fields == (*old._fields, field)
        assert again[:2] == ("Hill", 7)
        assert again[field] is None
    await session.execute(insert, (key, old))
    value = {"street": "Lake", "no": 8, field: "new"}
    await session.execute(insert, (key, value))
    grown = (await session.execute(select, (key,))).scalar()
    assert grown[field] == "new"
    await session.execute(insert, (key, grown))
    assert (await session.execute(select, (key,))).scalar() == grown


# -- compression


@pytest.mark.uvloop
@pytest.mark.parametrize("name", ["lz4", "snappy"])
async def test_compressed_bodies(cassandra: Node, keyspace: str, name: str) -> None:
    noise = random.Random(1).randbytes(3 << 20)
    texts = ["", "a" * (3 << 20), "Größe 🔑 " * 100_000]
    async with cql.connect(
        cassandra.host,
        port=cassandra.port,
        keyspace=keyspace,
        config=cql.Config(compression=name),
    ) as session:
        await session.execute(
            "CREATE TABLE IF NOT EXISTS large"
            " (id int, at int, t text, b blob, PRIMARY KEY (id, at))"
        )
        insert = "INSERT INTO large (id, at, t, b) VALUES (?, ?, ?, ?)"
        for at, text in enumerate(texts):
            await session.execute(insert, (1, at, text, noise))
        result = await session.execute("SELECT t, b FROM large WHERE id = ?", (1,), row=tuple)
        assert result.rows == [(text, noise) for text in texts]
        rows = [
            row.t async for row in session.stream("SELECT t FROM large WHERE id = 1", page_size=1)
        ]
        assert rows == texts
        await session.batch([(insert, (2, at, "small", b"")) for at in range(10)])
        assert len(await session.execute("SELECT at FROM large WHERE id = 2")) == 10
        with pytest.raises(cql.InvalidSyntax, match="SELEKT"):
            await session.execute("SELEKT")
        clients = await session.execute("SELECT client_options FROM system_views.clients")
        assert name in {row.client_options.get("COMPRESSION") for row in clients}


async def test_timeuuids_are_the_servers(session: cql.Session) -> None:
    for moment in (
        datetime.datetime(2024, 2, 29, 12, 30, 0, 123_456, tzinfo=datetime.UTC),
        datetime.datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=datetime.UTC),
        datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC),
    ):
        made = cql.timeuuid(moment.replace(microsecond=moment.microsecond // 1000 * 1000))
        select = (
            "SELECT minTimeuuid((timestamp) ?), maxTimeuuid((timestamp) ?),"
            " toTimestamp((timeuuid) ?) FROM system.local"
        )
        row = (await session.execute(select, (moment, moment, made), row=tuple)).one()
        assert row[:2] == (cql.min_timeuuid(moment), cql.max_timeuuid(moment))
        assert row[2] == cql.timeuuid_datetime(row[0]) == cql.timeuuid_datetime(made)


class Entry(NamedTuple):
    """Its fields are not in the order of the markers."""

    numbers: Any
    id: int


async def test_generators_and_named_tuples(session: cql.Session) -> None:
    """Each is read once and bound by name, in every verb, and rows bind as they came."""
    insert = "INSERT INTO edges (id, v_frozen_list) VALUES (:id, :numbers)"
    entries = [next(keys) for _ in range(5)]
    await session.batch([(insert, Entry((n for n in (1, 2)), key)) for key in entries[:3]])
    for key in entries[3:]:
        await session.execute(insert, Entry(iter([1, 2]), key))
    select = "SELECT v_frozen_list AS numbers, id FROM edges WHERE id IN ? "
    rows = (await session.execute(select, (iter(entries),))).rows
    assert sorted(rows, key=lambda row: row.id) == [([1, 2], key) for key in entries]
    page = await session.page(select, (iter(entries),), page_size=2)
    seen = list(page)
    while page.next_token:
        page = await session.page(select, (iter(entries),), page_size=2, token=page.next_token)
        seen += page
    assert sorted(row.id for row in seen) == entries
    await session.execute(insert, rows[0])
    await session.execute(insert, {"id": rows[0].id}, partial=True)
    assert await read(session, "frozen_list", rows[0].id) == [1, 2]
