"""Objects nested in rows, made from user-defined types and tuples."""

from __future__ import annotations

import collections.abc as abc
import dataclasses
import enum
import typing
from typing import Any, Generic, NamedTuple, Optional, TypedDict, TypeVar

import attrs
import msgspec
import pydantic
import pydantic.dataclasses
import pytest

from cqlproto import RowMappingError
from cqlproto.cqltypes import (
    EMPTY,
    CQLType,
    FrozenMap,
    ListType,
    LosslessMap,
    LosslessSet,
    MapType,
    SetType,
    TupleType,
    UserType,
    UserValue,
    VectorType,
    encoder,
    parse_type,
    user_value_class,
)
from cqlproto.messages import Column, ResultMetadata, Rows
from cqlproto.rows import decode_rows
from cqlproto.rows.targets.nested import (
    container,
    converter,
    mapping_maker,
    object_maker,
    tuple_maker,
)

INT, TEXT = parse_type("int"), parse_type("text")
ADDRESS = UserType(
    "shop", "address", (("street", TEXT), ("zip", INT), ("tags", parse_type("list<text>")))
)
PERSON = UserType(
    "shop", "person", (("name", TEXT), ("home", ADDRESS), ("past", ListType(ADDRESS)))
)
Address = user_value_class(ADDRESS)
MAIN: dict[str, Any] = {"street": "Main", "zip": 7, "tags": ["a", "b"]}
T = TypeVar("T")


@dataclasses.dataclass
class Data:
    street: str
    zip: int
    tags: list[str]


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    street: str
    zip: int
    tags: tuple[str, ...]


@attrs.define
class Attrs:
    street: str
    zip: int
    tags: list[str]


class Struct(msgspec.Struct):
    street: str
    zip: int
    tags: list[str]


class Model(pydantic.BaseModel):
    street: str
    zip: int
    tags: list[str]


class Aliased(pydantic.BaseModel):
    road: str = pydantic.Field(alias="street")
    zip: int = pydantic.Field(alias="ZIP")


@pydantic.dataclasses.dataclass
class Checked:
    street: str
    zip: int
    tags: list[str]


class Named(NamedTuple):
    street: str
    zip: int
    tags: tuple[str, ...]


class Typed(TypedDict):
    street: str
    zip: int
    tags: list[str]


class Own:
    def __init__(self, street: str, zip: int) -> None:
        self.street, self.zip, self.tags = street, zip, ["a", "b"]


CLASSES = [Data, Frozen, Attrs, Struct, Model, Checked, Named, Typed, Own]


def address_of(value: Any) -> Any:
    """Return the fields of an address of any class."""
    if isinstance(value, dict):
        return value
    return {"street": value.street, "zip": value.zip, "tags": list(value.tags)}


def row(target: Any, **columns: tuple[CQLType, Any]) -> Any:
    """Return a row of these columns, given by type and value."""
    described = tuple(Column("k", "t", name, each) for name, (each, _) in columns.items())
    content = b""
    for cql_type, value in columns.values():
        cell = None if value is None else encoder(cql_type)(value)
        content += b"\xff\xff\xff\xff" if cell is None else len(cell).to_bytes(4, "big") + cell
    return decode_rows(Rows.of(ResultMetadata(described, b"", True), 1, content), target)[0]


def dataclass_of(**hints: Any) -> Any:
    return dataclasses.make_dataclass("Outer", hints.items())


@pytest.mark.parametrize("inner", CLASSES)
def test_an_object_in_every_place(inner: Any) -> None:
    places: dict[str, tuple[Any, CQLType, Any]] = {
        "plain": (inner, ADDRESS, MAIN),
        "maybe": (inner | None, ADDRESS, MAIN),
        "optional": (Optional[inner], ADDRESS, MAIN),  # noqa: UP045
        "null": (inner | None, ADDRESS, None),
        "many": (list[inner], ListType(ADDRESS), [MAIN]),
        "sequence": (abc.Sequence[inner], ListType(ADDRESS), [MAIN]),
        "fixed": (tuple[inner, ...], ListType(ADDRESS), [MAIN]),
        "by_name": (dict[str, inner], MapType(TEXT, ADDRESS), {"k": MAIN}),
        "mapping": (abc.Mapping[str, list[inner]], MapType(TEXT, ListType(ADDRESS)), {"k": [MAIN]}),
        "pair": (tuple[int, inner], TupleType((INT, ADDRESS)), (1, MAIN)),
        "vector": (list[inner], VectorType(ADDRESS, 1), [MAIN]),
        "from_a_set": (list[inner], SetType(ADDRESS), [MAIN]),
        "annotated": (typing.Annotated[list[inner | None], "x"], ListType(ADDRESS), [MAIN]),
    }
    outer = dataclass_of(**{name: hint for name, (hint, _, _) in places.items()})
    made = row(outer, **{name: (cql_type, value) for name, (_, cql_type, value) in places.items()})
    assert made.null is None
    containers = {"fixed": tuple, "pair": tuple, "by_name": dict, "mapping": dict}
    for name in places:
        value = getattr(made, name)
        if name in ("plain", "maybe", "optional", "null"):
            found = [value] if value is not None else []
        else:
            assert type(value) is containers.get(name, list)
            found = [*value.values()] if isinstance(value, dict) else [*value]
            if name == "mapping":
                (found,) = found
            if name == "pair":
                assert found.pop(0) == 1
        for each in found:
            assert type(each) is (dict if inner is Typed else inner)
            assert address_of(each) == MAIN


