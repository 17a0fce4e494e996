"""Objects nested in rows: fields that are made from UDTs, tuples and collections.

The annotations of a class are compared with the CQL types once per column list. The result is a
conversion function for each column that needs one; a class whose columns are all scalars has none.
A UDT or tuple becomes an object of the annotated class, also within collections, Optional and other
objects; collections become the annotated containers. A value without such an annotation is
unchanged.

A null is None if the annotation is optional or a collection, and a RowMappingError if it is an
object.
"""

from __future__ import annotations

import collections.abc as abc
import inspect
from enum import Enum
from operator import length_hint
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

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
)
from cqlproto.exceptions import RowMappingError
from cqlproto.rows.targets.annotations import Scope, Stripped, Unresolved, plain_hint, scope_of
from cqlproto.rows.targets.constructors import constructor, has_fields, is_typed_dict, parameters_of
from cqlproto.rows.targets.failures import name_of, raise_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Convert = Callable[[Any], Any]

__all__ = [
    "COLLECTIONS",
    "MAPPINGS",
    "container",
    "converter",
    "mapping_maker",
    "object_maker",
    "tuple_maker",
]

MAPPINGS = (dict, abc.Mapping, abc.MutableMapping)
_SETS = {set: set, frozenset: frozenset, abc.Set: None, abc.MutableSet: set}
_SEQUENCES = {
    list: list,
    tuple: tuple,
    abc.Sequence: None,
    abc.MutableSequence: list,
    abc.Collection: None,
    abc.Iterable: None,
}
COLLECTIONS: Mapping[Any, Any] = {**_SEQUENCES, **_SETS}


def object_maker(
    target: Any,
    fields: Sequence[tuple[str, CQLType]],
    what: tuple[str, str],
    scope: Scope,
    *,
    hashable: bool = False,
) -> Convert:
    """Return the function that makes an object from a tuple of values.

    Arguments:
        target: the class, or an alias of a generic class.
        fields: the names and types of the values, without duplicate names.
        what: the words for a value and for all values in messages, such as column and row.
        scope: the classes of type variables.
        hashable: whether the values are within a UDT and therefore hashable.

    Raises:
        RowMappingError: the class and the values do not fit together; ``column`` says where.
    """
    names = [name for name, _ in fields]
    make, used = constructor(get_origin(target) or target, names, what)
    if not any(_is_compound(cql_type) for _, cql_type in fields):
        return make
    scope = scope_of(target, scope)
    converts: list[tuple[int, str, Convert]] = []
    for index, hint in used.hints().items():
        name, cql_type = fields[index]
        try:
            convert = converter(hint, cql_type, scope, hashable=hashable)
        except RowMappingError as exc:
            raise_at(name, exc)
        if convert is not None:
            converts.append((index, name, convert))
    if not converts:
        return make

    def make_nested(values: Iterable[Any]) -> Any:
        cells = list(values)
        for index, name, convert in converts:
            try:
                cells[index] = convert(cells[index])
            except Exception as exc:
                raise_at(name, exc)
        return make(cells)

    return make_nested


def converter(
    hint: Any, cql_type: CQLType, scope: Scope, *, hashable: bool = False
) -> Convert | None:
    """Return the conversion from a CQL type's value to an annotation, or None if none is needed.

    Arguments:
        hint: the annotation.
        cql_type: the type of the value.
        scope: the classes of type variables.
        hashable: whether the value is within a set, a UDT or the key of a map.

    Raises:
        RowMappingError: the annotated class can't be made from the value, or the annotation can't
            be resolved.
    """
    if not _is_compound(cql_type):
        return None
    stripped = plain_hint(hint, scope)
    convert = _of_union(stripped, cql_type, hashable)
    if convert is None or not stripped.optional:
        return convert
    inner = convert

    def convert_or_none(value: Any) -> Any:
        return None if value is None else inner(value)

    return convert_or_none


def _is_compound(cql_type: CQLType) -> bool:
    return isinstance(cql_type, (UserType, TupleType, ListType, SetType, MapType, VectorType))


def _has_objects(cql_type: CQLType) -> bool:
    """Whether the type contains a UDT or a tuple."""
    if isinstance(cql_type, (UserType, TupleType)):
        return True
    if isinstance(cql_type, MapType):
        return _has_objects(cql_type.key) or _has_objects(cql_type.value)
    if isinstance(cql_type, (ListType, SetType, VectorType)):
        return _has_objects(cql_type.element)
    return False


def _of_union(stripped: Stripped, cql_type: CQLType, hashable: bool) -> Convert | None:
    """Return the conversion to the first member of a union that the type and the value fit."""
    failure: RowMappingError | None = None
    candidates: list[tuple[Convert, Mapping[int, tuple[Any, ...]]]] = []
    for member in stripped.members:
        try:
            convert = _of_one(member, cql_type, stripped.scope, hashable)
        except RowMappingError as exc:
            failure = failure or exc
        else:
            if convert is not None:
                candidates.append((convert, _discriminators(member, cql_type)))
    if len(candidates) > 1:
        return _first_of(candidates, " | ".join(map(name_of, stripped.members)))
    if candidates:
        return candidates[0][0]
    if failure is not None:
        raise failure
    return None


