"""Binding: Python values in, a whole EXECUTE frame out.

What doesn't change between executions of a statement under the same options is packed once: the id
and the options before the values and after them. An execution adds the values and the header, and
a timestamp if it shall have one of its own.
"""

from __future__ import annotations

from copy import copy
from struct import Struct
from struct import error as StructError
from typing import TYPE_CHECKING, Any

from cqlproto._state import Expectation
from cqlproto.cqltypes import NativeType, encoder
from cqlproto.cqltypes.scalars import SCALARS
from cqlproto.enums import Opcode, ProtocolVersion
from cqlproto.exceptions import LocalProtocolError, ValueConversionError
from cqlproto.frames import HEADER
from cqlproto.messages.requests import pack_behind_timestamp, pack_parameters_around
from cqlproto.rows.encoding.compiled import FRAMES_WHEN_KNOWN, compiled_packer, is_known
from cqlproto.rows.encoding.containers import binding_encoder
from cqlproto.rows.encoding.repeatable import Repeatable
from cqlproto.rows.encoding.support import about_column, by_position
from cqlproto.wire import MAX_SHORT, UNSET, write_short_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cqlproto.cqltypes import CQLType
    from cqlproto.messages.requests import QueryParameters
    from cqlproto.messages.results import Prepared
    from cqlproto.wire import Unset

__all__ = ["Binder"]

_NULL = b"\xff\xff\xff\xff"
_UNSET = b"\xff\xff\xff\xfe"
_pack_length = Struct(">i").pack
_pack_count = Struct(">H").pack
_pack_timestamp = Struct(">q").pack
_pack_header = HEADER.pack
_EXECUTE = Opcode.EXECUTE.value
_NO_UNSET = "a bound value cannot be unset before v4"

# Compiling costs as much as some hundred frames gain by it.
FRAMES_BEFORE_COMPILING = 256


