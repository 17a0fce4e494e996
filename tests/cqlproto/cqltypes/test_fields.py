"""Named fields of objects, and their aliases."""

from __future__ import annotations

import collections
import dataclasses
import sqlite3
from typing import Any, NamedTuple

import attrs
import msgspec
import pydantic
import pydantic.dataclasses
import pytest

from cqlproto.cqltypes import NATIVE_TYPES, UserType, user_value_class
from cqlproto.cqltypes.fields import fields_of, values_of
from cqlproto.rows.targets.row import row_class

INT = NATIVE_TYPES["int"]
PAIR = UserType("k", "pair", (("a", INT), ("b", INT)))


@dataclasses.dataclass
class Data:
    a: int
    b: int


class Named(NamedTuple):
    a: int
    b: int


class Struct(msgspec.Struct, rename={"a": "first", "b": "a"}):
    a: int
    b: int


@attrs.define
class Attributes:
    _a: int
    b: int = attrs.field(alias="second")


class Model(pydantic.BaseModel):
    model_config = {"extra": "allow"}
    a: int = pydantic.Field(alias="first", serialization_alias="A")
    b: int = pydantic.Field(
        validation_alias=pydantic.AliasChoices(
            "second", pydantic.AliasPath("two"), pydantic.AliasPath("deep", 0)
        )
    )

    @pydantic.computed_field(alias="both")
    def total(self) -> int:
        return self.a + self.b


@pydantic.dataclasses.dataclass
class Checked:
    a: int = pydantic.Field(alias="first")


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (Data(1, 2), {"a": 1, "b": 2}),
        (Named(1, 2), {"a": 1, "b": 2}),
        (row_class(("a", "b", "_c", "count"))((1, 2, 3, 4)), {"a": 1, "b": 2, "_c": 3, "count": 4}),
        (row_class(("a", "a"))((1, 2)), {"a": 1}),
        (user_value_class(PAIR)((1, 2)), {"a": 1, "b": 2}),
        (user_value_class(PAIR)((1,)), {"a": 1}),
        (Struct(1, 2), {"a": 1, "b": 2, "first": 1}),
        (Attributes(1, second=2), {"_a": 1, "a": 1, "b": 2, "second": 2}),
        (
            Model.model_validate({"first": 1, "second": 2, "more": 9}),
            {"a": 1, "A": 1, "first": 1, "b": 2, "second": 2, "two": 2, "total": 3, "both": 3,
             "more": 9},
        ),
        (Checked(first=1), {"a": 1, "first": 1}),
        (collections.UserDict(a=1), {"a": 1}),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_names_and_values(value: object, names: dict[str, Any]) -> None:
    found = fields_of(value)
    assert found is not None
    keys, read = found
    assert {name: read(key) for name, key in keys.items()} == names


def test_a_row_of_another_database() -> None:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    found = fields_of(connection.execute("SELECT 1 AS a").fetchone())
    connection.close()
    assert found is not None
    assert found[1](found[0]["a"]) == 1


@pytest.mark.parametrize("value", [None, 1, "text", (1, 2), [1], Data, Named, Model, object()])
def test_what_has_no_names(value: object) -> None:
    assert fields_of(value) is None
    assert values_of(value) == ()


def test_values_come_in_the_order_of_the_fields() -> None:
    assert values_of(Data(1, 2)) == values_of(Struct(1, 2)) == (1, 2)
    assert values_of(Attributes(1, second=2)) == (1, 2)
    assert values_of(Model.model_validate({"second": 2, "more": 9, "first": 1})) == (1, 2, 9)
    assert values_of(Named(1, 2)) == values_of({"a": 1}) == ()
