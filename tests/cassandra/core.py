"""The core on a blocking socket, for the protocol's tests on a real server.

This module does not use the client, so that faults of the client can't hide faults of the core, and
each test controls the messages on the wire. :class:`CoreConnection` sends a message and waits for
its response; events that arrive meanwhile are kept in :attr:`~CoreConnection.pushes`.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

from cqlproto import (
    Binder,
    ClientConnection,
    ConnectionEnded,
    Consistency,
    HandshakeCompleted,
    HandshakeFailed,
    PlainAuthenticator,
    ProtocolVersion,
    PushReceived,
    ResponseReceived,
)
from cqlproto.messages import Error, Execute, Prepare, Prepared, Query, QueryParameters, Rows
from cqlproto.rows import decode_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from cqlproto import Event
    from cqlproto.messages import Request, Response, ServerEvent
    from tests.cassandra.launcher import Node

__all__ = ["CoreConnection", "Refused", "ServerSaid", "query"]


class ServerSaid(Exception):
    """The server answered ERROR.

    Attributes:
        error: the message.
    """

    def __init__(self, error: Error) -> None:
        super().__init__(f"0x{error.code:04x} {error.message} {dict(error.fields)}")
        self.error = error


class Refused(Exception):
    """The handshake failed.

    Attributes:
        event: the event that reported the failure.
    """

    def __init__(self, event: HandshakeFailed) -> None:
        super().__init__(event.reason)
        self.event = event


class CoreConnection:
    """One connection, ready for requests.

    Arguments:
        node: where to; its user name, password and certificates are used.
        version: the protocol version.
        compression: as :class:`~cqlproto.ClientConnection` takes it.
        login: another user name and password than the node's.
        options: more options for STARTUP.
        timeout: seconds that a reply may take.

    Raises:
        OSError: the connection can't be made, or ends.
        Refused: the handshake failed.
    """

    def __init__(
        self,
        node: Node,
        version: ProtocolVersion = ProtocolVersion.V5,
        compression: str | None = None,
        *,
        login: tuple[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> None:
        if login is None and node.username is not None:
            login = node.username, node.password or ""
        self.core = ClientConnection(
            version=version,
            compression=compression,
            authenticator=PlainAuthenticator(*login) if login else None,
            options=options,
        )
        self.pushes: list[ServerEvent] = []
        self._replies: dict[int, ResponseReceived] = {}
        self._timeout = timeout
        self._socket = socket.create_connection((node.host, node.port), timeout=timeout)
        try:
            if (tls := node.tls_context()) is not None:
                self._socket = tls.wrap_socket(self._socket, server_hostname=node.host)
            self.core.initiate()
            event = self._event(time.monotonic() + timeout)
            if isinstance(event, HandshakeFailed):
                raise Refused(event)
            assert isinstance(event, HandshakeCompleted)
            self.handshake = event
        except BaseException:
            self._socket.close()
            raise

    @property
    def version(self) -> ProtocolVersion:
        return self.core.version

    # -- one message and its response

    def send(self, message: Request, **options: Any) -> int:
        """Send a message now, and return its stream id; options as the core's ``send`` has them."""
        stream_id = self.core.send(message, **options)
        self.flush()
        return stream_id

    def flush(self) -> None:
        """Send the core's pending bytes."""
        self._socket.sendall(self.core.data_to_send())

    def reply(self, stream_id: int) -> ResponseReceived:
        """Wait for the answer to a request.

        Raises:
            ConnectionError: the server closed the connection.
            TimeoutError: the answer did not come in time.
            RemoteProtocolError: the server violated the protocol, or reported a connection error.
        """
        deadline = time.monotonic() + self._timeout
        while stream_id not in self._replies:
            event = self._event(deadline)
            if isinstance(event, PushReceived):
                self.pushes.append(event.event)
            elif isinstance(event, ResponseReceived):
                self._replies[event.stream_id] = event
            else:
                raise ConnectionError(f"the connection ended: {event}")
        return self._replies.pop(stream_id)

    def request(self, message: Request, **options: Any) -> ResponseReceived:
        """Send a message and return the event with its answer, which may be an ERROR."""
        return self.reply(self.send(message, **options))

    def ask(self, message: Request, **options: Any) -> Response:
        """Send a message and return its answer.

        Raises:
            ServerSaid: the answer is ERROR.
        """
        answer = self.request(message, **options).message
        if isinstance(answer, Error):
            raise ServerSaid(answer)
        return answer

    def refusal(self, message: Request, **options: Any) -> Error:
        """Send a message and return its answer, which must be an ERROR."""
        answer = self.request(message, **options).message
        assert isinstance(answer, Error), answer
        return answer

    # -- statements

    def query(self, text: str, **parameters: Any) -> Response:
        """Run a statement at consistency ONE, unless ``parameters`` of it say otherwise."""
        return self.ask(query(text, **parameters))

    def rows(self, text: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows as tuples."""
        answer = self.query(text, **parameters)
        assert isinstance(answer, Rows), answer
        return decode_rows(answer, tuple)

    def prepare(self, text: str, keyspace: str | None = None) -> Prepared:
        answer = self.ask(Prepare(text, keyspace))
        assert isinstance(answer, Prepared), answer
        return answer

    def execute(
        self, prepared: Prepared, values: Sequence[Any] = (), **parameters: Any
    ) -> Response:
        """Bind Python values and execute at consistency ONE, unless ``parameters`` differ."""
        plain = QueryParameters(parameters.pop("consistency", Consistency.ONE), **parameters)
        plain.values = Binder(prepared, plain, self.version).cells(values)
        message = Execute(prepared.statement_id, plain, prepared.result_metadata_id)
        return self.ask(message, metadata=prepared.result)

    def execute_many(self, binder: Binder, rows: Sequence[Sequence[Any]]) -> list[Response]:
        """Execute once per row, all in flight at once, as the client's hot path does.

        Raises:
            ServerSaid: an answer is ERROR.
        """
        streams = [self.core.send_bound(binder, row) for row in rows]
        self.flush()
        answers = [self.reply(stream).message for stream in streams]
        for answer in answers:
            if isinstance(answer, Error):
                raise ServerSaid(answer)
        return answers

    # -- pushed events

    def wait_for(self, wanted: Callable[[ServerEvent], bool], seconds: float = 30.0) -> ServerEvent:
        """Return the first matching pushed event; remove it and all events before it.

        Raises:
            TimeoutError: no matching event came in time; the text lists the other events.
        """
        deadline = time.monotonic() + seconds
        passed: list[ServerEvent] = []
        while True:
            while self.pushes:
                event = self.pushes.pop(0)
                if wanted(event):
                    return event
                passed.append(event)
            try:
                received = self._event(deadline)
            except TimeoutError as error:
                raise TimeoutError(f"it did not come, but {passed}") from error
            assert isinstance(received, PushReceived), received
            self.pushes.append(received.event)

    def _event(self, deadline: float) -> Event:
        """Send and receive bytes until the connection reports an event."""
        while (event := self.core.next_event()) is None:
            if data := self.core.data_to_send():
                self._socket.sendall(data)
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            if data := self._socket.recv(1 << 18):
                self.core.receive_data(data)
            else:
                self.core.receive_eof()
        if isinstance(event, ConnectionEnded):
            raise ConnectionError(f"the server closed the connection, clean: {event.clean}")
        return event

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def query(text: str, **parameters: Any) -> Query:
    """Return a QUERY at consistency ONE, unless ``parameters`` of it say otherwise."""
    consistency = parameters.pop("consistency", Consistency.ONE)
    return Query(text, QueryParameters(consistency, **parameters))
