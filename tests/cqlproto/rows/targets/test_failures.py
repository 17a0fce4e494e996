"""Errors for targets that refuse a row."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest

from cqlproto import RowMappingError
from cqlproto.cqltypes import NATIVE_TYPES
from cqlproto.messages import Column
from cqlproto.rows.targets.failures import name_of, raise_at, refused


def columns(*names: str) -> tuple[Column, ...]:
    return tuple(Column("k", "t", name, NATIVE_TYPES["int"]) for name in names)


class Inner(pydantic.BaseModel):
    n: int


class Model(pydantic.BaseModel):
    a: int
    b: list[Inner] = []
    c: int = 0
    d: int = 0

    @pydantic.model_validator(mode="after")
    def whole(self) -> Model:
        if self.c < 0:
            raise ValueError("c is negative")
        return self


def failure(**values: Any) -> pydantic.ValidationError:
    with pytest.raises(pydantic.ValidationError) as info:
        Model(**values)
    return info.value


class Target:
    def __repr__(self) -> str:
        return "Target()"


def test_a_target_is_called_by_its_name() -> None:
    assert name_of(Model) == "Model"
    assert name_of(dict[str, int]) == "dict[str, int]"
    assert name_of(Target()) == "Target()"


def test_any_exception() -> None:
    error = ValueError("no")
    made = refused(Model, columns("a", "b"), 3, error)
    assert str(made) == "row=Model: row 3 of the columns a, b: ValueError: no"
    assert (made.column, made.row, made.__cause__) == (None, 3, error)
    made = refused(Model, columns("a"), 0, StopIteration())
    assert str(made) == "row=Model: column 'a' of row 0: StopIteration"
    assert made.column == "a"
    made = refused(Model, (), 0, StopIteration())
    assert str(made) == "row=Model: row 0 of the columns (none): StopIteration"

    class Mute(Exception):
        def __str__(self) -> str:
            raise LookupError

    made = refused(Model, columns("a"), 0, Mute())
    assert str(made) == "row=Model: column 'a' of row 0: Mute"


def test_a_validation_error_says_where() -> None:
    made = refused(Model, columns("a", "b"), 0, failure(a="x"))
    assert str(made).startswith("row=Model: column 'a' of row 0: Input should be a valid integer")
    assert made.column == "a"
    made = refused(Model, columns("a", "b"), 0, failure(a=1, b=[{"n": 1}, {"n": "x"}]))
    assert str(made).startswith("row=Model: column 'b[1].n' of row 0: Input should be")
    assert made.column == "b[1].n"
    made = refused(Model, columns("a", "c"), 0, failure(a=1, c=-1))
    assert str(made) == "row=Model: row 0 of the columns a, c: Value error, c is negative"
    several = refused(Model, columns("a", "c"), 0, failure(a="x", c="y"))
    assert str(several).count("Input should be a valid integer") == 2
    assert "a: Input" in str(several)
    assert "; c: Input" in str(several)
    assert several.column is None
    everything = refused(Model, columns("a"), 0, failure(a="x", b=1, c="y", d="z"))
    assert str(everything).endswith(" and 1 more")


def test_a_null_that_pydantic_refuses() -> None:
    made = refused(Model, columns("a", "b"), 0, failure(a=None))
    assert str(made).endswith("a valid integer, it is null: annotate it with | None")
    made = refused(Model, columns("a", "b"), 0, failure(a=1, b=None))
    assert "a valid list, it is null, as an empty collection is if it isn't frozen" in str(made)
    assert str(made).endswith(": annotate it with | None")

    class Picky(pydantic.BaseModel):
        a: int | None

        @pydantic.field_validator("a")
        @classmethod
        def not_null(cls, value: int | None) -> int:
            if value is None:
                raise ValueError("no")
            return value

    with pytest.raises(pydantic.ValidationError) as info:
        Picky(a=None)
    assert str(refused(Picky, columns("a"), 0, info.value)).endswith("of row 0: Value error, no")


def test_a_mapping_error_keeps_its_column() -> None:
    cause = KeyError("n")
    inner = RowMappingError("n is missing", column="b[1].n")
    inner.__cause__ = cause
    made = refused(Model, columns("a", "b"), 2, inner)
    assert str(made) == "row=Model: column 'b[1].n' of row 2: n is missing"
    assert (made.column, made.row, made.__cause__) == ("b[1].n", 2, cause)
    made = refused(Model, columns("a", "b"), 2, RowMappingError("odd", column="z"))
    assert made.column is None


def test_the_way_to_a_part() -> None:
    def way(step: str, error: Exception) -> RowMappingError:
        with pytest.raises(RowMappingError) as info:
            raise_at(step, error)
        return info.value

    error = failure(a=1, b=[{"n": "x"}])
    first = way("[0]", error)
    assert first.column == "[0].b[0].n"
    assert str(first).startswith("Input should be a valid integer")
    assert first.__cause__ is error
    second = way("home", first)
    assert (second.column, str(second), second.__cause__) == ("home[0].b[0].n", str(first), error)
    plain = LookupError("no")
    third = way("home", plain)
    assert (third.column, str(third), third.__cause__) == ("home", "LookupError: no", plain)
    assert way("a", RowMappingError("it is null")).column == "a"
