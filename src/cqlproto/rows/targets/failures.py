"""RowMappingErrors for exceptions that row targets raise, with the row and the column.

A class may refuse the values of a row: pydantic validates, a dataclass checks in ``__post_init__``,
a constructor converts. The caller gets an error that names the row, and never an exception with
another meaning, such as a StopIteration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from cqlproto.exceptions import RowMappingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cqlproto.messages.results import Column

__all__ = ["name_of", "raise_at", "refused"]

# The most reasons of pydantic that a message lists; the cause has all of them.
_MOST_REASONS = 3
# pydantic's error types for a value that is not a collection.
_COLLECTIONS = frozenset({"list_type", "set_type", "frozen_set_type", "tuple_type", "dict_type"})


def name_of(target: object) -> str:
    """Return the name of a row target in messages."""
    return target.__name__ if isinstance(target, type) else str(target)


def refused(
    target: object, columns: Sequence[Column], row: int, error: Exception
) -> RowMappingError:
    """Return the error for a row that its target refused, with the cause.

    Arguments:
        target: the target.
        columns: the columns of the row.
        row: the index of the row.
        error: the exception that making the row raised.
    """
    if isinstance(error, RowMappingError):  # of a nested value, or raised by the target
        column, reason = error.column, str(error)
    else:
        column, reason = _reason_of(error)
    names = tuple(each.name for each in columns)
    if column is not None and any(
        column == name or column.startswith((f"{name}.", f"{name}[")) for name in names
    ):
        where = f"column {column!r} of row {row}"
    elif len(names) == 1:
        column = names[0]
        where = f"column {column!r} of row {row}"
    else:
        column = None
        where = f"row {row} of the columns {', '.join(names) or '(none)'}"
    failure = RowMappingError(f"row={name_of(target)}: {where}: {reason}", column=column, row=row)
    failure.__cause__ = error.__cause__ if isinstance(error, RowMappingError) else error
    return failure


def raise_at(step: str, error: Exception) -> NoReturn:
    """Raise an error about a part of a value as an error about the whole, with the part's place.

    Arguments:
        step: the place of the part: the name of a field, or an index in brackets.
        error: the error about the part.

    Raises:
        RowMappingError: always.
    """
    cause: BaseException | None
    if isinstance(error, RowMappingError):
        place, reason, cause = error.column, str(error), error.__cause__
    else:
        (place, reason), cause = _reason_of(error), error
    dot = "." if place and not place.startswith("[") else ""
    raise RowMappingError(reason, column=f"{step}{dot}{place or ''}") from cause


def _reason_of(error: Any) -> tuple[str | None, str]:
    """Return the field that an exception is about, or None, and the reason.

    pydantic's ValidationError lists fields and reasons; other exceptions have no field.
    """
    places: list[str] = []
    reasons: list[str] = []
    try:
        for each in error.errors():
            place = _place(each["loc"])
            reason = f"{each['msg']}{_null_hint(each)}"
            places.append(place)
            reasons.append(f"{place}: {reason}" if place else reason)
    except Exception:  # it is not a ValidationError: no errors(), or another one
        return None, _described(error)
    if len(reasons) == 1:
        return places[0] or None, reasons[0].removeprefix(f"{places[0]}: ")
    more = f" and {len(reasons) - _MOST_REASONS} more" if len(reasons) > _MOST_REASONS else ""
    return None, "; ".join(reasons[:_MOST_REASONS]) + more


def _null_hint(each: Any) -> str:
    """Return a hint if pydantic refused a null."""
    kind = str(each.get("type"))
    if each.get("input", ...) is not None or not kind.endswith("_type"):
        return ""
    as_empty = ", as an empty collection is if it isn't frozen" if kind in _COLLECTIONS else ""
    return f", it is null{as_empty}: annotate it with | None"


def _described(error: Exception) -> str:
    """Return an exception's class and text."""
    try:
        text = str(error)
    except Exception:  # its own __str__ raises
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _place(path: Any) -> str:
    """Return the path to a value as text: ``addresses[1].city``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else str(step)
    return text
