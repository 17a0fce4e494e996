"""A CQL client for asyncio and trio. ``import cqlproto_anyio as cql``, then ``cql.connect``."""

from __future__ import annotations

from cqlproto._version import __version__
from cqlproto.cqltypes import EMPTY, UNSET, Date, Duration, Time, Timestamp
from cqlproto.enums import Consistency
from cqlproto.rows import Row, RowTarget
from cqlproto_anyio import exceptions
from cqlproto_anyio.config import Auth, Config, Endpoint, Options, PlainAuth, Profile
from cqlproto_anyio.exceptions import *  # noqa: F403  # the error tree is part of the surface
from cqlproto_anyio.executor import Executor
from cqlproto_anyio.paging import RowStream
from cqlproto_anyio.prepared import Prepared
from cqlproto_anyio.results import Page, Result
from cqlproto_anyio.session import Session, connect

__all__ = [
    "EMPTY",
    "UNSET",
    "Auth",
    "Config",
    "Consistency",
    "Date",
    "Duration",
    "Endpoint",
    "Executor",
    "Options",
    "Page",
    "PlainAuth",
    "Prepared",
    "Profile",
    "Result",
    "Row",
    "RowStream",
    "RowTarget",
    "Session",
    "Time",
    "Timestamp",
    "__version__",
    "connect",
]
__all__ += exceptions.__all__
