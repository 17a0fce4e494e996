"""The system tables of a ``FakeCluster``, as rows on the wire.

A cell is encoded once and kept by who owns the row: with 1,000 hosts of 256 tokens the table of
peers is six megabytes, and a test that reads it often must not spend its time on making it.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from cqlproto import ProtocolVersion
from cqlproto.cqltypes import encoder, parse_type
from cqlproto.messages import Column, ResultMetadata, Rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["KEYSPACES", "LOCAL", "PEERS", "PEERS_V2", "TABLES", "Select", "cells_of", "rows_of"]

LOCAL = "system.local"
PEERS = "system.peers"
PEERS_V2 = "system.peers_v2"
KEYSPACES = "system_schema.keyspaces"

# The columns of each table and their CQL types, as of Cassandra 5.0 but for a few that no driver
# reads.
TABLES: Mapping[str, Mapping[str, str]] = {
    LOCAL: {
        "key": "text",
        "bootstrapped": "text",
        "broadcast_address": "inet",
        "broadcast_port": "int",
        "cluster_name": "text",
        "cql_version": "text",
        "data_center": "text",
        "host_id": "uuid",
        "listen_address": "inet",
        "listen_port": "int",
        "native_protocol_version": "text",
        "partitioner": "text",
        "rack": "text",
        "release_version": "text",
        "rpc_address": "inet",
        "rpc_port": "int",
        "schema_version": "uuid",
        "tokens": "set<text>",
    },
    PEERS_V2: {
        "peer": "inet",
        "peer_port": "int",
        "data_center": "text",
        "host_id": "uuid",
        "native_address": "inet",
        "native_port": "int",
        "preferred_ip": "inet",
        "preferred_port": "int",
        "rack": "text",
        "release_version": "text",
        "schema_version": "uuid",
        "tokens": "set<text>",
    },
    PEERS: {
        "peer": "inet",
        "data_center": "text",
        "host_id": "uuid",
        "preferred_ip": "inet",
        "rack": "text",
        "release_version": "text",
        "rpc_address": "inet",
        "schema_version": "uuid",
        "tokens": "set<text>",
    },
    KEYSPACES: {
        "keyspace_name": "text",
        "durable_writes": "boolean",
        "replication": "frozen<map<text, text>>",
    },
}

_NULL = b"\xff\xff\xff\xff"
_SELECT = re.compile(r"\s*SELECT\s+(.+?)\s+FROM\s+([\w.]+)", re.IGNORECASE | re.DOTALL)


class Select(NamedTuple):
    """The columns (empty: all) and the table of a SELECT."""

    columns: tuple[str, ...]
    table: str

    @classmethod
    def of(cls, text: str) -> Select | None:
        """Parse a statement; None if it is not a SELECT. WHERE is ignored."""
        match = _SELECT.match(text)
        if match is None:
            return None
        columns = tuple(name.strip() for name in match[1].split(","))
        return cls(() if columns == ("*",) else columns, match[2].lower())


@cache
def _encoder(kind: str) -> Any:
    return encoder(parse_type(kind))


def _cell(kind: str, value: Any) -> bytes:
    if value is None:
        return _NULL
    if kind == "set<text>":  # a faster path, for tens of thousands of tokens
        items = sorted(str(item).encode() for item in value)
        data = b"".join([len(item).to_bytes(4, "big") + item for item in items])
        data = len(items).to_bytes(4, "big") + data
    else:
        data = _encoder(kind)(value)
    return len(data).to_bytes(4, "big") + data


def cells_of(columns: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the cells of a row by column, each with its length; other columns are null."""
    return {name: _cell(kind, values.get(name)) for name, kind in columns.items()}


@lru_cache(maxsize=256)
def _metadata(table: str, described: tuple[tuple[str, str], ...]) -> ResultMetadata:
    keyspace, _, name = table.partition(".")
    columns = [Column(keyspace, name, column, parse_type(kind)) for column, kind in described]
    return ResultMetadata.of(columns, ProtocolVersion.V4)


def rows_of(
    table: str,
    columns: Mapping[str, str],
    rows: Sequence[Mapping[str, bytes]],
    *,
    page_size: int | None = None,
    state: bytes | None = None,
) -> Rows:
    """Return a page of rows.

    Arguments:
        table: the table's full name.
        columns: the columns that are asked for, and their CQL types.
        rows: all rows, as :func:`cells_of` makes them.
        page_size: how many to return; None for all.
        state: where to begin, from the page before.
    """
    start = 0 if state is None else int(state)
    end = len(rows) if page_size is None else min(start + page_size, len(rows))
    content = b"".join([row[name] for row in rows[start:end] for name in columns])
    metadata = _metadata(table, tuple(columns.items()))
    following = b"%d" % end if end < len(rows) else None
    return Rows.of(metadata, end - start, content, paging_state=following)