def _writer(cql_type: CQLType, encode: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Return what writes a value as [bytes]: its length and its cell.

    Numbers of the usual class are packed together with their length; everything else, and whatever
    doesn't fit, goes through the type's encoder.
    """
    scalar = SCALARS.get(str(cql_type))

    def write(value: Any) -> bytes:
        cell = encode(value)
        return _pack_length(len(cell)) + cell

    if scalar is None or not scalar.code or scalar.width is None:
        return write
    pack = Struct(f">i{scalar.code}").pack
    width = scalar.width
    plain = scalar.plain

    def write_number(value: Any) -> bytes:
        if type(value) is plain:
            try:
                return pack(width, value)
            except (StructError, OverflowError):
                pass  # out of range: the encoder says so
        return write(value)

    return write_number


class Binder:
    """Packs the executions of one prepared statement under one set of options.

    Arguments:
        prepared: what PREPARE returned.
        parameters: the options; its values, names and paging state must be left out.
        version: the protocol version.
        timestamps: returns a timestamp, in microseconds since 1970 and of 64 bits; asked once for
            each frame, which then has this one in place of the options' (v4 section 4.1.4). None
            leaves it to the options.

    Attributes:
        expectation: what will answer, for the connection.
        frame: takes a stream id and values, returns the EXECUTE frame, uncompressed; raises as
            :meth:`plain_frame` does. Compiled once it was used often.
        count: how many values are needed.
        repeatable: takes values and returns what can be packed any number of times: where the
            values hold iterators, or may change meanwhile, keep this if the statement may have to
            be sent again. Raises ValueConversionError.

    Values are a sequence with one per bind marker, in the markers' order.
    """

    __slots__ = (
        "_after",
        "_asked",
        "_before",
        "_behind",
        "_columns",
        "_encoders",
        "_has_unset",
        "_left",
        "_timestamps",
        "_version",
        "_writers",
        "count",
        "expectation",
        "frame",
        "repeatable",
    )

    #: Returns the EXECUTE frame for a stream id and values, uncompressed.
    frame: Callable[[int, Sequence[Any]], bytes]

    def __init__(
        self,
        prepared: Prepared,
        parameters: QueryParameters,
        version: ProtocolVersion,
        timestamps: Callable[[], int] | None = None,
    ) -> None:
        self._columns = prepared.bind.columns
        self.count = len(self._columns)
        self.repeatable = Repeatable(self._columns)
        self._encoders = [encoder(column.type) for column in self._columns]
        self._writers = [
            _writer(column.type, binding_encoder(column.type)) for column in self._columns
        ]
        self._version = int(version)
        self._has_unset = version.has_unset
        self.expectation = Expectation(Opcode.EXECUTE, prepared.result)
        head = bytearray()
        write_short_bytes(head, prepared.statement_id)
        if version.has_result_metadata_id:
            write_short_bytes(head, prepared.result_metadata_id or b"")
        behind = b""
        if timestamps is not None:
            parameters = copy(parameters)
            parameters.timestamp = 0  # it sets the flag
            behind = pack_behind_timestamp(parameters)
        before, after = pack_parameters_around(parameters, version)
        if timestamps is not None:
            after = after[: len(after) - len(behind) - 8]
        if self.count > MAX_SHORT:
            raise LocalProtocolError(f"{self.count} bind markers, at most {MAX_SHORT} fit")
        self._before = bytes(head) + before + _pack_count(self.count)
        # Between these two stands the timestamp, where each frame has its own.
        self._after = after
        self._behind = behind
        self._timestamps = timestamps
        self._left = FRAMES_WHEN_KNOWN
        self._asked = False
        self.frame = self._early_frame

    def _early_frame(self, stream_id: int, values: Sequence[Any]) -> bytes:
        """Pack by the plain loop until so many frames make a compiled packer worth its making."""
        self._left -= 1
        if self._left < 0:
            types = [column.type for column in self._columns]
            if not self._asked and not is_known(types, stamped=self._timestamps is not None):
                self._asked = True
                self._left = FRAMES_BEFORE_COMPILING - FRAMES_WHEN_KNOWN - 1
            else:
                self.frame = compiled_packer(
                    types,
                    version=self._version,
                    opcode=_EXECUTE,
                    before=self._before,
                    after=self._after,
                    behind=self._behind,
                    timestamps=self._timestamps,
                    has_unset=self._has_unset,
                    writers=self._writers,
                    plain=self.plain_frame,
                    named=self._named,
                )
        return self.plain_frame(stream_id, values)

    def plain_frame(self, stream_id: int, values: Sequence[Any]) -> bytes:
        """Return the same as :attr:`frame`, by the plain loop.

        Raises:
            LocalProtocolError: there are more or fewer values than bind markers, or UNSET on v3.
            TypeError: the values are no sequence.
            ValueConversionError: a value does not fit its column.
        """
        values = self._checked(values)
        if not self._has_unset and any(value is UNSET for value in values):
            raise LocalProtocolError(_NO_UNSET)
        pieces: list[bytes] = []
        append = pieces.append
        try:
            for write, value in zip(self._writers, values, strict=True):
                append(_NULL if value is None else _UNSET if value is UNSET else write(value))
        except Exception as exc:
            index = len(pieces)
            error = about_column(exc, self._columns[index], values[index])
            raise error from error.__cause__
        after = self._after
        if self._timestamps is not None:
            after = after + _pack_timestamp(self._timestamps()) + self._behind
        body = b"".join([self._before, *pieces, after])
        return _pack_header(self._version, 0, stream_id, _EXECUTE, len(body)) + body

    def cells(self, values: Sequence[Any]) -> list[bytes | None | Unset]:
        """Return the values as a message holds them; raises as :meth:`frame` does."""
        values = self._checked(values)
        cells: list[bytes | None | Unset] = []
        append = cells.append
        try:
            for encode, value in zip(self._encoders, values, strict=True):
                append(value if value is None or value is UNSET else encode(value))
        except Exception as exc:
            index = len(cells)
            error = about_column(exc, self._columns[index], values[index])
            raise error from error.__cause__
        return cells

    def _checked(self, values: Sequence[Any]) -> Sequence[Any]:
        if type(values) is not tuple and type(values) is not list:
            values = by_position(values)
        if len(values) != self.count:
            raise LocalProtocolError(f"{len(values)} values for {self.count} bind markers")
        return values

    def _named(self, error: Exception, values: Sequence[Any], failed: int | None) -> Exception:
        """Name the column whose value a compiled packer could not pack.

        Scalars are encoded again to find the first that fails, as the plain loop would; what has
        been read from anything else is gone.

        Arguments:
            error: what was raised.
            values: the values.
            failed: the first column without a cell; None if all cells of variable size are made, so
                that it is one of a fixed size.

        Returns:
            what to raise: ``error``, if all can be encoded now.
        """
        if not self._has_unset and any(value is UNSET for value in values):
            return LocalProtocolError(_NO_UNSET)
        for index, (column, encode) in enumerate(zip(self._columns, self._encoders, strict=True)):
            value = values[index]
            is_scalar = isinstance(column.type, NativeType)
            if index == failed and (isinstance(error, ValueConversionError) or not is_scalar):
                return about_column(error, column, value)
            if value is None or value is UNSET or not is_scalar:
                continue
            try:
                encode(value)
            except Exception as again:
                return about_column(again, column, value)
        return error  # a value that changes from one look to the next
