"""Tables altered without an event: statements are prepared again when values don't fit."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import cqlproto_anyio as cql
from cqlproto.cqltypes import NATIVE_TYPES, ListType, MapType, TupleType, parse_type
from cqlproto.enums import ErrorCode
from cqlproto.messages import VOID, Error, Execute, Prepare, Rows
from cqlproto_anyio.testing import snapshot
from tests.support.altered_schema import ADDRESS, LONGER, Schema
from tests.support.cluster_sessions import connected, session_on
from tests.support.fakecluster import FakeCluster, row_v
from tests.support.fakehosts import V_METADATA
from tests.support.faults import preparing, settled, unprepared
from tests.support.server import start, turns, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqlproto.messages import Response
    from tests.support.fakecluster import FakeRequest

pytestmark = pytest.mark.uvloop

INT, TEXT = NATIVE_TYPES["int"], NATIVE_TYPES["text"]
WRITE = "INSERT INTO ks.t (a) VALUES (?)"
NAMED = "INSERT INTO ks.t (a) VALUES (:m0)"
NEW = {"street": "a", "zip": "b"}


def prepares(cluster: FakeCluster) -> int:
    assert cluster.seen is not None
    return sum(isinstance(request.message, Prepare) for request in cluster.seen)


async def write(session: cql.Session, verb: str, handle: cql.Prepared[Any], value: Any) -> None:
    if verb == "text":
        await session.execute(WRITE, (value,))
    elif verb == "named":
        await session.execute(NAMED, {"m0": value})
    elif verb == "page":
        await session.page(handle, (value,))
    elif verb == "stream":
        assert [row async for row in session.stream(handle, (value,))] == []
    elif verb == "batch":
        await session.batch([(handle, (value,)), (WRITE, (value,))])
    elif verb == "idempotent":
        await session.execute(handle, (value,), idempotent=True)
    else:
        await session.execute(handle, (value,))


VERBS = ["execute", "text", "named", "page", "stream", "batch", "idempotent"]


@pytest.mark.parametrize("verb", VERBS)
async def test_values_of_a_new_form_go_through_although_nobody_has_told(verb: str) -> None:
    cluster = FakeCluster(2)
    cluster.seen = []
    schema = Schema(cluster)
    schema.markers = [ADDRESS]
    if verb == "batch":
        cluster.answer = lambda request: VOID
    async with session_on(cluster, discovery=False) as session:
        await connected(session, cluster.hosts)
        with preparing(cluster, schema.prepare):
            handle = await session.prepare(WRITE)
            for _ in range(4):
                await write(session, verb, handle, {"street": "a"})
            schema.markers = [LONGER]
            for _ in range(4):
                await write(session, verb, handle, NEW)
            schema.markers = [INT]  # the table was dropped and created again
            for _ in range(2):
                await write(session, verb, handle, 7)
            assert [str(column.type) for column in handle.parameters] in (["int"], ["ks.address"])
        await settled(session)


async def test_wrong_values_cost_a_preparation_once_in_a_while() -> None:
    cluster = FakeCluster(1)
    cluster.seen = []
    schema = Schema(cluster)
    async with session_on(cluster, discovery=False) as session:
        with preparing(cluster, schema.prepare):
            handle = await session.prepare(WRITE)
            for verb in VERBS:
                for _ in range(5):
                    with pytest.raises(cql.ValueConversionError) as caught:
                        await write(session, verb, handle, "no int")
                    assert caught.value.column == "m0"
                    assert not caught.value.maybe_applied
            assert prepares(cluster) <= 2 * 3  # two texts: once at first, once in vain
            assert not [each for each in cluster.seen if isinstance(each.message, Execute)]
            await session.execute(handle, (1,))


async def test_a_server_that_cannot_prepare_now_changes_nothing_of_the_error() -> None:
    cluster = FakeCluster(1)
    schema = Schema(cluster)
    async with session_on(cluster, discovery=False) as session:
        with preparing(cluster, schema.prepare):
            handle = await session.prepare(WRITE)
        with (
            preparing(cluster, lambda request: Error(ErrorCode.INVALID, "gone", {})),
            pytest.raises(cql.ValueConversionError, match="m0"),
        ):
            await session.execute(handle, ("no int",))


async def test_the_server_says_that_the_values_are_of_old() -> None:
    """The server refuses values packed with the old types."""
    cluster = FakeCluster(2)
    cluster.seen = []
    schema = Schema(cluster)

    def answer(request: FakeRequest) -> Response:
        wants = 4 if schema.markers == [INT] else 8
        if len(request.values[0]) != wants:
            return Error(ErrorCode.INVALID, f"Expected {wants} bytes", {})
        return VOID

    cluster.answer = answer
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        with preparing(cluster, schema.prepare):
            handle = await session.prepare(WRITE)
            await session.execute(handle, (1,))
            schema.markers = [NATIVE_TYPES["bigint"]]
            for key in range(4):
                await session.execute(handle, (key,))
            before = prepares(cluster)
            schema.markers = [INT]
            cluster.answer = lambda request: Error(ErrorCode.INVALID, "no such value", {})
            for _ in range(5):
                with pytest.raises(cql.InvalidQuery, match="no such value"):
                    await session.execute(handle, (1,))
            # once with success, once without
            assert prepares(cluster) - before <= 2
        await settled(session)


@dataclasses.dataclass
class Address:
    street: str
    zip: str


@pytest.mark.parametrize(
    "value", [NEW, Address("a", "b"), ("a", "b")], ids=["dict", "object", "tuple"]
)
@pytest.mark.parametrize(
    "marker",
    [
        lambda kind: kind,
        ListType,
        lambda kind: MapType(INT, kind),
        lambda kind: TupleType((INT, kind)),
    ],
    ids=["type", "list", "map", "tuple"],
)
async def test_no_field_of_a_new_form_is_left_out(marker: Any, value: Any) -> None:
    cluster = FakeCluster(1)
    cluster.seen = []
    schema = Schema(cluster)
    schema.markers = [marker(ADDRESS)]
    kind = schema.markers[0]
    given = {ListType: [value], MapType: {1: value}, TupleType: (1, value)}.get(type(kind), value)
    async with session_on(cluster, discovery=False) as session:
        with preparing(cluster, schema.prepare):
            handle = await session.prepare(WRITE)
            schema.markers = [marker(LONGER)]
            await session.execute(handle, (given,))
        [request] = [each for each in cluster.seen if isinstance(each.message, Execute)]
        assert bytes(request.values[0]).endswith(b"\0\0\0\x01a\0\0\0\x01b")


async def test_a_change_during_preparation_is_not_forgotten() -> None:
    """The PREPARED reply may describe the table before the change."""
    cluster = FakeCluster(1)
    schema = Schema(cluster)
    async with session_on(cluster) as session:
        usual = cluster._prepare
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cluster, "_prepare", lambda request, message: None)
            async with anyio.create_task_group() as group:
                call = start(group, lambda: session.prepare(WRITE))
                await until(lambda: cluster.waiting)
                before = snapshot(session).schema_changes
                cluster.tell_schema("UPDATED", "ks", "t")
                await until(lambda: snapshot(session).schema_changes > before)
                [request] = cluster.waiting
                assert isinstance(request.message, Prepare)
                request.reply(usual(request, request.message))
        assert call.result._statement.stale
        with preparing(cluster, schema.prepare):
            await session.execute(call.result, (1,))
        assert not call.result._statement.stale


async def test_markers_that_were_changed_are_told() -> None:
    cluster = FakeCluster(1)
    schema = Schema(cluster)
    async with session_on(cluster) as session:
        with preparing(cluster, schema.prepare):
            handle = await session.prepare(WRITE)
            for number, (markers, wrong, right) in enumerate(
                [([TEXT], (1,), ("a",)), ([TEXT, INT], ("a",), ("a", 1)), ([], ("a", 1), ())]
            ):
                schema.markers = markers
                cluster.hosts[0].prepared.clear()
                with pytest.raises((cql.ParameterError, cql.ValueConversionError)) as caught:
                    await session.execute(handle, wrong)
                [note] = caught.value.__notes__
                assert note.startswith(f"'{WRITE}' was prepared anew: its markers are (")
                assert "they were (" in note
                assert number or "(m0 text) now, they were (m0 int)" in note
                await session.execute(handle, right)  # the next call starts afresh
        await settled(session)


@dataclasses.dataclass
class Holder:
    m0: Any


class Once:
    """An iterable that returns the same iterator each time, like file readers and cursors."""

    def __init__(self, values: Iterator[Any]) -> None:
        self._values = values

    def __iter__(self) -> Iterator[Any]:
        return self._values


@pytest.mark.parametrize(
    ("given", "marker"),
    [
        (lambda values: (values,), ListType(INT)),
        (lambda values: ([[1], values],), ListType(ListType(INT))),
        (lambda values: {"m0": {1: values}}, MapType(INT, ListType(INT))),
        (lambda values: ({values: 1},), MapType(ListType(INT), INT)),
        (Holder, ListType(INT)),
        (lambda values: (Once(values),), ListType(INT)),
        (lambda values: ({1: values}.values(),), ListType(ListType(INT))),
    ],
    ids=["itself", "nested", "mapping", "key", "field", "iterable", "view"],
)
async def test_what_was_read_once_is_not_packed_again(given: Any, marker: Any) -> None:
    """The rest of a generator must not be written as the whole."""
    cluster = FakeCluster(1)
    cluster.seen = []
    schema = Schema(cluster)

    def values() -> Iterator[Any]:
        yield from (1, "no int", "text")

    schema.markers = [marker]
    parameters = given(values())
    async with session_on(cluster, discovery=False) as session:
        with preparing(cluster, schema.prepare):
            handle = await session.prepare(NAMED)
            schema.markers = [parse_type(str(marker).replace("list<int>", "list<text>"))]
            with pytest.raises(cql.ValueConversionError):
                await session.execute(handle, parameters)
        assert not [each for each in cluster.seen if isinstance(each.message, Execute)]


@pytest.mark.parametrize("verb", VERBS)
async def test_calls_with_generators_only_are_not_refused_for_good(verb: str) -> None:
    """The first call is refused, since the generator may be half read; the next one succeeds."""
    cluster = FakeCluster(1)
    cluster.seen = []
    schema = Schema(cluster)
    schema.markers = [ListType(INT)]
    if verb == "batch":
        cluster.answer = lambda request: VOID
    async with session_on(cluster, discovery=False) as session:
        with preparing(cluster, schema.prepare):
            handle = await session.prepare(WRITE)
            await write(session, verb, handle, (number for number in (1, 2)))
            schema.markers = [ListType(TEXT)]
            with pytest.raises(cql.ValueConversionError, match="m0") as caught:
                await write(session, verb, handle, (text for text in ("a", "b")))
            [note] = caught.value.__notes__
            assert "its markers are (m0 list<text>) now, they were (m0 list<int>)" in note
            before = prepares(cluster)
            if verb == "batch":  # the second statement has another text
                await session.batch([(handle, ((text for text in ("a", "b")),))])
            else:
                await write(session, verb, handle, (text for text in ("a", "b")))
            assert prepares(cluster) - before <= 1
        await settled(session)


async def test_a_stream_goes_on_after_its_statement_has_another_id() -> None:
    """The statement id changes at every page."""
    cluster = FakeCluster(2)
    forgetting = 0

    def answer(request: FakeRequest) -> Response:
        nonlocal forgetting
        assert isinstance(request.message, Execute)
        forgetting += 1
        if forgetting % 2:
            return unprepared(request)
        state = request.message.parameters.paging_state
        return paged(int(state or 0))

    cluster.answer = answer
    async with session_on(cluster) as session:
        await connected(session, cluster.hosts)
        rows = [row.v async for row in session.stream("SELECT v FROM ks.t WHERE k = ?", (1,))]
        assert rows == [0, 1, 2, 3]
        await turns()
        await settled(session)


def paged(number: int) -> Response:
    state = b"%d" % (number + 1) if number < 3 else None
    return Rows.of(V_METADATA, 1, row_v(number).content, paging_state=state)
