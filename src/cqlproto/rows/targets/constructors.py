"""Making objects from named values: the columns of a row, or the fields of a UDT.

A name matches the field of that name, or an alias (pydantic, msgspec's ``rename``, attrs) if the
field's own name is not a column. Objects are bound by the same rule, in
:mod:`cqlproto.cqltypes.fields`. Names that the class doesn't have are ignored; required parameters
must have a value. This module imports none of these libraries.
"""

from __future__ import annotations

import collections
from dataclasses import is_dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NotRequired, Required, get_origin, get_type_hints

from cqlproto.exceptions import RowMappingError
from cqlproto.rows.targets.annotations import hints_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

__all__ = [
    "Parameter",
    "UsedParameters",
    "constructor",
    "has_fields",
    "is_typed_dict",
    "parameters_of",
    "refuse_repeated",
]


class Parameter:
    """A parameter of a constructor, for one field.

    Arguments:
        name: the field's name.
        keys: the keyword argument for each name of the field, its own name first.
        required: whether the parameter has no default.
        by_position: whether it can be passed by position.
        by_name: whether it can be passed by name.
        hint: the field's annotation, if it is known without resolving annotations.
    """

    __slots__ = ("by_name", "by_position", "hint", "keys", "name", "required")

    def __init__(
        self,
        name: str,
        keys: Mapping[str, str],
        *,
        required: bool,
        by_position: bool = False,
        by_name: bool = True,
        hint: Any = None,
    ) -> None:
        self.name = name
        self.keys = keys
        self.required = required
        self.by_position = by_position
        self.by_name = by_name
        self.hint = hint


class UsedParameters:
    """The parameters that are passed a value, by the value's position.

    Arguments:
        target: the class.
        parameters: by position.
    """

    def __init__(self, target: Any, parameters: Mapping[int, Parameter]) -> None:
        self._target = target
        self._parameters = parameters

    def hints(self) -> dict[int, Any]:
        """Return the annotations of the parameters, by position; Any for one without."""
        target = self._target
        of_fields = hints_of(target) if has_fields(target) or is_typed_dict(target) else {}
        missing = [each for each in self._parameters.values() if each.name not in of_fields]
        of_parameters = hints_of(_initializer(target)) if missing else {}
        return {
            index: each.hint or of_fields.get(each.name) or of_parameters.get(each.name, Any)
            for index, each in self._parameters.items()
        }


def _initializer(target: Any) -> Any:
    new = target.__new__
    return target.__init__ if new is object.__new__ else new


def is_typed_dict(target: Any) -> bool:
    """Whether a target is a TypedDict, of ``typing`` or ``typing_extensions``."""
    return isinstance(target, type) and hasattr(target, "__required_keys__")


def has_fields(target: Any) -> bool:
    """Whether a class declares fields: dataclass, pydantic, msgspec, attrs or NamedTuple."""
    return (
        is_dataclass(target)
        or hasattr(target, "__struct_fields__")
        or hasattr(target, "__attrs_attrs__")
        or _pydantic_fields(target) is not None
        or (issubclass(target, tuple) and isinstance(getattr(target, "_fields", None), tuple))
    )


def parameters_of(target: Any) -> list[Parameter]:
    """Return the parameters of a class's constructor, in order.

    Raises:
        RowMappingError: the constructor has no signature.
    """
    described = _pydantic_fields(target)
    if described is not None:
        return list(_of_pydantic(target, described))
    if is_typed_dict(target):
        return list(_of_typed_dict(target))
    import inspect  # takes milliseconds to import, and only classes need it

    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError) as exc:
        raise RowMappingError("its constructor has no signature") from exc
    fields = _fields_by_keyword(target)
    parameters = []
    for each in signature.parameters.values():
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
            continue
        name, alias = fields.get(each.name, (each.name, each.name))
        parameters.append(
            Parameter(
                name,
                dict.fromkeys((name, alias), each.name),
                required=each.default is each.empty,
                by_position=each.kind is not each.KEYWORD_ONLY,
                by_name=each.kind is not each.POSITIONAL_ONLY,
            )
        )
    return parameters


def _fields_by_keyword(target: Any) -> dict[str, tuple[str, str]]:
    """Return the field and its alias for each keyword of a constructor, if these may differ."""
    own = getattr(target, "__struct_fields__", ())
    encoded = getattr(target, "__struct_encode_fields__", own)
    fields = {name: (name, alias) for name, alias in zip(own, encoded, strict=True)}
    for each in getattr(target, "__attrs_attrs__", ()):
        keyword = getattr(each, "alias", None) or each.name.lstrip("_")
        fields[keyword] = (each.name, keyword)
    return fields


