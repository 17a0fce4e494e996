"""The exceptions of the client and the core, in one tree.

    CQLError                       .maybe_applied .host .attempts
      ProtocolError                LocalProtocolError, RemoteProtocolError,
                                   ResponseTooLarge                                   (core)
      ValueConversionError         also a ValueError: column, cql_type, value         (core)
      RowMappingError              also a TypeError                                   (core)
      UsageError                   ConfigError, SessionClosed, PageTokenMismatch, ParameterError,
                                   RequestTooLarge
      ResultError                  RowNotFound, MultipleRows, ResultTooLarge
      BulkError                    too many rows of execute_many failed: count, failures
      ConnectionFailed             also an OSError: host, stage, elapsed
        AuthenticationFailed, NotCQL, TLSFailed, VersionRejected, ConnectionLost
        NoHostAvailable          several nodes were tried; .attempts has each failure
      RequestTimeout               also a TimeoutError
      Overloaded                   the client's own queue is full
      ClockDrifted                 the clock was set back; a conditional statement was not sent
      DatabaseError                the server answered with an ERROR: one class per code

The client never raises an ExceptionGroup.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from cqlproto.enums import ErrorCode
from cqlproto.exceptions import (
    CQLError,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
    ResponseTooLarge,
    RowMappingError,
    ValueConversionError,
)
from cqlproto_anyio.exceptions._bulk import BulkError
from cqlproto_anyio.exceptions._hints import server_hint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from cqlproto.enums import Consistency, ProtocolVersion
    from cqlproto.messages.errors import Error

__all__ = [
    "AlreadyExists",
    "AuthenticationFailed",
    "BadCredentials",
    "BulkError",
    "CASWriteUnknown",
    "CDCWriteFailure",
    "CQLError",
    "ClockDrifted",
    "ConfigError",
    "ConnectionFailed",
    "ConnectionLost",
    "DatabaseError",
    "FunctionFailure",
    "InvalidConfiguration",
    "InvalidQuery",
    "InvalidSyntax",
    "IsBootstrapping",
    "LocalProtocolError",
    "MultipleRows",
    "NoHostAvailable",
    "NotCQL",
    "Overloaded",
    "PageTokenMismatch",
    "ParameterError",
    "ProtocolError",
    "ReadFailure",
    "ReadTimeout",
    "RemoteProtocolError",
    "RequestTimeout",
    "RequestTooLarge",
    "ResponseTooLarge",
    "ResultError",
    "ResultTooLarge",
    "RowMappingError",
    "RowNotFound",
    "ServerError",
    "ServerOverloaded",
    "ServerProtocolError",
    "SessionClosed",
    "TLSFailed",
    "TruncateError",
    "Unauthorized",
    "Unavailable",
    "Unprepared",
    "UsageError",
    "ValueConversionError",
    "VersionRejected",
    "WriteFailure",
    "WriteTimeout",
    "database_error",
]


class UsageError(CQLError):
    """The call is wrong; nothing was sent."""


class ConfigError(UsageError):
    """A setting is invalid, or two settings contradict each other."""


class SessionClosed(UsageError):
    """The session is closed, or was closed while the request was in flight."""


class PageTokenMismatch(UsageError):
    """The page token is damaged, or belongs to another query, keyspace or other parameters."""


class ParameterError(UsageError):
    """The parameters don't fit the statement's bind markers."""


class RequestTooLarge(UsageError):
    """The request is longer than the protocol or the server allows."""


class ResultError(CQLError):
    """The request succeeded, but its result isn't what the caller asked for."""


class RowNotFound(ResultError):
    """The result has no row, where one is required."""


class MultipleRows(ResultError):
    """The result has several rows, where one is required."""


class ResultTooLarge(ResultError):
    """The result has more rows than ``Profile.max_rows``; ``Session.stream`` has no such limit."""


class ConnectionFailed(CQLError, OSError):
    """A connection to a node could not be opened, or was lost.

    Attributes:
        host: the node, as ``address:port``.
        stage: how far it got: ``resolve``, ``connect``, ``tls``, ``handshake``, ``keyspace``,
            ``discovery``, ``prepare`` (no answer to PREPARE within ``Config.control_timeout``) or
            ``request``.
        elapsed: how long it took to fail, in seconds.
        reason: what went wrong.
    """

    def __init__(self, reason: str, *, host: str, stage: str, elapsed: float) -> None:
        super().__init__(f"{host}: {stage} failed after {elapsed:.3f} s: {reason}")
        self.reason = reason
        self.host = host
        self.stage = stage
        self.elapsed = elapsed


class AuthenticationFailed(ConnectionFailed):
    """The server requires credentials, or refuses those it was given."""