@pytest.mark.parametrize("inner", [each for each in CLASSES if each not in (Own, Typed)])
def test_the_same_objects_bind(inner: Any) -> None:
    types: dict[str, CQLType] = {
        "home": ADDRESS,
        "many": ListType(ADDRESS),
        "by_name": MapType(TEXT, ADDRESS),
        "pair": TupleType((INT, ADDRESS)),
    }
    outer = dataclass_of(
        home=inner, many=list[inner], by_name=dict[str, inner], pair=tuple[int, inner]
    )
    values = {"home": MAIN, "many": [MAIN], "by_name": {"k": MAIN}, "pair": (1, MAIN)}
    made = row(outer, **{name: (types[name], value) for name, value in values.items()})
    again = {name: (types[name], getattr(made, name)) for name in types}
    assert row(outer, **again) == made


@pytest.mark.parametrize("inner", [Frozen, Named])
def test_objects_that_can_be_hashed_within_sets_and_as_keys(inner: Any) -> None:
    outer = dataclass_of(s=set[inner], f=frozenset[inner], a=abc.Set[inner], k=dict[inner, int])
    made = row(
        outer,
        s=(SetType(ADDRESS), [MAIN]),
        f=(SetType(ADDRESS), [MAIN]),
        a=(SetType(ADDRESS), [MAIN]),
        k=(MapType(ADDRESS, INT), FrozenMap({Address(["Main", 7, ("a", "b")]): 1})),
    )
    expected = inner("Main", 7, ("a", "b"))
    assert (type(made.s), made.s) == (set, {expected})
    assert (type(made.f), made.f) == (frozenset, {expected})
    assert (type(made.a), made.a) == (set, {expected})
    assert made.k == {expected: 1}
    assert {type(each) for each in (*made.s, *made.f, *made.k)} == {inner}


def test_objects_that_cannot_be_hashed_are_refused_in_sets() -> None:
    outer = dataclass_of(s=set[Data])
    with pytest.raises(RowMappingError, match="column 's' of row 0: TypeError: unhashable"):
        row(outer, s=(SetType(ADDRESS), [MAIN]))


@dataclasses.dataclass
class Person:
    name: str
    home: Model | None
    past: list[Data] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Root:
    person: Person
    people: dict[str, list[Person]]


def test_objects_within_objects() -> None:
    people = MapType(TEXT, ListType(PERSON))
    value = {"name": "Ann", "home": MAIN, "past": [MAIN]}
    made = row(Root, person=(PERSON, value), people=(people, {"k": [value, {"name": "Bob"}]}))
    ann = Person("Ann", Model(**MAIN), [Data(**MAIN)])
    assert made == Root(ann, {"k": [ann, Person("Bob", None, None)]})  # type: ignore[arg-type]


def test_where_a_null_was() -> None:
    with pytest.raises(RowMappingError) as info:
        row(dataclass_of(home=Data), home=(ADDRESS, None))
    assert str(info.value) == (
        "row=Outer: column 'home' of row 0: it is null, and Data is not optional: annotate"
        " Data | None"
    )
    assert (info.value.column, info.value.row, info.value.__cause__) == ("home", 0, None)
    outer = dataclass_of(pairs=list[tuple[int, Data]])
    with pytest.raises(RowMappingError, match=r"column 'pairs\[1\]\[1\]' of row 0: it is null"):
        row(outer, pairs=(ListType(TupleType((INT, ADDRESS))), [(1, MAIN), (2, None)]))
    # a collection that is empty is null on the server
    outer = dataclass_of(a=list[Data], b=dict[str, Data], c=tuple[int, Data])
    nulls = row(
        outer,
        a=(ListType(ADDRESS), None),
        b=(MapType(TEXT, ADDRESS), None),
        c=(TupleType((INT, ADDRESS)), None),
    )
    assert (nulls.a, nulls.b, nulls.c) == (None, None, None)


