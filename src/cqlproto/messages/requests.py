"""Requests: the messages of a client (v4 section 4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqlproto.enums import (
    PREPARE_KEYSPACE,
    QUERY_SERIAL_CONSISTENCY,
    QUERY_TIMESTAMP,
    BatchKind,
    Opcode,
)
from cqlproto.exceptions import LocalProtocolError, RemoteProtocolError
from cqlproto.messages._base import (
    Message,
    Record,
    read_known_consistency,
    write_consistency,
)
from cqlproto.messages._parameters import (
    QueryParameters,
    Value,
    option_flags,
    pack_behind_timestamp,
    pack_parameters_around,
    read_flags,
    read_options,
    read_parameters,
    read_values,
    write_bound,
    write_flags,
    write_options,
    write_parameters,
)
from cqlproto.wire import (
    MAX_SHORT,
    read_byte,
    read_bytes,
    read_int,
    read_long_string,
    read_short,
    read_short_bytes,
    read_string,
    read_string_list,
    read_string_map,
    write_byte,
    write_bytes,
    write_int,
    write_long_string,
    write_short,
    write_short_bytes,
    write_string,
    write_string_list,
    write_string_map,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from cqlproto.enums import Consistency, ProtocolVersion
    from cqlproto.wire import Reader

__all__ = [
    "AuthResponse",
    "Batch",
    "BatchStatement",
    "Execute",
    "Options",
    "Prepare",
    "Query",
    "QueryParameters",
    "Register",
    "Startup",
    "Value",
    "pack_behind_timestamp",
    "pack_parameters_around",
    "read_parameters",
    "write_parameters",
]

_BATCH_KINDS = tuple(BatchKind)
_KIND_QUERY = 0
_KIND_PREPARED = 1

_BATCH_FLAGS = QUERY_SERIAL_CONSISTENCY | QUERY_TIMESTAMP


class Startup(Message):
    """STARTUP: begins a connection (v4 section 4.1.1).

    Arguments:
        options: such as ``{"CQL_VERSION": "3.0.0", "COMPRESSION": "lz4"}``.
    """

    __slots__ = ("options",)
    opcode = Opcode.STARTUP.value

    def __init__(self, options: Mapping[str, str]) -> None:
        self.options = options

    def write_body(self, out: bytearray, version: ProtocolVersion) -> None:
        write_string_map(out, self.options)

    @classmethod
    def read_body(cls, reader: Reader, version: ProtocolVersion) -> Self:
        return cls(read_string_map(reader))


class Options(Message):
    """OPTIONS: requests the options that STARTUP may contain (v4 section 4.1.3)."""

    __slots__ = ()
    opcode = Opcode.OPTIONS.value

    def write_body(self, out: bytearray, version: ProtocolVersion) -> None:
        pass

    @classmethod
    def read_body(cls, reader: Reader, version: ProtocolVersion) -> Self:
        return cls()


class AuthResponse(Message):
    """AUTH_RESPONSE: answers AUTHENTICATE or AUTH_CHALLENGE (v4 section 4.1.2).

    Arguments:
        token: the token of the authenticator; repr does not show it.
    """

    __slots__ = ("token",)
    secret = ("token",)
    opcode = Opcode.AUTH_RESPONSE.value

    def __init__(self, token: bytes | None) -> None:
        self.token = token

    def write_body(self, out: bytearray, version: ProtocolVersion) -> None:
        write_bytes(out, self.token)

    @classmethod
    def read_body(cls, reader: Reader, version: ProtocolVersion) -> Self:
        return cls(read_bytes(reader))


class Register(Message):
    """REGISTER: registers for events (v4 section 4.1.8).

    Arguments:
        event_types: of TOPOLOGY_CHANGE, STATUS_CHANGE and SCHEMA_CHANGE.
    """

    __slots__ = ("event_types",)
    opcode = Opcode.REGISTER.value

    def __init__(self, event_types: Sequence[str]) -> None:
        self.event_types = event_types

    def write_body(self, out: bytearray, version: ProtocolVersion) -> None:
        write_string_list(out, self.event_types)

    @classmethod
    def read_body(cls, reader: Reader, version: ProtocolVersion) -> Self:
        return cls(read_string_list(reader))


class Query(Message):
    """QUERY: runs a statement given as text (v4 section 4.1.4)."""

    __slots__ = ("parameters", "query")
    opcode = Opcode.QUERY.value

    def __init__(self, query: str, parameters: QueryParameters) -> None:
        self.query = query
        self.parameters = parameters

    def write_body(self, out: bytearray, version: ProtocolVersion) -> None:
        write_long_string(out, self.query)
        write_parameters(out, self.parameters, version)

    @classmethod
    def read_body(cls, reader: Reader, version: ProtocolVersion) -> Self:
        return cls(read_long_string(reader), read_parameters(reader, version))


class Prepare(Message):
    """PREPARE: parses a statement for EXECUTE (v4 section 4.1.5, v5 section 4.1.5).

    Arguments:
        query: the statement.
        keyspace: the keyspace of unqualified tables (v5).
    """

    __slots__ = ("keyspace", "query")
    opcode = Opcode.PREPARE.value

    def __init__(self, query: str, keyspace: str | None = None) -> None:
        self.query = query
        self.keyspace = keyspace

    def write_body(self, out: bytearray, version: ProtocolVersion) -> None:
        write_long_string(out, self.query)
        if version.has_keyspace_option:
            write_int(out, 0 if self.keyspace is None else PREPARE_KEYSPACE)
            if self.keyspace is not None:
                write_string(out, self.keyspace)
        elif self.keyspace is not None:
            raise LocalProtocolError("keyspace needs v5")

    @classmethod
    def read_body(cls, reader: Reader, version: ProtocolVersion) -> Self:
        query = read_long_string(reader)
        if not version.has_keyspace_option:
            return cls(query)
        flags = read_int(reader)
        if flags & ~PREPARE_KEYSPACE:
            raise RemoteProtocolError(f"PREPARE has undefined flags {flags:#x}")
        return cls(query, read_string(reader) if flags else None)


class Execute(Message):
    """EXECUTE: runs a prepared statement (v4 section 4.1.6, v5 section 4.1.6).

    Arguments:
        statement_id: the id in PREPARED.
        parameters: as for QUERY.
        result_metadata_id: the id in PREPARED or in the last METADATA_CHANGED. v5 requires it;
            earlier versions ignore it.
    """

    __slots__ = ("parameters", "result_metadata_id", "statement_id")
    opcode = Opcode.EXECUTE.value

    def __init__(
        self,
        statement_id: bytes,
        parameters: QueryParameters,
        result_metadata_id: bytes | None = None,
    ) -> None:
        self.statement_id = statement_id
        self.parameters = parameters
        self.result_metadata_id = result_metadata_id

    def write_body(self, out: bytearray, version: ProtocolVersion) -> None:
        write_short_bytes(out, self.statement_id)
        if version.has_result_metadata_id:
            if self.result_metadata_id is None:
                raise LocalProtocolError("EXECUTE needs result_metadata_id on v5, got None")
            write_short_bytes(out, self.result_metadata_id)
        write_parameters(out, self.parameters, version)

    @classmethod
    def read_body(cls, reader: Reader, version: ProtocolVersion) -> Self:
        statement_id = read_short_bytes(reader)
        metadata_id = read_short_bytes(reader) if version.has_result_metadata_id else None
        return cls(statement_id, read_parameters(reader, version), metadata_id)


class BatchStatement(Record):
    """One statement of a BATCH (v4 section 4.1.7).

    Arguments:
        query: the statement as text, or the id of a prepared one as bytes.
        values: its bound values by position; a batch cannot bind by name (CASSANDRA-10246).
    """

    __slots__ = ("query", "values")

    def __init__(self, query: str | bytes, values: Sequence[Value] = ()) -> None:
        self.query = query
        self.values = values

    def write(self, out: bytearray, version: ProtocolVersion) -> None:
        """Append <kind><string_or_id><n><value_1>..<value_n>."""
        if isinstance(self.query, str):
            out.append(_KIND_QUERY)
            write_long_string(out, self.query)
        else:
            out.append(_KIND_PREPARED)
            write_short_bytes(out, self.query)
        if isinstance(self.values, dict):
            raise LocalProtocolError(
                "values of a batch must be a sequence: it binds by position, not by name"
            )
        write_bound(out, self.values, None, version)

    @classmethod
    def read(cls, reader: Reader, version: ProtocolVersion) -> Self:
        kind = read_byte(reader)
        query: str | bytes
        if kind == _KIND_QUERY:
            query = read_long_string(reader)
        elif kind == _KIND_PREPARED:
            query = read_short_bytes(reader)
        else:
            raise RemoteProtocolError(
                f"the kind of a statement in a batch must be 0 or 1, got {kind}"
            )
        return cls(query, read_values(reader, version))


class Batch(Message):
    """BATCH: runs several statements as one (v4 section 4.1.7, v5 section 4.1.7).

    Arguments:
        kind: logged, unlogged or counter.
        statements: at most 65535.
        consistency, serial_consistency, timestamp, keyspace, now_in_seconds: see
            :class:`QueryParameters`.
    """

    __slots__ = (
        "consistency",
        "keyspace",
        "kind",
        "now_in_seconds",
        "serial_consistency",
        "statements",
        "timestamp",
    )
    opcode = Opcode.BATCH.value

    def __init__(
        self,
        kind: BatchKind,
        statements: Sequence[BatchStatement],
        consistency: Consistency,
        serial_consistency: Consistency | None = None,
        timestamp: int | None = None,
        keyspace: str | None = None,
        now_in_seconds: int | None = None,
    ) -> None:
        self.kind = kind
        self.statements = statements
        self.consistency = consistency
        self.serial_consistency = serial_consistency
        self.timestamp = timestamp
        self.keyspace = keyspace
        self.now_in_seconds = now_in_seconds

    def write_body(self, out: bytearray, version: ProtocolVersion) -> None:
        flags = option_flags(
            self.serial_consistency, self.timestamp, self.keyspace, self.now_in_seconds, version
        )
        if len(self.statements) > MAX_SHORT:
            raise LocalProtocolError(
                f"a batch must have at most {MAX_SHORT} statements, got {len(self.statements)}"
            )
        write_byte(out, self.kind)
        write_short(out, len(self.statements))
        for statement in self.statements:
            statement.write(out, version)
        write_consistency(out, self.consistency)
        write_flags(out, flags, version)
        write_options(out, self)

    @classmethod
    def read_body(cls, reader: Reader, version: ProtocolVersion) -> Self:
        kind = read_byte(reader)
        if kind >= len(_BATCH_KINDS):
            raise RemoteProtocolError(
                f"the kind of a batch must be 0 to {len(_BATCH_KINDS) - 1}, got {kind}"
            )
        # The shortest statement: a kind, an id of no bytes, no values.
        count = reader.check_count(read_short(reader), 5)
        statements = [BatchStatement.read(reader, version) for _ in range(count)]
        batch = cls(_BATCH_KINDS[kind], statements, read_known_consistency(reader))
        read_options(reader, read_flags(reader, version, _BATCH_FLAGS), batch)
        return batch
