"""What the text of a statement says, found by a tokenizer that skips comments and strings.

The client needs to know four things that no reply of the server says: whether a statement is a USE
(which a shared connection can't execute), whether it only reads, whether it is conditional, and
whether all of its bind markers are named.

Texts may be megabytes long, and this runs on the event loop for each call. The first word decides
what else is needed: nothing for a SELECT, the presence of two words for an UPDATE. One match of a
regular expression searches for a word, however many tokens precede it. Results are cached.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from functools import lru_cache
from itertools import takewhile
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "READING",
    "StatementText",
    "administration",
    "has_names_only",
    "marker_names",
    "read_statement",
    "read_verb",
    "shown",
    "tokens",
]

# No alternative matches the empty string or backtracks into another, so scanning is linear. A
# string or comment that isn't closed runs to the end of the text. Possessive quantifiers keep no
# state per character, which would take gigabytes for a literal of some megabytes.
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


READING = frozenset({"SELECT", "LIST", "DESCRIBE", "DESC"})
"""The first words of statements that only read."""

_COMMENT = r"--[^\r\n]*+|//[^\r\n]*+|/\*(?:[^*]++|\*(?!/))*+(?:\*/|\Z)"
_FIRST_WORD = re.compile(rf"(?:[\s;]++|{_COMMENT})*+([A-Za-z][A-Za-z0-9_]*+)?")


def _finder(token: str, start: str, words: str) -> re.Pattern[str]:
    """Return a pattern that matches from the start of a text to the end of the first such token.

    Arguments:
        token: the pattern of the token.
        start: the special characters that the token may begin with.
        words: the pattern of all words but the token.
    """
    return re.compile(
        rf"""
        (?:
            [^'"$/:A-Za-z0-9\-{start}]++
          | {_COMMENT}
          | '(?:[^']++|'')*+(?:'|\Z)
          | \$\$(?:[^$]++|\$(?!\$))*+(?:\$\$|\Z)
          | "(?:[^"]++|"")*+(?:"|\Z)
          | :(?:[A-Za-z][A-Za-z0-9_]*+|"(?:[^"]++|"")*+")
          | [0-9][A-Za-z0-9_.]*+
          | {words}
          | [$/:\-]
        )*+
        {token}
        """,
        re.VERBOSE,
    )


def _word_finder(*words: str) -> re.Pattern[str]:
    """Return a pattern that ends at the first of these words."""
    each = ("".join(f"[{letter.lower()}{letter.upper()}]" for letter in word) for word in words)
    token = f"(?:{'|'.join(each)})(?![A-Za-z0-9_])"
    return _finder(f"(?P<found>{token})", "", f"(?!{token})[A-Za-z][A-Za-z0-9_]*+")


_IF, _IN = _word_finder("IF"), _word_finder("IN")
# CQL reserves these words: without quotes they are never the name of a column or a table
_ADMINISTRATIVE = _word_finder("ALTER", "CREATE", "DROP", "GRANT", "REVOKE", "TRUNCATE", "USE")
_QUESTION = _finder(r"\?", "?", "[A-Za-z][A-Za-z0-9_]*+")


class StatementText(NamedTuple):
    """What a statement's text says.

    Attributes:
        verb: the first word, in upper case; empty if there is none.
        conditional: whether it is an INSERT, UPDATE, DELETE or BATCH with the word IF.
        several: whether it may write to several partitions: a BATCH, or an UPDATE or DELETE with
            the word IN. If it fails, some of them may have been written.
    """

    verb: str
    conditional: bool
    several: bool = False

    @property
    def reads(self) -> bool:
        """Whether it only reads."""
        return self.verb in READING

    @property
    def stamped(self) -> bool:
        """Whether the client may set its timestamp: it is a write, and not conditional.

        Paxos makes the timestamps of conditional writes.
        """
        return self.verb in ("INSERT", "UPDATE", "DELETE", "BEGIN") and not self.conditional


def tokens(text: str) -> Iterator[tuple[str, str]]:
    """Yield the (kind, text) of each token, without spaces and comments.

    The kinds are ``string``, ``name`` (quoted), ``word``, ``number``, ``marker`` and ``other``.
    """
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "other"
        if kind not in ("space", "comment"):
            yield kind, match.group()


_SHOWN = 80


def shown(text: str) -> str:
    """Return a statement's text for messages: one short line, with string literals blanked.

    A literal may be a password (``CREATE ROLE .. WITH PASSWORD = '..'``) or personal data.
    """
    line = " ".join(_TOKEN.sub(_blanked, text[: 4 * _SHOWN]).split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 3] + "..."


def _blanked(match: re.Match[str]) -> str:
    if match.lastgroup == "string":
        return "'..'"
    return " " if match.lastgroup == "comment" else match.group()


# The cache of short texts is bounded by their number, that of long ones by their total length.
# Even longer texts have values in them and seldom come twice, so they are not cached.
_MAX_SHORT = 1024
_MAX_TOTAL = 4 * 1024 * 1024
_MAX_LONG = _MAX_TOTAL // 8


class _LongTexts:
    """Cache of what long texts say, for the sessions of all threads; the least recently used go
    first."""

    def __init__(self) -> None:
        self._found: OrderedDict[str, StatementText] = OrderedDict()
        self._lock = Lock()
        self.characters = 0

    def read(self, text: str) -> StatementText:
        """Return what a text says, from the cache if possible."""
        with self._lock:
            found = self._found.get(text)
            if found is not None:
                self._found.move_to_end(text)
                return found
        found = _read(text)
        with self._lock:
            if text not in self._found:
                self._found[text] = found
                self.characters += len(text)
            while self.characters > _MAX_TOTAL:
                self.characters -= len(self._found.popitem(last=False)[0])
        return found


_long_texts = _LongTexts()


def read_statement(text: str) -> StatementText:
    """Return what the text of a statement says."""
    length = len(text)
    if length <= _MAX_SHORT:
        return _read_short(text)
    return _long_texts.read(text) if length <= _MAX_LONG else _read(text)


def read_verb(text: str) -> str:
    """Return the first word of a statement, in upper case; empty if there is none."""
    found = _FIRST_WORD.match(text)
    return "" if found is None or found[1] is None else found[1].upper()


_ON_ROWS = frozenset({"", "SELECT", "INSERT", "UPDATE", "DELETE", "BEGIN", "DESCRIBE", "DESC"})
_ONE_WORD = frozenset({"GRANT", "REVOKE", "TRUNCATE", "USE"})
_BETWEEN = frozenset({"OR", "REPLACE", "CUSTOM"})  # CREATE OR REPLACE FUNCTION


def administration(text: str) -> str:
    """Return the kind of a statement that changes more than rows: ``DROP TABLE``, ``CREATE ROLE``.

    Returns "" for a statement that reads and writes rows, or describes the schema. A batch, or a
    text with several statements, has the kind of the first statement that is none of these.
    """
    start = None
    if read_verb(text) not in _ON_ROWS:
        first = _FIRST_WORD.match(text)
        start = None if first is None else first.start(1)
    elif (found := _ADMINISTRATIVE.match(text)) is not None:
        start = found.start("found")
    if start is None:
        return ""
    following = takewhile(lambda token: token[0] == "word", tokens(text[start:]))
    verb, *others = (word.upper() for _, word in following)
    words = [verb, *(word for word in others if word not in _BETWEEN)]
    if verb in _ONE_WORD:
        return verb
    return " ".join(words[: 3 if words[1:2] == ["MATERIALIZED"] else 2])


def has_names_only(text: str) -> bool:
    """Return whether every bind marker has a name of its own (``:name``)."""
    return _QUESTION.match(text) is None


def marker_names(text: str) -> set[str]:
    """Return the names of ``:name`` markers; those without quotes in lower case, as on the server.

    May include a name after a colon that is no marker, as in a map literal ``{a:now()}``.
    """
    if ":" not in text:
        return set()
    names = [token[1:] for kind, token in tokens(text) if kind == "marker" and token != "?"]
    return {
        name[1:-1].replace('""', '"') if name.startswith('"') else name.lower() for name in names
    }


@lru_cache(maxsize=1024)
def _read_short(text: str) -> StatementText:
    return _read(text)


def _read(text: str) -> StatementText:
    verb = read_verb(text)
    if verb not in ("INSERT", "UPDATE", "DELETE", "BEGIN"):
        return StatementText(verb, False, False)
    several = verb == "BEGIN" or (verb != "INSERT" and _IN.match(text) is not None)
    return StatementText(verb, _IF.match(text) is not None, several)