class NotCQL(ConnectionFailed):
    """The server at this address doesn't speak the CQL native protocol."""


class TLSFailed(ConnectionFailed):
    """The TLS handshake failed: the server has no TLS, or its certificate isn't trusted."""


class VersionRejected(ConnectionFailed):
    """The server supports no protocol version of the client, or not the one that
    ``Config(protocol_version=)`` names.

    Attributes:
        supported_versions: the versions that the server supports; empty if it doesn't say.
        next_version: the version to try next; None if none is left.
    """

    supported_versions: Sequence[int] = ()
    next_version: ProtocolVersion | None = None


class ConnectionLost(ConnectionFailed):
    """The connection broke while requests were in flight.

    Attributes:
        query: the statement in flight, or None.
    """

    query: str | None = None


class ClockDrifted(CQLError):
    """A conditional statement was not sent, because the session's writes have timestamps in the
    future.

    The machine's clock was ahead when they were made, and was set back since. A conditional
    statement gets its timestamp from a server. An earlier write with a higher timestamp would win
    over it, although the server reports it as applied. Conditional statements work again when the
    clock has caught up, or in a new session, which has none of these timestamps.

    Attributes:
        drift: how far the clock is behind the latest timestamp, in seconds.
    """

    def __init__(self, drift: float) -> None:
        super().__init__(
            f"this machine's clock was set back: it is {drift:,.3f} s behind the timestamp of the"
            " session's latest write, and a conditional statement would lose against that write:"
            " wait until the clock has caught up, or open a new session"
        )
        self.drift = drift


class NoHostAvailable(ConnectionFailed):
    """No node could be reached; ``attempts`` has the failure at each.

    Attributes:
        host: the node that was tried last; empty if none was.
        stage: how far the last attempt got.
        elapsed: how long the longest attempt took, in seconds.
        reason: how many nodes were tried.
    """

    def __init__(self, attempts: Sequence[BaseException]) -> None:
        tried = "".join(f"\n  {type(each).__name__}: {each}" for each in attempts)
        self.reason = f"no host is available, {len(attempts)} tried"
        CQLError.__init__(self, f"{self.reason}:{tried}")
        last = attempts[-1] if attempts else None
        self.host = getattr(last, "host", None) or ""
        self.stage = getattr(last, "stage", "connect")
        self.elapsed = max([getattr(each, "elapsed", 0.0) for each in attempts], default=0.0)
        self.attempts = tuple(attempts)


class RequestTimeout(CQLError, TimeoutError):
    """The deadline passed before the answer came.

    Attributes:
        timeout: the timeout of the call, in seconds.
        query: the statement, or None.
    """

    timeout: float | None = None
    query: str | None = None


class Overloaded(CQLError):
    """Too many requests wait in the client; nothing was sent.

    ``Config.max_waiting`` is the limit. Make fewer calls at the same time, with a semaphore or a
    number of worker tasks.
    """


def overloaded(waiting: int, what: str, most: int) -> Overloaded:
    """Return the error for a request beyond the limit of waiting requests.

    Arguments:
        waiting: the number of requests that wait.
        what: what they wait for.
        most: ``Config.max_waiting``.
    """
    return Overloaded(
        f"{waiting} requests wait for {what} already, and Config.max_waiting is {most}: start fewer"
        " calls at once (with a semaphore or worker tasks), or raise max_waiting"
    )


