"""Prepared statements: the server's metadata of each, and the handle that the user gets.

A :class:`Statement` is shared by all calls of a session with the same text and keyspace. The
metadata of a PREPARED message is one object, replaced as a whole when the statement is prepared
again; a request in flight keeps the one it was sent with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from cqlproto.cqltypes import UNSET, encoder
from cqlproto.messages.results import Prepared as PreparedMessage
from cqlproto.rows import Binder
from cqlproto_anyio._statements.parameters import Markers, Parameters
from cqlproto_anyio._text import read_statement, read_verb
from cqlproto_anyio.exceptions import UsageError

if TYPE_CHECKING:
    from cqlproto.cqltypes import Unset
    from cqlproto.enums import ProtocolVersion
    from cqlproto.messages.results import Column, ResultMetadata
    from cqlproto_anyio._settings.resolved import Settings, Wire
    from cqlproto_anyio.policies.routing import Route
    from cqlproto_anyio.policies.timestamps import Timestamps

__all__ = ["Prepared", "RecordingBinder", "Statement", "refuse_use"]

R = TypeVar("R")

KeyFunction = Callable[[Sequence[Any]], bytes | None]

# Options that differ in every call, such as now_in_seconds=, need a new binder each time.
_MAX_BINDERS = 64


def refuse_use(query: str) -> None:
    """Raise UsageError for a USE, since a connection and its keyspace are shared by all calls."""
    if read_verb(query) == "USE":
        raise UsageError(
            "USE would change the keyspace of a connection that others share:"
            " pass keyspace= to connect()"
        )


class _Stamp:
    """Supplies the timestamp for a statement's next frame, for calls with a timestamp option."""

    __slots__ = ("timestamp",)

    timestamp: int

    def __call__(self) -> int:
        return self.timestamp


