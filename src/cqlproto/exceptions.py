"""The root of the error tree, and what the core itself raises.

    CQLError
      ProtocolError
        LocalProtocolError     our caller asked for what the protocol does not allow
          MessageTooLarge      a message that is longer than is sent
        RemoteProtocolError    the peer sent what the protocol does not allow
          ResponseTooLarge     a reply that is longer than is accepted
      ValueConversionError     a Python value does not fit its column; also a ValueError
      RowMappingError          the columns do not fit the class of the rows; also a TypeError

The client adds its own branches (``cqlproto_anyio.exceptions``). An ERROR that a server sends is a
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


# How much of a value is shown in a message: characters, bits of an int, members of a container.
_MOST_SHOWN = 80
_MOST_BITS = 256
_MOST_MEMBERS = 100
_CONTAINERS = frozenset({list, tuple, set, frozenset, dict})


class CQLError(Exception):
    """Anything that this library raises on purpose.

    Attributes:
        maybe_applied: whether a write may have taken effect although it failed. False means that it
            certainly has not, so that it may be sent again.
        host: the node that was talked to, as ``address:port``, or None before one was chosen.
        attempts: what was tried before giving up, one error per attempt.
    """

    maybe_applied: bool = False
    host: str | None = None
    attempts: Sequence[BaseException] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        # The constructors take more than ``args``, so errors are copied and pickled by their state.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[CQLError], args: tuple[Any, ...], state: dict[str, Any]) -> CQLError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def shown_value(value: object) -> str:
    """Return a value's repr, cut off, whatever the value is; made of no more than is shown of it.

    An int of thousands of digits is shown by its size: its repr takes quadratic time, or raises.
    """
    try:
        if isinstance(value, int) and value.bit_length() > _MOST_BITS:
            return f"of {value.bit_length():,} bits"
        if isinstance(value, str | bytes | bytearray):
            text = repr(value[:_MOST_SHOWN])
        elif type(value) in _CONTAINERS and len(value) > _MOST_MEMBERS:  # type: ignore[arg-type]
            text = f"of {len(value):,} elements"  # type: ignore[arg-type]  # as asked just now
        else:
            text = repr(value)
    except Exception:  # whatever a class of the user's does
        text = object.__repr__(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."


class _ErrorMessage(Protocol):
    """An ERROR message: :class:`cqlproto.messages.Error`, whose module imports this one."""

    code: int
    message: str
    fields: Mapping[str, object]
    extra: bytes


class ProtocolError(CQLError):
    """The protocol was broken, by one side or the other."""


class LocalProtocolError(ProtocolError):
    """The caller asked for something that the protocol does not allow here; nothing was sent."""


class MessageTooLarge(LocalProtocolError):
    """The message is longer than the limit; nothing was sent.

    Attributes:
        size: the length of its frame, in bytes.
        limit: the longest frame that is sent, in bytes.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"a message of {size:,} bytes, at most {limit:,} are sent")
        self.size = size
        self.limit = limit


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the protocol does not allow.

    Raised by ``next_event``, it is the end of the connection. In a
    :class:`~cqlproto.ResponseUnreadable` or :class:`~cqlproto.RequestUnreadable` it concerns that
    one message.

    Attributes:
        error: the ERROR message (:class:`cqlproto.messages.Error`) by which the peer reported it,
            or None.
        query: the statement whose reply it was, or None; filled in by the client.
    """

    query: str | None = None

    def __init__(self, message: str, *, error: _ErrorMessage | None = None) -> None:
        super().__init__(message)
        self.error = error


class ResponseTooLarge(RemoteProtocolError):
    """The reply is longer than ``Limits.max_response``; its body was not kept.

    Every node would send as much, so the request is not sent again.

    Attributes:
        size: the length of its body, in bytes, decompressed.
        limit: the longest body that is accepted, in bytes.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"a response of {size:,} bytes, at most {limit:,} are accepted: lower page_size, or"
            " pass limits=Limits(max_response=..)"
        )
        self.size = size
        self.limit = limit


class ValueConversionError(CQLError, ValueError):
    """A Python value cannot be written as the CQL type of its column.

    Attributes:
        column: the name of the column or bind marker, or None where there is none.
        cql_type: the CQL type as text, such as ``list<int>``.
        value: the value that did not fit.
        reason: what was wrong with it.
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
        """Return the same error, with the same cause, about the value of a column."""
        named = ValueConversionError(
            self.reason, cql_type=self.cql_type, value=self.value, column=column
        )
        named.__cause__ = self.__cause__
        return named

    def __str__(self) -> str:
        where = f"column {self.column!r} ({self.cql_type})" if self.column else self.cql_type
        return f"{where}: {self.reason}, got {type(self.value).__name__} {shown_value(self.value)}"


class RowMappingError(CQLError, TypeError):
    """The rows of a result do not fit the row target that was asked for.

    Either their columns do not, which is told before any row is made, or the target has refused the
    values of a row; what it raised is the cause.

    Attributes:
        column: the column at fault, with the way to the field of a nested value, such as
            ``address.city``; None where no single one is.
        row: the index, on its page, of the row whose values were refused, or None.
    """

    def __init__(self, message: str, *, column: str | None = None, row: int | None = None) -> None:
        super().__init__(message)
        self.column = column
        self.row = row
