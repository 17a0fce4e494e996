"""The events of a connection: slotted classes, named in the past tense."""

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


class _Event:
    __slots__: tuple[str, ...] = ()
    fields: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        names = self.fields or self.__slots__
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__name__}({fields})"


class HandshakeCompleted(_Event):
    """The server is ready for requests.

    Attributes:
        version: the protocol version in use.
        supported: the options of SUPPORTED, unchanged.
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


class HandshakeFailed(_Event):
    """The connection never became ready; open another one to try again.

    Attributes:
        reason: the reason, as text.
        error: the server's ERROR, or None if the client found the reason itself.
        version_rejected: whether the server does not support the version.
        supported_versions: the versions that the server says it supports, without betas; empty if
            its list could not be read.
        next_version: the version to request next, on a new connection; None if none is left.
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


class ResponseReceived(_Event):
    """The response to a request; its stream id is free again.

    Arguments:
        stream_id: what :meth:`ClientConnection.send` returned.
        message: the response; an ERROR is a message like any other.
        notes: the tracing id, the warnings and the custom payload; None if there are none.

    Attributes:
        stream_id, message, notes: as given.
        tracing_id: the id of the requested trace, or None.
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
        self.notes = notes  # one attribute for all three, since responses rarely have any

    @property
    def tracing_id(self) -> UUID | None:
        return None if self.notes is None else self.notes[0]

    @property
    def warnings(self) -> Sequence[str]:
        return () if self.notes is None else self.notes[1]

    @property
    def payload(self) -> Mapping[str, bytes | None] | None:
        return None if self.notes is None else self.notes[2]


class ResponseUnreadable(_Event):
    """The response to a request is malformed or too long; the connection stays usable.

    Arguments:
        stream_id: what :meth:`ClientConnection.send` returned.
        error: what is wrong with the response. A :class:`ResponseTooLarge` is reported as soon as
            the header has arrived: the stream id is an orphan until the whole response has.
            Otherwise the id is free again.
    """

    __slots__ = ("error", "stream_id")
    fields = ("stream_id", "error")

    def __init__(self, stream_id: int, error: RemoteProtocolError) -> None:
        self.stream_id = stream_id
        self.error = error


class PushReceived(_Event):
    """An EVENT of a kind that the client registered for (v4 section 4.2.6)."""

    __slots__ = ("event",)

    def __init__(self, event: ServerEvent) -> None:
        self.event = event


class RequestReceived(_Event):
    """A request of a client; answer it with :meth:`ServerConnection.reply`.

    Attributes:
        stream_id: the stream id to reply on.
        message: the request.
        tracing: whether the client requests a trace.
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


class RequestUnreadable(_Event):
    """A request that can't be read; reply with an ERROR. The connection stays usable.

    Arguments:
        stream_id: the stream id to reply on.
        error: what is wrong: the request is malformed, or longer than ``Limits.max_request``. The
            rest of a request that is too long is discarded as it arrives.
    """

    __slots__ = ("error", "stream_id")
    fields = ("stream_id", "error")

    def __init__(self, stream_id: int, error: RemoteProtocolError) -> None:
        self.stream_id = stream_id
        self.error = error


class UnsupportedVersionReceived(_Event):
    """A request in a version that this side does not accept; reply with an ERROR.

    Attributes:
        stream_id: the stream id of the request.
        version: the version of the request.
    """

    __slots__ = ("stream_id", "version")

    def __init__(self, stream_id: int, version: int) -> None:
        self.stream_id = stream_id
        self.version = version


class ConnectionEnded(_Event):
    """The peer has closed its side of the connection.

    Attributes:
        clean: whether it closed between two frames.
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
