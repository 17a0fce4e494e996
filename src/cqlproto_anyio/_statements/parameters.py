"""From a call's parameters to one value per bind marker: by position, by name or by field."""

from __future__ import annotations

from collections import Counter, UserString
from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any

from cqlproto.cqltypes.fields import fields_of
from cqlproto.rows.encoding.repeatable import Repeatable
from cqlproto.wire import UNSET
from cqlproto_anyio._checks.callables import described
from cqlproto_anyio._checks.values import shown
from cqlproto_anyio._text import has_names_only, marker_names
from cqlproto_anyio.exceptions import ConfigError, CQLError, ParameterError
from cqlproto_anyio.exceptions._hints import fold_hint

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from cqlproto.enums import ProtocolVersion
    from cqlproto.messages.results import Column

__all__ = ["Markers", "Parameters", "Partial", "is_read_once"]

Parameters = Any
"""A sequence, a mapping, or an object with named fields (dataclass, NamedTuple, Row, pydantic,
msgspec, attrs)."""


class Partial:
    """Parameters by name of which some may be missing; those are sent as UNSET.

    Arguments:
        parameters: a mapping or an object with fields.
    """

    __slots__ = ("parameters",)

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters

    @classmethod
    def of(cls, partial: object, parameters: Parameters) -> Parameters:
        """Return the parameters as a call with ``partial=`` binds them.

        Raises:
            ConfigError: ``partial`` is not a bool.
        """
        if not isinstance(partial, bool):
            raise ConfigError(f"partial must be True or False, got {shown(partial)}")
        return cls(parameters) if partial and parameters is not None else parameters


