"""Recipes on top of a session: locks, event stores, caches, and others, each in a module.

>>> from cqlproto_anyio.patterns import EventStore, Locks

A recipe takes an :class:`~cqlproto_anyio.Executor`: a session, or what stands in for one. Its
module is imported when its name is used first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# fmt: off
if TYPE_CHECKING:  # isort: off
    from cqlproto_anyio.patterns._breaker import CircuitBreaker
    from cqlproto_anyio.patterns._codec import BYTES, Codec, JSON, msgspec_codec
    from cqlproto_anyio.patterns._errors import (
        ConcurrencyError, CorruptPayload, DuplicateEvent, EventsMissing, InvalidInput, LockLost,
        LockTimeout, OutcomeUnknown, PatternError, PointExpired, RateLimited, RecordExists,
        RecordNotFound, SchemaMismatch, TooManySessions,
    )
    from cqlproto_anyio.patterns._lease import Holder, Lease
    from cqlproto_anyio.patterns._points import NewPoint, Point, TimeStep, Written
    from cqlproto_anyio.patterns._requests import DatabaseMetrics, Health, RetryConfig
    from cqlproto_anyio.patterns._retry import Backoff
    from cqlproto_anyio.patterns._unit import UnitOfWork
    from cqlproto_anyio.patterns._versions import (
        Conflict, ConflictAnalysis, LockStatus, Resolution, RowOutcome, UpdateOutcome,
        VersionedMetrics, VersionedRow, VersionedUpdate,
    )
    from cqlproto_anyio.patterns._writeerrors import (
        AdminNotAllowed, CircuitOpen, CompensationFailed, ConditionFailed, MergeConflict,
        OperationConflict, OutOfStock, RetryExhausted, SagaBusy, SagaFailed, TransactionError,
        UnitRefused, VersionConflict,
    )
    from cqlproto_anyio.patterns.cache import Cache, Cached
    from cqlproto_anyio.patterns.database import Database
    from cqlproto_anyio.patterns.eventstore import Event, EventStore, NewEvent, Position
    from cqlproto_anyio.patterns.locks import Locks
    from cqlproto_anyio.patterns.rate_limiter import Decision, RateLimiter
    from cqlproto_anyio.patterns.repository import Repository
    from cqlproto_anyio.patterns.saga import Saga, SagaContext, SagaRecord, SagaStatus, Sagas, Step
    from cqlproto_anyio.patterns.shared_session import SessionRegistry, SharedSession
    from cqlproto_anyio.patterns.stock import Reservation, Stock, StockLevel
    from cqlproto_anyio.patterns.tenants import MigrationFailure, MigrationReport, Tenants
    from cqlproto_anyio.patterns.timeseries import TimeSeries
    from cqlproto_anyio.patterns.user_sessions import UserSession, UserSessions
    from cqlproto_anyio.patterns.versioned import Versioned
    from cqlproto_anyio.patterns.views import Rebuilt, Table, ViewDifference, ViewReport, Views

__all__ = [
    "AdminNotAllowed", "BYTES", "Backoff", "Cache", "Cached", "CircuitBreaker", "CircuitOpen",
    "Codec", "CompensationFailed", "ConcurrencyError", "ConditionFailed", "Conflict",
    "ConflictAnalysis", "CorruptPayload", "Database", "DatabaseMetrics", "Decision",
    "DuplicateEvent", "Event", "EventStore", "EventsMissing", "Health", "Holder", "InvalidInput",
    "JSON", "Lease", "LockLost", "LockStatus", "LockTimeout", "Locks", "MergeConflict",
    "MigrationFailure", "MigrationReport", "NewEvent", "NewPoint", "OperationConflict",
    "OutOfStock", "OutcomeUnknown", "PatternError", "Point", "PointExpired", "Position",
    "RateLimited", "RateLimiter", "Rebuilt", "RecordExists", "RecordNotFound", "Repository",
    "Reservation", "Resolution", "RetryConfig", "RetryExhausted", "RowOutcome", "Saga",
    "SagaBusy", "SagaContext", "SagaFailed", "SagaRecord", "SagaStatus", "Sagas",
    "SchemaMismatch", "SessionRegistry", "SharedSession", "Step", "Stock", "StockLevel", "Table",
    "Tenants", "TimeSeries", "TimeStep", "TooManySessions", "TransactionError", "UnitOfWork",
    "UnitRefused", "UpdateOutcome", "UserSession", "UserSessions", "VersionConflict",
    "Versioned", "VersionedMetrics", "VersionedRow", "VersionedUpdate", "ViewDifference",
    "ViewReport", "Views", "Written", "msgspec_codec",
]

_MODULES = {
    "_breaker": "CircuitBreaker",
    "_codec": "BYTES Codec JSON msgspec_codec",
    "_errors":
        "ConcurrencyError CorruptPayload DuplicateEvent EventsMissing InvalidInput LockLost"
        " LockTimeout OutcomeUnknown PatternError PointExpired RateLimited RecordExists"
        " RecordNotFound SchemaMismatch TooManySessions",
    "_lease": "Holder Lease",
    "_points": "NewPoint Point TimeStep Written",
    "_requests": "DatabaseMetrics Health RetryConfig",
    "_retry": "Backoff",
    "_unit": "UnitOfWork",
    "_versions":
        "Conflict ConflictAnalysis LockStatus Resolution RowOutcome UpdateOutcome"
        " VersionedMetrics VersionedRow VersionedUpdate",
    "_writeerrors":
        "AdminNotAllowed CircuitOpen CompensationFailed ConditionFailed MergeConflict"
        " OperationConflict OutOfStock RetryExhausted SagaBusy SagaFailed TransactionError"
        " UnitRefused VersionConflict",
    "cache": "Cache Cached",
    "database": "Database",
    "eventstore": "Event EventStore NewEvent Position",
    "locks": "Locks",
    "rate_limiter": "Decision RateLimiter",
    "repository": "Repository",
    "saga": "Saga SagaContext SagaRecord SagaStatus Sagas Step",
    "shared_session": "SessionRegistry SharedSession",
    "stock": "Reservation Stock StockLevel",
    "tenants": "MigrationFailure MigrationReport Tenants",
    "timeseries": "TimeSeries",
    "user_sessions": "UserSession UserSessions",
    "versioned": "Versioned",
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