def test_what_has_no_bytes_stays_what_it_is() -> None:
    outer = dataclass_of(
        a=list[Data], b=dict[str, Data], c=tuple[int, Data], d=Data, e=frozenset[int]
    )
    made = row(
        outer,
        a=(ListType(ADDRESS), EMPTY),
        b=(MapType(TEXT, ADDRESS), EMPTY),
        c=(TupleType((INT, ADDRESS)), EMPTY),
        d=(ADDRESS, EMPTY),
        e=(SetType(INT), EMPTY),
    )
    assert {*dataclasses.astuple(made)} == {EMPTY}


class Refusing(pydantic.BaseModel):
    street: str
    zip: int = pydantic.Field(lt=7)


class Exploding:
    def __init__(self, street: str) -> None:
        raise LookupError(street)


@pytest.mark.parametrize(
    ("hint", "cql_type", "value", "column", "reason"),
    [
        (Refusing, ADDRESS, MAIN, "x.zip", "Input should be less than 7"),
        (list[Refusing], ListType(ADDRESS), [MAIN], "x[0].zip", "Input should be less than 7"),
        (dict[str, Refusing], MapType(TEXT, ADDRESS), {"k": MAIN}, "x['k'].zip", "Input should"),
        (tuple[int, Refusing], TupleType((INT, ADDRESS)), (1, MAIN), "x[1].zip", "Input should"),
        (dict[str, Any], ADDRESS, MAIN, None, None),
        (Exploding, ADDRESS, MAIN, "x", "LookupError: Main"),
        (list[Exploding], SetType(ADDRESS), [MAIN], "x[0]", "LookupError: Main"),
    ],
)
def test_where_a_class_has_refused(
    hint: Any, cql_type: CQLType, value: Any, column: str | None, reason: str | None
) -> None:
    outer = dataclass_of(x=hint)
    if column is None:
        assert row(outer, x=(cql_type, value)).x == {**MAIN, "tags": ("a", "b")}
        return
    with pytest.raises(RowMappingError, match=f"of row 0: {reason}") as info:
        row(outer, x=(cql_type, value))
    assert info.value.column == column
    assert isinstance(info.value.__cause__, (pydantic.ValidationError, LookupError))


@dataclasses.dataclass
class Demanding:
    street: str
    missing: int


@dataclasses.dataclass
class Outside:
    inside: Demanding


class ShortNamed(NamedTuple):
    a: int


@pytest.mark.parametrize(
    ("hint", "cql_type", "text"),
    [
        (Demanding, ADDRESS, "column 'x': Demanding: no field for missing, the type address has "),
        (list[Demanding], ListType(ADDRESS), "column 'x': Demanding: no field for missing"),
        (dict[str, Demanding], MapType(TEXT, ADDRESS), "column 'x': Demanding: no field"),
        (tuple[int, Demanding], TupleType((INT, ADDRESS)), r"column 'x\[1\]': Demanding: no field"),
        (
            Outside,
            UserType("k", "outside", (("inside", ADDRESS),)),
            "column 'x.inside': Demanding: no field for missing",
        ),
        (
            Outside,
            TupleType((ADDRESS,)),
            "column 'x.inside': Demanding: no field for missing",
        ),
        (
            dict[str, Demanding],
            UserType("k", "outside", (("inside", ADDRESS),)),
            "column 'x.inside': Demanding: no field for missing",
        ),
        (Demanding | None, ADDRESS, "Demanding: no field for missing"),
        (
            ShortNamed,
            TupleType((INT, INT)),
            "ShortNamed must have at least 2 fields, one per element of the tuple, got 1",
        ),
        (Demanding, TupleType((TEXT,)), "Demanding: no element for missing, the tuple has street"),
        (tuple[int, int], TupleType((INT, INT, INT)), "must have 3 elements, got 2"),
    ],
)
def test_what_does_not_fit_is_told_before_any_row(hint: Any, cql_type: CQLType, text: str) -> None:
    described = (Column("k", "t", "x", cql_type),)
    empty = Rows.of(ResultMetadata(described, b"", True), 0, b"")
    with pytest.raises(RowMappingError, match=f"^row=Outer: .*{text}") as info:
        decode_rows(empty, dataclass_of(x=hint))
    assert info.value.row is None
    assert info.value.column is not None


