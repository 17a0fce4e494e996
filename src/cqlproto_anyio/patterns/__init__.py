"""Recipes on top of a session: locks, event stores, caches, and others, each in a module.

>>> from cqlproto_anyio.patterns import EventStore, Locks

A recipe takes an :class:`~cqlproto_anyio.Executor`: a session, or what stands in for one. Its
module is imported when its name is used first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cqlproto_anyio.patterns._codec import BYTES, JSON, Codec, msgspec_codec
    from cqlproto_anyio.patterns._errors import (
        ConcurrencyError,
        CorruptPayload,
        DuplicateEvent,
        InvalidInput,
        LockLost,
        LockTimeout,
        OutcomeUnknown,
        PatternError,
        SchemaMismatch,
    )
    from cqlproto_anyio.patterns._lease import Holder, Lease
    from cqlproto_anyio.patterns._retry import Backoff

__all__ = [
    "BYTES",
    "Backoff",
    "Codec",
    "ConcurrencyError",
    "CorruptPayload",
    "DuplicateEvent",
    "Holder",
    "InvalidInput",
    "JSON",
    "Lease",
    "LockLost",
    "LockTimeout",
    "OutcomeUnknown",
    "PatternError",
    "SchemaMismatch",
    "msgspec_codec",
]

# The module of each name.
_LATER = {
    "BYTES": "_codec",
    "Backoff": "_retry",
    "Codec": "_codec",
    "ConcurrencyError": "_errors",
    "CorruptPayload": "_errors",
    "DuplicateEvent": "_errors",
    "Holder": "_lease",
    "InvalidInput": "_errors",
    "JSON": "_codec",
    "Lease": "_lease",
    "LockLost": "_errors",
    "LockTimeout": "_errors",
    "OutcomeUnknown": "_errors",
    "PatternError": "_errors",
    "SchemaMismatch": "_errors",
    "msgspec_codec": "_codec",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
