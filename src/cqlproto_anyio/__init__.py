"""A CQL client for asyncio and trio. ``import cqlproto_anyio as cql``, then ``cql.connect``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cqlproto._version import __version__
from cqlproto.cqltypes import (
    EMPTY,
    UNSET,
    Date,
    Duration,
    Time,
    Timestamp,
    max_timeuuid,
    min_timeuuid,
    timeuuid_datetime,
)
from cqlproto.enums import Consistency
from cqlproto.rows import Row, RowTarget
from cqlproto_anyio import exceptions
from cqlproto_anyio._execution.paging import RowStream
from cqlproto_anyio._metadata.topology import Host
from cqlproto_anyio._settings.profile import Options, Profile
from cqlproto_anyio._statements.statement import Prepared
from cqlproto_anyio.config import Auth, Config, PlainAuth
from cqlproto_anyio.connect import Connecting, connect
from cqlproto_anyio.endpoint import Endpoint
from cqlproto_anyio.exceptions import *  # noqa: F403  # the error tree is part of the surface
from cqlproto_anyio.executor import BulkExecutor, Executor
from cqlproto_anyio.hooks import (
    ClockRecord,
    ConnectionRecord,
    ControlRecord,
    Hooks,
    HostRecord,
    RequestRecord,
)
from cqlproto_anyio.policies import (
    ConstantReconnection,
    ConstantSpeculation,
    DefaultRetry,
    ExponentialReconnection,
    NoRetry,
    PercentileSpeculation,
    Reconnection,
    Retry,
    RetryPolicy,
    Routing,
    Speculation,
    Tracker,
)
from cqlproto_anyio.results import Page, Result
from cqlproto_anyio.session import Session
from cqlproto_anyio.statistics import HostStatistics, Statistics
from cqlproto_anyio.timeuuids import timeuuid

if TYPE_CHECKING:
    from cqlproto_anyio._execution.bulk.result import BulkResult
    from cqlproto_anyio._execution.bulk.stream import ResultStream
    from cqlproto_anyio.exceptions._failure import Failure
    from cqlproto_anyio.lwt import settle
    from cqlproto_anyio.tracing import Trace, TraceEvent, TraceNotFound

__all__ = [
    "Auth",
    "BulkExecutor",
    "BulkResult",
    "ClockRecord",
    "Config",
    "Connecting",
    "ConnectionRecord",
    "Consistency",
    "ConstantReconnection",
    "ConstantSpeculation",
    "ControlRecord",
    "Date",
    "DefaultRetry",
    "Duration",
    "EMPTY",
    "Endpoint",
    "Executor",
    "ExponentialReconnection",
    "Failure",
    "Hooks",
    "Host",
    "HostRecord",
    "HostStatistics",
    "NoRetry",
    "Options",
    "Page",
    "PercentileSpeculation",
    "PlainAuth",
    "Prepared",
    "Profile",
    "Reconnection",
    "RequestRecord",
    "Result",
    "ResultStream",
    "Retry",
    "RetryPolicy",
    "Routing",
    "Row",
    "RowStream",
    "RowTarget",
    "Session",
    "Speculation",
    "Statistics",
    "Time",
    "Timestamp",
    "Trace",
    "TraceEvent",
    "TraceNotFound",
    "Tracker",
    "UNSET",
    "__version__",
    "connect",
    "max_timeuuid",
    "min_timeuuid",
    "settle",
    "timeuuid",
    "timeuuid_datetime",
]
__all__ += exceptions.__all__

# Imported on first use: few programs need them, and importing them takes time.
_LATER = {
    "BulkResult": "_execution.bulk.result",
    "Failure": "exceptions._failure",
    "ResultStream": "_execution.bulk.stream",
    "Trace": "tracing",
    "TraceEvent": "tracing",
    "TraceNotFound": "tracing",
    "settle": "lwt",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
