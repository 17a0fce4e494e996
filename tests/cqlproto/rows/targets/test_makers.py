"""Row makers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, NewType, NotRequired, TypedDict

import msgspec
import pydantic
import pytest

from cqlproto import RowMappingError
from cqlproto.cqltypes import NATIVE_TYPES, ListType, SetType, TupleType
from cqlproto.messages import Column, ResultMetadata, Rows
from cqlproto.rows import Row, RowTarget, decode_rows, decoder
from cqlproto.rows.targets import makers
from tests.support.int_rows import columns, decoded

if TYPE_CHECKING:
    from collections.abc import Callable

    from cqlproto.cqltypes import CQLType

INT = NATIVE_TYPES["int"]


# -- tuple and dict


def test_tuples_and_dicts() -> None:
    assert decoded(tuple, "a", "b") == [(1, 2), (3, 4)]
    assert type(decoded(tuple, "a")[0]) is tuple
    assert makers.row_maker(columns("a", "b"), tuple)([1, 2]) == (1, 2)
    assert decoded(tuple, "a", "a") == [(1, 2), (3, 4)]
    assert decoded(dict, "b", "a") == [{"b": 1, "a": 2}, {"b": 3, "a": 4}]
    assert [*decoded(dict, "b", "a")[0]] == ["b", "a"]


# -- classes


@dataclasses.dataclass
class Plain:
    a: int
    b: int
    c: int = 100


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ByName:
    a: int
    b: int
    c: list[int] = dataclasses.field(default_factory=list)
    d: int = dataclasses.field(default=0, init=False)


class Named(NamedTuple):
    a: int
    b: int
    c: int = 100


class Struct(msgspec.Struct):
    a: int
    b: int
    c: int = 100


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    a: int
    b: int
    c: int = 100


class Model(pydantic.BaseModel):
    a: int
    b: int
    c: int = 100


class Own:
    def __init__(self, a: int, b: int, *rest: int, c: int = 100, **more: int) -> None:
        self.a, self.b, self.c = a, b, c
        assert not rest
        assert not more

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Own) and vars(self) == vars(other)


class Strict:
    """Has positional-only parameters."""

    def __init__(self, a: int, b: int, c: int = 100, /) -> None:
        self.a, self.b, self.c = a, b, c

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Strict) and vars(self) == vars(other)


CLASSES = [Plain, Named, Struct, Frozen, Model, Own, Strict]


@pytest.mark.parametrize("target", CLASSES)
def test_columns_become_fields_by_name(target: Any) -> None:
    for names in (("a", "b", "c"), ("c", "b", "a"), ("b", "c", "a")):
        for index, row in enumerate(decoded(target, *names)):
            assert isinstance(row, target)
            values = {name: 1 + 3 * index + place for place, name in enumerate(names)}
            assert {name: getattr(row, name) for name in "abc"} == values


@pytest.mark.parametrize("target", CLASSES)
def test_fields_with_defaults_need_no_column(target: Any) -> None:
    for names in (("a", "b"), ("b", "a")):
        [row, _] = decoded(target, *names)
        assert (row[0:3] if target is Named else (row.a, row.b, row.c)) == (
            names.index("a") + 1,
            names.index("b") + 1,
            100,
        )


@pytest.mark.parametrize("target", CLASSES)
def test_columns_that_the_class_does_not_know_are_left_out(target: Any) -> None:
    [row, _] = decoded(target, "x", "b", "y", "a", "self")
    assert (row.a, row.b, row.c) == (4, 2, 100)


@pytest.mark.parametrize("target", [*CLASSES, ByName])
def test_what_is_missing_is_told(target: Any) -> None:
    name = target.__name__
    with pytest.raises(RowMappingError, match=rf"^row={name}: no column for a, the row has b, c$"):
        decoded(target, "b", "c")
    with pytest.raises(RowMappingError, match=rf"^row={name}: no column for a, b, the row has A$"):
        decoded(target, "A")


def test_a_dataclass_by_keyword() -> None:
    assert decoded(ByName, "b", "d", "a")[0] == ByName(a=3, b=1)
    assert decoded(ByName, "c", "b", "a")[0] == ByName(a=3, b=2, c=1)  # type: ignore[arg-type]


@dataclasses.dataclass
class Optional:
    a: int = 10
    b: int = 20
    c: int = 30


@dataclasses.dataclass
class Single:
    a: int


def test_all_but_the_first_field_and_only_one() -> None:
    assert decoded(Optional, "c", "b")[0] == Optional(10, 2, 1)
    assert decoded(Optional, "a", "c")[0] == Optional(1, 20, 2)
    assert decoded(Single, "x", "a")[0] == Single(2)


def test_a_class_that_knows_none_of_the_columns_is_refused() -> None:
    """Every row would be equal, which must be a mistake."""
    with pytest.raises(RowMappingError, match="takes none of the columns A, B"):
        decoded(Optional, "A", "B")


def test_positions_cannot_be_left_out() -> None:
    class Gap:
        def __init__(self, a: int = 1, b: int = 2, /) -> None:
            pass

    with pytest.raises(
        RowMappingError, match="b can only be passed by position, and there is no column for a"
    ):
        decoded(Gap, "b")


@pytest.mark.parametrize("target", [dict, Plain, Named, Struct, Model])
def test_repeated_columns_need_names_of_their_own(target: type) -> None:
    with pytest.raises(RowMappingError, match=f"'b' comes more than once and {target.__name__}"):
        decoded(target, "a", "b", "b")


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (list, "row=list: column 'a': must be a collection, is int"),
        (list[int], r"row=list\[int\]: column 'a': must be a collection, is int"),
        (int | str, r"row=int \| str: expected Row, tuple, dict"),
        (object, "takes none of the columns"),
        (None, "expected Row, tuple, dict"),
        ("Row", "expected Row, tuple, dict, .*: pass the class itself, not its name"),
        (lambda values: values, "expected Row, tuple, dict"),
    ],
    ids=lambda value: str(value).partition(" at 0x")[0],
)
def test_what_is_no_target(target: Any, text: str) -> None:
    with pytest.raises(RowMappingError, match=text):
        decoder(columns("a"), target)


@pytest.mark.parametrize("error", [LookupError, StopIteration, StopAsyncIteration, TypeError])
def test_an_error_in_a_constructor_names_the_row(error: type[Exception]) -> None:
    class Picky:
        def __init__(self, a: int, b: int = 0) -> None:
            if a == 3:
                raise error("no threes")

    text = f"^row=Picky: row 1 of the columns a, b: {error.__name__}: no threes$"
    with pytest.raises(RowMappingError, match=text) as info:
        decoded(Picky, "a", "b")
    assert isinstance(info.value.__cause__, error)
    assert (info.value.row, info.value.column) == (1, None)
    with pytest.raises(RowMappingError, match="column 'a' of row 1: ") as info:
        decoded(Picky, "a", first=2)
    assert (info.value.row, info.value.column) == (1, "a")


# -- pydantic


def test_pydantic_converts_and_checks() -> None:
    class Limited(pydantic.BaseModel):
        a: str = pydantic.Field(coerce_numbers_to_str=True)
        b: int = pydantic.Field(lt=3)

    content = b"".join(b"\0\0\0\4" + bytes([0, 0, 0, n]) for n in (1, 2, 3, 4))
    made = ResultMetadata(columns("a", "b"), b"", True)
    assert decode_rows(Rows.of(made, 1, content), Limited) == [Limited(a="1", b=2)]
    text = "^row=Limited: column 'b' of row 1: Input should be less than 3$"
    with pytest.raises(RowMappingError, match=text) as info:
        decode_rows(Rows.of(made, 2, content), Limited)
    assert isinstance(info.value.__cause__, pydantic.ValidationError)
    assert (info.value.column, info.value.row) == ("b", 1)


class Aliased(pydantic.BaseModel):
    one: int = pydantic.Field(alias="a")
    two: int = pydantic.Field(validation_alias="b")
    three: int = pydantic.Field(0, validation_alias=pydantic.AliasChoices("c", "cc"))
    four: Any = pydantic.Field(0, validation_alias=pydantic.AliasPath("d", 1))


class Both(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(populate_by_name=True)
    one: int = pydantic.Field(alias="a")


class Generated(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(alias_generator=str.upper)
    one: int


class NamesOnly(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(validate_by_name=True, validate_by_alias=False)
    one: int = pydantic.Field(alias="a")


def test_aliases_of_pydantic_are_names_of_columns() -> None:
    [row, _] = decoded(Aliased, "b", "cc", "a", "x")
    assert (row.one, row.two, row.three) == (3, 1, 2)
    [row, _] = decoded(Aliased, "b", "c", "a")
    assert (row.one, row.two, row.three) == (3, 1, 2)
    # the field's own name comes first
    [row, _] = decoded(Aliased, "a", "one", "b", "two")
    assert (row.one, row.two) == (2, 4)
    with pytest.raises(RowMappingError, match="no column for one, two, the row has x"):
        decoded(Aliased, "x")
    assert [decoded(Both, name)[0].one for name in ("a", "one")] == [1, 1]
    assert decoded(Generated, "one", "ONE")[0].one == 1
    assert decoded(Generated, "ONE")[0].one == 1
    assert decoded(NamesOnly, "a", "one")[0].one == 2


def test_a_path_of_pydantic_begins_with_a_column() -> None:
    numbers = dataclasses.replace(columns("d")[0], type=ListType(INT))
    metadata = ResultMetadata((*columns("a", "b"), numbers), b"", True)
    integer = b"\0\0\0\4\0\0\0\7"
    content = integer * 2 + b"\0\0\0\x14" + b"\0\0\0\2" + integer * 2
    [row] = decode_rows(Rows.of(metadata, 1, content), Aliased)
    assert (row.one, row.four) == (7, 7)


# -- what stands for a class in annotations


class Typed(TypedDict):
    a: int
    b: NotRequired[int]


UserId = NewType("UserId", int)


@pytest.mark.parametrize(
    ("target", "names", "made"),
    [
        (Typed, ("b", "x", "a"), {"a": 3, "b": 1}),
        (Typed, ("a",), {"a": 1}),
        (dict[str, int], ("b", "a"), {"b": 1, "a": 2}),
        (Mapping[str, int], ("a",), {"a": 1}),
        (tuple[int, int], ("b", "a"), (1, 2)),
        (tuple[int, ...], ("a", "b", "a"), (1, 2, 3)),
        (Annotated[tuple, "x"], ("a", "a"), (1, 2)),
        (Annotated[dict, "x"], ("a",), {"a": 1}),
        (Annotated[Plain, "x"], ("b", "a"), Plain(2, 1)),
        (Plain | None, ("b", "a"), Plain(2, 1)),
        (Row | None, ("a",), (1,)),
        (UserId, ("x",), 1),
        (int | None, ("x",), 1),
    ],
    ids=str,
)
def test_what_annotations_may_say(target: Any, names: tuple[str, ...], made: object) -> None:
    assert decoded(target, *names)[0] == made
    assert decoder(columns("x", "a", "b", "c"), Row) is not None


def test_a_row_of_the_default_class_in_an_annotation() -> None:
    assert isinstance(decoded(Row | None, "a")[0], Row)
    assert type(decoded(tuple[int, int], "a", "b")[0]) is tuple


@pytest.mark.parametrize(
    ("target", "names", "text"),
    [
        (dict[str, int], ("a", "a"), "'a' comes more than once and dict"),
        (Typed, ("b",), "row=Typed: no column for a, the row has b"),
        (Typed, ("a", "a"), "'a' comes more than once and Typed"),
        (tuple[int, int], ("a",), r"row=tuple\[int, int\]: .* must have 1 elements, got 2"),
        (list[int], ("a", "b"), "the row must have one column, got 2: a, b"),
        (UserId, ("a", "b"), "the row must have one column"),
    ],
    ids=str,
)
def test_what_annotations_do_not_fit(target: Any, names: tuple[str, ...], text: str) -> None:
    with pytest.raises(RowMappingError, match=text):
        decoded(target, *names)


@pytest.mark.parametrize(
    ("target", "cql_type", "made"),
    [
        (list[int], ListType(INT), [7, 7]),
        (list, ListType(INT), [7, 7]),
        (Sequence[int], ListType(INT), [7, 7]),
        (tuple[int, ...], ListType(INT), ([7, 7],)),
        (set[int], ListType(INT), {7}),
        (frozenset[int], SetType(INT), frozenset({7})),
        (set[int], SetType(INT), {7}),
        (list[int], SetType(INT), [7]),
        (list[Single], ListType(TupleType((INT,))), [Single(7)]),
    ],
    ids=str,
)
def test_the_only_column_is_a_collection(target: Any, cql_type: CQLType, made: object) -> None:
    metadata = ResultMetadata((Column("k", "t", "x", cql_type),), b"", True)
    integer = b"\0\0\0\4\0\0\0\7"
    element = integer if "tuple" not in str(cql_type) else b"\0\0\0\x08" + integer
    cell = b"\0\0\0\2" + element * 2 if "set" not in str(cql_type) else b"\0\0\0\1" + integer
    if isinstance(made, list) and len(made) == 1 and made != [7]:
        cell = b"\0\0\0\1" + element
    rows = Rows.of(metadata, 1, len(cell).to_bytes(4, "big") + cell)
    [row] = decode_rows(rows, target)
    assert (type(row), row) == (type(made), made)


# -- targets of one's own


class Sums:
    """Sums of rows that have a column called a."""

    def row_maker(self, columns: Sequence[Column]) -> Callable[[tuple[Any, ...]], int]:
        if all(column.name != "a" for column in columns):
            raise RowMappingError("no a")
        return sum


def test_a_target_of_ones_own() -> None:
    assert isinstance(Sums(), RowTarget)
    assert decoded(Sums(), "a", "b") == [3, 7]
    with pytest.raises(RowMappingError, match="no a"):
        decoded(Sums(), "b")


class Failing:
    def __init__(self, made: Any) -> None:
        self.made = made

    def row_maker(self, columns: Sequence[Column]) -> Any:
        if isinstance(self.made, Exception):
            raise self.made
        return self.made

    def __repr__(self) -> str:
        return "Failing()"


def test_a_target_of_ones_own_that_fails() -> None:
    cause = KeyError("x")
    with pytest.raises(RowMappingError, match=r"row=Failing\(\): row_maker\(\) raised Key") as info:
        decoded(Failing(cause), "a")
    assert info.value.__cause__ is cause
    with pytest.raises(RowMappingError, match=r"row_maker\(\) must return a function, got int"):
        decoded(Failing(5), "a")


def test_a_class_with_a_row_maker_is_a_class() -> None:
    """Only its instances are targets."""
    with pytest.raises(RowMappingError, match="row=Sums: takes none of the columns a"):
        decoded(Sums, "a")
