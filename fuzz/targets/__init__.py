"""The table of fuzz targets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from fuzz.targets import connection_seeds, connections, framing, messages, rows, texts, types

__all__ = ["TARGETS", "Target"]


class Target(NamedTuple):
    """A fuzz target.

    Attributes:
        run: returns if the library behaves as documented for these bytes, and raises otherwise.
        seeds: returns the first inputs.
        longest: the maximum length of an input, in bytes.
        repair: corrects lengths and checksums after a mutation; None if inputs have neither.
        words: byte strings that mutations may insert.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterator[bytes]]
    longest: int
    repair: Callable[[bytes], bytes] | None = None
    words: tuple[bytes, ...] = ()


TARGETS: dict[str, Target] = {
    "frames": Target(framing.frames, framing.frame_seeds, 300, framing.repair_frame_stream),
    "segments": Target(framing.segments, framing.segment_seeds, 300, framing.repair_segment_stream),
    "envelopes": Target(
        framing.envelopes, framing.segment_seeds, 300, framing.repair_segment_stream
    ),
    "compression": Target(framing.compression, framing.compression_seeds, 600),
    "requests": Target(
        messages.requests, messages.request_seeds, 600, words=messages.REQUEST_WORDS
    ),
    "responses": Target(
        messages.responses, messages.response_seeds, 600, words=messages.RESPONSE_WORDS
    ),
    "options": Target(types.options, types.option_seeds, 400, words=types.OPTION_WORDS),
    "class_names": Target(types.class_names, types.class_seeds, 1000, words=types.CLASS_WORDS),
    "type_strings": Target(types.type_strings, types.string_seeds, 800, words=types.STRING_WORDS),
    "cells": Target(types.cells, types.cell_seeds, 1300, words=types.CELL_WORDS),
    "bindings": Target(types.bindings, types.binding_seeds, 400, words=types.CELL_WORDS),
    "rows": Target(rows.rows, rows.row_seeds, 600, words=types.CELL_WORDS),
    "parameters": Target(rows.parameters, rows.parameter_seeds, 400, words=types.CELL_WORDS),
    "handshakes": Target(
        connections.handshakes,
        connection_seeds.handshake_seeds,
        500,
        connection_seeds.repair_handshake,
        connection_seeds.WORDS,
    ),
    "clients": Target(
        connections.clients,
        connection_seeds.client_seeds,
        500,
        connection_seeds.repair_replies,
        connection_seeds.WORDS,
    ),
    "servers": Target(
        connections.servers,
        connection_seeds.server_seeds,
        500,
        connection_seeds.repair_requests,
        connection_seeds.WORDS,
    ),
    "statements": Target(texts.statements, texts.statement_seeds, 200, words=texts.STATEMENT_WORDS),
    "page_tokens": Target(texts.page_tokens, texts.token_seeds, 200),
}
