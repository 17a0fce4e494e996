"""The system tables that drivers read when they connect: one node and an empty schema.

Drivers read the cluster's nodes and the schema from them. A table without rows needs its columns
too, because drivers look for them by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from typing import Any, NamedTuple
from uuid import UUID

from cqlproto.cqltypes import CQLType, parse_type

__all__ = ["KEYSPACE", "TABLE", "VERSIONS", "Table", "system_table"]

KEYSPACE, TABLE = "shop", "things"
VERSIONS = ["3/v3", "4/v4", "5/v5"]
HOST_ID = UUID("5c7e5f6c-3a0e-4c5b-9d3e-0d3c8a4c1f00")
SCHEMA_VERSION = UUID("5c7e5f6c-3a0e-4c5b-9d3e-0d3c8a4c1f01")
_SELECT = re.compile(r"\s*SELECT\s+(?P<names>.+?)\s+FROM\s+(?P<table>system\w*\.\w+)", re.I | re.S)
_EQUALS = re.compile(r"(\w+)\s*=\s*'([^']*)'")

# The columns of Cassandra 5.0 that drivers read, with their types.
_NODE = (
    "data_center text, rack text, release_version text, host_id uuid, schema_version uuid,"
    " tokens set<text>"
)
_TABLES = {
    "system.local": f"key text, cluster_name text, cql_version text, partitioner text, {_NODE},"
    " native_protocol_version text, bootstrapped text, rpc_address inet, rpc_port int,"
    " broadcast_address inet, broadcast_port int, listen_address inet, listen_port int",
    "system.peers": f"peer inet, rpc_address inet, preferred_ip inet, {_NODE}",
    "system.peers_v2": f"peer inet, peer_port int, native_address inet, native_port int, {_NODE}",
    "system_schema.keyspaces": "keyspace_name text, durable_writes boolean,"
    " replication frozen<map<text, text>>",
    "system_schema.tables": "keyspace_name text, table_name text, id uuid, comment text,"
    " flags frozen<set<text>>",
    "system_schema.columns": "keyspace_name text, table_name text, column_name text,"
    " clustering_order text, column_name_bytes blob, kind text, position int, type text",
    "system_schema.types": "keyspace_name text, type_name text,"
    " field_names frozen<list<text>>, field_types frozen<list<text>>",
    "system_schema.functions": "keyspace_name text, function_name text,"
    " argument_types frozen<list<text>>, argument_names frozen<list<text>>, body text,"
    " language text, return_type text, called_on_null_input boolean",
    "system_schema.aggregates": "keyspace_name text, aggregate_name text,"
    " argument_types frozen<list<text>>, final_func text, initcond text, return_type text,"
    " state_func text, state_type text",
    "system_schema.indexes": "keyspace_name text, table_name text, index_name text, kind text,"
    " options frozen<map<text, text>>",
    "system_schema.triggers": "keyspace_name text, table_name text, trigger_name text,"
    " options frozen<map<text, text>>",
    "system_schema.views": "keyspace_name text, view_name text, base_table_id uuid,"
    " base_table_name text, include_all_columns boolean, where_clause text",
    "system_virtual_schema.keyspaces": "keyspace_name text",
    "system_virtual_schema.tables": "keyspace_name text, table_name text, comment text",
    "system_virtual_schema.columns": "keyspace_name text, table_name text, column_name text,"
    " clustering_order text, column_name_bytes blob, kind text, position int, type text",
}


class Table(NamedTuple):
    """A table: the types of its columns by name, and its rows."""

    columns: Mapping[str, CQLType]
    rows: Sequence[Sequence[Any]]


def _columns(text: str) -> dict[str, CQLType]:
    columns = re.split(r",\s*(?![^<]*>)", text)  # split at commas outside of <>
    pairs = (column.split(maxsplit=1) for column in columns)
    return {name: parse_type(cql_type) for name, cql_type in pairs}


_COLUMNS = {name: _columns(text) for name, text in _TABLES.items()}


def _rows(table: str, port: int) -> list[dict[str, object]]:
    here = IPv4Address("127.0.0.1")
    node = {
        "data_center": "dc1",
        "rack": "r1",
        "release_version": "5.0.5",
        "host_id": HOST_ID,
        "schema_version": SCHEMA_VERSION,
        "tokens": {"0"},
    }
    if table == "system.local":
        said = {"key": "local", "cluster_name": "cqlproto", "cql_version": "3.4.7"}
        said |= {"partitioner": "org.apache.cassandra.dht.Murmur3Partitioner"}
        said |= {"native_protocol_version": "5", "bootstrapped": "COMPLETED"}
        addresses = dict.fromkeys(("rpc_address", "broadcast_address", "listen_address"), here)
        ports = dict.fromkeys(("rpc_port", "broadcast_port", "listen_port"), port)
        return [said | node | addresses | ports]
    if table == "system_schema.keyspaces":
        replication = {"class": "org.apache.cassandra.locator.SimpleStrategy"}
        replication["replication_factor"] = "1"
        return [{"keyspace_name": KEYSPACE, "durable_writes": True, "replication": replication}]
    return []


def system_table(query: str, port: int) -> Table | None:
    """Return the result of a SELECT from a system table; None for any other query.

    Only comparisons of a column with a string are evaluated in WHERE.
    """
    match = _SELECT.match(query)
    columns = match and _COLUMNS.get(match["table"].lower())
    if not match or not columns:
        return None
    names = [name.strip() for name in match["names"].split(",")]
    wanted = columns if names == ["*"] else {name: columns[name] for name in names}
    rows = _rows(match["table"].lower(), port)
    for name, text in _EQUALS.findall(query):
        rows = [row for row in rows if row.get(name) == text]
    return Table(wanted, [[row.get(name) for name in wanted] for row in rows])
