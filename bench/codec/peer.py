"""cassandra-driver and scylla-driver as contenders: the code that their sessions call.

One module serves three contenders; the package that this process imports as ``cassandra`` decides
which one is measured. scylla-driver also takes negotiated protocol features as an argument when it
reads and writes messages; here, none are negotiated.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import cassandra
from cassandra import ConsistencyLevel, util
from cassandra.protocol import HAVE_CYTHON, ExecuteMessage, ProtocolHandler
from cassandra.query import BoundStatement, PreparedStatement, named_tuple_factory, tuple_factory

from bench.codec.cases import PAGE_SIZE, STREAM, load
from bench.codec.shapes import SHAPES, row_to_bind, rows_of
from bench.codec.tasks import Task, calls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

try:
    from cassandra.protocol_features import ProtocolFeatures
except ImportError:
    FEATURES: tuple[Any, ...] = ()
else:
    FEATURES = (ProtocolFeatures(),)

_RESULT = 8


def about() -> dict[str, object]:
    compiled = [
        name
        for name, module in sys.modules.items()
        if name.startswith("cassandra.") and str(getattr(module, "__file__", "")).endswith(".so")
    ]
    if bool(compiled) != bool(HAVE_CYTHON):
        raise RuntimeError(f"only some of its modules are compiled: {compiled}")
    return {
        "version": cassandra.__version__,
        "kind": "Cython" if HAVE_CYTHON else "pure Python",
        "scylla": bool(FEATURES),
    }


def prepare(case: dict[str, Any], variant: str) -> Task:
    if case["part"] == "encode":
        return _encode(case)
    return _decode(case, variant)


def read_result(body: bytes, version: int, metadata: Any = None) -> Any:
    """Read the body of a RESULT as the driver's connection does."""
    arguments = (version, *FEATURES, {}, STREAM, 0, _RESULT, body, None, metadata)
    return ProtocolHandler.decode_message(*arguments)


def _decode(case: dict[str, Any], variant: str) -> Task:
    described = variant == "described"
    version = 4 if described else 5
    body = load(case, "{shape}-{rows}." + ("described" if described else "rows"))
    metadata = read_result(load(case, "{shape}-v5.prepared"), 5).column_metadata
    factory: Callable[[list[str], Any], list[Any]]
    factory = named_tuple_factory if variant == "namedtuple" else tuple_factory
    arguments = (version, *FEATURES, {}, STREAM, 0, _RESULT, body, None, metadata)
    decode = ProtocolHandler.decode_message

    def call() -> list[Any]:
        message = decode(*arguments)
        return factory(message.column_names, message.parsed_rows)

    types = SHAPES[case["shape"]].types
    if _plain_rows(types, call()) != rows_of(case["shape"], case["rows"]):
        raise ValueError("the decoded values differ from the encoded ones")
    return calls(call)


def _plain_rows(types: Iterable[str], rows: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Return rows with the standard library's types in place of the driver's own.

    The driver's timestamps have no time zone, and its addresses are strings.
    """
    convert = [_PLAIN.get(cql_type, _same) for cql_type in types]
    return [
        tuple(
            None if value is None else make(value) for make, value in zip(convert, row, strict=True)
        )
        for row in rows
    ]


def _same(value: object) -> object:
    return value


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC)


_PLAIN: dict[str, Callable[[Any], object]] = {
    "date": lambda value: value.date(),
    "time": lambda value: value.time(),
    "duration": lambda value: (value.months, value.days, value.nanoseconds),
    "inet": ip_address,
    "map<text, text>": lambda value: dict(value.items()),
    "timestamp": _utc,
}


def _to_bind(cql_type: str, value: Any) -> Any:
    if value is None:
        return None
    if cql_type == "duration":
        return util.Duration(*value)
    return str(value) if cql_type == "inet" else value


def _encode(case: dict[str, Any]) -> Task:
    version = case["version"]
    found = read_result(load(case, "{shape}-v{version}.prepared"), version)
    statement = PreparedStatement(
        found.bind_metadata,
        found.query_id,
        found.pk_indexes,
        "SELECT",
        "bench",
        version,
        found.column_metadata,
        found.result_metadata_id,
    )
    types = SHAPES[case["shape"]].types
    values = [
        _to_bind(cql_type, value)
        for cql_type, value in zip(types, row_to_bind(case["shape"]), strict=True)
    ]
    encode = ProtocolHandler.encode_message
    level = ConsistencyLevel.LOCAL_ONE
    rest = (STREAM, version, None, False, *FEATURES)

    def call() -> Any:
        bound = BoundStatement(statement).bind(values)
        message = ExecuteMessage(
            statement.query_id,
            bound.values,
            level,
            fetch_size=PAGE_SIZE,
            skip_meta=True,
            result_metadata_id=statement.result_metadata_id,
        )
        return encode(message, *rest)

    if call() != load(case, "{shape}-v{version}.execute"):
        raise ValueError("the frame differs from cqlproto's")
    return calls(call)
