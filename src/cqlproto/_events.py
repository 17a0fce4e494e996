"""What a connection reports: past tense, plain slots classes, one object per report."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from cqlproto.enums import ProtocolVersion
    from cqlproto.exceptions import RemoteProtocolError
    from cqlproto.messages import Request, Response
    from cqlproto.messages.errors import Error
    from cqlproto.messages.events import ServerEvent

__all__ = [
    "ConnectionEnded",
    "Event",
    "HandshakeCompleted",
    "HandshakeFailed",
    "PushReceived",
    "RequestReceived",
    "RequestUnreadable",
    "ResponseReceived",
    "ResponseUnreadable",
    "UnsupportedVersionReceived",
]


class _Report:
    __slots__: tuple[str, ...] = ()
    fields: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        names = self.fields or self.__slots__
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__name__}({fields})"


class HandshakeCompleted(_Report):
    """The server is ready for requests.

    Attributes:
        version: the protocol version in use.
        supported: the options of SUPPORTED, as they came.
        compression: the name of the compression in use, or None.
    """

    __slots__ = ("version", "supported", "compression")

    def __init__(
        self,
        version: ProtocolVersion,
        supported: Mapping[str, Sequence[str]],
        compression: str | None,
    ) -> None:
        self.version = version
        self.supported = supported
        self.compression = compression


class HandshakeFailed(_Report):
    """The connection never became ready; open another one to try again.

    Attributes:
        reason: what was wrong, as text.
        error: the server's ERROR, or None where the client found the reason itself.
        version_rejected: whether the server doesn't speak the version.
        supported_versions: the versions that such a server says it speaks, betas left out; empty if
            that could not be read.
        next_version: the version to ask such a server for next, on a new connection; None if none
            is left.
        authentication: whether credentials were missing or refused.
    """

    __slots__ = (
        "reason",
        "error",
        "version_rejected",
        "supported_versions",
        "next_version",
        "authentication",
    )

    def __init__(
        self,
        reason: str,
        *,
        error: Error | None = None,
        version_rejected: bool = False,
        supported_versions: Sequence[int] = (),
        next_version: ProtocolVersion | None = None,
        authentication: bool = False,
    ) -> None:
        self.reason = reason
        self.error = error
        self.version_rejected = version_rejected
        self.supported_versions = supported_versions
        self.next_version = next_version
        self.authentication = authentication


class ResponseReceived(_Report):
    """A request has been answered; its stream id is free again.

    Arguments:
        stream_id: what :meth:`ClientConnection.send` returned.
        message: the answer; an ERROR is a message like any other.
        notes: what came before the message, if anything did: the next three.

    Attributes:
        stream_id, message, notes: as given.
        tracing_id: the id of the trace that was asked for, or None.
        warnings: the server's warnings.
        payload: the server's custom payload, or None.
    """

    __slots__ = ("message", "notes", "stream_id")
    fields = ("stream_id", "message", "tracing_id", "warnings", "payload")

    def __init__(
        self,
        stream_id: int,
        message: Response,
        notes: tuple[UUID | None, Sequence[str], Mapping[str, bytes | None] | None] | None = None,
    ) -> None:
        self.stream_id = stream_id
        self.message = message
        self.notes = notes  # together, for nearly no reply has any

    @property
    def tracing_id(self) -> UUID | None:
        return None if self.notes is None else self.notes[0]

    @property
    def warnings(self) -> Sequence[str]:
        return () if self.notes is None else self.notes[1]

    @property
    def payload(self) -> Mapping[str, bytes | None] | None:
        return None if self.notes is None else self.notes[2]


class ResponseUnreadable(_Report):
    """A request has been answered, but not in a way that can be read; the connection goes on.

    Arguments:
        stream_id: what :meth:`ClientConnection.send` returned.
        error: what is wrong with the answer. Of a :class:`ResponseTooLarge` only the length has
            come: the stream id is an orphan until the rest has. Otherwise the id is free again.
    """

    __slots__ = ("error", "stream_id")
    fields = ("stream_id", "error")

    def __init__(self, stream_id: int, error: RemoteProtocolError) -> None:
        self.stream_id = stream_id
        self.error = error


class PushReceived(_Report):
    """The server reports a change that was registered for (v4 section 4.2.6)."""

    __slots__ = ("event",)

    def __init__(self, event: ServerEvent) -> None:
        self.event = event


class RequestReceived(_Report):
    """A client asks; the server's side answers by :meth:`ServerConnection.reply`.

    Attributes:
        stream_id: what to answer to.
        message: the request.
        tracing: whether a trace is asked for.
        payload: the client's custom payload, or None.
    """

    __slots__ = ("stream_id", "message", "tracing", "payload")

    def __init__(
        self,
        stream_id: int,
        message: Request,
        *,
        tracing: bool = False,
        payload: Mapping[str, bytes | None] | None = None,
    ) -> None:
        self.stream_id = stream_id
        self.message = message
        self.tracing = tracing
        self.payload = payload


class RequestUnreadable(_Report):
    """A client asks something that can't be read; an ERROR should follow, the connection goes on.

    Arguments:
        stream_id: what to answer to.
        error: what is wrong: the request is malformed, or longer than ``Limits.max_request``. What
            is left of such a one is passed over.
    """

    __slots__ = ("error", "stream_id")
    fields = ("stream_id", "error")

    def __init__(self, stream_id: int, error: RemoteProtocolError) -> None:
        self.stream_id = stream_id
        self.error = error


class UnsupportedVersionReceived(_Report):
    """A client asks in a version that this side does not speak; an ERROR should follow.

    Attributes:
        stream_id: the stream id of the request.
        version: the version that it came in.
    """

    __slots__ = ("stream_id", "version")

    def __init__(self, stream_id: int, version: int) -> None:
        self.stream_id = stream_id
        self.version = version


class ConnectionEnded(_Report):
    """The peer has closed its side.

    Attributes:
        clean: True if it did so between two frames.
    """

    __slots__ = ("clean",)

    def __init__(self, clean: bool) -> None:
        self.clean = clean


Event = (
    HandshakeCompleted
    | HandshakeFailed
    | ResponseReceived
    | ResponseUnreadable
    | PushReceived
    | RequestReceived
    | RequestUnreadable
    | UnsupportedVersionReceived
    | ConnectionEnded
)
