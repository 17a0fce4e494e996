"""Logging of server warnings: once per kind, without values.

A warning (a large batch, many tombstones, a query without a partition key) comes with a result,
where it is easily overlooked. The first warning of each kind is logged; warnings that differ only
in numbers and quoted text are of one kind. Servers quote statements with their values, so the log
contains no numbers, no quoted text and nothing after WHERE. Results have the complete text.

The logger is ``cqlproto_anyio.warnings``;
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

# Upper bound, in case a server keeps sending new kinds.
MAX_KINDS = 256
_LONGEST = 500

# Anything that may be a value. The quantifiers are possessive, so scanning is linear.
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
    """The kinds of warnings that a session has logged."""

    __slots__ = ("_kinds",)

    def __init__(self) -> None:
        self._kinds: set[str] = set()

    def log(self, warnings: Iterable[str], query: str, host: str) -> None:
        """Log the warnings whose kind was not logged before.

        Arguments:
            warnings: the warnings of a reply.
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
                with suppress(Exception):  # a user's log filter may raise
                    _log(kind, query, host)


def _kind(text: str) -> str:
    """Return a warning without numbers, quoted text and conditions."""
    text = _VALUE.sub(_blanked, _CONDITIONS.sub(r"\1 ..", text[:_LONGEST]))
    return " ".join(text.split())


def _blanked(match: re.Match[str]) -> str:
    first = match.group()[0]
    return f"{first}..{first}" if first in "'\"" else "N"


def _log(kind: str, query: str, host: str) -> None:
    import logging

    logging.getLogger(LOGGER).warning(
        "%s warns: %s (of %s; logged once per kind, results have all as .warnings)",
        host,
        kind,
        shown(query),
    )
