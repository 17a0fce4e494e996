"""Helpers for tests of what uses the protocol; they need the extra ``testing``.

What is here is imported when it is asked for, so that importing this package needs no Hypothesis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cqlproto.testing.strategies import cql_types, values_of

__all__ = ["cql_types", "values_of"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cqlproto.testing import strategies

    return getattr(strategies, name)
