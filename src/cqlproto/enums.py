"""The numbers of the protocol: versions, opcodes, consistencies, error codes, flags.

Code asks a version by named predicates (``version.has_keyspace_option``) and never compares it with
a number, so every difference between versions has one name and one place. The hot path compares
opcodes, result kinds and flags as plain integers: turning a byte into an enum member costs more
than the rest of parsing a header.
"""

from __future__ import annotations

import enum

__all__ = [
    "BatchKind",
    "Consistency",
    "ErrorCode",
    "FLAG_BETA",
    "FLAG_COMPRESSED",
    "FLAG_PAYLOAD",
    "FLAG_TRACING",
    "FLAG_WARNING",
    "Opcode",
    "PREPARE_KEYSPACE",
    "ProtocolVersion",
    "QUERY_KEYSPACE",
    "QUERY_NAMES",
    "QUERY_NOW_IN_SECONDS",
    "QUERY_PAGE_SIZE",
    "QUERY_PAGING_STATE",
    "QUERY_SERIAL_CONSISTENCY",
    "QUERY_SKIP_METADATA",
    "QUERY_TIMESTAMP",
    "QUERY_VALUES",
    "RESPONSE_BIT",
    "ROWS_GLOBAL_TABLE",
    "ROWS_HAS_MORE_PAGES",
    "ROWS_METADATA_CHANGED",
    "ROWS_NO_METADATA",
    "ResultKind",
]


class ProtocolVersion(enum.IntEnum):
    """A version of the native protocol that this library supports."""

    V3 = 3
    V4 = 4
    V5 = 5

    @property
    def has_unset(self) -> bool:
        """Whether a bound value may be UNSET ([value] of v4 section 3)."""
        return self is not ProtocolVersion.V3

    @property
    def has_warnings(self) -> bool:
        """Whether responses may carry warnings and custom payloads (v4 section 2.2)."""
        return self is not ProtocolVersion.V3

    @property
    def has_primary_key_indices(self) -> bool:
        """Whether PREPARED names the bind markers of the partition key (v4 section 4.2.5.4)."""
        return self is not ProtocolVersion.V3

    @property
    def has_small_types(self) -> bool:
        """Whether date, time, smallint and tinyint have option ids (v4 section 4.2.5.2)."""
        return self is not ProtocolVersion.V3

    @property
    def has_failure_errors(self) -> bool:
        """Whether READ_FAILURE, WRITE_FAILURE and FUNCTION_FAILURE exist (v4 section 9)."""
        return self is not ProtocolVersion.V3

    @property
    def has_function_events(self) -> bool:
        """Whether schema changes may target functions and aggregates (v4 section 4.2.6)."""
        return self is not ProtocolVersion.V3

    @property
    def has_segments(self) -> bool:
        """Whether envelopes travel in checksummed segments (v5 section 2)."""
        return self is ProtocolVersion.V5

    @property
    def has_result_metadata_id(self) -> bool:
        """Whether PREPARED, EXECUTE and Rows carry a result metadata id (v5 section 4.2.5.4)."""
        return self is ProtocolVersion.V5

    @property
    def has_keyspace_option(self) -> bool:
        """Whether a keyspace may travel with QUERY, PREPARE and BATCH (v5 section 4.1.4)."""
        return self is ProtocolVersion.V5

    @property
    def has_now_in_seconds(self) -> bool:
        """Whether QUERY, EXECUTE and BATCH may set the current time (v5 section 4.1.4)."""
        return self is ProtocolVersion.V5

    @property
    def has_wide_flags(self) -> bool:
        """Whether the flags of query parameters are an [int], not a [byte] (v5 section 4.1.4)."""
        return self is ProtocolVersion.V5

    @property
    def has_duration_type(self) -> bool:
        """Whether duration has an option id (v5 section 4.2.5.2)."""
        return self is ProtocolVersion.V5

    @property
    def has_failure_reasons(self) -> bool:
        """Whether READ_FAILURE and WRITE_FAILURE list a reason per replica (v5 section 9)."""
        return self is ProtocolVersion.V5

    @property
    def has_contentions(self) -> bool:
        """Whether a WRITE_TIMEOUT of type CAS counts contentions (v5 section 9)."""
        return self is ProtocolVersion.V5

    @property
    def has_snappy(self) -> bool:
        """Whether Snappy may compress frame bodies; v5 segments support LZ4 only."""
        return self is not ProtocolVersion.V5