@dataclasses.dataclass
class Unresolvable:
    x: Nowhere  # type: ignore[name-defined]  # noqa: F821  # there at type checking, say
    y: list[int] | None = None


def test_an_annotation_that_cannot_be_resolved_matters_for_objects_alone() -> None:
    assert row(Unresolvable, x=(ListType(INT), [1]), y=(ListType(INT), [2])).x == [1]
    for cql_type in (
        ADDRESS,
        TupleType((INT,)),
        ListType(ADDRESS),
        MapType(ADDRESS, INT),
        MapType(INT, ADDRESS),
    ):
        with pytest.raises(RowMappingError, match="column 'x': the annotation 'Nowhere' can't be"):
            row(Unresolvable, x=(cql_type, None))


class Color(enum.Enum):
    RED = 1


class Abstract(abc.Sized):
    def __init__(self, street: str) -> None:
        pass


class OtherOwn:
    def __init__(self, unknown: int) -> None:
        pass


@pytest.mark.parametrize(
    ("hint", "cql_type", "value"),
    [
        (Any, ADDRESS, MAIN),
        (object, ADDRESS, MAIN),
        (tuple, ADDRESS, MAIN),
        (UserValue, ADDRESS, MAIN),
        (Color, ADDRESS, MAIN),
        (Abstract, ADDRESS, MAIN),
        (OtherOwn, ADDRESS, MAIN),
        (typing.Callable, ADDRESS, MAIN),
        (list[UserValue], ListType(ADDRESS), [MAIN]),
        (list, ListType(ADDRESS), [MAIN]),
        (list[int], ListType(INT), [1]),
        (abc.Sequence[int], ListType(INT), [1]),
        (set[int], SetType(INT), {1}),
        (abc.Set[int], SetType(INT), {1}),
        (dict[str, int], MapType(TEXT, INT), {"a": 1}),
        (dict, MapType(TEXT, INT), {"a": 1}),
        (str, MapType(TEXT, INT), {"a": 1}),
        (str, ListType(INT), [1]),
        (list[int], SetType(INT), {1}),
        (tuple[int, int], TupleType((INT, INT)), (1, 2)),
        (tuple, TupleType((INT, INT)), (1, 2)),
        (list[int], TupleType((INT, INT)), (1, 2)),
        (int, INT, 1),
    ],
    ids=str,
)
def test_what_needs_nothing(hint: Any, cql_type: CQLType, value: Any) -> None:
    assert converter(hint, cql_type, {}) is None
    made = row(dataclass_of(x=hint), x=(cql_type, value))
    assert made.x == row(tuple, x=(cql_type, value))[0]


def test_containers_of_the_annotation() -> None:
    outer = dataclass_of(
        a=frozenset[int], b=tuple[int, ...], c=tuple[float, float], d=abc.MutableSequence[int]
    )
    made = row(
        outer,
        a=(SetType(INT), {1}),
        b=(ListType(INT), [1]),
        c=(parse_type("vector<float, 2>"), [1, 2]),
        d=(ListType(INT), [1]),
    )
    assert (type(made.a), type(made.b), type(made.c), type(made.d)) == (
        frozenset,
        tuple,
        tuple,
        list,
    )
    # within a user-defined type they are others
    kinds = {
        "a": (list[int], ListType(INT), list),
        "b": (set[int], SetType(INT), set),
        "c": (dict[str, int], MapType(TEXT, INT), dict),
        "d": (abc.Sequence[int], ListType(INT), tuple),
        "e": (abc.Mapping[str, int], MapType(TEXT, INT), FrozenMap),
        "f": (dict, MapType(TEXT, INT), dict),
        "g": (abc.MutableMapping[str, int], MapType(TEXT, INT), dict),
        "h": (abc.Mapping[str, list[int]], MapType(TEXT, ListType(INT)), FrozenMap),
    }
    inner = dataclass_of(**{name: hint for name, (hint, _, _) in kinds.items()})
    cql_type = UserType("k", "u", tuple((name, each) for name, (_, each, _) in kinds.items()))
    values = {
        "a": [1], "b": [1], "c": {"k": 1}, "d": [1], "e": {"k": 1}, "f": {"k": 1}, "g": {"k": 1},
        "h": {"k": [1]},
    }  # fmt: skip
    made = row(dataclass_of(x=inner), x=(cql_type, values)).x
    assert {name: type(getattr(made, name)) for name in kinds} == {
        name: kind for name, (_, _, kind) in kinds.items()
    }
    assert made.h["k"] == [1]


