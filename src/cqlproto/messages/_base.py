"""The base of all messages: equality, a repr that hides secrets, and [consistency].

Messages are made per request and per response, so they are plain classes with ``__slots__`` and an
``__init__``, which takes a sixth of the time of a frozen dataclass. Equality and repr use the
slots. Messages are mutable and therefore not hashable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from cqlproto.enums import Consistency
from cqlproto.exceptions import RemoteProtocolError
from cqlproto.wire import read_short, write_short

if TYPE_CHECKING:
    from cqlproto.enums import ProtocolVersion
    from cqlproto.wire import Reader

__all__ = ["Message", "Record", "read_consistency", "read_known_consistency", "write_consistency"]

# The most characters that a repr shows of a field: bound values may be megabytes.
_SHOWN = 200

# Indexed by code: an enum lookup by value costs several times as much.
_CONSISTENCIES = tuple(Consistency)


class Record:
    """A mutable record of its slots.

    Attributes:
        secret: the slots that repr must not show.
        ignored: the slots that equality and repr ignore.
    """

    __slots__: tuple[str, ...] = ()
    secret: ClassVar[tuple[str, ...]] = ()
    ignored: ClassVar[tuple[str, ...]] = ()

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(
            getattr(self, name) == getattr(other, name)
            for name in self.__slots__
            if name not in self.ignored
        )

    def __repr__(self) -> str:
        parts = [
            f"{name}={self._shown(name)}" for name in self.__slots__ if name not in self.ignored
        ]
        return f"{type(self).__name__}({', '.join(parts)})"

    def _shown(self, name: str) -> str:
        if name in self.secret:
            return "..."
        text = repr(getattr(self, name))
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


class Message(Record):
    """A message of the protocol, without the frame header.

    Attributes:
        opcode: the opcode of the frame (v4 section 2.4).
    """

    __slots__ = ()
    opcode: ClassVar[int]

    def write_body(self, out: bytearray, version: ProtocolVersion) -> None:
        """Append the body, without the prefix of payload, warnings and tracing id.

        Raises:
            LocalProtocolError: the version does not support the message, or a value does not fit.
        """
        raise NotImplementedError


def read_consistency(reader: Reader) -> Consistency | int:
    """[consistency]; an unknown level stays a number, so that an ERROR can be shown."""
    code = read_short(reader)
    return _CONSISTENCIES[code] if code < len(_CONSISTENCIES) else code


def read_known_consistency(reader: Reader) -> Consistency:
    """[consistency]; raises RemoteProtocolError for an unknown level."""
    code = read_short(reader)
    if code >= len(_CONSISTENCIES):
        raise RemoteProtocolError(f"unknown consistency level {code:#06x}")
    return _CONSISTENCIES[code]


def write_consistency(out: bytearray, value: Consistency | int) -> None:
    write_short(out, value)
