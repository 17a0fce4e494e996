"""Binder: its frames are those of the message with the same values."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from struct import error as StructError
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cqlproto import (
    EMPTY,
    UNSET,
    Consistency,
    LocalProtocolError,
    Opcode,
    ProtocolVersion,
    ValueConversionError,
)
from cqlproto.cqltypes import NATIVE_TYPES, ListType, UserType, encoder, parse_type
from cqlproto.frames import HEADER_SIZE, write_frame
from cqlproto.messages import (
    BindMetadata,
    Column,
    Execute,
    Prepared,
    QueryParameters,
    ResultMetadata,
    read_request,
)
from cqlproto.rows import Binder
from cqlproto.rows.encoding.binder import FRAMES_BEFORE_COMPILING
from cqlproto.rows.encoding.compiled import FRAMES_BEFORE_CELL_BY_CELL
from cqlproto.testing import cql_types, linked_pair, query_parameters, values_of

V3, V4, V5 = ProtocolVersion
ONE = QueryParameters(Consistency.ONE)
INT, TEXT = NATIVE_TYPES["int"], NATIVE_TYPES["text"]
RESULT = ResultMetadata.of([Column("k", "t", "x", INT)], V4)


def prepared(
    *types: Any, statement_id: bytes = b"id", metadata_id: bytes | None = None
) -> Prepared:
    columns = tuple(Column("k", "t", f"c{n}", cql_type) for n, cql_type in enumerate(types))
    return Prepared(statement_id, metadata_id, BindMetadata(columns), RESULT)


@st.composite
def options(draw: st.DrawFn, version: ProtocolVersion) -> QueryParameters:
    drawn = draw(query_parameters(version))
    drawn.names = None
    drawn.values = None
    return drawn


@settings(max_examples=60)
@given(st.data())
def test_the_frame_is_that_of_the_message(data: st.DataObject) -> None:
    """In every version, with every option, for values of all types, nulls and UNSET."""
    version = data.draw(st.sampled_from(ProtocolVersion))
    types = data.draw(st.lists(cql_types(max_leaves=3), max_size=4))
    chosen = data.draw(options(version))
    metadata_id = data.draw(st.binary(max_size=5)) if version.has_result_metadata_id else None
    statement = prepared(
        *types, statement_id=data.draw(st.binary(max_size=5)), metadata_id=metadata_id
    )
    binder = Binder(statement, chosen, version)
    nothing = st.sampled_from([None, UNSET] if version.has_unset else [None])
    for _ in range(2):
        values = [data.draw(nothing | values_of(cql_type)) for cql_type in types]
        stream_id = data.draw(st.integers(1, 32_767))
        cells = [
            value if value is None or value is UNSET else encoder(cql_type)(value)
            for value, cql_type in zip(values, types, strict=True)
        ]
        assert binder.cells(values) == cells
        with_values = QueryParameters(
            **{name: getattr(chosen, name) for name in chosen.__slots__ if name != "values"},
            values=cells,
        )
        message = Execute(statement.statement_id, with_values, metadata_id)
        body = bytearray()
        message.write_body(body, version)
        frame = binder.frame(stream_id, values)
        assert frame == write_frame(version, 0, stream_id, Opcode.EXECUTE, bytes(body))
        assert read_request(Opcode.EXECUTE, frame[HEADER_SIZE:], 0, version) == message


@settings(max_examples=60)
@given(st.data())
def test_each_frame_has_a_fresh_timestamp(data: st.DataObject) -> None:
    """The frame is that of the message with this timestamp, whether or not the options have one."""
    version = data.draw(st.sampled_from(ProtocolVersion))
    types = data.draw(st.lists(st.sampled_from([INT, TEXT]), max_size=3))
    chosen = data.draw(options(version))
    given_one = chosen.timestamp
    metadata_id = b"m" if version.has_result_metadata_id else None
    statement = prepared(*types, metadata_id=metadata_id)
    fresh = data.draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=3, max_size=3))
    left = iter(fresh)
    binder = Binder(statement, chosen, version, lambda: next(left))
    assert chosen.timestamp == given_one
    for timestamp in fresh:
        values = [data.draw(values_of(cql_type)) for cql_type in types]
        body = bytearray()
        with_values = QueryParameters(
            **{name: getattr(chosen, name) for name in chosen.__slots__},
        )
        with_values.values = binder.cells(values)
        with_values.timestamp = timestamp
        Execute(b"id", with_values, metadata_id).write_body(body, version)
        frame = binder.frame(5, values)
        assert frame == write_frame(version, 0, 5, Opcode.EXECUTE, bytes(body))


ODD_VALUES = [
    *(True, False, 0, 1, -1, 127, 128, 2**15, 2**31, 2**63, -(2**63) - 1, Consistency.TWO),
    *(0.5, 1e300, -0.0, float("inf"), float("nan"), Decimal("1.5"), "1", b"1", object(), EMPTY),
    *(date(2020, 2, 29), [1], {1: 2}, ()),
]


@pytest.mark.parametrize("name", NATIVE_TYPES)
def test_frames_take_what_cells_take(name: str) -> None:
    binder = Binder(prepared(TEXT, NATIVE_TYPES[name], INT), ONE, V4)
    for value in ODD_VALUES:
        values = ["a", value, 1]
        try:
            cells = binder.cells(values)
        except ValueConversionError as exc:
            with pytest.raises(ValueConversionError) as info:
                binder.frame(1, values)
            assert str(info.value) == str(exc)
            assert info.value.column == "c1"
        else:
            request = read_request(Opcode.EXECUTE, binder.frame(1, values)[HEADER_SIZE:], 0, V4)
            assert isinstance(request, Execute)
            assert request.parameters.values == cells


@pytest.mark.parametrize("values", [[], [1], [1, "a", None]], ids=len)
def test_as_many_values_as_bind_markers(values: list[Any]) -> None:
    binder = Binder(prepared(INT, TEXT), ONE, V4)
    assert binder.count == 2
    for bind in (binder.cells, lambda given: binder.frame(1, given)):
        with pytest.raises(
            LocalProtocolError, match=f"as many as bind markers .2., got {len(values)}"
        ):
            bind(values)
        assert bind((1, "a"))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    "values", [{"c0": 1, "c1": "a"}, "ab", b"ab", bytearray(b"ab"), {1, 2}, {1: 1, 2: 2}.keys()]
)
def test_what_is_no_sequence_of_values(values: Any, compiled: bool) -> None:
    """The keys of a mapping and the characters of a str are not bound."""
    binder = Binder(prepared(INT, TEXT), ONE, V4)
    for _ in range(FRAMES_BEFORE_COMPILING + 2 if compiled else 0):
        binder.frame(1, (1, "a"))
    client = linked_pair().client
    for bind in (
        binder.cells,
        lambda given: binder.frame(1, given),
        lambda given: client.send_bound(binder, given),
    ):
        with pytest.raises(TypeError, match=f"must be a sequence .*, got {type(values).__name__}"):
            bind(values)
    assert client.in_flight == 0


def test_no_bind_markers() -> None:
    binder = Binder(prepared(), ONE, V4)
    frame = binder.frame(7, ())
    assert frame.hex(" ", 1).startswith("04 00 00 07 0a")
    request = read_request(Opcode.EXECUTE, frame[HEADER_SIZE:], 0, V4)
    assert isinstance(request, Execute)
    assert request.parameters.values == []


@pytest.mark.parametrize(
    ("values", "column", "cql_type", "bad"),
    [
        (["x", "a", None], "c0", "int", "x"),
        ([None, 1, None], "c1", "text", 1),
        ([UNSET, 1, 2], "c1", "text", 1),
        ([1, "a", [1, "b"]], "c2", "list<int>", None),
        ([2**31, 1, None], "c0", "int", 2**31),
    ],
)
def test_a_value_that_does_not_fit_is_named(
    values: list[Any], column: str, cql_type: str, bad: Any
) -> None:
    binder = Binder(prepared(INT, TEXT, ListType(INT)), ONE, V4)
    for bind in (binder.cells, lambda given: binder.frame(1, given)):
        with pytest.raises(ValueConversionError) as info:
            bind(values)
        assert info.value.column == column
        assert str(info.value).startswith(f"column '{column}' (")
        assert cql_type in (info.value.cql_type, "list<int>")
        assert bad is None or info.value.value == bad


def test_of_two_bad_values_the_first_is_named() -> None:
    binder = Binder(prepared(TEXT, INT, INT), ONE, V4)
    with pytest.raises(ValueConversionError, match="column 'c1'"):
        binder.frame(1, ["a", "b", "c"])


class Moody:
    """Has __index__ only from the second time on."""

    def __init__(self) -> None:
        self.asked = 0

    def __index__(self) -> int:
        self.asked += 1
        if self.asked == 1:
            raise TypeError("not now")
        return 1


def test_a_value_that_changes_between_two_looks() -> None:
    value = Moody()
    with pytest.raises(ValueConversionError):
        Binder(prepared(INT), ONE, V4).frame(1, [value])


def test_a_timestamp_that_does_not_fit_is_no_value() -> None:
    binder = Binder(prepared(INT), ONE, V4, lambda: 1 << 70)
    for _ in range(FRAMES_BEFORE_COMPILING + 2):
        with pytest.raises(StructError):
            binder.frame(1, (1,))


@pytest.mark.parametrize("given", [(1, iter(["x"]), "a"), (None, iter(["x"]), None)])
@pytest.mark.parametrize("frames", [0, FRAMES_BEFORE_COMPILING + FRAMES_BEFORE_CELL_BY_CELL + 2])
def test_what_was_read_is_named_and_not_read_again(given: tuple[Any, ...], frames: int) -> None:
    """In the plain loop and in both compiled packers."""
    binder = Binder(prepared(INT, ListType(INT), TEXT), ONE, V4)
    for _ in range(frames):
        binder.frame(1, (None, [1], "a"))
    values = [iter(list(value)) if hasattr(value, "__next__") else value for value in given]
    values[1] = iter(["x"])
    with pytest.raises(ValueConversionError, match="column 'c1' .*element 0") as info:
        binder.frame(1, values)
    assert info.value.value == "x"


class Proxy:
    """Raises on every access, like a proxy without its object."""

    @property
    def __class__(self) -> Any:
        raise ZeroDivisionError("no object")

    @__class__.setter
    def __class__(self, kind: Any) -> None: ...


@pytest.mark.parametrize("frames", [0, FRAMES_BEFORE_COMPILING + FRAMES_BEFORE_CELL_BY_CELL + 2])
@pytest.mark.parametrize(
    ("index", "cql_type"),
    list(enumerate(["int", "double", "uuid", "blob", "list<int>", "map<int, int>", "tuple<int>"])),
)
def test_a_value_that_raises_is_named_whatever_it_raises_for(
    index: int, cql_type: str, frames: int
) -> None:
    types = ["int", "double", "uuid", "blob", "list<int>", "map<int, int>", "tuple<int>"]
    binder = Binder(prepared(*map(parse_type, types)), ONE, V4)
    values: list[Any] = [None] * len(types)
    for _ in range(frames):
        binder.frame(1, values)
    values[index] = Proxy()
    for bind in (binder.cells, binder.repeatable, lambda given: binder.frame(1, given)):
        if bind is binder.repeatable and index < 4:
            continue
        with pytest.raises(ValueConversionError, match=f"column 'c{index}' .*no object") as info:
            bind(values)
        assert info.value.cql_type == cql_type
        assert isinstance(info.value.__cause__, ZeroDivisionError)


def test_of_two_bad_values_the_first_is_named_though_it_is_packed_later() -> None:
    binder = Binder(prepared(INT, ListType(INT), TEXT, INT), ONE, V4)
    good = (1, [1], "a", 1)
    for _ in range(FRAMES_BEFORE_COMPILING + 2):
        binder.frame(1, good)
    for values, column in (
        ((2**40, iter(["x"]), "a", 1), "c0"),
        ((1, [1], "\ud800", 2**40), "c2"),
        ((1, iter([1]), "a", 2**40), "c3"),
        ((1, iter(["x"]), 1, 2**40), "c1"),
    ):
        with pytest.raises(ValueConversionError, match=f"column '{column}'"):
            binder.frame(1, values)


def test_what_unset_and_null_look_like() -> None:
    """v4 section 3: [value]"""
    binder = Binder(prepared(INT, TEXT, TEXT), ONE, V4)
    assert binder.frame(1, [None, UNSET, ""])[-12:].hex() == "fffffffffffffffe00000000"


def test_unset_is_a_local_error_on_v3() -> None:
    binder = Binder(prepared(INT), ONE, V3)
    with pytest.raises(LocalProtocolError, match="UNSET needs v4"):
        binder.frame(1, [UNSET])
    for _ in range(FRAMES_BEFORE_COMPILING + 1):
        assert binder.frame(1, [None])[0] == 3
    with pytest.raises(LocalProtocolError, match="UNSET needs v4"):
        binder.frame(1, [UNSET])


def test_unset_is_an_error_before_a_wrong_value_is_on_v3() -> None:
    """In the plain loop and in a compiled packer alike."""
    binder = Binder(prepared(TEXT, TEXT), ONE, V3)
    for _ in range(FRAMES_BEFORE_COMPILING + 2):
        with pytest.raises(LocalProtocolError, match="UNSET needs v4"):
            binder.frame(1, [1, UNSET])


def test_what_will_answer_is_known() -> None:
    expectation = Binder(prepared(INT), ONE, V4).expectation
    assert expectation.opcode is Opcode.EXECUTE
    assert expectation.metadata is RESULT


def test_what_cannot_be_bound() -> None:
    with pytest.raises(LocalProtocolError, match="names must be None"):
        Binder(prepared(INT), QueryParameters(Consistency.ONE, names=["c0"]), V4)
    with pytest.raises(LocalProtocolError, match="at most 65535 bind markers, got 65536"):
        Binder(prepared(*[INT] * 65_536), ONE, V4)
    for wrong in ({"page_size": 0}, {"keyspace": "k"}, {"serial_consistency": Consistency.ONE}):
        with pytest.raises(LocalProtocolError):
            Binder(prepared(), QueryParameters(Consistency.ONE, **wrong), V4)


def test_as_many_bind_markers_as_can_be() -> None:
    binder = Binder(prepared(*[INT] * 65_535), ONE, V4)
    assert len(binder.frame(1, range(65_535))) > 8 * 65_535


def test_frames_are_the_same_after_a_packer_has_been_compiled() -> None:
    binder = Binder(prepared(INT, TEXT), ONE, V4)
    before = binder.frame
    first = binder.frame(1, [7, "x"])
    for _ in range(FRAMES_BEFORE_COMPILING):
        assert binder.frame(1, [7, "x"]) == first
    assert binder.frame is not before
    assert binder.frame(1, [7, "x"]) == first


def test_fields_of_user_types_are_named_by_their_place() -> None:
    user = UserType("k", "address", (("street", TEXT), ("number", INT)))
    binder = Binder(prepared(INT, user), ONE, V4)
    with pytest.raises(ValueConversionError, match="column 'c1'") as info:
        binder.frame(1, [1, {"street": "x", "number": "y"}])
    assert "number" in str(info.value)
