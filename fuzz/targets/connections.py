"""Targets for both ends of a connection, which receive arbitrary bytes.

Received bytes become events or RemoteProtocolError. The result does not depend on how the bytes are
cut into pieces, and a broken connection raises the same error again. Each input begins with three
bytes: the kind of connection, and two sizes of the pieces.
"""

from __future__ import annotations

from functools import cache
from types import MethodType
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from cqlproto import (
    ClientConnection,
    Consistency,
    PlainAuthenticator,
    ProtocolVersion,
    ServerConnection,
    handshake_reply,
)
from cqlproto._events import (
    ConnectionEnded,
    Event,
    RequestReceived,
    RequestUnreadable,
    UnsupportedVersionReceived,
)
from cqlproto.compression import compressor
from cqlproto.cqltypes import NATIVE_TYPES
from cqlproto.enums import RESPONSE_BIT, BatchKind, ErrorCode, Opcode
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError
from cqlproto.frames import EnvelopeReader, FrameReader, write_frame
from cqlproto.messages import (
    READY,
    VOID,
    AuthChallenge,
    Authenticate,
    AuthResponse,
    Batch,
    BatchStatement,
    BindMetadata,
    Column,
    Error,
    Execute,
    Options,
    Prepare,
    Prepared,
    Query,
    QueryParameters,
    Register,
    ResultMetadata,
    Rows,
    Startup,
    Supported,
)
from fuzz.checks import Finding, pieces, require

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cqlproto.messages import Request, Response

_VERSIONS = tuple(ProtocolVersion)
_COMPRESSIONS = (None, "lz4", "snappy")
HEAD = 3
SUPPORTED = {"COMPRESSION": ("snappy", "lz4"), "CQL_VERSION": ("3.4.7",)}
_METADATA = ResultMetadata.of(
    [Column("ks", "t", "a", NATIVE_TYPES["int"]), Column("ks", "t", "b", NATIVE_TYPES["text"])],
    ProtocolVersion.V4,
)
_TRACING_ID = UUID(int=7)
_ROWS = Rows.of(_METADATA, 1, b"\0\0\0\x04\0\0\0\x07\xff\xff\xff\xff")
_PREPARED = Prepared(b"id", b"metadata id", BindMetadata(_METADATA.columns, (0,)), _METADATA)


class Run(NamedTuple):
    """The events of a stream, and the error that ended it."""

    events: list[Event]
    error: RemoteProtocolError | None


class _Answers:
    """Replies of a server to each request, and checks of the bytes that it sends."""

    def __init__(self, server: ServerConnection, policy: int) -> None:
        self._server = server
        self._policy = policy
        self._reader: FrameReader | EnvelopeReader
        self._reader = FrameReader(max_body=1 << 28, responses=True)
        self._segmented = False
        self._unread = 0

    def __call__(self, event: Event) -> None:
        server = self._server
        if isinstance(event, UnsupportedVersionReceived):
            server.reply(event.stream_id, Error(ErrorCode.PROTOCOL_ERROR, "another version"))
            self._sent()
            return
        if isinstance(event, RequestUnreadable):
            server.reply(event.stream_id, Error(ErrorCode.PROTOCOL_ERROR, str(event.error)))
            self._sent()
            return
        if not isinstance(event, RequestReceived):
            return
        if self._policy & 1 and event.stream_id % 3 == 0:
            return  # stays open
        message = self._message(event.message)
        extras: dict[str, Any] = {}
        if event.tracing:
            extras["tracing_id"] = _TRACING_ID
        if server.version.has_warnings:
            extras |= {"payload": event.payload, "warnings": ["w"] if self._policy & 2 else ()}
        server.reply(event.stream_id, message, **extras)
        self._sent()
        opens = message is READY or isinstance(message, Authenticate)
        if opens and isinstance(event.message, Startup) and not self._segmented:
            self._begin_segments(event.message)

    def _begin_segments(self, startup: Startup) -> None:
        """Expect segments in the bytes sent from now on, if the version has them."""
        if self._server.version.has_segments:
            codec = compressor("lz4") if "COMPRESSION" in startup.options else None
            self._reader = EnvelopeReader(max_body=1 << 28, responses=True, compressor=codec)
            self._segmented = True

    def _message(self, request: Request) -> Response:
        verify = None if self._policy & 4 else _knows
        reply = handshake_reply(request, supported=SUPPORTED, verify=verify)
        if reply is not None:
            challenged = isinstance(request, AuthResponse) and not request.token
            return AuthChallenge(b"again") if challenged else reply
        if isinstance(request, Register):
            return READY
        if isinstance(request, Prepare):
            return _PREPARED
        if isinstance(request, Execute):
            return _ROWS
        return VOID if self._policy & 8 else Error(ErrorCode.INVALID, "no such table")

    def _sent(self) -> None:
        self._reader.feed(self._server.data_to_send())
        frame = self._reader.read()
        require(frame is not None, "a reply that is not sent")
        require(self._reader.read() is None and not self._reader.pending, "more than a reply")


