"""Resolving the annotations of classes.

Annotations may be strings (``from __future__ import annotations``) with names that exist only for
type checkers. So an annotation that can't be resolved becomes an :class:`Unresolved`, and is an
error only if it is needed.
"""

from __future__ import annotations

import dataclasses
import sys
import types
from collections.abc import Mapping
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    ForwardRef,
    NamedTuple,
    NotRequired,
    Required,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

__all__ = ["Scope", "Stripped", "Unresolved", "hints_of", "plain_hint", "scope_of"]

Scope = Mapping[Any, Any]
"""The classes of the type variables of a generic class."""

_WRAPPERS = (Annotated, ClassVar, Final, NotRequired, Required)


class Unresolved(NamedTuple):
    """An annotation that can't be resolved.

    Attributes:
        text: the annotation.
        reason: the exception that resolving it raised.
    """

    text: str
    reason: str


class Stripped(NamedTuple):
    """An annotation without Annotated, Optional and other parts that don't name a class.

    Attributes:
        members: the members of a union except None, or the annotation alone.
        optional: whether None is a member.
        scope: the classes of the type variables in the members.
    """

    members: tuple[Any, ...]
    optional: bool
    scope: Scope


def hints_of(owner: Any) -> dict[str, Any]:
    """Return the annotations of a class's fields, or of a function's parameters, by name."""
    try:
        return get_type_hints(owner)
    except Exception:  # evaluating a string may raise anything, such as NameError
        names = {owner.__name__: owner, **getattr(owner, "__dict__", {})}
    try:
        return get_type_hints(owner, localns=names)
    except Exception:
        return _one_by_one(owner, names)


def _one_by_one(owner: Any, names: dict[str, Any]) -> dict[str, Any]:
    hints: dict[str, Any] = {}
    for base in reversed(getattr(owner, "__mro__", (owner,))):
        known = vars(sys.modules.get(base.__module__, types))
        for name, hint in getattr(base, "__annotations__", {}).items():
            probe = types.SimpleNamespace(__annotations__={name: hint})
            try:
                hints[name] = get_type_hints(probe, known, names)[name]
            except Exception as exc:
                hints[name] = Unresolved(str(hint), f"{type(exc).__name__}: {exc}")
    return hints


def scope_of(target: Any, outer: Scope) -> Scope:
    """Return the classes of the type variables of a class, or of an alias of a generic class."""
    scope: dict[Any, Any] = {}
    origin = get_origin(target)
    if origin is not None:
        variables = getattr(origin, "__parameters__", ()) or getattr(origin, "__type_params__", ())
        scope.update(
            zip(variables, (outer.get(arg, arg) for arg in get_args(target)), strict=False)
        )
    for base in getattr(origin or target, "__orig_bases__", ()):
        scope = {**scope_of(base, scope), **scope}
    return scope


def plain_hint(hint: Any, scope: Scope) -> Stripped:
    """Return an annotation without Annotated, Optional, NewType and the like."""
    while True:
        origin = get_origin(hint)
        if isinstance(hint, TypeVar):
            variable = hint
            hint = scope.get(variable, variable.__bound__ or Any)
            scope = {name: arg for name, arg in scope.items() if name is not variable}
        elif origin in _WRAPPERS:
            hint = get_args(hint)[0]
        elif isinstance(hint, dataclasses.InitVar):
            hint = hint.type
        elif hasattr(hint, "__supertype__"):  # NewType
            hint = hint.__supertype__
        elif hasattr(origin or hint, "__value__"):  # type X = ..
            scope = scope_of(hint, scope)
            hint = (origin or hint).__value__
        elif isinstance(hint, (str, ForwardRef)):
            text = hint if isinstance(hint, str) else hint.__forward_arg__
            hint = Unresolved(text, "a string within another annotation")
        else:
            break
    if origin is not Union and origin is not types.UnionType:
        return Stripped((hint,), False, scope)
    members: list[Any] = []
    optional = False
    for arg in get_args(hint):
        if arg is types.NoneType:
            optional = True
        else:
            inner = plain_hint(arg, scope)
            members += inner.members
            optional = optional or inner.optional
            scope = {**inner.scope, **scope}
    return Stripped(tuple(members), optional, scope)
