"""Log what servers warn of: once per kind, without values.

A warning (a large batch, many tombstones, a query without a partition key) comes with the answer
and is easily overlooked there. The first of each kind is logged; texts that differ in numbers and
quoted names alone are of one kind. Servers quote statements with their values in warnings, so what
is logged has no number, nothing in quotes, and nothing behind WHERE; results have the whole text.

The logger is ``cqlproto_anyio.warnings``:
``logging.getLogger("cqlproto_anyio.warnings").disabled = True`` turns it off.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from cqlproto_anyio._text import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ServerWarnings"]

LOGGER = "cqlproto_anyio.warnings"

# A server that makes up new ones is not listened to forever.
MAX_KINDS = 256
_LONGEST = 500

# What may be a value. The loops are possessive, so that scanning is linear.
_CONDITIONS = re.compile(
    r"\b(WHERE\b|VALUES\s*\(|SET\b(?=[^=]{1,100}=)).*", re.DOTALL | re.IGNORECASE
)
_VALUE = re.compile(
    r"""
      '(?:[^']++|'')*+(?:'|\Z)
    | "(?:[^"]++|"")*+(?:"|\Z)
    | \b[0-9a-f]{8}-[0-9a-f-]++\b
    | (?<![^\W\d])\d[\w.,:]*+
    """,
    re.VERBOSE | re.IGNORECASE,
)


class ServerWarnings:
    """What a session has logged so far."""

    __slots__ = ("_kinds",)

    def __init__(self) -> None:
        self._kinds: set[str] = set()

    def log(self, warnings: Iterable[str], query: str, host: str) -> None:
        """Log those of a kind that was not logged before.

        Arguments:
            warnings: what came with an answer.
            query: the statement.
            host: the node, as ``address:port``.
        """
        kinds = self._kinds
        for text in warnings:
            if len(kinds) >= MAX_KINDS:
                return
            kind = _kind(text)
            if kind not in kinds:
                kinds.add(kind)
                with suppress(Exception):  # a filter of the program's may raise
                    _log(kind, query, host)


def _kind(text: str) -> str:
    """Return a warning without what may be a value, or differs each time."""
    text = _VALUE.sub(_blanked, _CONDITIONS.sub(r"\1 ..", text[:_LONGEST]))
    return " ".join(text.split())


def _blanked(match: re.Match[str]) -> str:
    first = match.group()[0]
    return f"{first}..{first}" if first in "'\"" else "N"


def _log(kind: str, query: str, host: str) -> None:
    import logging

    logging.getLogger(LOGGER).warning(
        "%s warns: %s (of %s; such a warning is logged once, and results have all as .warnings)",
        host,
        kind,
        shown(query),
    )
