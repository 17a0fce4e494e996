"""The tables of contents of the three specifications, as data.

Section numbers and titles are those of the ``native_protocol_v*.spec`` in Cassandra's sources:
their tables of contents, and the numbered parts of the section on data types. Where contents and
text disagree on a number, it is that of the contents (4.2.8 of v3, 2.4.1 of v5).
"""

from __future__ import annotations

__all__ = ["ERROR_CODES", "PROSE", "SECTIONS"]

_MESSAGES = {
    "3": "Notations",
    "4": "Messages",
    "4.1": "Requests",
    "4.1.1": "STARTUP",
    "4.1.2": "AUTH_RESPONSE",
    "4.1.3": "OPTIONS",
    "4.1.4": "QUERY",
    "4.1.5": "PREPARE",
    "4.1.6": "EXECUTE",
    "4.1.7": "BATCH",
    "4.1.8": "REGISTER",
    "4.2": "Responses",
    "4.2.1": "ERROR",
    "4.2.2": "READY",
    "4.2.3": "AUTHENTICATE",
    "4.2.4": "SUPPORTED",
    "4.2.5": "RESULT",
    "4.2.5.1": "Void",
    "4.2.5.2": "Rows",
    "4.2.5.3": "Set_keyspace",
    "4.2.5.4": "Prepared",
    "4.2.5.5": "Schema_change",
    "4.2.6": "EVENT",
    "4.2.7": "AUTH_CHALLENGE",
    "4.2.8": "AUTH_SUCCESS",
}
_HEADER = {
    "1": "Overview",
    "2": "Frame header",
    "2.1": "version",
    "2.2": "flags",
    "2.3": "stream",
    "2.4": "opcode",
    "2.5": "length",
}
_FRAMING = {
    "1": "Overview",
    "2": "Frame format",
    "2.1": "Uncompressed Format",
    "2.2": "Compressed Format",
    "2.3": "Protocol Negotiation",
    "2.3.1": "Initial Handshake",
    "2.3.2": "Compression",
    "2.4": "Frame Payload",
    "2.4.1": "Frame Header",
    "2.4.1.1": "version",
    "2.4.1.2": "flags",
    "2.4.1.3": "stream",
    "2.4.1.4": "opcode",
    "2.4.1.5": "length",
}
_BEFORE_V5 = {
    "5": "Compression",
    "6": "Data Type Serialization Formats",
    "7": "User Defined Type Serialization",
    "8": "Result paging",
    "9": "Error codes",
}


def _types(section: int, names: str) -> dict[str, str]:
    return {f"{section}.{number}": name for number, name in enumerate(names.split(), 1)}


# By version, then by number: the titles.
SECTIONS: dict[int, dict[str, str]] = {
    3: {
        **_HEADER,
        **_MESSAGES,
        **_BEFORE_V5,
        "10": "Changes from v2",
        **_types(
            6,
            "ascii bigint blob boolean decimal double float inet int list map set text timestamp"
            " uuid varchar varint timeuuid tuple",
        ),
    },
    4: {
        **_HEADER,
        **_MESSAGES,
        **_BEFORE_V5,
        "10": "Changes from v3",
        **_types(
            6,
            "ascii bigint blob boolean date decimal double float inet int list map set smallint"
            " text time timestamp timeuuid tinyint tuple uuid varchar varint",
        ),
    },
    5: {
        **_FRAMING,
        **_MESSAGES,
        "5": "Data Type Serialization Formats",
        "6": "User Defined Type Serialization",
        "7": "Result paging",
        "8": "Error codes",
        "9": "Changes from v4",
        **_types(
            5,
            "ascii bigint blob boolean date decimal double duration float inet int list map set"
            " smallint text time timestamp timeuuid tinyint tuple uuid varchar varint",
        ),
    },
}

_OVERVIEW = "an introduction; what it says of frames is said again, and tested, under section 2"
_CHANGES = "a list of what other sections say; the tests of those run in every version"

# Sections that say nothing which could be tested, and why.
PROSE: dict[tuple[int, str], str] = {
    (3, "1"): _OVERVIEW,
    (4, "1"): _OVERVIEW,
    (5, "1"): _OVERVIEW,
    (3, "10"): _CHANGES,
    (4, "10"): _CHANGES,
    (5, "9"): _CHANGES,
}

# The codes that section 9 of v3 and v4 and section 8 of v5 explain.
_V3_CODES = [
    *(0x0000, 0x000A, 0x0100, 0x1000, 0x1001, 0x1002, 0x1003, 0x1100, 0x1200),
    *(0x2000, 0x2100, 0x2200, 0x2300, 0x2400, 0x2500),
]
_V4_CODES = [*_V3_CODES, 0x1300, 0x1400, 0x1500]
ERROR_CODES: dict[int, list[int]] = {
    3: _V3_CODES,
    4: _V4_CODES,
    5: [*_V4_CODES, 0x1600, 0x1700],
}
