"""Types from and to Java class names and CQL."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cqlproto.cqltypes import (
    MAX_DEPTH,
    NATIVE_TYPES,
    CQLType,
    CustomType,
    ListType,
    MapType,
    NativeType,
    SetType,
    TupleType,
    UserType,
    VectorType,
    class_name,
    parse_class_name,
    parse_type,
)
from cqlproto.exceptions import LocalProtocolError
from cqlproto.testing import cql_types

INT, TEXT = NATIVE_TYPES["int"], NATIVE_TYPES["text"]
PACKAGE = "org.apache.cassandra.db.marshal."
ADDRESS = UserType("shop", "Address", (("street", TEXT), ("a b", ListType(INT))))
ADDRESS_CLASS = "UserType(shop,41646472657373,737472656574:UTF8Type,612062:ListType(Int32Type))"


@pytest.mark.parametrize(
    ("text", "cql_type"),
    [
        ("AsciiType", "ascii"),
        ("BooleanType", "boolean"),
        ("ByteType", "tinyint"),
        ("BytesType", "blob"),
        ("CounterColumnType", "counter"),
        ("DateType", "timestamp"),
        ("DecimalType", "decimal"),
        ("DoubleType", "double"),
        ("DurationType", "duration"),
        ("FloatType", "float"),
        ("InetAddressType", "inet"),
        ("Int32Type", "int"),
        ("IntegerType", "varint"),
        ("LexicalUUIDType", "uuid"),
        ("LongType", "bigint"),
        ("ShortType", "smallint"),
        ("SimpleDateType", "date"),
        ("TimeType", "time"),
        ("TimeUUIDType", "timeuuid"),
        ("TimestampType", "timestamp"),
        ("UTF8Type", "text"),
        ("UUIDType", "uuid"),
    ],
)
def test_classes_of_scalars(text: str, cql_type: str) -> None:
    assert parse_class_name(text) == parse_class_name(PACKAGE + text) == NATIVE_TYPES[cql_type]
    assert parse_class_name(f"{PACKAGE}ReversedType({PACKAGE}{text})") == NATIVE_TYPES[cql_type]


@pytest.mark.parametrize(
    ("text", "cql_type"),
    [
        ("ListType(Int32Type)", "list<int>"),
        ("SetType( Int32Type )", "set<int>"),
        ("MapType(UTF8Type,Int32Type)", "map<text, int>"),
        ("MapType(UTF8Type , FrozenType(ListType(Int32Type)))", "map<text, frozen<list<int>>>"),
        ("TupleType(Int32Type,TupleType(UTF8Type))", "tuple<int, tuple<text>>"),
        (f"{PACKAGE}VectorType({PACKAGE}FloatType , 2)", "vector<float, 2>"),
        ("VectorType(VectorType(FloatType , 2) , 3)", "vector<vector<float, 2>, 3>"),
        ("FrozenType(ReversedType(FrozenType(SetType(Int32Type))))", "frozen<set<int>>"),
        (ADDRESS_CLASS, 'shop."Address"'),
        (f"FrozenType({ADDRESS_CLASS})", 'frozen<shop."Address">'),
        ("ListType(com.example.Odd)", "list<'com.example.Odd'>"),
        (
            "MapType(CompositeType(Int32Type,(x)) , com.Odd )",
            "map<'CompositeType(Int32Type,(x))', 'com.Odd'>",
        ),
    ],
)
def test_classes_with_parameters(text: str, cql_type: str) -> None:
    assert str(parse_class_name(text)) == cql_type


def test_a_class_name_has_the_fields_of_a_user_type() -> None:
    assert parse_class_name(ADDRESS_CLASS) == ADDRESS
    assert parse_class_name("UserType(shop,61)") == UserType("shop", "a", ())


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "com.example.Odd",
        " com.example.Odd ",
        "com.example.ListType(Int32Type)",
        f"{PACKAGE}CompositeType({PACKAGE}Int32Type,{PACKAGE}UTF8Type)",
        "DynamicCompositeType(a=>BytesType)",
        "ListType",
        "ListType()",
        "ListType(Int32Type",
        "ListType(Int32Type))",
        "ListType(Int32Type,Int32Type)",
        "ListType(CompositeType(Int32Type)",
        "MapType(Int32Type)",
        "Int32Type()",
        "Int32Type x",
        "VectorType(FloatType)",
        "VectorType(FloatType , 0)",
        "VectorType(FloatType , -1)",
        "VectorType(FloatType , 2147483648)",
        "VectorType(FloatType , ١)",
        "VectorType(FloatType , x)",
        "UserType(shop)",
        "UserType(shop,xyz)",
        "UserType(shop,ff)",
        "UserType(shop,61,62)",
        "UserType(shop,61,62:)",
        "FrozenType(Int32Type",
        "(",
        "é",
    ],
)
def test_anything_else_is_a_custom_type(text: str) -> None:
    assert parse_class_name(text) == CustomType(text)


CLASS_WORDS = [*"(), :=>x6", "ListType", "UserType", "TupleType", "VectorType", "Int32Type"]


@given(st.lists(st.sampled_from(CLASS_WORDS)).map("".join))
def test_any_text_is_some_type(text: str) -> None:
    assert isinstance(parse_class_name(text), CQLType)


@given(cql_types())
def test_a_class_name_is_read_as_it_was_written(cql_type: CQLType) -> None:
    text = class_name(cql_type)
    assert parse_class_name(text) == cql_type
    assert class_name(parse_class_name(text)) == text


@pytest.mark.parametrize(
    ("cql_type", "text"),
    [
        (ListType(INT), "ListType(%Int32Type)"),
        (SetType(INT), "SetType(%Int32Type)"),
        (MapType(INT, TEXT), "MapType(%Int32Type,%UTF8Type)"),
        (TupleType((INT, TEXT)), "TupleType(%Int32Type,%UTF8Type)"),
        (VectorType(INT, 3), "VectorType(%Int32Type , 3)"),
        (UserType("k", "u", (("a", INT),)), "UserType(k,75,61:%Int32Type)"),
        (ListType(INT, True), "FrozenType(%ListType(%Int32Type))"),
    ],
)
def test_the_class_name_of_each_kind(cql_type: CQLType, text: str) -> None:
    assert class_name(cql_type) == PACKAGE + text.replace("%", PACKAGE)
    assert parse_class_name(class_name(cql_type)) == cql_type


def test_a_custom_type_has_its_own_class_name() -> None:
    assert class_name(CustomType("com.example.Odd(")) == "com.example.Odd("
    assert parse_class_name("ListType(com.example.Odd(a)") == CustomType(
        "ListType(com.example.Odd(a)"
    )
    assert parse_class_name("ListType(com.example.Odd((a)") == CustomType(
        "ListType(com.example.Odd((a)"
    )


def test_a_class_name_says_frozen_once() -> None:
    user = UserType("ks", "a", (("b", SetType(INT, frozen=True)),), frozen=True)
    assert class_name(MapType(INT, user)).replace(PACKAGE, "") == (
        "MapType(Int32Type,FrozenType(UserType(ks,61,62:SetType(Int32Type))))"
    )
    listed = ListType(TupleType((ListType(INT, frozen=True),)), frozen=True)
    assert class_name(listed).replace(PACKAGE, "") == (
        "FrozenType(ListType(TupleType(ListType(Int32Type))))"
    )


def nested_class(depth: int) -> str:
    return "ListType(" * depth + "Int32Type" + ")" * depth


def test_class_names_are_nested_as_deep_as_types() -> None:
    assert isinstance(parse_class_name(nested_class(MAX_DEPTH)), ListType)
    for depth in (MAX_DEPTH + 1, 5_000):
        text = nested_class(depth)
        assert parse_class_name(text) == CustomType(text)
    wrapped = "FrozenType(" * 5_000 + "Int32Type" + ")" * 5_000
    assert parse_class_name(wrapped) == INT
    assert parse_class_name("ListType(Int32Type)", depth=MAX_DEPTH) == CustomType(
        "ListType(Int32Type)"
    )


def nested(depth: int) -> CQLType:
    cql_type: CQLType = INT
    for _ in range(depth):
        cql_type = ListType(cql_type)
    return cql_type


@pytest.mark.parametrize("cql_type", [nested(MAX_DEPTH + 1), NativeType("no"), CQLType()])
def test_types_without_a_class_name(cql_type: CQLType) -> None:
    with pytest.raises(LocalProtocolError):
        class_name(cql_type)


# --- CQL ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cql_type"),
    [
        ("int", INT),
        (" TEXT ", TEXT),
        ("varchar", TEXT),
        ("List < Int >", ListType(INT)),
        ("frozen<map<text, list<int>>>", MapType(TEXT, ListType(INT))),
        ("set<frozen<tuple<int, text>>>", SetType(TupleType((INT, TEXT)))),
        ("vector<float, 3>", VectorType(NATIVE_TYPES["float"], 3)),
        ("'com.example.It''s'", CustomType("com.example.It's")),
        (f"'{PACKAGE}ShortType'", NATIVE_TYPES["smallint"]),
        ("empty", CustomType(f"{PACKAGE}EmptyType")),
        ('"Address"', ADDRESS),
        ('frozen<"Address">', ADDRESS),
        ('list<frozen<shop."Address">>', ListType(ADDRESS)),
        ('"int"', UserType("shop", "int", ())),
        ("frozen", UserType("shop", "frozen", ())),
        ('shop . "q""t"', UserType("shop", 'q"t', ())),
        ("shop.text", UserType("shop", "text", ())),
    ],
)
def test_types_in_cql(text: str, cql_type: CQLType) -> None:
    names = ("int", "frozen", 'q"t', "text")
    udts = {name: UserType("shop", name, ()) for name in names} | {"Address": ADDRESS}
    assert parse_type(text, "shop", udts) == cql_type


@pytest.mark.parametrize(
    "text",
    ["frozen<list<int>>", "list<frozen<set<int>>>", 'frozen<"Address">', "frozen<map<int, int>>"],
)
def test_frozen_is_kept_for_printing(text: str) -> None:
    parsed = parse_type(text, "shop", {"Address": ADDRESS})
    assert str(parsed).replace("shop.", "") == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "list",
        "list<>",
        "list<int",
        "list<int>>",
        "list<int, int>",
        "map<int>",
        "vector<int>",
        "vector<int, 0>",
        "vector<int, x>",
        "vector<int, 2, 3>",
        "vector<int, 99999999999>",
        "option<int>",
        "int int",
        "unknown",
        "other.address",
        "shop.",
        ".address",
        '"',
        "'x",
        "frozen<int",
        "int;",
        "<int>",
        "list<" * (MAX_DEPTH + 1) + "int" + ">" * (MAX_DEPTH + 1),
        "list<" * 5_000,
        "frozen<" * 5_000,
    ],
)
def test_text_that_is_no_type(text: str) -> None:
    with pytest.raises(LocalProtocolError):
        parse_type(text, "shop", {"address": ADDRESS})


CQL_WORDS = [*"<>,. '\"1", "list", "map", "frozen", "vector", "int", "a"]


@given(st.lists(st.sampled_from(CQL_WORDS)).map("".join))
def test_any_text_is_a_type_or_an_error(text: str) -> None:
    with suppress(LocalProtocolError):
        assert isinstance(parse_type(text, "shop", {"a": ADDRESS}), CQLType)


@given(cql_types())
def test_a_type_is_read_as_it_prints(cql_type: CQLType) -> None:
    if any(isinstance(part, UserType) for part in parts(cql_type)):
        return
    assert parse_type(str(cql_type)) == cql_type
    assert str(parse_type(str(cql_type))) == str(cql_type)


def parts(cql_type: CQLType) -> list[CQLType]:
    """Return a type and all types in it."""
    match cql_type:
        case ListType(element=part) | SetType(element=part) | VectorType(element=part):
            inner = [part]
        case MapType(key=key, value=value):
            inner = [key, value]
        case TupleType(elements=elements):
            inner = list(elements)
        case UserType(fields=fields):
            inner = [part for _, part in fields]
        case _:
            inner = []
    return [cql_type, *(below for part in inner for below in parts(part))]


@pytest.mark.parametrize("width", [1, 2])
def test_user_types_cannot_make_a_type_too_large(width: int) -> None:
    udts: dict[str, UserType] = {"t0": UserType("shop", "t0", (("a", INT),))}
    with pytest.raises(LocalProtocolError, match="at most 100000 parts"):
        for number in range(1, MAX_DEPTH + 2):
            inner = parse_type(f"frozen<t{number - 1}>", "shop", udts)
            fields = tuple((f"f{field}", inner) for field in range(width))
            udts[f"t{number}"] = UserType("shop", f"t{number}", fields)
    assert len(udts) > 10
