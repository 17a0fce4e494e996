"""Replies of the tests' server: rows, prepared statements, errors."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from cqlproto import ProtocolVersion
from cqlproto.cqltypes import NATIVE_TYPES, encoder
from cqlproto.enums import ErrorCode
from cqlproto.messages import (
    VOID,
    Batch,
    BindMetadata,
    Column,
    Error,
    Execute,
    Prepare,
    Prepared,
    ResultMetadata,
    Rows,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cqlproto.messages import Response
    from tests.support.server import Asked, Server

V4 = ProtocolVersion.V4
_encode = {name: encoder(NATIVE_TYPES[name]) for name in ("int", "text")}


def columns(*names: str, kind: str = "int") -> tuple[Column, ...]:
    return tuple(Column("ks", "t", name, NATIVE_TYPES[kind]) for name in names)


def cell(value: Any) -> bytes:
    if value is None:
        return b"\xff\xff\xff\xff"
    data = _encode["int" if isinstance(value, int) else "text"](value)
    return len(data).to_bytes(4, "big") + data


def rows_of(
    described: Iterable[Column],
    values: Sequence[Sequence[Any]],
    state: bytes | None = None,
    changed: bytes | None = None,
) -> Rows:
    """A reply that describes its own columns; ``changed`` is their new id (v5)."""
    content = b"".join(cell(value) for row in values for value in row)
    metadata = ResultMetadata.of(described, V4)
    return Rows.of(metadata, len(values), content, paging_state=state, metadata_id=changed)


def ints(*values: int, state: bytes | None = None) -> Rows:
    """Rows of one column ``v``; ``state`` is the paging state of a further page."""
    return rows_of(columns("v"), [(value,) for value in values], state)


def error(code: int, message: str = "as told", **fields: Any) -> Error:
    return Error(code, message, fields)


def statement_id(text: str) -> bytes:
    return hashlib.md5(text.encode(), usedforsecurity=False).digest()


def prepared(server: Server, text: str, result: Iterable[Column] | None = None) -> Prepared:
    """The reply to PREPARE for a statement with ``?`` markers for ints."""
    identity = statement_id(text)
    server.texts[identity] = text
    bind = BindMetadata(columns(*[f"v{number}" for number in range(text.count("?"))]))
    if result is None:
        result = columns("v") if text.startswith("SELECT") else ()
    described = tuple(result)
    metadata = ResultMetadata.of(described, V4) if described else ResultMetadata((), b"", False)
    server.described[identity] = metadata
    return Prepared(identity, statement_id(repr(described)), bind, metadata)


def echo(server: Server) -> Callable[[Asked], Response | None]:
    """Prepare any statement; a SELECT returns its first value, or 0, in a column ``v``."""

    def answer(asked: Asked) -> Response:
        if isinstance(asked.message, Prepare):
            return prepared(server, asked.text)
        if asked.text.startswith("SELECT"):
            return ints(asked.number if asked.values else 0)
        return VOID

    return answer


def preparing(
    server: Server, answer: Callable[[Asked], Response | None] = lambda asked: None
) -> Callable[[Asked], Response | None]:
    """Prepare any statement; the test answers executions, or ``answer`` does."""
    return lambda asked: (
        prepared(server, asked.text) if isinstance(asked.message, Prepare) else answer(asked)
    )


def unprepared(asked: Asked) -> Error:
    message = asked.message
    if isinstance(message, Batch):
        identity = next(each.query for each in message.statements if isinstance(each.query, bytes))
    else:
        assert isinstance(message, Execute)
        identity = message.statement_id
    return error(ErrorCode.UNPREPARED, "unknown", statement_id=identity)