class DatabaseError(CQLError):
    """The server answered with an ERROR (v4 section 9).

    Attributes:
        code: the error code.
        message: the server's text.
        details: the fields of this error code, by name; they are also attributes.
        query: the statement, or None if it isn't known.
        hint: what to do about the error, or None.
        warnings: the server's warnings in the same reply.
        tracing_id: the id of the trace, if ``trace=True`` asked for one.
    """

    codes: ClassVar[tuple[int, ...]] = ()
    warnings: Sequence[str] = ()
    tracing_id: UUID | None = None

    def __init__(
        self, code: int, message: str, details: dict[str, Any], *, host: str, query: str | None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details
        self.host = host
        self.query = query
        self.hint = server_hint(message, query)
        for name, value in details.items():
            setattr(self, name, value)

    def __str__(self) -> str:
        facts = ", ".join(f"{name}={value!s}" for name, value in self.details.items())
        hint = "" if self.hint is None else f": {self.hint}"
        facts = f"{', ' if facts else ''}{facts}; {self.host}"
        return f"{self.message} (code 0x{self.code:04x}{facts}){hint}"


class ServerError(DatabaseError):
    """Something unexpected went wrong in the server."""

    codes = (ErrorCode.SERVER_ERROR,)


class ServerProtocolError(DatabaseError):
    """The server found a message of the client malformed."""

    codes = (ErrorCode.PROTOCOL_ERROR,)


class BadCredentials(DatabaseError):
    """The server refused credentials outside of a connection's handshake."""

    codes = (ErrorCode.BAD_CREDENTIALS,)


class Unavailable(DatabaseError):
    """Too few replicas are alive for the consistency level; nothing was written."""

    codes = (ErrorCode.UNAVAILABLE,)
    consistency: Consistency
    required: int
    alive: int


class ServerOverloaded(DatabaseError):
    """The node can't take more requests now."""

    codes = (ErrorCode.OVERLOADED,)


class IsBootstrapping(DatabaseError):
    """The node is joining the cluster and serves no reads."""

    codes = (ErrorCode.IS_BOOTSTRAPPING,)


class TruncateError(DatabaseError):
    """TRUNCATE failed."""

    codes = (ErrorCode.TRUNCATE_ERROR,)


class WriteTimeout(DatabaseError):
    """Too few replicas acknowledged a write in time; it may have been applied."""

    codes = (ErrorCode.WRITE_TIMEOUT,)
    consistency: Consistency
    received: int
    required: int
    write_type: str


class ReadTimeout(DatabaseError):
    """Too few replicas answered a read in time."""

    codes = (ErrorCode.READ_TIMEOUT,)
    consistency: Consistency
    received: int
    required: int
    data_present: bool


class ReadFailure(DatabaseError):
    """Replicas failed while they executed a read.

    On v5 ``details["reasons"]`` has the reason of each, by its address (v5 section 8).
    """

    codes = (ErrorCode.READ_FAILURE,)
    consistency: Consistency
    received: int
    required: int
    failures: int
    data_present: bool


class FunctionFailure(DatabaseError):
    """A user-defined function failed."""

    codes = (ErrorCode.FUNCTION_FAILURE,)
    keyspace: str
    function: str
    argument_types: Sequence[str]


class WriteFailure(DatabaseError):
    """Replicas failed while they executed a write; it may have been applied at others.

    On v5 ``details["reasons"]`` has the reason of each, by its address (v5 section 8).
    """

    codes = (ErrorCode.WRITE_FAILURE,)
    consistency: Consistency
    received: int
    required: int
    failures: int
    write_type: str


class CDCWriteFailure(DatabaseError):
    """The space for change data capture is full."""

    codes = (ErrorCode.CDC_WRITE_FAILURE,)


class CASWriteUnknown(DatabaseError):
    """Whether an LWT was applied is not known."""

    codes = (ErrorCode.CAS_WRITE_UNKNOWN,)
    consistency: Consistency
    received: int
    required: int


class InvalidSyntax(DatabaseError):
    """The statement isn't valid CQL."""

    codes = (ErrorCode.SYNTAX_ERROR,)


class Unauthorized(DatabaseError):
    """The user lacks a permission."""

    codes = (ErrorCode.UNAUTHORIZED,)


class InvalidQuery(DatabaseError):
    """The statement can't be executed: an unknown table, a wrong type, .."""

    codes = (ErrorCode.INVALID,)


class InvalidConfiguration(DatabaseError):
    """The statement asks for a setting that the server refuses."""

    codes = (ErrorCode.CONFIG_ERROR,)


class AlreadyExists(DatabaseError):
    """The keyspace or table already exists."""

    codes = (ErrorCode.ALREADY_EXISTS,)
    keyspace: str
    table: str


class Unprepared(DatabaseError):
    """The server has forgotten a prepared statement, again and again."""

    codes = (ErrorCode.UNPREPARED,)
    statement_id: bytes


_BY_CODE: dict[int, type[DatabaseError]] = {
    int(code): kind for kind in DatabaseError.__subclasses__() for code in kind.codes
}


def database_error(message: Error, *, host: str, query: str | None = None) -> DatabaseError:
    """Return the exception for a server's ERROR; an unknown code becomes a plain DatabaseError."""
    kind = _BY_CODE.get(message.code, DatabaseError)
    details: dict[str, Any] = dict(message.fields)
    if "reasons" in details:  # v5 sends the reason of each failure instead of their number
        details.setdefault("failures", len(details["reasons"]))
    return kind(message.code, message.message, details, host=host, query=query)


E = TypeVar("E", bound=BaseException)


def copied(error: E) -> E:
    """Return a copy of an error that several tasks raise, so that each has its own traceback."""
    try:
        mine = copy(error)
    except Exception:  # a user's class whose constructor takes other arguments
        return error
    mine.__cause__ = error.__cause__
    return mine
