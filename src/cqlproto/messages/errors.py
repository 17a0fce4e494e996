"""ERROR (v4 sections 4.2.1 and 9, v5 section 8).

One class serves all codes. The fields after the text depend on the code, and some on the version; a
table lists them with their readers and writers. Reading is lenient, so that every error can be
shown: unknown codes, unknown consistency levels and bytes after the last field are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from cqlproto.enums import ErrorCode, Opcode
from cqlproto.exceptions import LocalProtocolError
from cqlproto.messages._base import Message, read_consistency, write_consistency
from cqlproto.wire import (
    Reader,
    read_byte,
    read_inetaddr,
    read_int,
    read_short,
    read_short_bytes,
    read_string,
    read_string_list,
    write_byte,
    write_inetaddr,
    write_int,
    write_short,
    write_short_bytes,
    write_string,
    write_string_list,
)

if TYPE_CHECKING:
    from typing import Self

    from cqlproto.enums import ProtocolVersion
    from cqlproto.wire import IPAddress

__all__ = ["Error"]


class _Field(NamedTuple):
    """A field of an ERROR: its name, reader and writer."""

    name: str
    read: Callable[[Reader], object]
    # A writer takes the type that the reader returns.
    write: Callable[[bytearray, Any], None]


def _read_flag(reader: Reader) -> bool:
    return read_byte(reader) != 0


def _write_flag(out: bytearray, value: bool) -> None:
    write_byte(out, 1 if value else 0)


def _read_reasons(reader: Reader) -> dict[IPAddress, int]:
    """<reasonmap>: an [int] n and n pairs of [inetaddr] and [short] (v5 section 8)."""
    count = reader.check_count(read_int(reader), 7)
    return {read_inetaddr(reader): read_short(reader) for _ in range(count)}


def _write_reasons(out: bytearray, value: Mapping[IPAddress, int]) -> None:
    write_int(out, len(value))
    for address, code in value.items():
        write_inetaddr(out, address)
        write_short(out, code)


_CONSISTENCY = _Field("consistency", read_consistency, write_consistency)
_RECEIVED = _Field("received", read_int, write_int)
_REQUIRED = _Field("required", read_int, write_int)
_WRITE_TYPE = _Field("write_type", read_string, write_string)
_DATA_PRESENT = _Field("data_present", _read_flag, _write_flag)
_FAILURES = _Field("failures", read_int, write_int)
_REASONS = _Field("reasons", _read_reasons, _write_reasons)
_KEYSPACE = _Field("keyspace", read_string, write_string)
_CONTENTIONS = _Field("contentions", read_short, write_short)

_ANSWERS = (_CONSISTENCY, _RECEIVED, _REQUIRED)

# Fields by code. _REASONS replaces _FAILURES on versions that have reasons.
_FIELDS: dict[int, tuple[_Field, ...]] = {
    ErrorCode.UNAVAILABLE: (_CONSISTENCY, _REQUIRED, _Field("alive", read_int, write_int)),
    ErrorCode.WRITE_TIMEOUT: (*_ANSWERS, _WRITE_TYPE),
    ErrorCode.READ_TIMEOUT: (*_ANSWERS, _DATA_PRESENT),
    ErrorCode.READ_FAILURE: (*_ANSWERS, _FAILURES, _DATA_PRESENT),
    ErrorCode.FUNCTION_FAILURE: (
        _KEYSPACE,
        _Field("function", read_string, write_string),
        _Field("argument_types", read_string_list, write_string_list),
    ),
    ErrorCode.WRITE_FAILURE: (*_ANSWERS, _FAILURES, _WRITE_TYPE),
    ErrorCode.CAS_WRITE_UNKNOWN: _ANSWERS,
    ErrorCode.ALREADY_EXISTS: (_KEYSPACE, _Field("table", read_string, write_string)),
    ErrorCode.UNPREPARED: (_Field("statement_id", read_short_bytes, write_short_bytes),),
}
_FAILURE_CODES = (
    ErrorCode.READ_FAILURE,
    ErrorCode.WRITE_FAILURE,
    ErrorCode.FUNCTION_FAILURE,
)


def _fields_of(code: int, version: ProtocolVersion) -> tuple[_Field, ...]:
    if code in _FAILURE_CODES and not version.has_failure_errors:
        return ()
    fields = _FIELDS.get(code, ())
    if version.has_failure_reasons and _FAILURES in fields:
        return tuple([_REASONS if field is _FAILURES else field for field in fields])
    return fields


def _counts_contentions(code: int, fields: Mapping[str, object], version: ProtocolVersion) -> bool:
    return (
        code == ErrorCode.WRITE_TIMEOUT
        and version.has_contentions
        and fields.get("write_type") == "CAS"
    )


class Error(Message):
    """ERROR: the server refused a request or failed to execute it.

    Arguments:
        code: see :class:`~cqlproto.enums.ErrorCode`; other codes occur.
        message: the server's text.
        fields: the fields of the code:

            - UNAVAILABLE: ``consistency``, ``required``, ``alive``
            - WRITE_TIMEOUT: ``consistency``, ``received``, ``required``, ``write_type``; on v5 also
              ``contentions`` if the write type is CAS
            - READ_TIMEOUT: ``consistency``, ``received``, ``required``, ``data_present``
            - READ_FAILURE: as READ_TIMEOUT, and ``failures``, a number; on v5 also ``reasons``,
              codes by address, and ``failures`` is their number
            - WRITE_FAILURE: ``consistency``, ``received``, ``required``, ``failures`` and
              ``reasons`` likewise, ``write_type``
            - CAS_WRITE_UNKNOWN: ``consistency``, ``received``, ``required``
            - FUNCTION_FAILURE: ``keyspace``, ``function``, ``argument_types``
            - ALREADY_EXISTS: ``keyspace``, ``table``, empty for a keyspace
            - UNPREPARED: ``statement_id``
        extra: the bytes after the last field, which later versions may define.
    """

    __slots__ = ("code", "extra", "fields", "message")
    opcode = Opcode.ERROR.value

    def __init__(
        self,
        code: int,
        message: str,
        fields: Mapping[str, object] | None = None,
        extra: bytes = b"",
    ) -> None:
        self.code = code
        self.message = message
        self.fields: Mapping[str, object] = {} if fields is None else fields
        self.extra = extra

    def write_body(self, out: bytearray, version: ProtocolVersion) -> None:
        layout = _fields_of(self.code, version)
        if _counts_contentions(self.code, self.fields, version):
            layout = (*layout, _CONTENTIONS)
        write_int(out, self.code)
        write_string(out, self.message)
        for field in layout:
            if field.name not in self.fields:
                raise LocalProtocolError(
                    f"error {self.code:#06x} needs the field {field.name!r} in fields"
                )
            field.write(out, self.fields[field.name])
        out += self.extra

    @classmethod
    def read_body(cls, reader: Reader, version: ProtocolVersion) -> Self:
        code, message = read_int(reader), read_string(reader)
        fields: dict[str, object] = {}
        for field in _fields_of(code, version):
            value = fields[field.name] = field.read(reader)
            if isinstance(value, dict):
                fields["failures"] = len(value)
        # Some servers omit the contentions.
        if _counts_contentions(code, fields, version) and reader.remaining >= 2:
            fields["contentions"] = read_short(reader)
        return cls(code, message, fields, reader.take(reader.remaining))
