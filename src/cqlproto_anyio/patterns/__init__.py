"""Recipes on top of a session: locks, event stores, caches, and others, each in a module.

>>> from cqlproto_anyio.patterns import EventStore, Locks

A recipe takes an :class:`~cqlproto_anyio.Executor`: a session, or what stands in for one. Its
module is imported when its name is used first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# fmt: off
if TYPE_CHECKING:  # isort: off
    from cqlproto_anyio.patterns._codec import BYTES, JSON, Codec, msgspec_codec
    from cqlproto_anyio.patterns._errors import (
        CompensationFailed, ConcurrencyError, CorruptPayload, DuplicateEvent, EventsMissing,
        InvalidInput, LockLost, LockTimeout, OperationConflict, OutcomeUnknown, OutOfStock,
        PatternError, PointExpired, RateLimited, RecordExists, RecordNotFound, SagaBusy,
        SagaFailed, SchemaMismatch, TooManySessions,
    )
    from cqlproto_anyio.patterns._lease import Holder, Lease
    from cqlproto_anyio.patterns._points import NewPoint, Point, TimeStep, Written
    from cqlproto_anyio.patterns._retry import Backoff
    from cqlproto_anyio.patterns.cache import Cache, Cached
    from cqlproto_anyio.patterns.eventstore import Event, EventStore, NewEvent, Position
    from cqlproto_anyio.patterns.locks import Locks
    from cqlproto_anyio.patterns.rate_limiter import Decision, RateLimiter
    from cqlproto_anyio.patterns.repository import Repository
    from cqlproto_anyio.patterns.saga import (
        Saga, SagaContext, SagaRecord, Sagas, SagaStatus, Step,
    )
    from cqlproto_anyio.patterns.session_registry import SessionRegistry
    from cqlproto_anyio.patterns.shared_session import SharedSession
    from cqlproto_anyio.patterns.stock import Reservation, Stock, StockLevel
    from cqlproto_anyio.patterns.tenants import MigrationFailure, MigrationReport, Tenants
    from cqlproto_anyio.patterns.timeseries import TimeSeries
    from cqlproto_anyio.patterns.user_sessions import UserSession, UserSessions
    from cqlproto_anyio.patterns.views import Rebuilt, Table, ViewDifference, ViewReport, Views

__all__ = [
    "BYTES", "Backoff", "Cache", "Cached", "Codec", "CompensationFailed", "ConcurrencyError",
    "CorruptPayload", "Decision", "DuplicateEvent", "Event", "EventStore", "EventsMissing",
    "Holder", "InvalidInput", "JSON", "Lease", "LockLost", "LockTimeout", "Locks",
    "MigrationFailure", "MigrationReport", "NewEvent", "NewPoint", "OperationConflict",
    "OutOfStock", "OutcomeUnknown", "PatternError", "Point", "PointExpired", "Position",
    "RateLimited", "RateLimiter", "Rebuilt", "RecordExists", "RecordNotFound", "Repository",
    "Reservation", "Saga", "SagaBusy", "SagaContext", "SagaFailed", "SagaRecord", "SagaStatus",
    "Sagas", "SchemaMismatch", "SessionRegistry", "SharedSession", "Step", "Stock", "StockLevel",
    "Table", "Tenants", "TimeSeries", "TimeStep", "TooManySessions", "UserSession", "UserSessions",
    "ViewDifference", "ViewReport", "Views", "Written", "msgspec_codec",
]

_MODULES = {
    "_codec": "BYTES JSON Codec msgspec_codec",
    "_errors":
        "CompensationFailed ConcurrencyError CorruptPayload DuplicateEvent EventsMissing"
        " InvalidInput LockLost LockTimeout OperationConflict OutOfStock OutcomeUnknown"
        " PatternError PointExpired RateLimited RecordExists RecordNotFound SagaBusy SagaFailed"
        " SchemaMismatch TooManySessions",
    "_lease": "Holder Lease",
    "_points": "NewPoint Point TimeStep Written",
    "_retry": "Backoff",
    "cache": "Cache Cached",
    "eventstore": "Event EventStore NewEvent Position",
    "locks": "Locks",
    "rate_limiter": "Decision RateLimiter",
    "repository": "Repository",
    "saga": "Saga SagaContext SagaRecord SagaStatus Sagas Step",
    "session_registry": "SessionRegistry",
    "shared_session": "SharedSession",
    "stock": "Reservation Stock StockLevel",
    "tenants": "MigrationFailure MigrationReport Tenants",
    "timeseries": "TimeSeries",
    "user_sessions": "UserSession UserSessions",
    "views": "Rebuilt Table ViewDifference ViewReport Views",
}
# fmt: on
_LATER = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
