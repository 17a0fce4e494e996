"""Reading replies: columns, rows, and the outcome of lightweight transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cqlproto.messages.results import Rows
from cqlproto.rows import decode_rows
from cqlproto_anyio._text import READING, read_verb
from cqlproto_anyio.exceptions import CQLError, RemoteProtocolError, RowMappingError
from cqlproto_anyio.results import APPLIED, Result

if TYPE_CHECKING:
    from cqlproto._events import ResponseReceived
    from cqlproto.messages.results import Column
    from cqlproto_anyio._eventloop.request import Request
    from cqlproto_anyio._statements.statement import Statement

__all__ = ["adopt", "columns_of", "conditional_result", "locate", "read_rows", "rows_of"]


def columns_of(message: Rows) -> tuple[Column, ...]:
    """Return the columns of a reply.

    Raises:
        RemoteProtocolError: the server left them out, and the client doesn't know them.
    """
    if message.metadata is None:
        raise RemoteProtocolError("the server omitted column metadata and none is cached")
    return message.metadata.columns


def rows_of(event: ResponseReceived) -> Rows:
    """Return the message of a page after the first, which must hold rows.

    Raises:
        RemoteProtocolError: it is of another kind.
    """
    message = event.message
    if type(message) is not Rows:
        raise RemoteProtocolError(
            f"{type(message).__name__} came where a page of rows was asked for"
        )
    return message


def read_rows(message: Rows, target: Any, request: Request) -> list[Any]:
    """Decode the rows of one page.

    Arguments:
        message: the page.
        target: the row target.
        request: what the page answers, for errors.

    Raises:
        RemoteProtocolError: the page isn't made of such rows.
        RowMappingError: the columns or their values do not fit the row target.
    """
    try:
        columns_of(message)
        return decode_rows(message, target)
    except (RemoteProtocolError, RowMappingError) as exc:
        locate(exc, request)
        raise


def conditional_result(
    request: Request, event: ResponseReceived, message: Rows, target: Any
) -> Result[Any] | None:
    """Return the result of a lightweight transaction.

    The columns depend on the outcome, and the row target may not fit all of them. The rows are left
    out then: ``applied`` and ``existing`` tell the outcome all the same.

    Arguments:
        request: the statement or batch.
        event: the reply.
        message: its rows.
        target: the row target.

    Returns:
        None if the columns don't say whether it was applied.

    Raises:
        RowMappingError: the target takes these columns, and refuses their values.
        RemoteProtocolError: the rows can't be read, so the outcome is unknown.
    """
    try:
        columns = columns_of(message)
        # an ordinary SELECT may give any column this name, a conditional statement can't
        if not columns or columns[0].name != APPLIED:
            return None
        plain = decode_rows(message, tuple)
    except RemoteProtocolError as exc:
        locate(exc, request)
        raise
    outcome = plain[0] if plain else None
    try:
        rows = decode_rows(message, target)
    except RowMappingError as exc:
        if exc.row is not None:
            locate(exc, request)
            exc.maybe_applied = bool(outcome and outcome[0])
            raise
        rows = []
    return Result(rows, columns, event, request.host, outcome)


def locate(error: CQLError, request: Request) -> None:
    """Add to an error of rows that were received which host sent them, and for what."""
    error.host = request.host
    if isinstance(error, RemoteProtocolError):
        error.query = request.query
        error.maybe_applied = read_verb(request.query) not in READING


def adopt(statement: Statement, message: Rows) -> None:
    """Keep columns that PREPARED didn't announce, unless they hold for this reply only.

    On v5 the server says whether they will stay. On v4 they stay, except for those of a lightweight
    transaction, which depend on the outcome.
    """
    metadata = message.metadata
    if metadata is None:
        return
    if statement.prepared.result_metadata_id is not None:
        lasting = message.metadata_id is not None
    else:
        lasting = bool(metadata.columns) and not statement.conditional
    if lasting:
        statement.adopt(metadata, message.metadata_id)