class Markers:
    """The bind markers of a statement.

    Arguments:
        query: the statement's text.
        columns: what PREPARED says of the markers, in order.
        version: the protocol version.

    Attributes:
        names: the names of the markers, in order. The server makes up one for a ``?``.
        named: whether every marker has a name of its own (``:name``).
        count: the number of markers.
        direct: the length of a tuple of values that can be sent without :meth:`values`; -1 if
            there is no such tuple, because a marker's type is not a scalar.
        version: the protocol version.
    """

    __slots__ = (
        "_has_own_names",
        "_query",
        "_repeatable",
        "count",
        "direct",
        "named",
        "names",
        "version",
    )

    def __init__(self, query: str, columns: Sequence[Column], version: ProtocolVersion) -> None:
        self._query = query
        self.version = version
        self.named = has_names_only(query)
        self.names = tuple(column.name for column in columns)
        self.count = len(self.names)
        self._repeatable = Repeatable(columns)
        self.direct = -1 if self._repeatable else self.count
        self._has_own_names: bool | None = None

    def values(self, parameters: Parameters) -> Sequence[Any]:
        """Return one value per bind marker; the values can be sent any number of times.

        Parameters with names (a mapping, an object with fields, a row) are bound by name if any
        marker has a name of its own. If none has, a named tuple is bound by position, and a mapping
        or another object by the names that the server has made up.

        Raises:
            ParameterError: there are too few or too many values, a name is unknown, missing or
                ambiguous, or a method of the parameters' class raises.
            TypeError: the parameters are not a sequence, a mapping or an object with fields.
            ValueConversionError: a value for a marker that is not a scalar does not fit its type.
        """
        try:
            values = self._arranged(parameters)
        except (CQLError, TypeError):
            raise
        except Exception as exc:  # raised by the user's class
            kind = type(parameters.parameters if type(parameters) is Partial else parameters)
            raise ParameterError(
                f"the parameters, a {kind.__name__}, can't be read: {exc!r}"
            ) from exc
        return self._repeatable(values) if self._repeatable else values

    def _arranged(self, parameters: Parameters) -> Sequence[Any]:
        """Return the values in the order of the markers."""
        kind: Any = type(parameters)
        partial = kind is Partial
        if partial:
            parameters = parameters.parameters
            kind = type(parameters)
        if parameters is None:
            values: Sequence[Any] = ()
        elif kind is tuple or kind is list:
            values = tuple(parameters)  # a copy: the caller may change a list while it is sent
        elif isinstance(parameters, (str, bytes, bytearray, memoryview, UserString)):
            raise TypeError(
                f"parameters must be a sequence or a mapping, got a {kind.__name__}:"
                " write (value,) for a single one"
            )
        elif isinstance(parameters, Mapping):
            return self._by_name(parameters, partial)
        else:
            has_order = isinstance(parameters, Sequence)
            if self.named or not has_order or (hasattr(kind, "_fields") and self._some_named()):
                fields = fields_of(parameters)
                if fields is not None:
                    return self._by_field(parameters, *fields, partial)
                if not has_order:
                    many = hasattr(kind, "__iter__")
                    hint = "pass a tuple of them" if many else "write (value,) for a single one"
                    raise TypeError(
                        "parameters must be a sequence, a mapping or an object with fields,"
                        f" got a {kind.__name__}: {hint}"
                    )
            values = tuple(parameters)
        if partial:
            raise ParameterError(
                f"partial=True needs parameters by name, got a {kind.__name__}, which is bound by"
                " position: pass a mapping or an object with fields"
            )
        if len(values) != self.count:
            raise ParameterError(
                f"{len(values)} value{'s' * (len(values) != 1)} for {self.count} bind"
                f" marker{'s' * (self.count != 1)} ({', '.join(self.names) or 'none'})"
            )
        return values

    def _some_named(self) -> bool:
        """Return whether any marker has a name of its own. Reads the text, so only when needed."""
        if self._has_own_names is None:
            self._has_own_names = not marker_names(self._query).isdisjoint(self.names)
        return self._has_own_names

    def _check_names(self) -> None:
        """Raise ParameterError if a name that the server has made up doesn't say which marker."""
        if self.named:
            return
        for name, count in Counter(self.names).items():
            if count > 1 or not name.isidentifier():
                why = f"stands for {count} markers" if count > 1 else "is not an identifier"
                raise ParameterError(
                    f"the marker name {name!r} {why}: use :name markers, or pass a sequence"
                )

    def _missing(self, given: Collection[Any], partial: bool) -> str:
        """Return the names of the markers without a value; "" if they may be left out.

        Raises:
            ParameterError: they may be left out, but the version doesn't know UNSET.
        """
        missing = ", ".join(name for name in dict.fromkeys(self.names) if name not in given)
        if partial and missing and not self.version.has_unset:
            raise ParameterError(
                f"no value for {missing}: partial=True needs protocol v4 or higher, the session"
                f" speaks v{self.version:d}"
            )
        return "" if partial else missing

    def _by_name(self, parameters: Mapping[Any, Any], partial: bool) -> Sequence[Any]:
        """Take the values from a mapping; a key that is not a marker's name is an error."""
        self._check_names()
        known = ", ".join(dict.fromkeys(self.names)) or "none"
        missing = self._missing(parameters, partial)
        if missing:
            folded = fold_hint(self.names, parameters)
            raise ParameterError(f"no value for {missing} (markers: {known}){folded}")
        unknown = [str(name) for name in parameters if name not in self.names]
        if unknown:
            raise ParameterError(f"no marker is called {', '.join(unknown)} (markers: {known})")
        if partial:
            return [parameters.get(name, UNSET) for name in self.names]
        return [parameters[name] for name in self.names]

    def _by_field(
        self,
        parameters: object,
        fields: Mapping[str, Any],
        read: Callable[[Any], Any],
        partial: bool,
    ) -> Sequence[Any]:
        """Take the values from an object's fields; it may have more fields than needed."""
        self._check_names()
        kind = type(parameters).__name__
        missing = self._missing(fields, partial and not fields.keys().isdisjoint(self.names))
        if missing:
            raise ParameterError(
                f"{kind} has no field for {missing} (fields: {', '.join(fields)})"
                f"{fold_hint(self.names, fields)}"
            )
        values = []
        for name in self.names:
            try:
                values.append(read(fields[name]) if name in fields else UNSET)
            except Exception as exc:
                raise ParameterError(
                    f"the field {name} of {kind} can't be read: {described(exc)}"
                ) from exc
        return values


def is_read_once(value: Any) -> bool:
    """Return whether a parameter is, or contains, something that can be iterated only once, such
    as a generator.

    Looks at every element, so it is called only after a failure. A value that raises when it is
    looked at counts as read once.
    """
    if type(value) is Partial:
        value = value.parameters
    if value is None or isinstance(value, (str, bytes, bytearray, memoryview, int, float)):
        return False
    if hasattr(type(value), "__next__"):
        return True
    try:
        if isinstance(value, Mapping):
            return any(is_read_once(key) or is_read_once(item) for key, item in value.items())
        if isinstance(value, (Sequence, Set)):
            return any(map(is_read_once, value))
        fields = fields_of(value)
        if fields is None:
            if not hasattr(type(value), "__iter__"):
                return False
            return iter(value) is iter(value) or any(map(is_read_once, value))
        names, read = fields
        return any(is_read_once(read(field)) for field in names.values())
    except Exception:
        return True
