"""What can be done to a frame: frozen values that say it, and nothing that does it.

Each has the side that it is for unless its rule says otherwise: ``"reply"``, the node's answer,
which means that the request has passed, or ``"request"``.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from cqlproto.enums import Consistency, ErrorCode
from cqlproto.messages import Error, Message
from cqlproto_anyio.exceptions import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cqlproto.messages import Response
    from cqlproto_anyio.testing.rules import Passage

__all__ = [
    "Answer",
    "Corrupt",
    "Cut",
    "Delay",
    "Drop",
    "Fault",
    "Garbage",
    "Repeat",
    "Side",
    "Stall",
]

Side = Literal["request", "reply"]


def _check_seconds(name: str, value: object) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value >= 0:
        raise ConfigError(f"{name} is {value!r}, not a number of seconds")


def _check_count(name: str, value: object, least: int) -> None:
    if type(value) is not int or value < least:
        raise ConfigError(f"{name} is {value!r}, not a number of at least {least}")


@dataclass(frozen=True, slots=True)
class Drop:
    """The frame is lost; what comes after it isn't.

    A lost reply leaves its request open for ever: the node has done what was asked, the client
    can't know. Of a request (``side="request"``) the node never hears.

    Attributes:
        connection: whether the connection is closed in place of passing the frame on.
        reset: whether it is closed with a reset.
    """

    default_side: ClassVar[Side] = "reply"
    connection: bool = False
    reset: bool = False

    def __post_init__(self) -> None:
        if self.reset and not self.connection:
            raise ConfigError("reset is for Drop(connection=True)")


@dataclass(frozen=True, slots=True)
class Delay:
    """The frame comes later; others of its connection overtake it, as those of a slow query do.

    :class:`Stall` with a time holds up all of a connection.

    Attributes:
        seconds: how much later.
        jitter: up to so many seconds more, at random.
    """

    default_side: ClassVar[Side] = "reply"
    seconds: float
    jitter: float = 0.0

    def __post_init__(self) -> None:
        _check_seconds("seconds", self.seconds)
        _check_seconds("jitter", self.jitter)


@dataclass(frozen=True, slots=True)
class Stall:
    """From this frame on the connection is silent in both directions, but open.

    Attributes:
        seconds: how long; None until :meth:`FaultProxy.resume`.
    """

    default_side: ClassVar[Side] = "reply"
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None:
            _check_seconds("seconds", self.seconds)


@dataclass(frozen=True, slots=True)
class Cut:
    """The connection ends within the frame.

    Attributes:
        after_bytes: how many of its bytes still arrive, as they travel: on v5 those of the segment
            that holds the frame alone. None for half of them; a frame is never whole.
        reset: whether the connection is closed with a reset.
    """

    default_side: ClassVar[Side] = "reply"
    after_bytes: int | None = None
    reset: bool = False

    def __post_init__(self) -> None:
        if self.after_bytes is not None:
            _check_count("after_bytes", self.after_bytes, 0)


@dataclass(frozen=True, slots=True)
class Corrupt:
    """A byte of the frame arrives as another.

    Attributes:
        at: which, counted from the frame's first one as it travels (the 9 bytes of the header come
            first; on v5, those of the segment around it), or from its end if it is negative. None
            for any, at random.
        mask: the bits that are turned over.
        valid_checksum: on v5, whether the frame is spoilt before it is put into a segment, so that
            the checksums are right and ``at`` counts from the frame's own header.
    """

    default_side: ClassVar[Side] = "reply"
    at: int | None = None
    mask: int = 0xFF
    valid_checksum: bool = False

    def __post_init__(self) -> None:
        if self.at is not None and type(self.at) is not int:
            raise ConfigError(f"at is {self.at!r}, not a number")
        if type(self.mask) is not int or not 0 < self.mask < 256:
            raise ConfigError(f"mask is {self.mask!r}, not a number from 1 to 255")


@dataclass(frozen=True, slots=True)
class Garbage:
    """Other bytes come in place of the frame; on v5 they are in no segment.

    Attributes:
        data: the bytes, or how many there shall be, at random.
    """

    default_side: ClassVar[Side] = "reply"
    data: bytes | int = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"

    def __post_init__(self) -> None:
        if not isinstance(self.data, bytes):
            _check_count("data", self.data, 1)
        elif not self.data:
            raise ConfigError("data is empty: Drop() passes nothing on")


@dataclass(frozen=True, slots=True)
class Repeat:
    """The frame comes several times.

    Attributes:
        times: how often.
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
# What an error of a code says unless it is told otherwise.
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
    ErrorCode.UNPREPARED: {"statement_id": None},  # that of the request
}


class Answer:
    """The proxy answers.

    The request doesn't reach the node, or, with ``side="reply"``, it does and its answer is
    replaced.

    Arguments:
        message: the answer: an error's code or its name (``"UNAVAILABLE"``); any message of
            ``cqlproto.messages``; or a function that returns either of a
            :class:`~cqlproto_anyio.testing.Passage`.
        text: what an error says.
        fields: what its code adds to it; :class:`~cqlproto.messages.Error` lists them, all have
            defaults. UNPREPARED takes its id from the request.

    Raises:
        ConfigError: an unknown code, or fields that it doesn't have.
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
                raise ConfigError(f"{self._message.name} has no {', '.join(sorted(strange))}")
        elif fields:
            raise ConfigError("fields are for an error that is given by its code")
        elif isinstance(message, Message) or (callable(message) and not inspect.isclass(message)):
            self._message = message
        else:
            raise ConfigError(f"{message!r} is no answer")

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
    raise ConfigError(f"{code!r} is no code of an error, such as {ErrorCode.OVERLOADED.name!r}")


Fault: TypeAlias = Drop | Delay | Stall | Cut | Corrupt | Garbage | Repeat | Answer
