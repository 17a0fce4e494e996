"""The bytes for all contenders: RESULT bodies, PREPARED bodies, and the expected EXECUTE frame.

They are written as a server would write them, into a folder that exists during the run. The types'
encoders encode the rows cell by cell, and the message writer writes the expected frame; so neither
comes from the code that is measured.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any

from bench.codec.cases import PAGE_SIZE, STREAM
from bench.codec.shapes import SHAPES, row_to_bind, rows_of
from cqlproto import Consistency, ProtocolVersion
from cqlproto.cqltypes import Duration, encoder, parse_type
from cqlproto.enums import Opcode
from cqlproto.frames import write_frame
from cqlproto.messages import (
    BindMetadata,
    Column,
    Execute,
    Prepared,
    QueryParameters,
    ResultMetadata,
    Rows,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from cqlproto.messages import Message

__all__ = ["own_values", "parameters", "write_bodies"]

_STATEMENT_ID = bytes(range(16))
_METADATA_ID = bytes(range(16, 32))
_pack_length = Struct(">i").pack


def own_values(name: str, row: Sequence[Any]) -> tuple[Any, ...]:
    """Return a row with cqlproto's types: a duration becomes a ``Duration``."""
    return tuple(
        Duration(*value) if cql_type == "duration" and value is not None else value
        for cql_type, value in zip(SHAPES[name].types, row, strict=True)
    )


def parameters() -> QueryParameters:
    """Return the options of the EXECUTE, without SKIP_METADATA: cassandra-driver never sets it."""
    return QueryParameters(Consistency.LOCAL_ONE, page_size=PAGE_SIZE)


def _body(message: Message, version: ProtocolVersion) -> bytes:
    out = bytearray()
    message.write_body(out, version)
    return bytes(out)


def _cells(columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> list[list[bytes | None]]:
    encoders = [encoder(column.type) for column in columns]
    return [
        [
            None if value is None else encode(value)
            for encode, value in zip(encoders, row, strict=True)
        ]
        for row in rows
    ]


def write_bodies(folder: Path, name: str, counts: Sequence[int]) -> None:
    """Write the files of a shape, for each number of rows in ``counts``.

    ``{shape}-{rows}.rows``: RESULT without metadata. ``{shape}-{rows}.described``: the same with
    metadata, in v4. ``{shape}-v4.prepared`` and ``v5``: the RESULT of PREPARE.
    ``{shape}-v4.execute`` and ``v5``: the complete frame of an EXECUTE with the values of one row.
    """
    shape = SHAPES[name]
    columns = tuple(
        Column("bench", "rows", column, parse_type(cql_type))
        for column, cql_type in zip(shape.names, shape.types, strict=True)
    )
    described = {}
    for version in (ProtocolVersion.V4, ProtocolVersion.V5):
        metadata = described[version] = ResultMetadata.of(columns, version)
        metadata_id = _METADATA_ID if version.has_result_metadata_id else None
        bind = BindMetadata(columns, (0,))
        prepared = Prepared(_STATEMENT_ID, metadata_id, bind, metadata)
        path = folder / f"{name}-v{version:d}"
        path.with_suffix(".prepared").write_bytes(_body(prepared, version))
        options = parameters()
        options.values = _cells(columns, [own_values(name, row_to_bind(name))])[0]
        execute = Execute(_STATEMENT_ID, options, metadata_id)
        frame = write_frame(version, 0, STREAM, Opcode.EXECUTE, _body(execute, version))
        path.with_suffix(".execute").write_bytes(frame)
    for count in counts:
        rows = [own_values(name, row) for row in rows_of(name, count)]
        content = b"".join(
            b"\xff\xff\xff\xff" if cell is None else _pack_length(len(cell)) + cell
            for row in _cells(columns, rows)
            for cell in row
        )
        for suffix, version in (("rows", ProtocolVersion.V5), ("described", ProtocolVersion.V4)):
            message = Rows.of(described[version], count, content, skip_metadata=suffix == "rows")
            path = folder / f"{name}-{count}.{suffix}"
            path.write_bytes(_body(message, version))
