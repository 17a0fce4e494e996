"""Binder: packs the values of a prepared statement into a whole EXECUTE frame.

The statement id and the options before and after the values are the same for every execution with
the same options, so they are packed once. An execution adds the header and the values, and a
timestamp if each execution has its own.
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
from cqlproto.wire import MAX_SHORT, NULL_LENGTH, UNSET, UNSET_LENGTH, write_short_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cqlproto.cqltypes import CQLType
    from cqlproto.messages.requests import QueryParameters
    from cqlproto.messages.results import Prepared
    from cqlproto.wire import Unset

__all__ = ["Binder"]

_pack_length = Struct(">i").pack
_pack_count = Struct(">H").pack
_pack_timestamp = Struct(">q").pack
_pack_header = HEADER.pack
_EXECUTE = Opcode.EXECUTE.value
_NO_UNSET = "UNSET needs v4"

# Compiling takes as long as a compiled packer saves in some hundred frames.
FRAMES_BEFORE_COMPILING = 256


def _writer(cql_type: CQLType, encode: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Return a function that writes a value as [bytes]: its length and its cell.

    A number of the usual class is packed together with its length; any other value, and a number
    that is out of range, goes through the type's encoder.
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
                pass  # out of range: the encoder raises the error
        return write(value)

    return write_number


class Binder:
    """Packs the executions of a prepared statement with one set of options.

    Arguments:
        prepared: the result of PREPARE.
        parameters: the options, without values, names and paging state.
        version: the protocol version.
        timestamps: returns a timestamp of 64 bits, in microseconds since 1970. It is called once
            per frame, and its result replaces the timestamp of the options (v4 section 4.1.4). None
            uses that of the options.

    Attributes:
        expectation: what may answer a frame, for the connection.
        frame: takes a stream id and values and returns the EXECUTE frame, uncompressed; raises as
            :meth:`plain_frame`. It is compiled after many frames.
        count: the number of bind markers.
        repeatable: takes values and returns values that can be packed any number of times. Use it
            if the statement may be sent again and its values may be iterators or change meanwhile.
            Raises ValueConversionError.

    Values are a sequence with one value per bind marker, in the markers' order.
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
            parameters.timestamp = 0  # sets the flag
            behind = pack_behind_timestamp(parameters)
        before, after = pack_parameters_around(parameters, version)
        if timestamps is not None:
            after = after[: len(after) - len(behind) - 8]
        if self.count > MAX_SHORT:
            raise LocalProtocolError(
                f"a statement must have at most {MAX_SHORT} bind markers, got {self.count}"
            )
        self._before = bytes(head) + before + _pack_count(self.count)
        # If each frame has its own timestamp, it is written between _after and _behind.
        self._after = after
        self._behind = behind
        self._timestamps = timestamps
        self._left = FRAMES_WHEN_KNOWN
        self._asked = False
        self.frame = self._plain_until_compiled

    def _plain_until_compiled(self, stream_id: int, values: Sequence[Any]) -> bytes:
        """Pack by the plain loop, until enough frames make compiling a packer worthwhile."""
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
        """Pack a frame as :attr:`frame` does, by the plain loop.

        Raises:
            LocalProtocolError: there are more or fewer values than bind markers, or UNSET on v3.
            TypeError: the values are not a sequence.
            ValueConversionError: a value does not fit its column.
        """
        values = self._checked(values)
        if not self._has_unset and any(value is UNSET for value in values):
            raise LocalProtocolError(_NO_UNSET)
        pieces: list[bytes] = []
        append = pieces.append
        try:
            for write, value in zip(self._writers, values, strict=True):
                append(
                    NULL_LENGTH
                    if value is None
                    else UNSET_LENGTH
                    if value is UNSET
                    else write(value)
                )
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
        """Return the encoded values, as in a message; raises as :meth:`plain_frame`."""
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
            raise LocalProtocolError(
                f"values must be as many as bind markers ({self.count}), got {len(values)}"
            )
        return values

    def _named(self, error: Exception, values: Sequence[Any], failed: int | None) -> Exception:
        """Return the error to raise for a compiled packer, with the column's name.

        Scalars are encoded again to find the first that fails, as the plain loop would. Other
        values are not encoded again, since they may be iterators that are consumed.

        Arguments:
            error: the exception that was raised.
            values: the values.
            failed: the index of the first column without a cell; None if all cells of variable size
                exist, so that a cell of fixed size has failed.

        Returns:
            the error with the column's name; ``error`` itself if all scalars can be encoded now.
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
        return error  # a value whose encoding differs from one call to the next
