"""The frames of ``tests/vectors/frames.jsonl``, as messages.

An independent implementation made them. The messages are built from their JSON with constructors
only, never with a reader, so a test can compare the two.
"""

from __future__ import annotations

import json
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from cqlproto.cqltypes.model import (
    NATIVE_TYPES,
    CQLType,
    CustomType,
    ListType,
    MapType,
    SetType,
    TupleType,
    UserType,
)
from cqlproto.enums import BatchKind, Consistency, ErrorCode, ProtocolVersion
from cqlproto.messages import (
    READY,
    VOID,
    AuthChallenge,
    Authenticate,
    AuthResponse,
    AuthSuccess,
    Batch,
    BatchStatement,
    BindMetadata,
    Column,
    Error,
    Event,
    Execute,
    Options,
    Prepare,
    Prepared,
    Query,
    QueryParameters,
    Register,
    Request,
    Response,
    ResultMetadata,
    Rows,
    SchemaChange,
    SetKeyspace,
    Startup,
    StatusChange,
    Supported,
    TopologyChange,
    Value,
)
from cqlproto.wire import UNSET

if TYPE_CHECKING:
    from collections.abc import Callable

JSON = dict[str, Any]

FOLDER = Path(__file__).parents[2] / "vectors"
HEADER_SIZE = 9


class Vector:
    """A frame and its parts.

    Attributes:
        name: of the vector.
        version: of the frame.
        flags: of its header.
        opcode: of its header.
        is_request: whether a client sends it.
        body: what follows the header: the prefix and the message.
        tracing_id, warnings, payload: the prefix.
    """

    def __init__(self, data: JSON) -> None:
        self.name: str = data["name"]
        self.version = ProtocolVersion(data["version"])
        self.flags: int = data["flags"]
        self.opcode: int = data["opcode"]
        self.is_request: bool = data["direction"] == "request"
        self.body = bytes.fromhex(data["hex"])[HEADER_SIZE:]
        self.tracing_id = None if data["tracing_id"] is None else UUID(data["tracing_id"])
        self.warnings: list[str] = data["warnings"] or []
        self.payload: dict[str, bytes | None] | None = None
        if data["custom_payload"] is not None:
            self.payload = {key: _hex(value) for key, value in data["custom_payload"].items()}
        self._message: JSON = data["message"]

    @property
    def message(self) -> Request | Response:
        return _BUILDERS[self._message["type"]](self._message, self.version)


@cache
def load() -> tuple[Vector, ...]:
    with (FOLDER / "frames.jsonl").open(encoding="utf-8") as lines:
        return tuple([Vector(json.loads(line)) for line in lines])


def _hex(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)


def _value(data: JSON) -> Value:
    kinds: dict[str, Value] = {"null": None, "unset": UNSET}
    return kinds[data["kind"]] if data["kind"] in kinds else bytes.fromhex(data["hex"])


def _serial(name: str | None) -> Consistency | None:
    return None if name is None else Consistency[name]


def _integer(value: int | str | None) -> int | None:
    return None if value is None else int(value)


def _parameters(data: JSON) -> QueryParameters:
    values = names = None
    if data["positional_values"] is not None:
        values = [_value(value) for value in data["positional_values"]]
    elif data["named_values"] is not None:
        names = [name for name, _ in data["named_values"]]
        values = [_value(value) for _, value in data["named_values"]]
    return QueryParameters(
        Consistency[data["consistency"]],
        values,
        names,
        data["skip_metadata"],
        data["page_size"],
        _hex(data["paging_state"]),
        _serial(data["serial_consistency"]),
        _integer(data["default_timestamp"]),
        data["keyspace"],
        data["now_in_seconds"],
    )


def _statement(data: JSON) -> BatchStatement:
    query = data["query"] if data["kind"] == 0 else bytes.fromhex(data["id"])
    return BatchStatement(query, [_value(value) for value in data["values"]])


def _batch(data: JSON, version: ProtocolVersion) -> Batch:
    return Batch(
        BatchKind[data["batch_type"]],
        [_statement(child) for child in data["children"]],
        Consistency[data["consistency"]],
        _serial(data["serial_consistency"]),
        _integer(data["default_timestamp"]),
        data["keyspace"],
        data["now_in_seconds"],
    )


def _type(spec: str | JSON) -> CQLType:
    if isinstance(spec, str):
        return NATIVE_TYPES[spec]
    match spec["kind"]:
        case "list":
            return ListType(_type(spec["element"]))
        case "set":
            return SetType(_type(spec["element"]))
        case "map":
            return MapType(_type(spec["key"]), _type(spec["value"]))
        case "tuple":
            return TupleType(tuple([_type(field) for field in spec["fields"]]))
        case "udt":
            fields = tuple([(name, _type(field)) for name, field in spec["fields"]])
            return UserType(spec["keyspace"], spec["name"], fields)
    # A custom type whose class is known is that type.
    if spec["class"].endswith(".DurationType"):
        return NATIVE_TYPES["duration"]
    return CustomType(spec["class"])


