"""Values that the server sends and drivers send back, by type, and a few more statements."""

from __future__ import annotations

from cqlproto import EMPTY, ErrorCode
from cqlproto.cqltypes import (
    NATIVE_TYPES,
    CQLType,
    ListType,
    MapType,
    SetType,
    TupleType,
    UserType,
    VectorType,
)
from cqlproto.messages import Error
from tests.peers.catalog import KEYSPACE
from tests.peers.server import Statement

__all__ = ["COLLECTIONS", "SCALARS", "statements"]

N = NATIVE_TYPES
ADDRESS = UserType(KEYSPACE, "address", (("street", N["text"]), ("no", N["int"])))
SCALARS: dict[str, CQLType] = {name: N[name] for name in sorted(set(N) - {"counter"})}
COLLECTIONS: dict[str, CQLType] = {
    "list": ListType(N["int"]),
    "set": SetType(N["text"]),
    "map": MapType(N["text"], N["bigint"]),
    "tuple": TupleType((N["int"], N["text"])),
    "user": ADDRESS,
    "users": ListType(ADDRESS),
    "nested": MapType(N["int"], ListType(SetType(N["uuid"], frozen=True), frozen=True)),
    "tuple_of_lists": TupleType((ListType(N["text"]), MapType(N["int"], N["boolean"]))),
    "vector_float": VectorType(N["float"], 3),
    "vector_text": VectorType(N["text"], 2),
}
LARGE = [(number, bytes((number % 256,)) * 300, f"row {number}") for number in range(3_000)]
COLUMNS = {"id": N["int"], "data": N["blob"], "name": N["text"]}
SLOW = {"consistency": 4, "received": 1, "required": 2, "write_type": "SIMPLE"}


def statements() -> dict[str, Statement]:
    """Return the server's statements; tests add more."""
    return {
        "SELECT large": Statement({}, COLUMNS, LARGE),
        "SELECT empty": Statement({}, {"i": N["int"], "t": N["text"]}, [(EMPTY, "")]),
        "SELECT nothing": Statement({}, COLUMNS, []),
        "SELECT one": Statement({"id": N["int"]}, COLUMNS, LARGE[:1]),
        "INSERT one": Statement(COLUMNS),
        "INSERT slow": Statement(error=Error(ErrorCode.WRITE_TIMEOUT, "too slow", SLOW)),
        "SELECT denied": Statement(error=Error(ErrorCode.UNAUTHORIZED, "not for you")),
    }
