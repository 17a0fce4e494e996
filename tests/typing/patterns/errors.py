"""The types of the recipes' errors and codecs. Checked by mypy, never run."""

from __future__ import annotations

from typing import Any, assert_type
from uuid import UUID

import cqlproto_anyio as cql
from cqlproto_anyio import patterns


def one_tree(error: patterns.PatternError) -> None:
    same: cql.CQLError = error
    assert same
    assert_type(error.maybe_applied, bool)
    if isinstance(error, patterns.InvalidInput):
        usage: cql.UsageError = error
        assert usage
        assert_type(error.name, str)
        assert_type(error.value, object)
    if isinstance(error, patterns.OutcomeUnknown):
        assert_type(error.operation, UUID)
    if isinstance(error, patterns.CorruptPayload):
        assert_type(error.where, str)
    if isinstance(error, patterns.SchemaMismatch):
        assert_type(error.column, str)
        assert_type(error.actual, str | None)


def codecs(codec: patterns.Codec) -> None:
    assert_type(codec.encode({"a": 1}), bytes)
    assert_type(codec.decode(b"{}"), Any)
    patterns.Codec(encode=lambda value: bytes(value), decode=lambda data: data)
    assert_type(patterns.JSON, patterns.Codec)
    assert_type(patterns.BYTES, patterns.Codec)
    assert_type(patterns.msgspec_codec(dict[str, int]), patterns.Codec)
    patterns.Codec(encode=str, decode=str)  # type: ignore[arg-type]
    codec.encode = bytes  # type: ignore[misc]
