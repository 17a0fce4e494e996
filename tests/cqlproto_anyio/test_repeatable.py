"""Statements sent more than once carry the same values each time, even if these can be read only
once."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import pytest

import cqlproto_anyio as cql
from cqlproto.cqltypes import (
    NATIVE_TYPES,
    ListType,
    MapType,
    SetType,
    TupleType,
    UserType,
    VectorType,
    encoder,
)
from cqlproto.enums import ErrorCode
from cqlproto.messages import (
    VOID,
    Batch,
    BindMetadata,
    Column,
    Execute,
    Prepare,
    Prepared,
    ResultMetadata,
)
from tests.support.replies import V4, columns, error, ints
from tests.support.server import Server, serving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from cqlproto.cqltypes import CQLType
    from cqlproto.messages import Response
    from tests.support.server import Asked

pytestmark = pytest.mark.usefixtures("each_version")

INT, TEXT = NATIVE_TYPES["int"], NATIVE_TYPES["text"]
INTS = ListType(INT)
USER = UserType("ks", "u", (("a", INTS), ("b", INT)))


@dataclasses.dataclass
class Both:
    a: Any
    b: int


# Values that can be read once, their types, and their contents.
ONCE: dict[str, tuple[CQLType, Callable[[], Any], Any]] = {
    "generator": (INTS, lambda: (n for n in (1, 2)), [1, 2]),
    "iterator": (INTS, lambda: iter([1, 2]), [1, 2]),
    "map": (SetType(TEXT), lambda: map(str, (1, 2)), ["1", "2"]),
    "zip": (ListType(TupleType((INT, INT))), lambda: zip((1, 2), (3, 4), strict=True),
            [(1, 3), (2, 4)]),
    "reversed": (VectorType(INT, 2), lambda: reversed((2, 1)), [1, 2]),
    "in a list": (ListType(INTS), lambda: [iter([1]), iter([2])], [[1], [2]]),
    "in a map": (MapType(TEXT, INTS), lambda: {"x": iter([1])}, {"x": [1]}),
    "in a tuple": (TupleType((INT, INTS)), lambda: (1, iter([2])), (1, [2])),
    "in a mapping": (USER, lambda: {"a": iter([1]), "b": 2}, ([1], 2)),
    "in a dataclass": (USER, lambda: Both(iter([1]), 2), ([1], 2)),
}  # fmt: skip

CALLS: dict[str, Callable[[cql.Session, Any, Any], Awaitable[Any]]] = {
    "execute": lambda session, query, values: session.execute(query, values, idempotent=True),
    "page": lambda session, query, values: session.page(query, values, idempotent=True),
    "stream": lambda session, query, values: _drained(session.stream(query, values)),
}


async def _drained(stream: cql.RowStream[Any]) -> list[Any]:
    return [row async for row in stream]


def forgetful(server: Server, cql_type: CQLType) -> Callable[[Asked], Response]:
    """Forget each statement before its first execution; answer with two pages of rows."""
    bind = BindMetadata((Column("ks", "t", "v", cql_type),))
    known = ResultMetadata.of(columns("v"), V4)
    sent = 0

    def answer(asked: Asked) -> Response:
        nonlocal sent
        if isinstance(asked.message, Prepare):
            return Prepared(b"id", b"m", bind, known)
        sent += 1
        if sent == 1:
            return error(ErrorCode.UNPREPARED, statement_id=b"id")
        if isinstance(asked.message, Batch):
            return VOID
        return ints(1, state=b"next" if sent == 2 else None)

    server.answer = answer
    return answer


def executed(server: Server) -> list[Any]:
    """Return the values of each execution, and of each batch."""
    messages = [asked.message for asked in server.seen]
    return [
        message.parameters.values if isinstance(message, Execute) else message.statements[0].values
        for message in messages
        if isinstance(message, (Execute, Batch))
    ]


@pytest.mark.parametrize("name", ONCE)
@pytest.mark.parametrize("verb", CALLS)
async def test_what_can_be_read_once_is_sent_with_every_attempt_and_page(
    verb: str, name: str
) -> None:
    cql_type, make, plain = ONCE[name]
    cell = encoder(cql_type)(plain)
    async with serving() as server, server.session() as session:
        for query in ("SELECT v FROM t WHERE k = ?", await _prepared(server, session, cql_type)):
            for parameters in ((make(),), [make()], {"v": make()}):
                forgetful(server, cql_type)
                server.seen.clear()
                await CALLS[verb](session, query, parameters)
                assert executed(server) == [[cell]] * (2 if verb == "page" else 3)


async def _prepared(server: Server, session: cql.Session, cql_type: CQLType) -> Any:
    forgetful(server, cql_type)
    return await session.prepare("SELECT v FROM t WHERE w = ?")


@pytest.mark.parametrize("name", ONCE)
async def test_batches(name: str) -> None:
    cql_type, make, plain = ONCE[name]
    cell = encoder(cql_type)(plain)
    async with serving() as server, server.session() as session:
        forgetful(server, cql_type)
        await session.batch([("INSERT INTO t (v) VALUES (?)", (make(),))])
        assert executed(server) == [[cell]] * 2


async def test_a_later_page_by_its_token() -> None:
    async with serving() as server, server.session() as session:
        forgetful(server, INTS)
        query = "SELECT v FROM t WHERE k = ?"
        page = await session.page(query, (iter([1, 2]),))
        assert page.next_token is not None
        await session.page(query, (iter([1, 2]),), token=page.next_token)
        with pytest.raises(cql.PageTokenMismatch):
            await session.page(query, (iter([1]),), token=page.next_token)


async def test_what_the_caller_changes_meanwhile_is_not_sent() -> None:
    """Neither the sequence of the parameters nor a list in it is read later."""
    async with serving() as server, server.session() as session:
        forgetful(server, INTS)
        changing: list[Any] = [[1, 2]]
        kept = server.answer

        def answer(asked: Asked) -> Response | None:
            if isinstance(asked.message, Execute):
                changing[0].append(3) if changing[0] else None
                changing[0] = [7]
            return kept(asked)

        server.answer = answer
        await session.execute("SELECT v FROM t WHERE k = ?", changing)
        assert executed(server) == [[encoder(INTS)([1, 2])]] * 3


class Raises:
    """Raises when it is iterated over."""

    def __iter__(self) -> Any:
        yield 1
        raise ZeroDivisionError("not this one")


class ListRaises(list[int]):
    __iter__ = Raises.__iter__


@pytest.mark.parametrize("make", [Raises, ListRaises])
async def test_an_iterable_that_raises_fails_its_own_call(make: Callable[[], Any]) -> None:
    async with serving() as server, server.session() as session:
        forgetful(server, INTS)
        for call in (
            lambda: session.execute("SELECT v FROM t WHERE k = ?", (make(),)),
            lambda: session.execute("SELECT v FROM t WHERE k = ?", {"v": make()}),
            lambda: session.page("SELECT v FROM t WHERE k = ?", (make(),)),
            lambda: session.batch([("INSERT INTO t (v) VALUES (?)", (make(),))]),
        ):
            with pytest.raises(cql.ValueConversionError, match="element 1") as info:
                await call()
            assert (info.value.column, info.value.cql_type) == ("v", "list<int>")
            assert info.value.maybe_applied is False
        assert executed(server) == []
        assert len(await session.execute("SELECT v FROM t WHERE k = ?", ([1],))) == 2


async def test_a_type_that_gets_a_field_while_the_statement_is_prepared_again() -> None:
    wider = UserType("ks", "u", (*USER.fields, ("c", INT)))
    async with serving() as server, server.session() as session:
        prepares = 0

        def answer(asked: Asked) -> Response:
            nonlocal prepares
            if isinstance(asked.message, Prepare):
                prepares += 1
                bind = BindMetadata((Column("ks", "t", "v", USER if prepares == 1 else wider),))
                return Prepared(b"id", b"m", bind, ResultMetadata((), b"", False))
            return VOID if prepares > 1 else error(ErrorCode.UNPREPARED, statement_id=b"id")

        server.answer = answer
        await session.execute("INSERT INTO t (v) VALUES (?)", (Both(iter([1]), 2),))
        assert executed(server) == [[encoder(USER)(([1], 2))]] * 2


@pytest.mark.parametrize("verb", [*CALLS, "batch"])
async def test_partial_leaves_columns_alone(verb: str) -> None:
    """Also if the statement is known, and if it is prepared again meanwhile."""
    bind = BindMetadata((Column("ks", "t", "a", INTS), Column("ks", "t", "b", INT)))
    calls: dict[str, Callable[[cql.Session, Any], Awaitable[Any]]] = {
        "execute": lambda session, given: session.execute(QUERY, given, partial=True),
        "page": lambda session, given: session.page(QUERY, given, partial=True),
        "stream": lambda session, given: _drained(session.stream(QUERY, given, partial=True)),
        "batch": lambda session, given: session.batch([(QUERY, given)], partial=True),
    }
    async with serving() as server, server.session() as session:
        forgotten = [True, False, False, True, False]

        def answer(asked: Asked) -> Response:
            if isinstance(asked.message, Prepare):
                return Prepared(b"id", b"m", bind, ResultMetadata((), b"", False))
            unprepared = forgotten and forgotten.pop()
            return error(ErrorCode.UNPREPARED, statement_id=b"id") if unprepared else VOID

        server.answer = answer
        for given in ({"a": iter([1])}, {"a": [1]}):
            await calls[verb](session, given)
        values = executed(server)
        assert len(values) in (3, 4)
        assert values == [[encoder(INTS)([1]), cql.UNSET]] * len(values)
        with pytest.raises(cql.ConfigError, match="partial must be True or False, got 1"):
            await session.execute(QUERY, {"a": [1]}, partial=1)  # type: ignore[call-overload]


QUERY = "UPDATE t SET a = :a WHERE b = :b"


async def test_a_batch_reads_the_parameters_of_an_iterator_before_it_goes_on() -> None:
    """Groups of groupby are lost after the next step, and a generator may reuse one dict."""
    query = "INSERT INTO t (v) VALUES (:v)"

    def reused() -> Iterator[Any]:
        row: dict[str, Any] = {}
        for number in (1, 2):
            row["v"] = [number]
            yield query, row

    groups = ((query, (group,)) for _, group in itertools.groupby([1, 1, 2, 2]))
    async with serving() as server, server.session() as session:
        for items, sent in ((groups, ([1, 1], [2, 2])), (reused(), ([1], [2]))):
            forgetful(server, INTS)
            server.seen.clear()
            await session.batch(items)
            batches = [each.message for each in server.seen if isinstance(each.message, Batch)]
            assert len(batches) == 2
            for batch in batches:
                cells = [statement.values for statement in batch.statements]
                assert cells == [[encoder(INTS)(values)] for values in sent]
