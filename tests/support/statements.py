"""Prepared statements, made without a server."""

from __future__ import annotations

from cqlproto.messages import BindMetadata, Prepared, ResultMetadata
from cqlproto_anyio._statements.statement import Statement
from tests.support.replies import V4, columns


def statement(query: str, *names: str) -> Statement:
    """Return a statement whose bind markers have these names and the type int."""
    bind = BindMetadata(columns(*names))
    prepared = Prepared(b"id", None, bind, ResultMetadata((), b"", False))
    return Statement(query, None, prepared, V4)
