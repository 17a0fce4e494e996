"""Policies: what a session lets its user decide, as frozen and comparable values.

========================  ==========================================================================
:class:`Routing`          which hosts are used, and in which order
:class:`RetryPolicy`      whether a request that failed is tried again, and where
:class:`Speculation`      when a request without an answer is sent to another host as well
:class:`Reconnection`     how long to wait before a host is tried again
========================  ==========================================================================

They are pure functions: time and random numbers are arguments.
"""

from cqlproto_anyio.policies.reconnection import (
    ConstantReconnection,
    ExponentialReconnection,
    Reconnection,
)
from cqlproto_anyio.policies.retry import DefaultRetry, NoRetry, Retry, RetryPolicy
from cqlproto_anyio.policies.routing import Routing
from cqlproto_anyio.policies.speculation import (
    ConstantSpeculation,
    PercentileSpeculation,
    Speculation,
    Tracker,
)

__all__ = [
    "ConstantReconnection",
    "ConstantSpeculation",
    "DefaultRetry",
    "ExponentialReconnection",
    "NoRetry",
    "PercentileSpeculation",
    "Reconnection",
    "Retry",
    "RetryPolicy",
    "Routing",
    "Speculation",
    "Tracker",
]
