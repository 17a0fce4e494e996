"""EVENT: the events that a server pushes to clients that registered for them (v4 section 4.2.6).

An unknown kind of event, or a schema change of an unknown target, is returned undecoded as an
:class:`UnknownEvent`: other servers than Cassandra define more of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, TypeAlias

from cqlproto.enums import Opcode
from cqlproto.messages._base import Message, Record
from cqlproto.messages.results import SchemaChange, knows_target, write_schema_change
from cqlproto.wire import read_inet, read_string, write_inet, write_string

if TYPE_CHECKING:
    from typing import Self

    from cqlproto.enums import ProtocolVersion
    from cqlproto.wire import IPAddress, Reader

__all__ = ["Event", "ServerEvent", "StatusChange", "TopologyChange", "UnknownEvent"]

_SCHEMA_CHANGE = "SCHEMA_CHANGE"


class TopologyChange(Record):
    """A node has joined, left or moved.

    Arguments:
        change: NEW_NODE, REMOVED_NODE or MOVED_NODE.
        address: the node's address and port.
    """

    __slots__ = ("address", "change")
    kind: ClassVar[str] = "TOPOLOGY_CHANGE"

    def __init__(self, change: str, address: tuple[IPAddress, int]) -> None:
        self.change = change
        self.address = address


class StatusChange(Record):
    """A node is up or down. UP may come shortly before the node accepts connections.

    Arguments:
        change: UP or DOWN.
        address: the node's address and port.
    """

    __slots__ = ("address", "change")
    kind: ClassVar[str] = "STATUS_CHANGE"

    def __init__(self, change: str, address: tuple[IPAddress, int]) -> None:
        self.change = change
        self.address = address


class UnknownEvent(Record):
    """An event that this library cannot read.

    Arguments:
        kind: the event type.
        data: all bytes after the event type.
    """

    __slots__ = ("data", "kind")

    def __init__(self, kind: str, data: bytes) -> None:
        self.kind = kind
        self.data = data


ServerEvent: TypeAlias = TopologyChange | StatusChange | SchemaChange | UnknownEvent

_NODE_EVENTS: dict[str, type[TopologyChange | StatusChange]] = {
    TopologyChange.kind: TopologyChange,
    StatusChange.kind: StatusChange,
}


class Event(Message):
    """EVENT, which travels on stream -1.

    Arguments:
        event: the event.
    """

    __slots__ = ("event",)
    opcode = Opcode.EVENT.value

    def __init__(self, event: ServerEvent) -> None:
        self.event = event

    def write_body(self, out: bytearray, version: ProtocolVersion) -> None:
        event = self.event
        if isinstance(event, SchemaChange):
            write_string(out, _SCHEMA_CHANGE)
            write_schema_change(out, event, version)
        elif isinstance(event, UnknownEvent):
            write_string(out, event.kind)
            out += event.data
        else:
            write_string(out, event.kind)
            write_string(out, event.change)
            write_inet(out, event.address)

    @classmethod
    def read_body(cls, reader: Reader, version: ProtocolVersion) -> Self:
        kind = read_string(reader)
        if kind in _NODE_EVENTS:
            return cls(_NODE_EVENTS[kind](read_string(reader), read_inet(reader)))
        if kind == _SCHEMA_CHANGE:
            start = reader.pos
            read_string(reader)
            target = read_string(reader)
            reader.pos = start
            if knows_target(target, version):
                return cls(SchemaChange.read(reader, version))
        return cls(UnknownEvent(kind, reader.take(reader.remaining)))
