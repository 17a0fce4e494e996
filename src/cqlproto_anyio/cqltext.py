"""What can be told of a statement from its text, by a tokenizer that knows what is a comment or a
string.

Four things are needed and no reply of the server says them: whether it is a USE (which a shared
connection can't have), whether it only reads, whether it is conditional, and whether its bind
markers are all named.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["StatementText", "read_statement", "shown", "tokens"]

# No alternative can match the empty string or back-track into another, so scanning is linear. A
# string or comment that isn't closed runs to the end of the text. The possessive loops keep no
# state per character, which would be gigabytes for a literal of some megabytes.
_TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<comment>--[^\r\n]*|//[^\r\n]*|/\*(?:[^*]++|\*(?!/))*+(?:\*/|\Z))
    | (?P<string>'(?:[^']++|'')*+(?:'|\Z)|\$\$(?:[^$]++|\$(?!\$))*+(?:\$\$|\Z))
    | (?P<name>"(?:[^"]++|"")*+(?:"|\Z))
    | (?P<word>[A-Za-z][A-Za-z0-9_]*)
    | (?P<number>[0-9][A-Za-z0-9_.]*)
    | (?P<marker>\?|:(?:[A-Za-z][A-Za-z0-9_]*|"(?:[^"]++|"")*+"))
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)


class StatementText(NamedTuple):
    """What a statement's text says.

    Attributes:
        verb: its first word, in upper case; empty if there is none.
        conditional: whether the word IF stands in an INSERT, UPDATE, DELETE or BATCH.
        named: whether every bind marker has a name of its own (``:name``).
        several: whether it may write to several partitions: a BATCH, or an UPDATE or DELETE with
            the word IN. A coordinator begins with the first before it has looked at the last.
    """

    verb: str
    conditional: bool
    named: bool
    several: bool = False

    @property
    def reads(self) -> bool:
        """Whether it can't change anything."""
        return self.verb in ("SELECT", "LIST", "DESCRIBE", "DESC")

    @property
    def stamped(self) -> bool:
        """Whether a timestamp of the client's belongs to it.

        It writes, and not by Paxos, whose rounds have their own.
        """
        return self.verb in ("INSERT", "UPDATE", "DELETE", "BEGIN") and not self.conditional


def tokens(text: str) -> Iterator[tuple[str, str]]:
    """Yield (kind, text) of each token but spaces and comments.

    The kinds are ``string``, ``name`` (quoted), ``word``, ``number``, ``marker`` and ``other``.
    """
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "other"
        if kind not in ("space", "comment"):
            yield kind, match.group()


_SHOWN = 80


def shown(text: str) -> str:
    """Return a statement's text for messages: on one line, short, without the strings in it.

    A string may be a password (``CREATE ROLE .. WITH PASSWORD = '..'``) or somebody's data.
    """
    line = " ".join(_TOKEN.sub(_blanked, text[: 4 * _SHOWN]).split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 3] + "..."


def _blanked(match: re.Match[str]) -> str:
    if match.lastgroup == "string":
        return "'..'"
    return " " if match.lastgroup == "comment" else match.group()


# A text with values in it is long and seldom comes twice: kept, a thousand would take much memory.
_MAX_KEPT = 8192


def read_statement(text: str) -> StatementText:
    """Return what the text of a statement says."""
    return _read_kept(text) if len(text) <= _MAX_KEPT else _read(text)


@lru_cache(maxsize=1024)
def _read_kept(text: str) -> StatementText:
    return _read(text)


def _read(text: str) -> StatementText:
    verb = ""
    conditional = False
    named = True
    several = False
    first = True
    for kind, token in tokens(text):
        if first:
            first = token == ";"
            if kind == "word":
                verb = token.upper()
        elif kind == "word" and len(token) == 2:
            word = token.upper()
            conditional = conditional or word == "IF"
            several = several or word == "IN"
        if kind == "marker" and token == "?":
            named = False
    return StatementText(
        verb,
        conditional and verb in ("INSERT", "UPDATE", "DELETE", "BEGIN"),
        named,
        verb == "BEGIN" or (several and verb in ("UPDATE", "DELETE")),
    )