def test_members_that_python_merges_stay() -> None:
    one = converter(frozenset[Named], SetType(TupleType((TEXT, INT, INT))), {})
    assert one is not None
    merged = one(LosslessSet([("a", 0, 1), ("a", 0.0, 1)]))
    assert isinstance(merged, LosslessSet)
    assert [type(each) for each in merged] == [Named, Named]
    assert isinstance(container(frozenset)(LosslessSet([1])), LosslessSet)
    pairs = LosslessMap([(0, ("a", 1, 2)), (0.0, ("b", 1, 2))])
    by_key = converter(dict[float, Named], MapType(INT, TupleType((TEXT, INT, INT))), {})
    assert by_key is not None
    made = by_key(pairs)
    assert isinstance(made, LosslessMap)
    assert made.values() == (Named("a", 1, 2), Named("b", 1, 2))  # type: ignore[arg-type]
    inside = converter(dict[float, int], MapType(INT, INT), {}, hashable=True)
    assert inside is not None
    assert isinstance(inside(LosslessMap([(0, 1), (0.0, 2)])), LosslessMap)


def test_objects_of_tuples() -> None:
    class Pair(NamedTuple):
        number: int
        home: Data
        more: int = 5

    pair = TupleType((INT, ADDRESS))
    made = row(
        dataclass_of(a=Pair, b=Typed, c=Model),
        a=(pair, (1, MAIN)),
        b=(TupleType((TEXT, INT, ListType(TEXT))), ("s", 2, ["x"])),
        c=(TupleType((TEXT, INT, ListType(TEXT))), ("s", 2, ["x"])),
    )
    assert made.b == {"street": "s", "zip": 2, "tags": ["x"]}
    assert made.c == Model(street="s", zip=2, tags=["x"])


class PairOfModule(NamedTuple):
    number: int
    home: Data
    more: int = 5


def test_a_named_tuple_of_a_tuple() -> None:
    made = row(dataclass_of(a=PairOfModule), a=(TupleType((INT, ADDRESS)), (1, MAIN)))
    assert made.a == PairOfModule(1, Data(**MAIN))


def test_the_first_member_of_a_union_that_fits() -> None:
    outer = dataclass_of(a=Demanding | Data, b=str | Data | None, c=Data | Named)
    made = row(outer, a=(ADDRESS, MAIN), b=(ADDRESS, MAIN), c=(ADDRESS, MAIN))
    assert (type(made.a), type(made.b), type(made.c)) == (Data, Data, Data)


PET = UserType("k", "pet", (("kind", TEXT), ("lives", INT), ("type", TEXT)))


class CatModel(pydantic.BaseModel):
    kind: typing.Literal["cat"]
    lives: int


class DogModel(pydantic.BaseModel):
    kind: typing.Literal["dog"]


class Numbered(pydantic.BaseModel):
    lives: int


class Nameless(pydantic.BaseModel):
    kind: str
    lives: None


@dataclasses.dataclass
class Cat:
    kind: typing.Literal["cat"] | None
    lives: int = 9


@dataclasses.dataclass
class Dog:
    kind: typing.Annotated[typing.Literal["dog", "wolf"], "a comment"]


class Fish(msgspec.Struct, tag="fish"):
    kind: str | None


class Bird(msgspec.Struct, tag="bird"):
    kind: str | None


class CatDict(TypedDict):
    kind: typing.Literal["cat"]


Pet = typing.Annotated[CatModel | DogModel, pydantic.Field(discriminator="kind")]


@pytest.mark.parametrize(
    ("hint", "value", "made"),
    [
        (Pet, ("cat", 9), CatModel(kind="cat", lives=9)),
        (Pet, ("dog", 9), DogModel(kind="dog")),
        (Numbered | Nameless, ("dog", None), Nameless(kind="dog", lives=None)),
        (Numbered | Nameless, ("dog", 7), Numbered(lives=7)),
        (Cat | Dog | CatModel, ("cat", 7), Cat("cat", 7)),
        (Cat | Dog | CatModel, (None, 7), Cat(None, 7)),
        (Cat | Dog | CatModel, ("wolf", 7), Dog("wolf")),
        (Bird | Fish, (None, None, "fish"), Fish(None)),
        (Bird | Fish, (None, None, "bird"), Bird(None)),
        (CatDict | Dog, ("cat",), {"kind": "cat"}),
        (CatDict | Dog, ("dog",), Dog("dog")),
        (Cat | Dog, EMPTY, EMPTY),
    ],
)
def test_the_member_of_a_union_that_takes_the_value(hint: Any, value: Any, made: Any) -> None:
    outer = dataclass_of(a=hint, b=list[hint], c=hint | None)
    found = row(outer, a=(PET, value), b=(ListType(PET), [value] * 2), c=(PET, None))
    assert (found.a, found.b, found.c) == (made, [made] * 2, None)


