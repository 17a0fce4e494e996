"""Prepared statements on the client: what a server said of them, the cache, and the user's handle.

A :class:`Statement` is shared by everyone who executes the same text; what PREPARED said of it is
one object that is swapped whole when the statement is prepared anew. A request in flight keeps the
one that it was sent with.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, UserString
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from copy import copy
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from cqlproto.cqltypes.fields import fields_of
from cqlproto.rows import Binder
from cqlproto.rows.encoding.repeatable import Repeatable
from cqlproto.wire import UNSET
from cqlproto_anyio._checks.callables import described
from cqlproto_anyio._checks.values import shown
from cqlproto_anyio._text import has_names_only, marker_names, read_statement, read_verb
from cqlproto_anyio.exceptions import ConfigError, CQLError, ParameterError, UsageError
from cqlproto_anyio.exceptions._hints import fold_hint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqlproto.enums import ProtocolVersion
    from cqlproto.messages.results import Column, ResultMetadata
    from cqlproto.messages.results import Prepared as PreparedMessage
    from cqlproto_anyio._settings.resolved import Settings, Wire

__all__ = [
    "Key",
    "Parameters",
    "Partial",
    "Prepared",
    "Statement",
    "StatementCache",
    "is_read_once",
    "refuse_use",
]

R = TypeVar("R")

Parameters = Any
"""A sequence, a mapping, or an object with named fields (dataclass, NamedTuple, Row, pydantic,
msgspec, attrs)."""

Key = str | tuple[str | None, str]

KeyFunction = Callable[[Sequence[Any]], bytes | None]

# Options that change with every call, such as now_in_seconds=, need another binder each time.
_MAX_BINDERS = 64

# How many characters the texts of a session's statements have together, unless it is one alone.
_MOST_CHARACTERS = 16 * 1024 * 1024


def refuse_use(query: str) -> None:
    """Raise UsageError if the statement is a USE: connections are shared, so is their keyspace."""
    if read_verb(query) == "USE":
        raise UsageError(
            "USE would change the keyspace of a connection that others share:"
            " pass keyspace= to connect()"
        )


class Partial:
    """Parameters by name that may lack some: what is missing is UNSET.

    Arguments:
        parameters: a mapping or an object with fields.
    """

    __slots__ = ("parameters",)

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters

    @classmethod
    def of(cls, partial: object, parameters: Parameters) -> Parameters:
        """Return what a verb that was given ``partial=`` binds.

        Raises:
            ConfigError: ``partial`` is no bool.
        """
        if not isinstance(partial, bool):
            raise ConfigError(f"partial must be True or False, got {shown(partial)}")
        return cls(parameters) if partial and parameters is not None else parameters


class _Stamp:
    """The timestamp of a statement's next frame, where a call has one of its own."""

    __slots__ = ("timestamp",)

    timestamp: int

    def __call__(self) -> int:
        return self.timestamp


class StampedBinder:
    """Packs one call, whose timestamp is its own, by a binder that serves all such calls.

    Arguments:
        binder: it asks ``stamp`` for the timestamp of each frame.
        stamp: what it asks.
        timestamp: the call's, in microseconds since 1970.

    Attributes:
        cells: as :meth:`Binder.cells`.
        expectation: what will answer, for the connection.
    """

    __slots__ = ("_frame", "_stamp", "_timestamp", "cells", "expectation")

    def __init__(self, binder: Binder, stamp: _Stamp, timestamp: int) -> None:
        self._frame = binder.frame
        self._stamp = stamp
        self._timestamp = timestamp
        self.cells = binder.cells
        self.expectation = binder.expectation

    def frame(self, stream_id: int, values: Sequence[Any]) -> bytes:
        """Return the EXECUTE frame, as :attr:`Binder.frame` does."""
        self._stamp.timestamp = self._timestamp
        return self._frame(stream_id, values)


