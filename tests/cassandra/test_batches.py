"""Batches of every kind on a real node, and batches that the client or the node refuses."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

import cqlproto_anyio as cql
from cqlproto import ProtocolVersion

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.cassandra.conftest import Node

pytestmark = pytest.mark.cassandra

INSERT = "INSERT INTO items (k, c, v) VALUES (?, ?, ?)"
INSERT_IF = INSERT + " IF NOT EXISTS"
HIT = "UPDATE hits SET n = n + ? WHERE k = ?"
TABLES = (
    "items (k int, c int, v text, head int static, PRIMARY KEY (k, c))",
    "others (k int, c int, v text, PRIMARY KEY (k, c))",
    "hits (k int PRIMARY KEY, n counter)",
)
fresh = itertools.count(1)


@pytest.fixture(scope="module", autouse=True)
def tables(cassandra: Node, keyspace: str) -> None:
    cassandra.cql(*[f"CREATE TABLE {keyspace}.{table}" for table in TABLES])


@pytest.fixture(scope="module", params=list(ProtocolVersion), ids=str)
async def session(
    cassandra: Node, keyspace: str, anyio_backend: object, request: pytest.FixtureRequest
) -> AsyncIterator[cql.Session]:
    config = cql.Config(protocol_version=request.param)
    async with cql.connect(
        cassandra.host, port=cassandra.port, keyspace=keyspace, config=config
    ) as session:
        yield session


async def items_of(session: cql.Session, k: int) -> dict[int, str | None]:
    result = await session.execute("SELECT c, v FROM items WHERE k = ?", (k,))
    return {row.c: row.v for row in result}


async def hits_of(session: cql.Session, k: int) -> int | None:
    row = (await session.execute("SELECT n FROM hits WHERE k = ?", (k,))).first()
    return None if row is None else row.n


# -- all kinds


@pytest.mark.parametrize("kind", ["logged", "unlogged"])
async def test_statements_of_every_form(session: cql.Session, kind: Any) -> None:
    k = next(fresh)
    prepared = await session.prepare(INSERT)
    result = await session.batch(
        [
            f"INSERT INTO items (k, c, v) VALUES ({k}, 1, 'text')",
            (f"INSERT INTO items (k, c, v) VALUES ({k}, 2, 'alone')", None),
            (INSERT, (k, 3, "sequence")),
            (INSERT, [k, 4, None]),
            (prepared, (k, 5, "prepared")),
            ("INSERT INTO items (k, c, v) VALUES (:k, :c, :v)", {"k": k, "c": 6, "v": "mapping"}),
            (INSERT, (k, 7, cql.UNSET)),
            ("UPDATE items SET v = ? WHERE k = ? AND c = ?", ("update", k, 8)),
        ]
        if session.protocol_version.has_unset
        else [
            (INSERT, (k, 3, "sequence")),
            f"INSERT INTO items (k, c, v) VALUES ({k}, 1, 'text')",
            (prepared, (k, 5, "prepared")),
        ],
        kind=kind,
    )
    assert result.rows == []
    with pytest.raises(cql.ResultError, match="only a statement with IF"):
        _ = result.applied
    expected = {1: "text", 2: "alone", 3: "sequence", 4: None, 5: "prepared", 6: "mapping"}
    expected |= {7: None, 8: "update"}
    if not session.protocol_version.has_unset:
        expected = {each: expected[each] for each in (1, 3, 5)}
    assert await items_of(session, k) == expected


async def test_counters(session: cql.Session) -> None:
    first, second = next(fresh), next(fresh)
    prepared = await session.prepare(HIT)
    for _ in range(2):
        await session.batch(
            [
                (prepared, (10, first)),
                (HIT, (-3, second)),
                ("UPDATE hits SET n = n - 1 WHERE k = ?", (first,)),
                f"UPDATE hits SET n = n + 1 WHERE k = {second}",
            ],
            kind="counter",
        )
    assert (await hits_of(session, first), await hits_of(session, second)) == (18, -4)
    await session.batch([(HIT, (1, first)), (HIT, (1, first))], kind="unlogged")
    assert await hits_of(session, first) == 20


async def test_any_iterable_will_do(session: cql.Session) -> None:
    k = next(fresh)
    await session.batch((INSERT, (k, c, str(c))) for c in range(100))
    assert await items_of(session, k) == {c: str(c) for c in range(100)}


async def test_as_many_as_there_can_be(session: cql.Session) -> None:
    k = next(fresh)
    prepared = await session.prepare("UPDATE items SET v = ? WHERE k = ? AND c = ?")
    values = ((str(number), k, number % 10) for number in range(65_535))
    await session.batch([(prepared, each) for each in values], kind="unlogged", timeout=60)
    assert set(await items_of(session, k)) == set(range(10))


async def test_options_go_with_a_batch(session: cql.Session) -> None:
    k = next(fresh)
    await session.batch([(INSERT, (k, 1, "new"))], timestamp=2_000_000)
    await session.batch([(INSERT, (k, 1, "old")), (INSERT, (k, 2, "old"))], timestamp=1_000_000)
    assert await items_of(session, k) == {1: "new", 2: "old"}
    result = await session.batch([(INSERT, (k, 3, "x"))], trace=True)
    assert result.tracing_id is not None
    with pytest.raises(cql.Unavailable):
        await session.batch([(INSERT, (k, 3, "x"))], consistency=cql.Consistency.THREE)


async def test_in_one_batch_a_delete_beats_an_insert(session: cql.Session) -> None:
    """All statements have the same timestamp, whatever their order; the docs warn of this."""
    k = next(fresh)
    delete = ("DELETE FROM items WHERE k = ? AND c = ?", (k, 1))
    await session.batch([delete, (INSERT, (k, 1, "x"))])
    assert await items_of(session, k) == {}


# -- conditions, by name


async def test_a_batch_of_conditions_applies_whole_or_not_at_all(session: cql.Session) -> None:
    k = next(fresh)
    first = await session.batch([(INSERT_IF, (k, 1, "a")), (INSERT_IF, (k, 2, "b"))])
    assert first.applied
    assert first.existing is None
    assert first.columns == ("[applied]",)
    second = await session.batch(
        [(INSERT_IF, (k, 3, "c")), (INSERT_IF, (k, 2, "c")), (INSERT, (k, 4, "d"))]
    )
    assert not second.applied
    assert second.existing == {"k": k, "c": 2, "head": None, "v": "b"}
    assert await items_of(session, k) == {1: "a", 2: "b"}


async def test_every_row_that_stood_in_the_way_is_there(session: cql.Session) -> None:
    k = next(fresh)
    await session.batch([(INSERT, (k, 1, "a")), (INSERT, (k, 2, "b"))])
    update = "UPDATE items SET v = 'new' WHERE k = ? AND c = ? IF v = ?"
    refused = await session.batch([(update, (k, 1, "x")), (update, (k, 2, "y"))])
    assert not refused.applied
    assert [(row["[applied]"], row["c"], row["v"]) for row in refused] == [
        (False, 1, "a"),
        (False, 2, "b"),
    ]
    assert refused.existing == {"k": k, "c": 1, "v": "a"}
    applied = await session.batch([(update, (k, 1, "a")), (update, (k, 2, "b"))])
    assert applied.applied
    assert await items_of(session, k) == {1: "new", 2: "new"}


@pytest.mark.parametrize("kind", ["logged", "unlogged"])
async def test_a_static_column_guards_a_partition(session: cql.Session, kind: Any) -> None:
    """As in an event store: the head moves and the rows are written, or neither happens."""
    k = next(fresh)
    move = "UPDATE items SET head = ? WHERE k = ? IF head = ?"
    assert (await session.batch([(move, (2, k, None)), (INSERT, (k, 1, "a"))], kind=kind)).applied
    late = await session.batch([(move, (2, k, None)), (INSERT, (k, 2, "b"))], kind=kind)
    assert not late.applied
    assert late.existing is not None
    assert late.existing["head"] == 2
    assert await items_of(session, k) == {1: "a"}


async def test_conditions_without_markers(session: cql.Session) -> None:
    k = next(fresh)
    text = f"INSERT INTO items (k, c, v) VALUES ({k}, 1, 'a') IF NOT EXISTS"
    assert (await session.batch([text])).applied
    again = await session.batch([text], serial_consistency=cql.Consistency.LOCAL_SERIAL)
    assert again.existing == {"k": k, "c": 1, "head": None, "v": "a"}


# -- what is refused


@pytest.fixture
def others() -> tuple[str, Any]:
    return ("INSERT INTO others (k, c, v) VALUES (?, ?, ?)", (1, 1, "a"))


WRONG: dict[str, tuple[list[Any], Any]] = {
    "a SELECT": (["SELECT * FROM items"], "logged"),
    "a SELECT, prepared": ([("SELECT * FROM items WHERE k = ?", (1,))], "unlogged"),
    "a TRUNCATE": (["TRUNCATE items"], "logged"),
    "a batch": (["BEGIN BATCH INSERT INTO items (k, c) VALUES (1, 1) APPLY BATCH"], "logged"),
    "a counter, logged": ([(HIT, (1, 1))], "logged"),
    "a counter among others": ([(INSERT, (1, 1, "a")), (HIT, (1, 1))], "unlogged"),
    "others among counters": ([(HIT, (1, 1)), (INSERT, (1, 1, "a"))], "counter"),
    "a condition among counters": (
        [("UPDATE hits SET n = n + 1 WHERE k = 1 IF EXISTS")],
        "counter",
    ),
    "a condition over tables": (
        [(INSERT_IF, (1, 1, "a")), ("INSERT INTO others (k, c) VALUES (?, ?)", (1, 1))],
        "logged",
    ),
}


@pytest.mark.parametrize("name", WRONG)
async def test_mistakes_are_found_without_asking(session: cql.Session, name: str) -> None:
    items, kind = WRONG[name]
    with pytest.raises(cql.UsageError, match="of the batch") as info:
        await session.batch(items, kind=kind)
    assert info.value.maybe_applied is False


@pytest.mark.parametrize("name", WRONG)
async def test_the_server_would_refuse_them(session: cql.Session, name: str) -> None:
    """The batch is a CQL text, which the client does not check."""
    items, kind = WRONG[name]
    texts = []
    for item in items:
        text, values = item if isinstance(item, tuple) else (item, ())
        for value in values:
            text = text.replace("?", repr(value), 1)
        texts.append(text)
    begin = "BEGIN BATCH" if kind == "logged" else f"BEGIN {kind.upper()} BATCH"
    with pytest.raises((cql.InvalidQuery, cql.InvalidSyntax)) as info:
        await session.execute(f"{begin} {'; '.join(texts)}; APPLY BATCH")
    assert info.value.maybe_applied is False


async def test_one_too_many(session: cql.Session) -> None:
    text = "INSERT INTO items (k, c) VALUES (1, 1)"
    with pytest.raises(cql.UsageError, match="at most 65535 statements"):
        await session.batch(itertools.repeat(text))


async def test_what_the_server_alone_knows(session: cql.Session) -> None:
    with pytest.raises(cql.InvalidQuery, match="multiple partitions"):
        await session.batch([(INSERT_IF, (1, 1, "a")), (INSERT_IF, (2, 1, "a"))])
    with pytest.raises(cql.InvalidQuery, match="non-counter"):
        await session.batch(["DELETE FROM items WHERE k = 1"], kind="counter")
    with pytest.raises(cql.InvalidQuery, match="counter"):
        await session.batch(["UPDATE hits SET n = n + 1 WHERE k = 1"])
    with pytest.raises(cql.InvalidQuery, match="too large"):
        await session.batch([(INSERT, (number, 1, "x" * 60_000)) for number in range(2)])


async def test_a_refused_batch_leaves_nothing(session: cql.Session) -> None:
    k = next(fresh)
    with pytest.raises(cql.ValueConversionError):
        await session.batch([(INSERT, (k, 1, "a")), (INSERT, (k, 2, 3))])
    with pytest.raises(cql.ParameterError):
        await session.batch([(INSERT, (k, 1, "a")), (INSERT, (k, 2))])
    with pytest.raises(cql.InvalidSyntax):
        await session.batch([(INSERT, (k, 1, "a")), "INSERT nonsense"])
    with pytest.raises(cql.InvalidQuery):
        await session.batch([(INSERT, (k, 1, "a")), "INSERT INTO nowhere (k) VALUES (1)"])
    assert await items_of(session, k) == {}


async def test_a_tuple_that_should_be_a_list(session: cql.Session) -> None:
    item: Any = (INSERT, (1, 1, "a"))
    with pytest.raises(TypeError, match="item 2 of a batch must be a statement or a tuple"):
        await session.batch(item)
