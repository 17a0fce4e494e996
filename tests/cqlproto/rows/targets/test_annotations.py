"""Resolving annotations."""

from __future__ import annotations

import dataclasses
import typing
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    ForwardRef,
    Generic,
    NewType,
    Optional,
    TypeVar,
    Union,
)

import pytest

from cqlproto.rows.targets.annotations import Unresolved, hints_of, plain_hint, scope_of

if TYPE_CHECKING:
    from decimal import Decimal

T = TypeVar("T")
U = TypeVar("U")
Bound = TypeVar("Bound", bound=str)
UserId = NewType("UserId", int)


class Base:
    inherited: int
    self: Base | None


class Known(Base):
    own: list[Base]
    final: Annotated[str, "x"]


class Half(Base):
    known: int
    unknown: Decimal
    wrong: typing.Sequence[1 / 0]  # type: ignore[valid-type]


class Box(Generic[T, U]):
    first: T
    second: U


class Ints(Box[int, U]):
    pass


class Both(Ints[str]):
    pass


class Alias:
    """What ``type X = ..`` makes (Python 3.12)."""

    __value__ = Optional[int]  # noqa: UP045


def function(a: int, b: Known | None = None) -> None:
    pass


def test_of_a_class_and_of_a_function() -> None:
    assert hints_of(Known) == {
        "inherited": int,
        "self": Base | None,
        "own": list[Base],
        "final": str,
    }
    assert hints_of(function)["b"] == Known | None


def test_a_class_of_a_function_that_names_itself() -> None:
    class Node:
        children: list[Node]

    assert hints_of(Node) == {"children": list[Node]}


def test_what_cannot_be_resolved_harms_nothing_else() -> None:
    hints = hints_of(Half)
    assert (hints["known"], hints["inherited"]) == (int, int)
    assert hints["unknown"].text == "Decimal"
    assert hints["unknown"].reason == "NameError: name 'Decimal' is not defined"
    assert hints["wrong"].reason.startswith("ZeroDivisionError")

    def local(a: int, b: Decimal) -> None:
        pass

    assert hints_of(local)["a"] is int
    assert isinstance(hints_of(local)["b"], Unresolved)


@pytest.mark.parametrize(
    ("hint", "members", "optional"),
    [
        (int, (int,), False),
        (Any, (Any,), False),
        (list[int], (list[int],), False),
        (int | None, (int,), True),
        (Optional[int], (int,), True),  # noqa: UP045
        (Union[int, str, None], (int, str), True),  # noqa: UP007
        (Annotated[int | None, "x"], (int,), True),
        (Annotated[int, "x"] | str, (int, str), False),
        (Final[int], (int,), False),
        (typing.ClassVar[int], (int,), False),
        (typing.Required[int], (int,), False),
        (typing.NotRequired[int | None], (int,), True),
        (dataclasses.InitVar(Optional[int]), (int,), True),  # type: ignore[arg-type]  # noqa: UP045
        (UserId, (int,), False),
        (Alias, (int,), True),
        (Union[Alias, str], (int, str), True),  # noqa: UP007
        (T, (Any,), False),
        (Bound, (str,), False),
        ("Decimal", (Unresolved("Decimal", "a string within another annotation"),), False),
        (
            ForwardRef("Decimal"),
            (Unresolved("Decimal", "a string within another annotation"),),
            False,
        ),
    ],
    ids=str,
)
def test_what_says_nothing_of_the_class_is_taken_off(
    hint: Any, members: tuple[Any, ...], optional: bool
) -> None:
    stripped = plain_hint(hint, {})
    assert (stripped.members, stripped.optional) == (members, optional)


def test_type_variables() -> None:
    assert scope_of(Box, {}) == {}
    assert scope_of(Box[int, str], {}) == {T: int, U: str}
    assert scope_of(Box[int, T], {T: str}) == {T: int, U: str}  # type: ignore[valid-type]
    both = scope_of(Both, {})
    assert (both[T], both[U]) == (int, str)
    assert plain_hint(T, both).members == (int,)
    assert plain_hint(T, {T: T}).members == (Any,)
    assert plain_hint(T, {T: U, U: T}).members == (Any,)
    assert plain_hint(Union[T, str], {T: int | None}) == ((int, str), True, {T: int | None})  # noqa: UP007