def _knows(token: bytes) -> bool:
    return len(token) % 2 == 0


def _feed(
    end: ClientConnection | ServerConnection, parts: Iterable[bytes], policy: int | None = None
) -> Run:
    """Feed all parts and the end of the stream to one end; check its last event or error."""
    react = _Answers(end, policy or 0) if isinstance(end, ServerConnection) else None
    events: list[Event] = []
    try:
        for part in parts:
            end.receive_data(part)
            while (event := end.next_event()) is not None:
                events.append(event)
                if react is not None:
                    react(event)
                else:
                    end.data_to_send()
        end.receive_eof()
        while (event := end.next_event()) is not None:
            events.append(event)
    except RemoteProtocolError as exc:
        _stays_broken(end, exc)
        return Run(events, exc)
    require(events and isinstance(events[-1], ConnectionEnded), "no end", events)
    require(end.next_event() is None, "something after the end")
    try:
        end.receive_data(b"late")
    except LocalProtocolError:
        return Run(events, None)
    raise Finding("data after the end is accepted")


def _stays_broken(end: ClientConnection | ServerConnection, error: RemoteProtocolError) -> None:
    for _ in range(2):
        try:
            event = end.next_event()
        except RemoteProtocolError as again:
            require(again is error, "the second call raises another error", error, again)
        else:
            raise Finding(f"{event!r} after {error!r}")


def _compare(whole: Run, cut: Run) -> None:
    require(
        len(whole.events) == len(cut.events),
        "cutting the stream changes the number of events",
        whole,
        cut,
    )
    for one, other in zip(whole.events, cut.events, strict=True):
        require(type(one) is type(other), "cutting the stream changes an event", one, other)
        for name in one.__slots__:
            mine, its = getattr(one, name), getattr(other, name)
            if isinstance(mine, RemoteProtocolError):
                mine, its = repr(mine), repr(its)
            require(mine == its, "cutting the stream changes an event", one, other)
    require(
        (whole.error is None) == (cut.error is None),
        "cutting the stream adds or removes an error",
        whole,
        cut,
    )
    if whole.error is not None and cut.error is not None:
        require(
            whole.error.error == cut.error.error, "cutting the stream changes an ERROR", whole, cut
        )
        # "not a CQL .." quotes the bytes received so far, and those depend on the cut.
        if not str(whole.error).startswith("not a CQL "):
            require(
                str(whole.error) == str(cut.error),
                "cutting the stream changes the error",
                whole,
                cut,
            )


