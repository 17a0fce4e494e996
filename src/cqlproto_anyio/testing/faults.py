"""The faults that a rule can apply to a frame. They are frozen values; ``relay`` carries them out.

Each fault has a default side. ``"reply"`` is the node's answer: the node has received the request.
``"request"`` is the client's frame. A rule can name the other side.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from cqlproto.enums import Consistency, ErrorCode
from cqlproto.messages import Error, Message
from cqlproto_anyio.exceptions import ConfigError
from cqlproto_anyio.testing.passage import Side

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cqlproto.messages import Response
    from cqlproto_anyio.testing.passage import Passage

__all__ = [
    "Answer",
    "Corrupt",
    "Cut",
    "Delay",
    "Drop",
    "Fault",
    "Garbage",
    "Repeat",
    "Stall",
]


def _check_seconds(name: str, value: object) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value >= 0:
        raise ConfigError(f"{name} must be a number of seconds, 0 or more, got {value!r}")


def _check_count(name: str, value: object, least: int) -> None:
    if type(value) is not int or value < least:
        raise ConfigError(f"{name} must be an integer of at least {least}, got {value!r}")


@dataclass(frozen=True, slots=True)
class Drop:
    """Lose the frame; later frames pass.

    When a reply is lost, the node has executed the request and the client never learns of it. When
    a request is lost (``side="request"``), the node never receives it.

    Attributes:
        connection: close the connection as well.
        reset: close the connection with a TCP reset.
    """

    default_side: ClassVar[Side] = "reply"
    connection: bool = False
    reset: bool = False

    def __post_init__(self) -> None:
        if self.reset and not self.connection:
            raise ConfigError("reset=True needs connection=True: a reset closes the connection")


@dataclass(frozen=True, slots=True)
class Delay:
    """Deliver the frame later; other frames of the connection overtake it, as with a slow query.

    :class:`Stall` with a time delays the whole connection.

    Attributes:
        seconds: the delay.
        jitter: a random delay of up to this many seconds is added.
    """

    default_side: ClassVar[Side] = "reply"
    seconds: float
    jitter: float = 0.0

    def __post_init__(self) -> None:
        _check_seconds("seconds", self.seconds)
        _check_seconds("jitter", self.jitter)


@dataclass(frozen=True, slots=True)
class Stall:
    """Hold back this frame and everything after it, in both directions; the connection stays open.

    Attributes:
        seconds: how long; None means until :meth:`FaultProxy.resume`.
    """

    default_side: ClassVar[Side] = "reply"
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None:
            _check_seconds("seconds", self.seconds)


@dataclass(frozen=True, slots=True)
class Cut:
    """Close the connection in the middle of the frame.

    Attributes:
        after_bytes: how many bytes of the frame are delivered, counted on the wire: on v5, bytes of
            a segment that holds the frame alone. None delivers half of them. The frame is never
            delivered whole.
        reset: close the connection with a TCP reset.
    """

    default_side: ClassVar[Side] = "reply"
    after_bytes: int | None = None
    reset: bool = False

    def __post_init__(self) -> None:
        if self.after_bytes is not None:
            _check_count("after_bytes", self.after_bytes, 0)


@dataclass(frozen=True, slots=True)
class Corrupt:
    """Change one byte of the frame.

    Attributes:
        at: the index of the byte on the wire: the 9 bytes of the frame header come first, on v5
            those of the segment header. A negative index counts from the end. None picks a byte at
            random.
        mask: the bits that are inverted, 1 to 255.
        valid_checksum: on v5, change the frame before it is put into a segment, so that the
            checksums are valid; ``at`` then counts from the frame header.
    """

    default_side: ClassVar[Side] = "reply"
    at: int | None = None
    mask: int = 0xFF
    valid_checksum: bool = False

    def __post_init__(self) -> None:
        if self.at is not None and type(self.at) is not int:
            raise ConfigError(f"at must be an integer or None, got {self.at!r}")
        if type(self.mask) is not int or not 0 < self.mask < 256:
            raise ConfigError(f"mask must be 1 to 255, got {self.mask!r}")


@dataclass(frozen=True, slots=True)
class Garbage:
    """Deliver other bytes in place of the frame; on v5 they are not put into a segment.

    Attributes:
        data: the bytes, or the number of random bytes.
    """

    default_side: ClassVar[Side] = "reply"
    data: bytes | int = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"

    def __post_init__(self) -> None:
        if not isinstance(self.data, bytes):
            _check_count("data", self.data, 1)
        elif not self.data:
            raise ConfigError("data must not be empty: use Drop() to deliver nothing")


@dataclass(frozen=True, slots=True)
class Repeat:
    """Deliver the frame several times.

    Attributes:
        times: how many times, at least 2.
    """

    default_side: ClassVar[Side] = "reply"
    times: int = 2

    def __post_init__(self) -> None:
        _check_count("times", self.times, 2)


_REPLICAS: Mapping[str, object] = {
    "consistency": Consistency.LOCAL_QUORUM,
    "received": 1,
    "required": 2,
}
_REASONS: Mapping[str, object] = {"failures": 1, "reasons": {IPv4Address("127.0.0.1"): 0}}
# The default fields of an error, by its code.
_FIELDS: Mapping[ErrorCode, Mapping[str, object]] = {
    ErrorCode.UNAVAILABLE: {
        "consistency": Consistency.LOCAL_QUORUM,
        "required": 2,
        "alive": 1,
    },
    ErrorCode.WRITE_TIMEOUT: {**_REPLICAS, "write_type": "SIMPLE", "contentions": 0},
    ErrorCode.READ_TIMEOUT: {**_REPLICAS, "data_present": False},
    ErrorCode.READ_FAILURE: {**_REPLICAS, **_REASONS, "data_present": False},
    ErrorCode.WRITE_FAILURE: {**_REPLICAS, **_REASONS, "write_type": "SIMPLE"},
    ErrorCode.CAS_WRITE_UNKNOWN: _REPLICAS,
    ErrorCode.FUNCTION_FAILURE: {"keyspace": "ks", "function": "f", "argument_types": []},
    ErrorCode.ALREADY_EXISTS: {"keyspace": "ks", "table": ""},
    ErrorCode.UNPREPARED: {"statement_id": None},  # taken from the request
}


class Answer:
    """Answer the request in the node's place.

    The node does not receive the request. With ``side="reply"`` the node executes the request, and
    its reply is replaced.

    Arguments:
        message: an error code or its name (``"UNAVAILABLE"``); a message of
            ``cqlproto.messages``; or a function that takes a
            :class:`~cqlproto_anyio.testing.Passage` and returns one of these.
        text: the text of the error.
        fields: fields of the error, as :class:`~cqlproto.messages.Error` lists them. All have
            defaults; UNPREPARED takes the statement id from the request.

    Raises:
        ConfigError: the code is unknown, or has no such field.
    """

    __slots__ = ("_fields", "_message", "_text")
    default_side: ClassVar[Side] = "request"

    def __init__(
        self,
        message: ErrorCode | str | Response | Callable[[Passage], Response | ErrorCode | str],
        text: str = "as the fault proxy was told",
        /,
        **fields: object,
    ) -> None:
        self._text = text
        self._fields = fields
        self._message: ErrorCode | Message | Callable[[Passage], Any]
        if isinstance(message, (ErrorCode, str)):
            self._message = _code(message)
            if strange := fields.keys() - _FIELDS.get(self._message, {}).keys():
                raise ConfigError(f"{self._message.name} has no field {', '.join(sorted(strange))}")
        elif fields:
            raise ConfigError("fields need an error code: a message has its own fields")
        elif isinstance(message, Message) or (callable(message) and not inspect.isclass(message)):
            self._message = message
        else:
            raise ConfigError(
                f"message must be an error code, a message or a function, got {message!r}"
            )

    def __repr__(self) -> str:
        shown = self._message.name if isinstance(self._message, ErrorCode) else repr(self._message)
        return f"Answer({', '.join([shown, *(f'{k}={v!r}' for k, v in self._fields.items())])})"

    def response(self, passage: Passage) -> Message:
        """Return the message that answers this request."""
        message: Any = self._message
        if callable(message) and not isinstance(message, (ErrorCode, Message)):
            message = message(passage)
        if isinstance(message, Message):
            return message
        code = _code(message)
        fields = {**_FIELDS.get(code, {}), **self._fields}
        if fields.get("statement_id", b"") is None:
            fields["statement_id"] = passage.statement_ids[0] if passage.statement_ids else b""
        return Error(code, self._text, fields)


def _code(code: object) -> ErrorCode:
    if isinstance(code, ErrorCode):
        return code
    if isinstance(code, str) and code in ErrorCode.__members__:
        return ErrorCode[code]
    raise ConfigError(
        f"message must name an error code such as {ErrorCode.OVERLOADED.name!r}, got {code!r}"
    )


Fault: TypeAlias = Drop | Delay | Stall | Cut | Corrupt | Garbage | Repeat | Answer
