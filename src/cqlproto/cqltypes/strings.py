"""Cells of text, ascii and blob (v5 section 5)."""

from __future__ import annotations

from typing import Any

from cqlproto.cqltypes.conversion import Scalar, failed, malformed, refuse
from cqlproto.cqltypes.values import EMPTY
from cqlproto.exceptions import ValueConversionError

__all__ = ["ASCII", "BLOB", "TEXT"]


def _encode_text(value: Any) -> bytes:
    try:
        return str.encode(value)
    except UnicodeEncodeError as exc:
        reason = f"cannot be encoded as UTF-8: {exc.reason} at index {exc.start}"
        raise ValueConversionError(reason, cql_type="text", value=value) from None
    except TypeError:
        if value is EMPTY:
            return b""
        refuse("text", value, "a str")


def _decode_text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        malformed("text", f"not UTF-8: {exc.reason} at offset {exc.start}")


def _encode_ascii(value: Any) -> bytes:
    try:
        return str.encode(value, "ascii")
    except UnicodeEncodeError as exc:
        reason = f"not an ASCII character at index {exc.start}"
        raise ValueConversionError(reason, cql_type="ascii", value=value) from None
    except TypeError:
        if value is EMPTY:
            return b""
        refuse("ascii", value, "a str")


def _decode_ascii(data: bytes) -> str:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError as exc:
        malformed("ascii", f"not an ASCII character at offset {exc.start}")


def _encode_blob(value: Any) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            return bytes(value)
        except Exception as exc:  # a memoryview that was released
            raise failed("blob", value, exc) from exc
    if value is EMPTY:
        return b""
    refuse("blob", value, "bytes, a bytearray or a memoryview")


ASCII = Scalar(_encode_ascii, _decode_ascii)
BLOB = Scalar(_encode_blob, bytes)
TEXT = Scalar(_encode_text, _decode_text)
