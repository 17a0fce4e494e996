"""Values of user-defined types: named tuples with names from a server."""

from __future__ import annotations

import copy
import pickle

import pytest

from cqlproto.cqltypes import NATIVE_TYPES, UserType, UserValue, user_value_class

ADDRESS = UserType(
    "shop", "address", (("street", NATIVE_TYPES["text"]), ("a b", NATIVE_TYPES["int"]))
)


def test_a_user_value_is_read_by_attribute_name_and_position() -> None:
    value = user_value_class(ADDRESS)(["Main St", 3])
    street, number = value
    assert tuple(value) == ("Main St", 3) == (street, number)
    assert value.street == value["street"] == value[0] == "Main St"
    assert value["a b"] == value[-1] == 3
    assert value[:1] == ("Main St",)
    assert value._fields == ("street", "a b")
    assert value._asdict() == {"street": "Main St", "a b": 3}
    assert repr(value) == "address(street='Main St', a b=3)"
    for missing in ("city", "_fields"):
        with pytest.raises(KeyError, match=missing):
            value[missing]


def test_names_of_fields_take_nothing_from_a_user_value() -> None:
    names = ("count", "index", "__class__", "_fields", "__hash__", "class", "Größe", "", "mro")
    fields = tuple((name, NATIVE_TYPES["int"]) for name in names)
    value = user_value_class(UserType("ks", "not\0a name", fields))(range(len(names)))
    assert [value[name] for name in names] == list(range(len(names)))
    for name in ("count", "index", "class", "Größe", "mro"):
        assert getattr(value, name) == value[name]
    assert value._fields == names
    assert isinstance(value, tuple)
    assert hash(value) == hash(tuple(range(len(names))))
    assert pickle.loads(pickle.dumps(value)) == value


@pytest.mark.parametrize("name", ["keys", "items", "_fields", "count", "a b"])
def test_a_user_value_is_taken_for_a_mapping_whatever_its_fields_are_called(name: str) -> None:
    fields = tuple((each, NATIVE_TYPES["text"]) for each in ("street", name))
    value = user_value_class(UserType("shop", "address", fields))(["Main St", "x"])
    expected = {"street": "Main St", name: "x"}
    assert dict(value) == {**value} == value._asdict() == expected
    assert value.keys() == ("street", name)
    assert name in value
    assert "Main St" not in value
    assert None not in value


def test_missing_fields_of_a_user_value_are_null() -> None:
    make = user_value_class(ADDRESS)._make
    assert make(["Main St"]) == ("Main St", None)
    with pytest.raises(ValueError, match="address must have at most 2 values, got 3"):
        make([1, 2, 3])


def test_types_of_the_same_names_share_a_class() -> None:
    other = UserType(
        "shop", "address", (("street", NATIVE_TYPES["blob"]), ("a b", NATIVE_TYPES["int"]))
    )
    elsewhere = UserType("blog", "address", ADDRESS.fields)
    assert user_value_class(ADDRESS) is user_value_class(other)
    assert user_value_class(ADDRESS) is not user_value_class(elsewhere)


def test_a_value_can_be_copied_and_pickled() -> None:
    value = user_value_class(ADDRESS)(["Main St", 3])
    for again in (pickle.loads(pickle.dumps(value)), copy.deepcopy(value)):
        assert again == value
        assert type(again) is user_value_class(ADDRESS)


def test_all_values_have_one_base() -> None:
    assert issubclass(user_value_class(ADDRESS), UserValue)
    assert user_value_class(ADDRESS).__name__ == "address"
    assert user_value_class(UserType("k", "a b", ())).__name__ == "UserValue"
    assert UserValue() == ()