class Statement:
    """A statement that the server has prepared.

    Arguments:
        query: its text.
        keyspace: the keyspace of its unqualified names, or None.
        prepared: what PREPARED said.
        version: the protocol version.

    Attributes:
        conditional: whether it is a lightweight transaction.
        named: whether every bind marker has a name of its own (``:name``).
        count: how many bind markers it has.
        direct: how long a tuple of values is that is sent as it is, without :meth:`values`; -1 if
            there is none, since a marker is no scalar.
        fast_path: whether the short way through ``execute`` does for it.
        stale: whether the schema has changed since, so that the types may have as well; it is
            prepared anew before it is executed again.
        sound_until: until when a value that doesn't fit the markers is taken for wrong, in seconds
            of the session's clock; later the markers may be.
        route: how it is routed, or None if that isn't known yet.
    """

    __slots__ = (
        "__weakref__",
        "_key",
        "_mixed",
        "_repeatable",
        "_stamp",
        "binders",
        "conditional",
        "count",
        "direct",
        "keyspace",
        "named",
        "names",
        "prepared",
        "query",
        "route",
        "fast_path",
        "sound_until",
        "stale",
        "text",
        "version",
    )

    def __init__(
        self,
        query: str,
        keyspace: str | None,
        prepared: PreparedMessage,
        version: ProtocolVersion,
    ) -> None:
        self.query = query
        self.keyspace = keyspace
        self.text = read_statement(query)
        self.named = has_names_only(query)
        self._mixed: bool | None = None
        self.conditional = self.text.conditional
        self.fast_path = not self.conditional
        self.version = version
        self.stale = False
        self._stamp = _Stamp()
        self.sound_until = 0.0
        self._take(prepared)

    def _take(self, prepared: PreparedMessage) -> None:
        self.prepared = prepared
        self.names = tuple(column.name for column in prepared.bind.columns)
        self.count = len(self.names)
        self._repeatable = Repeatable(prepared.bind.columns)
        self.direct = -1 if self._repeatable else self.count
        # a call whose timestamp is its own has none, and is looked up with None
        self.binders: dict[Wire | None, Binder] = {}
        self.route: Any = None  # what the selector keeps with it
        self._key: KeyFunction | None = None

    def outdate(self) -> None:
        """The schema has changed: be prepared anew before the next execution."""
        self.stale = True
        self.fast_path = False

    @property
    def uses_keyspace(self) -> str:
        """The keyspace that it has to do with, as far as its columns say; "" if they don't."""
        prepared = self.prepared
        columns = prepared.bind.columns or prepared.result.columns
        return columns[0].keyspace if columns else ""

    def key(self, make: Callable[..., KeyFunction]) -> KeyFunction:
        """Return what makes the partition key of bound values."""
        if self._key is None:
            bind = self.prepared.bind
            self._key = make(bind.columns, bind.key_indices)
        return self._key

    def renew(self, prepared: PreparedMessage) -> None:
        """Swap in what a server says now: the id too, for servers of different releases make
        different ids of one text."""
        self.stale = False
        self.fast_path = not self.conditional
        # what is the same stays the same object, with all that was made for it
        if prepared != self.prepared:
            self._take(prepared)

    def adopt(self, metadata: ResultMetadata, metadata_id: bytes | None) -> None:
        """Expect these columns from now on: a reply has brought others than PREPARED announced.

        Arguments:
            metadata: the columns.
            metadata_id: their id, on v5. The two are swapped as one.
        """
        old = self.prepared
        new_id = old.result_metadata_id if metadata_id is None else metadata_id
        route, key = self.route, self._key
        self._take(type(old)(old.statement_id, new_id, old.bind, metadata))
        self.route, self._key = route, key  # the markers are what they were

    def set_version(self, version: ProtocolVersion) -> None:
        """Be executed in this version from now on: the session has met an older node."""
        if version is not self.version:
            self.version = version
            self.binders = {}

    def binder(self, settings: Settings) -> Binder | StampedBinder:
        """Return what packs executions under these settings.

        It is made once for all that say the same on the wire.

        Raises:
            UsageError: the settings don't fit the version, or name another keyspace.
        """
        wire = settings.wire
        binder = self.binders.get(wire)
        if binder is None:
            settings.check(self.version)
            if settings.keyspace != self.keyspace:
                raise UsageError(
                    f"{self.query!r} was prepared in the keyspace {self.keyspace!r} and can't be"
                    f" executed in {settings.keyspace!r}: prepare it there, or write keyspace.table"
                )
            if len(self.binders) >= _MAX_BINDERS:
                self.binders.clear()
            parameters = settings.parameters
            if self.skips_metadata:
                parameters = copy(parameters)
                parameters.skip_metadata = True
            timestamps: Callable[[], int] | None = None
            if wire.stamped:
                timestamps = self._stamp
            elif self.text.stamped:
                timestamps = settings.timestamps
            binder = Binder(self.prepared, parameters, self.version, timestamps)
            self.binders[wire] = binder
        if settings.timestamp is not None:
            return StampedBinder(binder, self._stamp, settings.timestamp)
        return binder

    @property
    def skips_metadata(self) -> bool:
        """Whether replies may leave the columns out.

        On v5 the server sends them when they have changed. On v4 nothing would tell that they have,
        so they always come; they are compared as bytes, not parsed again.
        """
        return self.version.has_result_metadata_id and bool(self.prepared.result.columns)

    def values(self, parameters: Parameters) -> Sequence[Any]:
        """Return one value per bind marker, such that they can be sent any number of times.

        What has names (a mapping, an object with fields, a row) is bound by name where the markers
        are named, if only some of them. Markers without names take a named tuple by position, and a
        mapping or another object by the names that the server gives them.

        Raises:
            ParameterError: there are too few or too many, or a name is unknown, missing or
                ambiguous, or their own methods raise.
            TypeError: the parameters are no sequence, mapping or object with fields.
            ValueConversionError: a value that is not bound to a scalar does not fit its column.
        """
        try:
            values = self._arranged(parameters)
        except (CQLError, TypeError):
            raise
        except Exception as exc:  # of the user's class
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
            values = tuple(parameters)  # which nobody changes while it is sent
        elif isinstance(parameters, (str, bytes, bytearray, memoryview, UserString)):
            raise TypeError(
                f"parameters are one sequence or mapping, not a {kind.__name__}:"
                " write (value,) for a single one"
            )
        elif isinstance(parameters, Mapping):
            return self._by_name(parameters, partial)
        else:
            has_order = isinstance(parameters, Sequence)
            if self.named or not has_order or (hasattr(kind, "_fields") and self._has_names()):
                fields = fields_of(parameters)
                if fields is not None:
                    return self._by_field(parameters, *fields, partial)
                if not has_order:
                    many = hasattr(kind, "__iter__")
                    hint = ": pass a tuple of them" if many else ": write (value,) for a single one"
                    raise TypeError(
                        "parameters are one sequence or mapping or object with fields, not a"
                        f" {kind.__name__}{hint}"
                    )
            values = tuple(parameters)
        if partial:
            raise ParameterError(
                f"partial=True leaves out names, which the values of a {kind.__name__} have not"
                " here: pass a mapping or an object with fields"
            )
        if len(values) != self.count:
            raise ParameterError(
                f"{len(values)} value{'s' * (len(values) != 1)} for {self.count} bind"
                f" marker{'s' * (self.count != 1)} ({', '.join(self.names) or 'none'})"
            )
        return values

    def _has_names(self) -> bool:
        """Return whether some bind markers have names of their own, found out when needed."""
        if self._mixed is None:
            self._mixed = not marker_names(self.query).isdisjoint(self.names)
        return self._mixed

    def _check_names(self) -> None:
        """Markers without a name of their own are called by the server, not always uniquely."""
        if self.named:
            return
        for name, count in Counter(self.names).items():
            if count > 1 or not name.isidentifier():
                times = f"stands for {count} markers" if count > 1 else "can't be a name"
                raise ParameterError(
                    f"the marker {name!r} {times}: use :name markers or pass a sequence"
                )

    def _missing(self, given: Collection[Any], partial: bool) -> str:
        """Return the names of the markers without a value, if that is wrong.

        Raises:
            ParameterError: they can't be UNSET in this version.
        """
        missing = ", ".join(name for name in dict.fromkeys(self.names) if name not in given)
        if partial and missing and not self.version.has_unset:
            raise ParameterError(
                f"no value for {missing}: partial=True needs protocol v4 or higher, the session"
                f" speaks v{self.version:d}"
            )
        return "" if partial else missing

    def _by_name(self, parameters: Mapping[Any, Any], partial: bool) -> Sequence[Any]:
        """Take a mapping, which has nothing but what the statement needs."""
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
        """Take an object, which may have more fields than the statement has markers."""
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
    """Return whether a parameter can be read only once, such as a generator, or holds one that is.

    Asked where something has gone wrong: it looks at every element. What can't be read now may not
    be readable again either.
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


class Prepared(Generic[R]):
    """A prepared statement, for ``execute``, ``page``, ``stream`` and ``batch``.

    Made by :meth:`Session.prepare`; good for as long as its session, on every connection: one that
    doesn't know it yet, or any more, is told again.

    Attributes:
        query: its text.
    """

    __slots__ = ("_row", "_statement")

    def __init__(self, statement: Statement, row: Any) -> None:
        self._statement = statement
        self._row = row

    @property
    def query(self) -> str:
        return self._statement.query

    @property
    def parameters(self) -> tuple[Column, ...]:
        """The bind markers, by name and type."""
        return self._statement.prepared.bind.columns

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of its result, as far as they are known; none for a statement without."""
        return self._statement.prepared.result.columns

    def __repr__(self) -> str:
        return f"Prepared({self.query!r})"