class StampedBinder:
    """A binder with the timestamp of one call. The binder is shared by all calls with a timestamp.

    Arguments:
        binder: packs the call; calls ``stamp`` for the timestamp of each frame.
        stamp: the binder's source of timestamps.
        timestamp: the call's timestamp, in microseconds since 1970.

    Attributes:
        cells: :meth:`Binder.cells`.
        expectation: :attr:`Binder.expectation`.
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


class RecordingBinder:
    """A binder for one request that waits to be sent, and may be sent again.

    The request gets its timestamp when it is packed; another attempt must have the same.

    Arguments:
        binder: packs the request.
        timestamps: the session's.

    Attributes:
        stamp: the timestamp that the request was packed with, or None if it was not packed.
        expectation: :attr:`Binder.expectation`.
    """

    __slots__ = ("_binder", "_timestamps", "expectation", "stamp")

    def __init__(self, binder: Binder | StampedBinder, timestamps: Timestamps) -> None:
        self._binder = binder
        self._timestamps = timestamps
        self.stamp: int | None = None
        self.expectation = binder.expectation

    def frame(self, stream_id: int, values: Sequence[Any]) -> bytes:
        """Return the EXECUTE frame, as :attr:`Binder.frame` does."""
        frame = self._binder.frame(stream_id, values)
        self.stamp = self._timestamps.last
        return frame


class Statement:
    """A statement that the server has prepared.

    Arguments:
        query: its text.
        keyspace: the keyspace of its unqualified names, or None.
        prepared: the server's PREPARED.
        version: the protocol version to execute it with.

    Attributes:
        text: what its text says: the verb, whether it reads.
        conditional: whether it is a lightweight transaction.
        values: :meth:`Markers.values`: from a call's parameters to one value per bind marker.
        direct: the length of a tuple of values that can be sent without :attr:`values`; -1 if
            there is no such tuple.
        fast_path: whether the fast path of ``execute`` may send it.
        stale: whether the schema has changed since it was prepared, and maybe the types of its
            markers; it is then prepared again before the next execution.
        sound_until: until when a value that doesn't fit its marker is certainly wrong, in seconds
            of the session's clock. Later, the marker's type may have changed instead.
        binders: a binder per combination of options; None as a key is never found.
        route: how the selector routes it; None until the first execution, and when hosts or
            connections have changed.
    """

    __slots__ = (
        "__weakref__",
        "_key",
        "_markers",
        "_stamp",
        "binders",
        "conditional",
        "direct",
        "fast_path",
        "keyspace",
        "prepared",
        "query",
        "route",
        "sound_until",
        "stale",
        "text",
        "values",
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
        self.conditional = self.text.conditional
        self.fast_path = not self.conditional
        self.version = version
        self.stale = False
        self.sound_until = 0.0
        self._stamp = _Stamp()
        self._set_prepared(prepared)
        self._set_markers()

    def _set_prepared(self, prepared: PreparedMessage) -> None:
        self.prepared = prepared
        # A call with a timestamp needs a binder of its own: it looks up None, which is no key.
        self.binders: dict[Wire | None, Binder] = {}

    def _set_markers(self) -> None:
        """Take the bind markers from ``prepared``, and drop what was derived from other ones."""
        self._markers = markers = Markers(self.query, self.prepared.bind.columns, self.version)
        self.values: Callable[[Parameters], Sequence[Any]] = markers.values
        self.direct = markers.direct
        self.route: Route[Any] | None = None
        self._key: KeyFunction | None = None

    def outdate(self) -> None:
        """Require that it is prepared again before the next execution: the schema has changed."""
        self.stale = True
        self.fast_path = False

    @property
    def uses_keyspace(self) -> str:
        """The keyspace of its table, taken from its columns; "" for a statement without columns."""
        prepared = self.prepared
        columns = prepared.bind.columns or prepared.result.columns
        return columns[0].keyspace if columns else ""

    def key(self, make: Callable[..., KeyFunction]) -> KeyFunction:
        """Return the function from bound values to the partition key.

        Arguments:
            make: makes it from the bind columns and the positions of the key among them.
        """
        if self._key is None:
            bind = self.prepared.bind
            self._key = make(bind.columns, bind.key_indices)
        return self._key

    def renew(self, prepared: PreparedMessage) -> None:
        """Replace the metadata by that of a new PREPARED message.

        The statement id is replaced too: servers of different releases make different ids of the
        same text.
        """
        self.stale = False
        self.fast_path = not self.conditional
        # If nothing has changed, the old object stays, with the binders made for it.
        if prepared != self.prepared:
            self._set_prepared(prepared)
            self._set_markers()

    def adopt(self, metadata: ResultMetadata, metadata_id: bytes | None) -> None:
        """Replace the columns of the result: a reply has brought others than PREPARED announced.

        Arguments:
            metadata: the columns.
            metadata_id: their id on v5, replaced together with them.
        """
        old = self.prepared
        new_id = old.result_metadata_id if metadata_id is None else metadata_id
        self._set_prepared(PreparedMessage(old.statement_id, new_id, old.bind, metadata))

    def set_version(self, version: ProtocolVersion) -> None:
        """Execute in another protocol version: the session has met a node of an older release."""
        if version is not self.version:
            self.version = self._markers.version = version
            self.binders = {}

    def binder(self, settings: Settings) -> Binder | StampedBinder:
        """Return the binder that packs executions with these settings.

        Calls whose settings are the same on the wire share one binder.

        Raises:
            UsageError: the version lacks an option of the settings, or they name another keyspace.
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
        """Whether replies may omit the column metadata (v5 section 4.1.4, ``Skip_metadata``).

        On v5 the server still sends it when it has changed. On v4 a change would go unnoticed, so
        every reply carries it; it is compared as bytes and not parsed again.
        """
        return self.version.has_result_metadata_id and bool(self.prepared.result.columns)


class Prepared(Generic[R]):
    """A prepared statement, for ``execute``, ``page``, ``stream`` and ``batch``.

    Made by :meth:`Session.prepare`. It can be used as long as its session, on every connection: a
    statement is prepared at a node that doesn't know it.

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
    def statement_id(self) -> bytes:
        """The id that the server has given it; another one after a change of the schema."""
        return self._statement.prepared.statement_id

    @property
    def parameters(self) -> tuple[Column, ...]:
        """The bind markers, by name and type."""
        return self._statement.prepared.bind.columns

    @property
    def key_positions(self) -> tuple[int, ...]:
        """The positions of the partition key among the bind markers, in the key's order.

        Empty if not all of the key is bound, and on protocol v3.
        """
        return self._statement.prepared.bind.key_indices

    def cells(self, parameters: Parameters = None, /) -> tuple[bytes | None | Unset, ...]:
        """Return the values of a call as they are sent: one for each bind marker, in order.

        Arguments:
            parameters: as for :meth:`Session.execute`.

        Raises:
            ParameterError, ValueConversionError: the parameters don't fit the bind markers.
        """
        values = self._statement.values(parameters)
        return tuple(
            value if value is None or value is UNSET else encoder(column.type)(value)
            for column, value in zip(self.parameters, values, strict=True)
        )

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the result, as far as the server has sent them; empty without a result."""
        return self._statement.prepared.result.columns

    def __repr__(self) -> str:
        return f"Prepared({self.query!r})"