def _first_of(
    candidates: Sequence[tuple[Convert, Mapping[int, tuple[Any, ...]]]], union: str
) -> Convert:
    """Return the conversion to the first candidate whose discriminators match and that accepts."""

    def convert_first(value: Any) -> Any:
        failure: Exception | None = None
        is_object = isinstance(value, UserValue)
        for convert, allowed in candidates:
            if is_object and any(value[index] not in each for index, each in allowed.items()):
                continue
            try:
                return convert(value)
            except Exception as exc:
                failure = failure or exc
        raise failure or RowMappingError(f"must be one of {union}, got {value!r}")

    return convert_first


def _discriminators(hint: Any, cql_type: CQLType) -> dict[int, tuple[Any, ...]]:
    """Return the discriminators of a class: the fields of a UDT and the values that they may have.

    They are the fields that the class annotates with Literal, and the tag of a msgspec struct.
    """
    target: Any = get_origin(hint) or hint
    is_class = isinstance(target, type) and (has_fields(target) or is_typed_dict(target))
    if not is_class or not isinstance(cql_type, UserType):
        return {}
    names = [name for name, _ in cql_type.fields]
    allowed: dict[int, tuple[Any, ...]] = {}
    config = getattr(target, "__struct_config__", None)
    if config is not None and config.tag is not None and config.tag_field in names:
        allowed[names.index(config.tag_field)] = (config.tag,)
    _, used = constructor(target, names, ("field", "type"))
    for index, annotation in used.hints().items():
        members, optional, _ = plain_hint(annotation, {})
        if all(get_origin(member) is Literal for member in members):
            values = tuple(value for member in members for value in get_args(member))
            allowed[index] = (*values, None) if optional else values
    return allowed


def _of_one(hint: Any, cql_type: CQLType, scope: Scope, hashable: bool) -> Convert | None:
    if isinstance(hint, Unresolved):
        if not _has_objects(cql_type):
            return None
        raise RowMappingError(
            f"the annotation {hint.text!r} can't be resolved ({hint.reason}): import its names at"
            " run time in the module of the class, not under TYPE_CHECKING"
        )
    origin = get_origin(hint) or hint
    if isinstance(cql_type, UserType):
        return _of_user_type(hint, origin, cql_type, scope)
    if isinstance(cql_type, TupleType):
        return _of_tuple(hint, origin, cql_type, scope, hashable)
    if isinstance(cql_type, MapType):
        return _of_map(hint, origin, cql_type, scope, hashable)
    assert isinstance(cql_type, (ListType, SetType, VectorType))
    return _of_elements(hint, origin, cql_type, scope, hashable)


# -- objects


def _of_user_type(hint: Any, origin: Any, cql_type: UserType, scope: Scope) -> Convert | None:
    what = ("field", f"type {cql_type.name}")
    if origin in MAPPINGS:
        return _object(hint, mapping_maker(hint, cql_type.fields, scope, hashable=True))
    if not isinstance(origin, type) or issubclass(origin, (UserValue, Enum)):
        return None
    if has_fields(origin) or is_typed_dict(origin):
        try:
            make = object_maker(hint, cql_type.fields, what, scope, hashable=True)
        except RowMappingError as exc:
            _prefix(origin, exc)
        return _object(hint, make)
    if "__init__" not in vars(origin) or inspect.isabstract(origin) or origin in _BUILTINS:
        return None
    try:  # any other class: its constructor may fit
        return _object(hint, object_maker(hint, cql_type.fields, what, scope, hashable=True))
    except RowMappingError:
        return None


_BUILTINS = (object, list, tuple, set, frozenset, str, bytes, int, float)


def _prefix(target: Any, error: RowMappingError) -> None:
    """Raise an error about the fields of a class with the class's name, unless it is nested."""
    if error.column is not None:
        raise error
    raise RowMappingError(f"{name_of(target)}: {error}") from error.__cause__


def _object(hint: Any, make: Convert) -> Convert:
    def convert(value: Any) -> Any:
        if value is None:
            name = name_of(hint)
            raise RowMappingError(f"it is null, and {name} is not optional: annotate {name} | None")
        return value if value is EMPTY else make(value)

    return convert


def mapping_maker(
    hint: Any, fields: Sequence[tuple[str, CQLType]], scope: Scope, *, hashable: bool = False
) -> Convert:
    """Return the function that makes a dict from values, for ``dict[str, X]``."""
    names = [name for name, _ in fields]
    args = get_args(hint)
    converts = []
    for name, cql_type in fields if len(args) == 2 else ():
        try:
            convert = converter(args[1], cql_type, scope, hashable=hashable)
        except RowMappingError as exc:
            raise_at(name, exc)
        if convert is not None:
            converts.append((name, convert))

    def make(values: Iterable[Any]) -> dict[str, Any]:
        made = dict(zip(names, values, strict=True))
        for name, convert in converts:
            try:
                made[name] = convert(made[name])
            except Exception as exc:
                raise_at(name, exc)
        return made

    return make