def kind(number: int) -> tuple[ProtocolVersion, str | None]:
    version = _VERSIONS[number % 3]
    compression = _COMPRESSIONS[number // 3 % 3]
    if compression == "snappy" and not version.has_snappy:
        compression = None
    return version, compression


def handshakes(data: bytes) -> None:
    """A client's handshake; the kind selects version, compression and credentials."""
    if len(data) < HEAD:
        return
    version, compression = kind(data[0])
    authenticator = PlainAuthenticator("me", "secret") if data[0] // 9 & 1 else None

    def client() -> ClientConnection:
        made = ClientConnection(
            version=version, compression=compression, authenticator=authenticator
        )
        made.initiate()
        made.data_to_send()
        return made

    stream = data[HEAD:]
    _compare(_feed(client(), [stream]), _feed(client(), pieces(stream, data[1], data[2])))


@cache
def opening(version: ProtocolVersion) -> tuple[bytes, ...]:
    """Return the server's bytes of a handshake, until the client is ready."""
    body = bytearray()
    Supported(SUPPORTED).write_body(body, version)
    byte = version | RESPONSE_BIT
    return (
        write_frame(byte, 0, 0, Opcode.SUPPORTED, bytes(body)),
        write_frame(byte, 0, 0, Opcode.READY, b""),
    )


# One request of each kind, in the order of their stream ids, which begin with 1.
_PARAMETERS = QueryParameters(Consistency.ONE)
_REQUESTS: tuple[tuple[Request, ResultMetadata | None], ...] = (
    (Query("SELECT * FROM t", _PARAMETERS), None),
    (Execute(b"id", _PARAMETERS, b"metadata id"), _METADATA),
    (Prepare("SELECT * FROM t"), None),
    (Batch(BatchKind.LOGGED, [BatchStatement(b"id")], Consistency.ONE), None),
    (Register(["SCHEMA_CHANGE"]), None),
    (Options(), None),
    (Query("SELECT * FROM t", _PARAMETERS), None),
)
ORPHAN = len(_REQUESTS)


def busy_client(version: ProtocolVersion, compression: str | None) -> ClientConnection:
    """Return a ready client that waits for a reply to each kind of request."""
    client: ClientConnection = _copy(_template(version, compression))
    return client


# Modules of the classes of a connection's mutable parts.
_STATEFUL = ("cqlproto.connection.", "cqlproto.frames", "cqlproto.segments", "cqlproto._buffer")


def _copy(part: Any, copied: dict[int, Any] | None = None) -> Any:
    """Return a copy of a connection; this takes a tenth of the time of creating one.

    Arguments:
        part: the connection, or a part of it.
        copied: copies made so far, by the id of the original. Bound methods are copied with
            the object that they are bound to.
    """
    copied = {} if copied is None else copied
    made_of = type(part)
    if made_of in (dict, list, set, bytearray):
        return made_of(part)
    if made_of is MethodType:
        return getattr(_copy(part.__self__, copied), part.__name__)
    if not made_of.__module__.startswith(_STATEFUL):
        return part
    if id(part) not in copied:
        made = copied[id(part)] = object.__new__(made_of)
        for owner in made_of.__mro__:
            for slot in getattr(owner, "__slots__", ()):
                object.__setattr__(made, slot, _copy(getattr(part, slot), copied))
    return copied[id(part)]


@cache
def _template(version: ProtocolVersion, compression: str | None) -> ClientConnection:
    client = ClientConnection(version=version, compression=compression)
    client.initiate()
    for frame in opening(version):
        client.receive_data(frame)
        client.next_event()
        client.data_to_send()
    for request, metadata in _REQUESTS:
        client.send(request, metadata=metadata)
    client.data_to_send()
    client.abandon(ORPHAN)
    return client


def clients(data: bytes) -> None:
    """A client that waits for replies; the kind selects version and compression."""
    if len(data) < HEAD:
        return
    version, compression = kind(data[0])
    stream = data[HEAD:]
    client = busy_client(version, compression)
    whole = _feed(client, [stream])
    other = busy_client(version, compression)
    _compare(whole, _feed(other, pieces(stream, data[1], data[2])))
    require(client.in_flight == other.in_flight, "cutting the stream changes the streams in flight")
    require(client.orphans == other.orphans, "cutting the stream changes the orphaned streams")
    require(
        0 <= client.in_flight <= len(_REQUESTS),
        "more streams in use than requests sent",
        client.in_flight,
    )
    try:
        client.send(Options())
    except LocalProtocolError:
        return
    raise Finding("a closed connection accepts a request")


def servers(data: bytes) -> None:
    """A server's end; the kind selects its versions and its answers."""
    if len(data) < HEAD:
        return
    versions: Sequence[ProtocolVersion] = _VERSIONS[: 1 + data[0] % 3]
    policy = data[0] // 3
    stream = data[HEAD:]
    whole = _feed(ServerConnection(versions=versions), [stream], policy)
    cut = pieces(stream, data[1], data[2])
    _compare(whole, _feed(ServerConnection(versions=versions), cut, policy))