def _columns(data: JSON) -> tuple[Column, ...]:
    return tuple(
        [
            Column(column["keyspace"], column["table"], column["name"], _type(column["type_spec"]))
            for column in data["columns"] or ()
        ]
    )


def _rows(data: JSON, version: ProtocolVersion) -> Rows:
    about = data["metadata"]
    metadata = None
    if about["columns"] is not None:
        metadata = ResultMetadata.of(_columns(about), version)
    content = b""
    for row in data["rows"]:
        for cell in row:
            value = _hex(cell)
            length = -1 if value is None else len(value)
            content += length.to_bytes(4, signed=True) + (value or b"")
    return Rows(
        metadata,
        data["rows_count"],
        _hex(about["paging_state"]),
        content,
        0,
        _hex(about["new_metadata_id"]),
        about["flags"],
        about["column_count"],
    )


def _prepared(data: JSON, version: ProtocolVersion) -> Prepared:
    variables = data["variables"]
    return Prepared(
        bytes.fromhex(data["id"]),
        _hex(data["result_metadata_id"]),
        BindMetadata(_columns(variables), tuple(variables["pk_indices"] or ())),
        ResultMetadata.of(_columns(data["result_metadata"]), version),
    )


def _schema_change(data: JSON) -> SchemaChange:
    return SchemaChange(
        data["change_type"], data["target"], data["keyspace"], data["object"], data["arguments"]
    )


def _result(data: JSON, version: ProtocolVersion) -> Response:
    match data["kind"]:
        case "VOID":
            return VOID
        case "SET_KEYSPACE":
            return SetKeyspace(data["keyspace"])
        case "SCHEMA_CHANGE":
            return _schema_change(data)
        case "PREPARED":
            return _prepared(data, version)
    return _rows(data, version)


def _event(data: JSON, version: ProtocolVersion) -> Event:
    if data["event_type"] == "SCHEMA_CHANGE":
        return Event(_schema_change(data))
    address = (ip_address(data["address"]), data["port"])
    if data["event_type"] == "TOPOLOGY_CHANGE":
        return Event(TopologyChange(data["change"], address))
    return Event(StatusChange(data["change"], address))


# How the vectors name the fields of an ERROR, and how the library does.
_ERROR_FIELDS = {
    "alive": "alive",
    "arg_types": "argument_types",
    "block_for": "required",
    "contentions": "contentions",
    "data_present": "data_present",
    "function": "function",
    "keyspace": "keyspace",
    "num_failures": "failures",
    "received": "received",
    "required": "required",
    "table": "table",
    "write_type": "write_type",
}


def _error(data: JSON, version: ProtocolVersion) -> Error:
    fields: dict[str, object] = {
        ours: data[theirs] for theirs, ours in _ERROR_FIELDS.items() if data.get(theirs) is not None
    }
    if "consistency" in data:
        fields["consistency"] = Consistency[data["consistency"]]
    if data["code"] == ErrorCode.UNPREPARED:
        fields["statement_id"] = bytes.fromhex(data["id"])
    if data.get("reasons") is not None:
        fields["reasons"] = {
            ip_address(reason["endpoint"]): reason["code"] for reason in data["reasons"]
        }
        fields["failures"] = len(data["reasons"])
    return Error(data["code"], data["message"], fields)


_BUILDERS: dict[str, Callable[[JSON, ProtocolVersion], Request | Response]] = {
    "STARTUP": lambda data, _: Startup(data["options"]),
    "OPTIONS": lambda data, _: Options(),
    "QUERY": lambda data, _: Query(data["query"], _parameters(data["options"])),
    "PREPARE": lambda data, _: Prepare(data["query"], data["keyspace"]),
    "EXECUTE": lambda data, _: Execute(
        bytes.fromhex(data["id"]), _parameters(data["options"]), _hex(data["result_metadata_id"])
    ),
    "BATCH": _batch,
    "REGISTER": lambda data, _: Register(data["event_types"]),
    "AUTH_RESPONSE": lambda data, _: AuthResponse(_hex(data["token"])),
    "READY": lambda data, _: READY,
    "AUTHENTICATE": lambda data, _: Authenticate(data["authenticator"]),
    "SUPPORTED": lambda data, _: Supported(data["options"]),
    "AUTH_CHALLENGE": lambda data, _: AuthChallenge(_hex(data["token"])),
    "AUTH_SUCCESS": lambda data, _: AuthSuccess(_hex(data["token"])),
    "ERROR": _error,
    "EVENT": _event,
    "RESULT": _result,
}