def test_a_value_that_no_member_of_a_union_takes() -> None:
    with pytest.raises(RowMappingError, match=r"column 'a' of row 0: must be one of Cat \| Dog"):
        row(dataclass_of(a=Cat | Dog), a=(PET, ("fish",)))
    with pytest.raises(RowMappingError, match=r"'a.lives' .*valid integer"):
        row(dataclass_of(a=Numbered | Nameless), a=(PET, (None, None)))
    with pytest.raises(RowMappingError, match="it is null, and Cat is not optional"):
        row(dataclass_of(a=Cat | Dog), a=(PET, None))
    made = row(dataclass_of(a=tuple[int, Cat] | tuple[int, Dog]), a=(TupleType((INT, PET)), None))
    assert made.a is None


def test_aliases_are_names_of_fields() -> None:
    assert row(dataclass_of(x=Aliased), x=(ADDRESS, MAIN)).x == Aliased(street="Main", ZIP=7)


@dataclasses.dataclass
class Box(Generic[T]):
    item: T
    more: list[T] | None = None


class Boxed(Box[Data]):
    pass


@dataclasses.dataclass
class Boxes:
    x: Box[Named]


def test_generic_classes() -> None:
    columns: Any = {"item": (ADDRESS, MAIN), "more": (ListType(ADDRESS), [MAIN])}
    for target in (Box[Data], Boxed):
        made = row(target, **columns)
        assert made.item == Data(**MAIN)
        assert made.more == [Data(**MAIN)]
    assert isinstance(row(Box, **columns).item, UserValue)
    box = UserType("k", "box", (("item", ADDRESS),))
    assert type(row(Boxes, x=(box, {"item": MAIN})).x.item) is Named


@dataclasses.dataclass
class Node:
    value: int
    children: list[Node] = dataclasses.field(default_factory=list)
    parent: Node | None = None


def test_classes_that_name_themselves() -> None:
    leaf = UserType("k", "leaf", (("value", INT),))
    branch = UserType("k", "branch", (("value", INT), ("children", ListType(leaf))))
    made = row(
        Node,
        value=(INT, 1),
        children=(ListType(branch), [{"value": 2, "children": [{"value": 3}]}]),
        parent=(leaf, {"value": 0}),
    )
    assert made == Node(1, [Node(2, [Node(3)])], Node(0))


@dataclasses.dataclass
class Initialised:
    home: dataclasses.InitVar[Data]
    other: int = dataclasses.field(default=3, kw_only=True)
    own: int = dataclasses.field(default=4, init=False)

    def __post_init__(self, home: Data) -> None:
        self.street = home.street


def test_fields_that_are_given_to_the_constructor_only() -> None:
    made = row(Initialised, home=(ADDRESS, MAIN), other=(INT, 5), own=(INT, 9))
    assert (made.street, made.other, made.own) == ("Main", 5, 4)


def test_makers_by_themselves() -> None:
    fields = (("a", INT), ("home", ADDRESS))
    made = mapping_maker(dict[str, Data], fields, {})((1, Address(MAIN.values())))
    assert made == {"a": 1, "home": Data("Main", 7, ["a", "b"])}
    assert mapping_maker(dict, fields, {})((1, 2)) == {"a": 1, "home": 2}
    with pytest.raises(RowMappingError) as info:
        mapping_maker(dict[str, Refusing], fields, {})((1, Address(MAIN.values())))
    assert info.value.column == "home.zip"
    assert tuple_maker(tuple[int, ...], (INT, INT), {}) is None
    every = tuple_maker(tuple[Data, ...], (ADDRESS, ADDRESS), {})
    assert every is not None
    assert every([Address(MAIN.values())] * 2) == (Data(**MAIN),) * 2
    make = object_maker(Node, (("value", INT),), ("column", "row"), {})
    assert make((1,)) == Node(1)
    make = object_maker(Node, (("value", INT), ("more", ADDRESS)), ("column", "row"), {})
    assert make((1, None)) == Node(1)
