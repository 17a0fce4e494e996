"""cqlproto as a contender: the code that its session calls for a result and for an EXECUTE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cqlproto
from bench.codec.bodies import own_values, parameters
from bench.codec.cases import STREAM, load
from bench.codec.shapes import row_to_bind, rows_of
from bench.codec.tasks import Task, calls
from cqlproto import ProtocolVersion
from cqlproto.cqltypes import Duration
from cqlproto.enums import Opcode
from cqlproto.messages import Prepared, read_response
from cqlproto.rows import Binder, Row, decode_rows, reference_decoder

if TYPE_CHECKING:
    from collections.abc import Callable

_RESULT = Opcode.RESULT.value
_WARM_UP = 2_000
"""Rows or frames before the clock runs; after these, decoders and binders are compiled."""


def about() -> dict[str, object]:
    return {"version": cqlproto.__version__, "kind": "pure Python"}


def prepare(case: dict[str, Any], variant: str) -> Task:
    if case["part"] == "encode":
        return _encode(case)
    return _decode(case, variant)


def _prepared(case: dict[str, Any], version: ProtocolVersion) -> Prepared:
    body = load(case, f"{{shape}}-v{version:d}.prepared")
    message = read_response(_RESULT, body, 0, version)
    assert isinstance(message, Prepared)
    return message


def _decode(case: dict[str, Any], variant: str) -> Task:
    version, suffix, target = {
        "tuple": (ProtocolVersion.V5, "rows", tuple),
        "Row": (ProtocolVersion.V5, "rows", Row),
        "reference": (ProtocolVersion.V5, "rows", tuple),
        "described": (ProtocolVersion.V4, "described", tuple),
    }[variant]
    body = load(case, "{shape}-{rows}." + suffix)
    metadata = _prepared(case, version).result
    message: Callable[..., Any] = read_response
    call: Callable[[], list[Any]]
    if variant == "reference":
        decode = reference_decoder(metadata.columns)
        call = lambda: decode(message(_RESULT, body, 0, version, metadata))  # noqa: E731
    else:
        call = lambda: decode_rows(message(_RESULT, body, 0, version, metadata), target)  # noqa: E731
    _check(call(), case)
    task = calls(call, warm_up=-(-_WARM_UP // case["rows"]))
    _check(call(), case)  # the compiled one too
    return task


def _check(found: list[Any], case: dict[str, Any]) -> None:
    plain = [
        tuple(
            (value.months, value.days, value.nanoseconds) if isinstance(value, Duration) else value
            for value in row
        )
        for row in found
    ]
    if plain != rows_of(case["shape"], case["rows"]):
        raise ValueError("the decoded values differ from the encoded ones")


def _encode(case: dict[str, Any]) -> Task:
    version = ProtocolVersion(case["version"])
    values = own_values(case["shape"], row_to_bind(case["shape"]))
    binder = Binder(_prepared(case, version), parameters(), version)
    task = calls(lambda: binder.frame(STREAM, values), warm_up=_WARM_UP)
    if binder.frame(STREAM, values) != load(case, "{shape}-v{version}.execute"):
        raise ValueError("the frame differs from the message writer's")
    return task