def _of_typed_dict(target: Any) -> Iterator[Parameter]:
    required = target.__required_keys__
    try:
        hints = get_type_hints(target, include_extras=True)
    except Exception:  # use what the class itself has resolved
        hints = dict.fromkeys([*required, *target.__optional_keys__])
    for name, hint in hints.items():
        origin = get_origin(hint)
        needed = origin is Required or (origin is not NotRequired and name in required)
        yield Parameter(name, {name: name}, required=needed)


def _pydantic_fields(target: Any) -> dict[str, Any] | None:
    """Return the fields of a pydantic model or dataclass, or None for other classes."""
    for table in ("__pydantic_fields__", "model_fields"):
        described = getattr(target, table, None)
        if isinstance(described, dict):
            return described
    return None


def _of_pydantic(target: Any, described: Mapping[str, Any]) -> Iterator[Parameter]:
    config = getattr(target, "model_config", None) or getattr(target, "__pydantic_config__", {})
    by_alias = config.get("validate_by_alias", True)
    by_name = config.get("validate_by_name") or config.get("populate_by_name")
    for name, field in described.items():
        if field.init is False:
            continue
        accepted = list(_aliases(field.validation_alias))
        direct = [alias for alias, is_path in accepted if not is_path]
        keys = {}
        if by_name or not accepted or (direct and by_alias):
            keys[name] = name if by_name or not accepted else direct[0]
        for alias, is_path in accepted:
            if by_alias or (by_name and not is_path):
                keys.setdefault(alias, alias if by_alias else name)
        yield Parameter(name, keys, required=field.is_required(), hint=field.annotation)


def _aliases(alias: Any) -> Iterator[tuple[str, bool]]:
    """Yield the names of a pydantic alias, and whether each is the first step of a path."""
    if isinstance(alias, str):
        yield alias, False
    elif hasattr(alias, "path"):
        yield alias.path[0], len(alias.path) > 1
    else:
        for choice in getattr(alias, "choices", ()):
            yield from _aliases(choice)


def refuse_repeated(names: Iterable[str], what: str) -> None:
    """Raise RowMappingError if a name occurs twice; ``what`` names the target."""
    repeated = [name for name, count in collections.Counter(names).items() if count > 1]
    if repeated:
        raise RowMappingError(
            f"the column {repeated[0]!r} comes more than once and {what} has names only:"
            " rename one with AS"
        )


def constructor(
    target: Any, names: Sequence[str], what: tuple[str, str]
) -> tuple[Callable[[Sequence[Any]], Any], UsedParameters]:
    """Return a function that makes an object from values, and the parameters that it uses.

    Arguments:
        target: the class.
        names: the names of the values, in order, without duplicates.
        what: the words for a value and for all values in messages, such as column and row.

    Raises:
        RowMappingError: the class and the names do not fit together.
    """
    one, whole = what
    index = {name: position for position, name in enumerate(names)}
    parameters = parameters_of(target)
    taken = _taken(parameters, index)
    missing = sorted(each.name for each in parameters if each.required and each not in taken)
    if missing:
        raise RowMappingError(
            f"no {one} for {', '.join(missing)}, the {whole} has {', '.join(names)}"
        )
    if not taken:
        raise RowMappingError(f"takes none of the {one}s {', '.join(names)}")
    used = UsedParameters(target, {index[name]: each for each, name in taken.items()})
    if is_typed_dict(target):
        pairs = [(each.name, index[name]) for each, name in taken.items()]
        return lambda values: {name: values[i] for name, i in pairs}, used
    leading: list[int] = []
    rest: list[tuple[str, int]] = []
    gap: Parameter | None = None
    for each in parameters:
        name = taken.get(each)
        if name is None:
            gap = gap or each
        elif each.by_position and gap is None:
            leading.append(index[name])
        elif each.by_name:
            rest.append((each.keys[name], index[name]))
        else:
            assert gap is not None
            raise RowMappingError(
                f"{each.name} can only be passed by position, and there is no {one} for {gap.name}"
            )
    return _calling(target, leading, rest), used


def _taken(parameters: Iterable[Parameter], index: Mapping[str, int]) -> dict[Parameter, str]:
    """Return the name of the value for each parameter that has one."""
    parameters = list(parameters)
    own = {each.name for each in parameters}
    taken = {}
    for each in parameters:
        for name in each.keys:
            if name in index and (name == each.name or name not in own):
                taken[each] = name
                break
    return taken


def _calling(
    target: Any, leading: Sequence[int], rest: Sequence[tuple[str, int]]
) -> Callable[[Sequence[Any]], Any]:
    if not rest:
        if len(leading) == 1:
            (only,) = leading
            return lambda values: target(values[only])
        pick = itemgetter(*leading)
        return lambda values: target(*pick(values))
    return lambda values: target(
        *[values[i] for i in leading], **{name: values[i] for name, i in rest}
    )