def _of_tuple(
    hint: Any, origin: Any, cql_type: TupleType, scope: Scope, hashable: bool
) -> Convert | None:
    types = cql_type.elements
    if isinstance(origin, type) and (has_fields(origin) or is_typed_dict(origin)):
        names = [each.name for each in parameters_of(origin) if each.by_position or each.by_name]
        if len(names) < len(types):
            raise RowMappingError(
                f"{name_of(origin)} must have at least {len(types)} fields, one per element of the"
                f" tuple, got {len(names)}"
            )
        fields = list(zip(names, types, strict=False))
        try:
            make = object_maker(hint, fields, ("element", "tuple"), scope, hashable=hashable)
        except RowMappingError as exc:
            _prefix(origin, exc)
        return _object(hint, make)
    if origin is not tuple:
        return None
    return tuple_maker(hint, types, scope, hashable=hashable)


def tuple_maker(
    hint: Any, types: Sequence[CQLType], scope: Scope, *, hashable: bool = False
) -> Convert | None:
    """Return the conversion of a tuple's elements, for ``tuple[A, B]`` and ``tuple[X, ...]``."""
    args = get_args(hint)
    if len(args) == 2 and args[1] is ...:
        args = (args[0],) * len(types)
    if args and len(args) != len(types):
        raise RowMappingError(f"{hint} must have {len(types)} elements, got {len(args)}")
    converts = []
    for index, (arg, each) in enumerate(zip(args, types, strict=False)):
        try:
            convert = converter(arg, each, scope, hashable=hashable)
        except RowMappingError as exc:
            raise_at(f"[{index}]", exc)
        if convert is not None:
            converts.append((index, convert))
    if not converts:
        return None

    def convert_elements(value: Any) -> Any:
        if value is None or value is EMPTY:
            return value
        cells = list(value)
        for index, convert in converts:
            try:
                cells[index] = convert(cells[index])
            except Exception as exc:
                raise_at(f"[{index}]", exc)
        return tuple(cells)

    return convert_elements


# -- collections


def _of_elements(
    hint: Any,
    origin: Any,
    cql_type: ListType | SetType | VectorType,
    scope: Scope,
    hashable: bool,
) -> Convert | None:
    """Return the conversion of a list, set or vector to the annotated container and elements."""
    is_set = isinstance(cql_type, SetType)
    natural: Any = (frozenset if hashable else set) if is_set else (tuple if hashable else list)
    if origin not in COLLECTIONS:
        return None
    kind = COLLECTIONS[origin] or natural
    args = get_args(hint)
    inner = hashable or is_set
    convert = None
    if args and (origin is not tuple or args[1:] == (...,)):
        convert = converter(args[0], cql_type.element, scope, hashable=inner)
    if convert is None:
        # another container of the same kind, with unchanged members
        if kind is natural or kind not in ((set, frozenset) if is_set else (list, tuple)):
            return None
        return container(kind)
    element = convert

    def convert_elements(value: Any) -> Any:
        if value is None or value is EMPTY:
            return value
        left = iter(value)
        try:
            members = [element(each) for each in left]
        except Exception as exc:
            raise_at(f"[{len(value) - length_hint(left) - 1}]", exc)
        made = kind(members)
        # equal members are not merged
        return made if len(made) == len(members) else LosslessSet(members)

    return convert_elements


def container(kind: type) -> Convert:
    """Return the conversion to another container; lossless ones are unchanged."""

    def convert(value: Any) -> Any:
        return kind(value) if isinstance(value, (list, tuple, set, frozenset)) else value

    return convert


def _of_map(
    hint: Any, origin: Any, cql_type: MapType, scope: Scope, hashable: bool
) -> Convert | None:
    if origin not in MAPPINGS:
        return None
    args = get_args(hint)
    key = value = None
    if len(args) == 2:
        key = converter(args[0], cql_type.key, scope, hashable=True)
        value = converter(args[1], cql_type.value, scope, hashable=hashable)
    kind: Any = FrozenMap if hashable and origin is abc.Mapping else dict
    if key is None and value is None:
        if not hashable or kind is FrozenMap:
            return None
        return lambda found: dict(found.items()) if type(found) is FrozenMap else found

    def convert_items(found: Any) -> Any:
        if found is None or found is EMPTY:
            return found
        pairs = []
        for name, item in found.items():
            step = f"[{name!r}]"
            try:
                pairs.append(
                    (
                        name if key is None else key(name),
                        item if value is None else value(item),
                    )
                )
            except Exception as exc:
                raise_at(step, exc)
        made = kind(pairs)
        return made if len(made) == len(pairs) else LosslessMap(pairs)

    return convert_items
