"""The root of the exception hierarchy, and the exceptions that the core raises.

    CQLError
      ProtocolError
        LocalProtocolError     the caller asked for something that the protocol does not allow
          MessageTooLarge      a message exceeds ``Limits.max_request``
        RemoteProtocolError    the peer sent something that the protocol does not allow
          ResponseTooLarge     a response exceeds ``Limits.max_response``
      ValueConversionError     a Python value does not fit its column; also a ValueError
      RowMappingError          the columns do not fit the row class; also a TypeError

The client adds its own branches (``cqlproto_anyio.exceptions``). An ERROR from a server is a
message here, not an exception: a proxy relays it, a client raises it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "CQLError",
    "LocalProtocolError",
    "MessageTooLarge",
    "ProtocolError",
    "RemoteProtocolError",
    "ResponseTooLarge",
    "RowMappingError",
    "ValueConversionError",
]


# Most of a value that a message shows: characters, bits of an int, members of a container.
_MOST_SHOWN = 80
_MOST_BITS = 256
_MOST_MEMBERS = 100
_CONTAINERS = frozenset({list, tuple, set, frozenset, dict})


class CQLError(Exception):
    """Base of all exceptions of this library.

    Attributes:
        maybe_applied: whether a write may have taken effect although it failed. If False, it
            certainly has not, and it is safe to send the request again.
        host: the node that the request was sent to, as ``address:port``; None before one was
            chosen.
        attempts: the errors of all attempts, in order.
    """

    maybe_applied: bool = False
    host: str | None = None
    attempts: Sequence[BaseException] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        # Constructors take more than ``args``, so errors are copied and pickled with their state.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[CQLError], args: tuple[Any, ...], state: dict[str, Any]) -> CQLError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def shown_value(value: Any) -> str:
    """Return a value's repr, shortened; it never raises, and is cheap for large values.

    A large int is shown by its size: its repr takes quadratic time, or raises.
    """
    try:
        if isinstance(value, int) and value.bit_length() > _MOST_BITS:
            return f"of {value.bit_length():,} bits"
        if isinstance(value, str | bytes | bytearray):
            text = repr(value[:_MOST_SHOWN])
        elif type(value) in _CONTAINERS and len(value) > _MOST_MEMBERS:
            text = f"of {len(value):,} elements"
        else:
            text = repr(value)
    except Exception:  # a user's class may raise anything
        text = object.__repr__(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."


class _ErrorMessage(Protocol):
    """An ERROR message: :class:`cqlproto.messages.Error`, whose module imports this one."""

    code: int
    message: str
    fields: Mapping[str, object]
    extra: bytes


class ProtocolError(CQLError):
    """One of the two sides broke the protocol."""


class LocalProtocolError(ProtocolError):
    """The caller asked for something that the protocol does not allow; nothing was sent."""


class MessageTooLarge(LocalProtocolError):
    """The message exceeds ``Limits.max_request``; nothing was sent.

    Attributes:
        size: the length of its frame, in bytes.
        limit: the maximum length, in bytes.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"a message must be at most {limit:,} bytes, got {size:,}")
        self.size = size
        self.limit = limit


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the protocol does not allow.

    The connection cannot be used after ``next_event`` has raised it. In a
    :class:`~cqlproto.ResponseUnreadable` or :class:`~cqlproto.RequestUnreadable` it concerns only
    that message.

    Attributes:
        error: the ERROR message (:class:`cqlproto.messages.Error`) by which the peer reported it,
            or None.
        query: the statement of the request, or None; set by the client.
    """

    query: str | None = None

    def __init__(self, message: str, *, error: _ErrorMessage | None = None) -> None:
        super().__init__(message)
        self.error = error


class ResponseTooLarge(RemoteProtocolError):
    """The response exceeds ``Limits.max_response``; its body was discarded.

    The client does not retry: another node would send a response of the same size.

    Attributes:
        size: the length of its body, in bytes, decompressed.
        limit: the maximum length, in bytes.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"a response must be at most {limit:,} bytes, got {size:,}: lower page_size, or pass"
            " limits=Limits(max_response=..)"
        )
        self.size = size
        self.limit = limit


class ValueConversionError(CQLError, ValueError):
    """A Python value cannot be written as the CQL type of its column.

    Attributes:
        column: the name of the column or bind marker, or None if there is none.
        cql_type: the CQL type as text, such as ``list<int>``.
        value: the value that does not fit.
        reason: why it does not fit.
    """

    def __init__(
        self, reason: str, *, cql_type: str, value: object, column: str | None = None
    ) -> None:
        self.reason = reason
        self.cql_type = cql_type
        self.value = value
        self.column = column
        super().__init__(reason, cql_type, value, column)

    def of_column(self, column: str) -> ValueConversionError:
        """Return the same error, with the same cause and the name of a column."""
        named = ValueConversionError(
            self.reason, cql_type=self.cql_type, value=self.value, column=column
        )
        named.__cause__ = self.__cause__
        return named

    def __str__(self) -> str:
        where = f"column {self.column!r} ({self.cql_type})" if self.column else self.cql_type
        return f"{where}: {self.reason}, got {type(self.value).__name__} {shown_value(self.value)}"


class RowMappingError(CQLError, TypeError):
    """The rows of a result do not fit the row target.

    Either the columns do not fit, which is found before any row is made, or the target raised an
    exception for the values of a row; that exception is the cause.

    Attributes:
        column: the column at fault, with the path to the field of a nested value, such as
            ``address.city``; None if there is no single one.
        row: the index, on its page, of the row that the target refused, or None.
    """

    def __init__(self, message: str, *, column: str | None = None, row: int | None = None) -> None:
        super().__init__(message)
        self.column = column
        self.row = row
