"""The numbers of the protocol, compared with the specifications."""

from __future__ import annotations

from typing import Any

import pytest

import cqlproto.enums as enums
from cqlproto.enums import (
    BatchKind,
    Consistency,
    ErrorCode,
    Opcode,
    ProtocolVersion,
    ResultKind,
)

V3, V4, V5 = ProtocolVersion

# Since which version, or up to which: the changes of v4 section 10 and v5 section 10.
SINCE = {
    "has_unset": V4,
    "has_warnings": V4,
    "has_primary_key_indices": V4,
    "has_small_types": V4,
    "has_failure_errors": V4,
    "has_function_events": V4,
    "has_segments": V5,
    "has_result_metadata_id": V5,
    "has_keyspace_option": V5,
    "has_now_in_seconds": V5,
    "has_wide_flags": V5,
    "has_duration_type": V5,
    "has_failure_reasons": V5,
    "has_contentions": V5,
}
UNTIL = {"has_snappy": V4}


@pytest.mark.parametrize("version", ProtocolVersion)
def test_what_each_version_has(version: ProtocolVersion) -> None:
    for name, first in SINCE.items():
        assert getattr(version, name) is (version >= first), name
    for name, last in UNTIL.items():
        assert getattr(version, name) is (version <= last), name


def test_every_predicate_is_held_to_the_specification() -> None:
    predicates = {name for name, value in vars(ProtocolVersion).items() if name.startswith("has_")}
    assert predicates == SINCE.keys() | UNTIL.keys()


@pytest.mark.parametrize("level", Consistency)
def test_levels_go_by_their_names(level: Consistency) -> None:
    find: Any = Consistency
    name = level.name
    assert f"{level}" == str(level) == f"{level!s}" == f"{level:s}" == name
    assert repr(level) == f"Consistency.{name}"
    assert f"{level:>15}" == name.rjust(15)
    assert (f"{level:d}", f"{level:#06x}") == (str(level.value), f"{level.value:#06x}")
    assert "%s %d" % (level, level) == f"{name} {level.value}"  # noqa: UP031
    assert find(name) is find(name.lower()) is find(level.value) is Consistency[name] is level


def test_what_is_no_level() -> None:
    find: Any = Consistency
    with pytest.raises(ValueError, match="must be one of ANY, ONE, TWO, .* got 'QUOROM'"):
        find("QUOROM")
    with pytest.raises(ValueError, match="a consistency level must be one of"):
        find("\u017ferial")  # whose upper case is SERIAL
    for wrong in (11, None, b"ONE"):
        with pytest.raises(ValueError, match="is not a valid Consistency"):
            find(wrong)


def test_opcodes() -> None:
    """v4 section 2.4"""
    names = [
        "ERROR",
        "STARTUP",
        "READY",
        "AUTHENTICATE",
        "-",
        "OPTIONS",
        "SUPPORTED",
        "QUERY",
        "RESULT",
        "PREPARE",
        "EXECUTE",
        "REGISTER",
        "EVENT",
        "BATCH",
        "AUTH_CHALLENGE",
        "AUTH_RESPONSE",
        "AUTH_SUCCESS",
    ]
    assert {name: number for number, name in enumerate(names) if name != "-"} == {
        opcode.name: opcode.value for opcode in Opcode
    }


def test_consistencies() -> None:
    """v4 section 3"""
    names = [
        "ANY",
        "ONE",
        "TWO",
        "THREE",
        "QUORUM",
        "ALL",
        "LOCAL_QUORUM",
        "EACH_QUORUM",
        "SERIAL",
        "LOCAL_SERIAL",
        "LOCAL_ONE",
    ]
    assert [level.name for level in Consistency] == names
    assert [level.value for level in Consistency] == list(range(11))
    serial = {level for level in Consistency if level.is_serial}
    assert serial == {Consistency.SERIAL, Consistency.LOCAL_SERIAL}


def test_kinds() -> None:
    """v4 sections 4.2.5 and 4.1.7"""
    assert [kind.name for kind in ResultKind] == [
        "VOID",
        "ROWS",
        "SET_KEYSPACE",
        "PREPARED",
        "SCHEMA_CHANGE",
    ]
    assert [kind.value for kind in ResultKind] == [1, 2, 3, 4, 5]
    assert [(kind.name, kind.value) for kind in BatchKind] == [
        ("LOGGED", 0),
        ("UNLOGGED", 1),
        ("COUNTER", 2),
    ]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (0x0000, "SERVER_ERROR"),
        (0x000A, "PROTOCOL_ERROR"),
        (0x0100, "BAD_CREDENTIALS"),
        (0x1000, "UNAVAILABLE"),
        (0x1001, "OVERLOADED"),
        (0x1002, "IS_BOOTSTRAPPING"),
        (0x1003, "TRUNCATE_ERROR"),
        (0x1100, "WRITE_TIMEOUT"),
        (0x1200, "READ_TIMEOUT"),
        (0x1300, "READ_FAILURE"),
        (0x1400, "FUNCTION_FAILURE"),
        (0x1500, "WRITE_FAILURE"),
        (0x1600, "CDC_WRITE_FAILURE"),
        (0x1700, "CAS_WRITE_UNKNOWN"),
        (0x2000, "SYNTAX_ERROR"),
        (0x2100, "UNAUTHORIZED"),
        (0x2200, "INVALID"),
        (0x2300, "CONFIG_ERROR"),
        (0x2400, "ALREADY_EXISTS"),
        (0x2500, "UNPREPARED"),
    ],
)
def test_error_codes(code: int, name: str) -> None:
    """v4 section 9, v5 section 8"""
    assert ErrorCode(code).name == name


def test_error_codes_are_all_there() -> None:
    assert len(ErrorCode) == 20


@pytest.mark.parametrize(
    ("prefix", "names"),
    [
        ("FLAG", "COMPRESSED TRACING PAYLOAD WARNING BETA"),
        (
            "QUERY",
            """VALUES SKIP_METADATA PAGE_SIZE PAGING_STATE SERIAL_CONSISTENCY TIMESTAMP NAMES
            KEYSPACE NOW_IN_SECONDS""",
        ),
        ("PREPARE", "KEYSPACE"),
        ("ROWS", "GLOBAL_TABLE HAS_MORE_PAGES NO_METADATA METADATA_CHANGED"),
    ],
)
def test_flags_are_single_bits_in_their_order(prefix: str, names: str) -> None:
    """v5 sections 2.2, 4.1.4, 4.1.5 and 4.2.5.2"""
    values = [getattr(enums, f"{prefix}_{name}") for name in names.split()]
    assert values == [1 << bit for bit in range(len(values))]
    there = {name for name in enums.__all__ if name.startswith(f"{prefix}_")}
    assert there == {f"{prefix}_{name}" for name in names.split()}