class StatementCache:
    """The statements that were prepared lately.

    A key is a text where the session's usual keyspace is meant, and (keyspace, text) elsewhere: the
    short way through ``execute`` then makes no tuple.

    Arguments:
        size: how many; the one that was used longest ago goes first. With long texts it is less.

    Attributes:
        characters: how many there are in their texts.
    """

    __slots__ = ("_size", "_statements", "characters")

    def __init__(self, size: int) -> None:
        self._size = size
        self.characters = 0
        self._statements: OrderedDict[Key, Statement] = OrderedDict()

    def __len__(self) -> int:
        return len(self._statements)

    def __iter__(self) -> Iterator[Statement]:
        return iter(tuple(self._statements.values()))

    def get(self, key: Key) -> Statement | None:
        """Return the statement, now the last one used, or None."""
        statement = self._statements.get(key)
        if statement is not None:
            self._statements.move_to_end(key)
        return statement

    def put(self, key: Key, statement: Statement) -> None:
        """Keep a statement; the least recently used one may go for it."""
        statements = self._statements
        if key not in statements:
            self.characters += len(statement.query)
        statements[key] = statement
        statements.move_to_end(key)
        while len(statements) > self._size or (
            self.characters > _MOST_CHARACTERS and len(statements) > 1
        ):
            _, gone = statements.popitem(last=False)
            self.characters -= len(gone.query)
