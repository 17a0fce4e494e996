"""Parameters of constructors, and the objects that they make."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, NotRequired, Required, TypedDict

import attrs
import msgspec
import pydantic
import pydantic.dataclasses
import pytest

from cqlproto import RowMappingError
from cqlproto.rows.targets.constructors import (
    constructor,
    has_fields,
    is_typed_dict,
    parameters_of,
    refuse_repeated,
)


@dataclasses.dataclass
class Data:
    a: int
    b: int = 2
    c: int = dataclasses.field(default=3, kw_only=True)
    d: int = dataclasses.field(default=4, init=False)


class Derived(Data):
    pass


class Named(NamedTuple):
    a: int
    b: int = 2


class Struct(msgspec.Struct, rename={"a": "first", "b": "a"}):
    a: int
    b: int = 2


@attrs.define
class Attributes:
    _a: int
    b: int = attrs.field(default=2, alias="second")
    c: int = attrs.field(default=3, init=False)


class Model(pydantic.BaseModel):
    a: int = pydantic.Field(alias="first")
    b: int = pydantic.Field(2, validation_alias=pydantic.AliasChoices("two", "second"))
    c: Any = pydantic.Field(3, validation_alias=pydantic.AliasPath("path", 1))
    d: Any = pydantic.Field(4, validation_alias=pydantic.AliasPath("alone"))


class ByBoth(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(populate_by_name=True)
    a: int = pydantic.Field(alias="first")
    c: Any = pydantic.Field(3, validation_alias=pydantic.AliasPath("path", 1))


class ByName(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(validate_by_name=True, validate_by_alias=False)
    a: int = pydantic.Field(alias="first")
    c: Any = pydantic.Field(3, validation_alias=pydantic.AliasPath("path", 1))


class Crossed(pydantic.BaseModel):
    a: int = pydantic.Field(alias="b")
    b: int = pydantic.Field(2, alias="c")


@pydantic.dataclasses.dataclass
class Checked:
    a: int = pydantic.Field(alias="first")
    b: int = pydantic.Field(2, init=False)


class Typed(TypedDict):
    a: int
    b: NotRequired[int]


class Partial(TypedDict, total=False):
    a: Required[int]
    b: int


class Unresolvable(TypedDict):
    a: Nowhere  # type: ignore[name-defined]  # noqa: F821


class Own:
    def __init__(self, a: int, *rest: Any, b: int = 2, **more: Any) -> None:
        self.a, self.b = a, b


class Positional:
    def __init__(self, a: int = 1, b: int = 2, /, c: int = 3) -> None:
        self.values = (a, b, c)


class New:
    def __new__(cls, a: int) -> New:
        made = super().__new__(cls)
        made.a = a  # type: ignore[attr-defined]
        return made


COLUMN = ("column", "row")


def made(target: Any, **values: Any) -> Any:
    make, _ = constructor(target, list(values), COLUMN)
    return make(list(values.values()))


def taken(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    return {name: getattr(value, name) for name in ("a", "b", "_a", "c") if hasattr(value, name)}


@pytest.mark.parametrize(
    ("target", "given", "expected"),
    [
        (Data, {"b": 5, "a": 1}, {"a": 1, "b": 5, "c": 3}),
        (Data, {"c": 9, "d": 9, "a": 1, "x": 0}, {"a": 1, "b": 2, "c": 9}),
        (Derived, {"a": 1}, {"a": 1, "b": 2, "c": 3}),
        (Named, {"b": 5, "a": 1}, {"a": 1, "b": 5}),
        (Struct, {"a": 1, "b": 5}, {"a": 1, "b": 5}),
        (Struct, {"first": 1}, {"a": 1, "b": 2}),
        (Struct, {"first": 9, "a": 1}, {"a": 1, "b": 2}),
        (Attributes, {"a": 1, "second": 5}, {"_a": 1, "b": 5, "c": 3}),
        (Attributes, {"_a": 1, "a": 9, "b": 5, "c": 9}, {"_a": 1, "b": 5, "c": 3}),
        (Model, {"a": 1, "b": 5}, {"a": 1, "b": 5, "c": 3}),
        (Model, {"first": 1, "second": 5}, {"a": 1, "b": 5, "c": 3}),
        (Model, {"a": 1, "first": 9, "b": 5, "two": 9}, {"a": 1, "b": 5, "c": 3}),
        (Model, {"a": 1, "path": [7, 8], "c": 9}, {"a": 1, "b": 2, "c": 8}),
        (ByBoth, {"a": 1, "c": 9}, {"a": 1, "c": 9}),
        (ByBoth, {"first": 1, "path": [7, 8]}, {"a": 1, "c": 8}),
        (ByName, {"a": 1, "c": 9}, {"a": 1, "c": 9}),
        (ByName, {"first": 1, "path": [7, 8]}, {"a": 1, "c": 3}),
        (Crossed, {"b": 5, "a": 1}, {"a": 1, "b": 5}),
        (Crossed, {"c": 5, "a": 1}, {"a": 1, "b": 5}),
        (Checked, {"a": 1, "b": 9}, {"a": 1, "b": 2}),
        (Checked, {"first": 1}, {"a": 1, "b": 2}),
        (Typed, {"b": 5, "a": 1, "x": 0}, {"a": 1, "b": 5}),
        (Typed, {"a": 1}, {"a": 1}),
        (Partial, {"a": 1}, {"a": 1}),
        (Unresolvable, {"a": 1}, {"a": 1}),
        (Own, {"b": 5, "rest": 9, "a": 1, "more": 9}, {"a": 1, "b": 5}),
        (New, {"a": 1}, {"a": 1}),
    ],
)
def test_what_is_made(target: Any, given: dict[str, Any], expected: dict[str, Any]) -> None:
    value = made(target, **given)
    assert isinstance(value, dict if is_typed_dict(target) else target)
    assert taken(value) == expected


def test_positions() -> None:
    assert made(Positional, b=5, a=4).values == (4, 5, 3)
    assert made(Positional, a=4, c=6).values == (4, 2, 6)
    assert made(Positional, c=6).values == (1, 2, 6)
    assert made(Model, a=1, alone=8).d == 8
    with pytest.raises(
        RowMappingError, match="^b can only be passed by position, and there is no column for a$"
    ):
        made(Positional, b=5)


@pytest.mark.parametrize(
    ("target", "given", "text"),
    [
        (Data, {"b": 1}, "^no column for a, the row has b$"),
        (Named, {"B": 1, "A": 1}, "^no column for a, the row has B, A$"),
        (Struct, {"b": 1}, "^no column for a, "),
        (Attributes, {"b": 1}, "^no column for _a, "),
        (Model, {"b": 1}, "^no column for a, "),
        (Typed, {"b": 1}, "^no column for a, "),
        (Partial, {"b": 1}, "^no column for a, "),
        (Crossed, {"b": 5, "c": 6}, "^no column for a, "),
        (Positional, {"x": 1, "y": 1}, "^takes none of the columns x, y$"),
        (type("Odd", (), {"__signature__": 5}), {"a": 1}, "^its constructor has no signature$"),
        (int, {"a": 1}, "^its constructor has no signature$|^takes none of the columns a$"),
    ],
)
def test_what_cannot_be_made(target: Any, given: dict[str, Any], text: str) -> None:
    with pytest.raises(RowMappingError, match=text):
        made(target, **given)


def test_the_words_of_messages() -> None:
    with pytest.raises(RowMappingError, match="^no field for a, the type address has b$"):
        constructor(Data, ["b"], ("field", "type address"))


def test_annotations_of_what_is_used() -> None:
    def hints(target: Any, *names: str) -> dict[int, Any]:
        return constructor(target, names, COLUMN)[1].hints()

    assert hints(Data, "x", "b", "a") == {2: int, 1: int}
    assert hints(Model, "first", "c") == {0: int}
    assert hints(Typed, "b", "a") == {0: int, 1: int}
    assert hints(Attributes, "second", "a") == {0: int, 1: int}
    assert hints(Own, "a") == {0: int}
    assert hints(New, "a") == {0: int}

    class Bare:
        def __init__(self, a):  # type: ignore[no-untyped-def]
            pass

    assert hints(Bare, "a") == {0: Any}

    @dataclasses.dataclass(init=False)
    class OwnInit:
        b: str

        def __init__(self, a: Sequence[int]) -> None:
            pass

    assert hints(OwnInit, "a") == {0: Sequence[int]}


def test_classes_with_fields() -> None:
    declared: list[Any] = [Data, Derived, Named, Struct, Attributes, Model, Checked]
    others: list[Any] = [Own, Positional, tuple, dict, int]
    for target in (*declared, *others):
        assert has_fields(target) is (target in declared)
        assert not is_typed_dict(target)
    assert is_typed_dict(Typed)
    assert not is_typed_dict(list[int])
    assert [each.name for each in parameters_of(Data)] == ["a", "b", "c"]


def test_a_name_that_comes_twice() -> None:
    refuse_repeated(["a", "b"], "dict")
    with pytest.raises(RowMappingError, match="'b' comes more than once and dict has names only"):
        refuse_repeated(["a", "b", "b"], "dict")