class Opcode(enum.IntEnum):
    """The kind of a message (v4 section 2.4)."""

    ERROR = 0x00
    STARTUP = 0x01
    READY = 0x02
    AUTHENTICATE = 0x03
    OPTIONS = 0x05
    SUPPORTED = 0x06
    QUERY = 0x07
    RESULT = 0x08
    PREPARE = 0x09
    EXECUTE = 0x0A
    REGISTER = 0x0B
    EVENT = 0x0C
    BATCH = 0x0D
    AUTH_CHALLENGE = 0x0E
    AUTH_RESPONSE = 0x0F
    AUTH_SUCCESS = 0x10


class ResultKind(enum.IntEnum):
    """The kind of a RESULT (v4 section 4.2.5)."""

    VOID = 0x0001
    ROWS = 0x0002
    SET_KEYSPACE = 0x0003
    PREPARED = 0x0004
    SCHEMA_CHANGE = 0x0005


# The types of format specifications that are an int's.
_INT_FORMATS = frozenset("bcdnoxX")


class Consistency(enum.IntEnum):
    """How many replicas must answer ([consistency], v4 section 3).

    ``str`` returns the name of a level, and ``Consistency("quorum")`` looks it up in any case.
    """

    ANY = 0x0000
    ONE = 0x0001
    TWO = 0x0002
    THREE = 0x0003
    QUORUM = 0x0004
    ALL = 0x0005
    LOCAL_QUORUM = 0x0006
    EACH_QUORUM = 0x0007
    SERIAL = 0x0008
    LOCAL_SERIAL = 0x0009
    LOCAL_ONE = 0x000A

    @classmethod
    def _missing_(cls, value: object) -> Consistency | None:
        if not isinstance(value, str):
            return None
        # ASCII only: the upper case of some other letters is ASCII
        found = cls.__members__.get(str.upper(value)) if str.isascii(value) else None
        if found is None:
            raise ValueError(
                f"a consistency level must be one of {', '.join(cls.__members__)}, got {value!r}"
            )
        return found

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Consistency.{self.name}"

    def __format__(self, spec: str) -> str:
        # a format code of integers shows the number of the level
        return int.__format__(self, spec) if spec[-1:] in _INT_FORMATS else format(self.name, spec)

    @property
    def is_serial(self) -> bool:
        """Whether this is a level of the Paxos phase of an LWT."""
        return self in (Consistency.SERIAL, Consistency.LOCAL_SERIAL)


class BatchKind(enum.IntEnum):
    """The kind of a BATCH (v4 section 4.1.7)."""

    LOGGED = 0
    UNLOGGED = 1
    COUNTER = 2


class ErrorCode(enum.IntEnum):
    """The code of an ERROR (v4 section 9, v5 section 9)."""

    SERVER_ERROR = 0x0000
    PROTOCOL_ERROR = 0x000A
    BAD_CREDENTIALS = 0x0100
    UNAVAILABLE = 0x1000
    OVERLOADED = 0x1001
    IS_BOOTSTRAPPING = 0x1002
    TRUNCATE_ERROR = 0x1003
    WRITE_TIMEOUT = 0x1100
    READ_TIMEOUT = 0x1200
    READ_FAILURE = 0x1300
    FUNCTION_FAILURE = 0x1400
    WRITE_FAILURE = 0x1500
    CDC_WRITE_FAILURE = 0x1600
    CAS_WRITE_UNKNOWN = 0x1700
    SYNTAX_ERROR = 0x2000
    UNAUTHORIZED = 0x2100
    INVALID = 0x2200
    CONFIG_ERROR = 0x2300
    ALREADY_EXISTS = 0x2400
    UNPREPARED = 0x2500


# Bit of the version byte that marks a response (v4 section 2.1).
RESPONSE_BIT = 0x80

# Flags of a frame header (v4 section 2.2).
FLAG_COMPRESSED = 0x01
FLAG_TRACING = 0x02
FLAG_PAYLOAD = 0x04
FLAG_WARNING = 0x08
FLAG_BETA = 0x10

# Flags of query parameters (v4 section 4.1.4, v5 section 4.1.4).
QUERY_VALUES = 0x0001
QUERY_SKIP_METADATA = 0x0002
QUERY_PAGE_SIZE = 0x0004
QUERY_PAGING_STATE = 0x0008
QUERY_SERIAL_CONSISTENCY = 0x0010
QUERY_TIMESTAMP = 0x0020
QUERY_NAMES = 0x0040
QUERY_KEYSPACE = 0x0080
QUERY_NOW_IN_SECONDS = 0x0100

# Flags of PREPARE (v5 section 4.1.5).
PREPARE_KEYSPACE = 0x01

# Flags of result metadata (v4 section 4.2.5.2, v5 section 4.2.5.2).
ROWS_GLOBAL_TABLE = 0x0001
ROWS_HAS_MORE_PAGES = 0x0002
ROWS_NO_METADATA = 0x0004
ROWS_METADATA_CHANGED = 0x0008
