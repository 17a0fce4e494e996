"""Helpers for tests of what uses the protocol.

:class:`LinkedPair` and :func:`linked_pair` carry bytes between a client's and a server's end;
:func:`cql_types` and :func:`values_of` are Hypothesis strategies, which need the extra ``testing``.
What is here is imported when it is asked for, so that the rest needs no Hypothesis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cqlproto.testing.linked import LinkedPair, linked_pair
    from cqlproto.testing.strategies import cql_types, values_of

__all__ = ["LinkedPair", "cql_types", "linked_pair", "values_of"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in ("LinkedPair", "linked_pair"):
        from cqlproto.testing import linked

        return getattr(linked, name)
    from cqlproto.testing import strategies

    return getattr(strategies, name)
