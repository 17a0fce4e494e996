"""What can be told of a statement from its text, by a tokenizer that knows what is a comment or a
string.

Four things are needed and no reply of the server says them: whether it is a USE (which a shared
connection can't have), whether it only reads, whether it is conditional, and whether its bind
markers are all named.

Texts may be megabytes long, and this runs on the event loop for each call. The first word is read
from the start of the text, and says what else is needed: of a SELECT nothing, of an UPDATE two
words. A word is looked for by one match of a regular expression, however many tokens come before
it. What was found is kept, for as many characters of text as are worth it.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "READING",
    "StatementText",
    "has_names_only",
    "marker_names",
    "read_statement",
    "read_verb",
    "shown",
    "tokens",
]

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


READING = frozenset({"SELECT", "LIST", "DESCRIBE", "DESC"})
"""The first words of statements that can't change anything."""

_COMMENT = r"--[^\r\n]*+|//[^\r\n]*+|/\*(?:[^*]++|\*(?!/))*+(?:\*/|\Z)"
_FIRST_WORD = re.compile(rf"(?:[\s;]++|{_COMMENT})*+([A-Za-z][A-Za-z0-9_]*+)?")


def _finder(token: str, start: str, words: str) -> re.Pattern[str]:
    """Return a pattern that matches from the start of a text to the end of the first such token.

    Arguments:
        token: the pattern of the token.
        start: the special characters among those that it begins with.
        words: the pattern of words other than the token.
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


def _word_finder(word: str) -> re.Pattern[str]:
    letters = "".join(f"[{letter.lower()}{letter.upper()}]" for letter in word)
    token = f"{letters}(?![A-Za-z0-9_])"
    return _finder(token, "", f"(?!{token})[A-Za-z][A-Za-z0-9_]*+")


_IF, _IN = _word_finder("IF"), _word_finder("IN")
_QUESTION = _finder(r"\?", "?", "[A-Za-z][A-Za-z0-9_]*+")


class StatementText(NamedTuple):
    """What a statement's text says.

    Attributes:
        verb: its first word, in upper case; empty if there is none.
        conditional: whether the word IF stands in an INSERT, UPDATE, DELETE or BATCH.
        several: whether it may write to several partitions: a BATCH, or an UPDATE or DELETE with
            the word IN. A coordinator begins with the first before it has looked at the last.
    """

    verb: str
    conditional: bool
    several: bool = False

    @property
    def reads(self) -> bool:
        """Whether it can't change anything."""
        return self.verb in READING

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


# Texts up to so many characters are kept by number; longer ones as long as all of them together
# have no more than so many. One with values in it may be long, and seldom comes twice.
_SHORT = 1024
_MOST_LONG = 4 * 1024 * 1024
_LONGEST = _MOST_LONG // 8


class _Kept:
    """What was found in long texts that came lately, for all sessions in all threads."""

    def __init__(self) -> None:
        self._found: OrderedDict[str, StatementText] = OrderedDict()
        self._lock = Lock()
        self.characters = 0

    def read(self, text: str) -> StatementText:
        """Return what a text says."""
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
            while self.characters > _MOST_LONG:
                self.characters -= len(self._found.popitem(last=False)[0])
        return found


_kept = _Kept()


def read_statement(text: str) -> StatementText:
    """Return what the text of a statement says."""
    length = len(text)
    if length <= _SHORT:
        return _read_short(text)
    return _kept.read(text) if length <= _LONGEST else _read(text)


def read_verb(text: str) -> str:
    """Return the first word of a statement, in upper case; empty if there is none."""
    found = _FIRST_WORD.match(text)
    return "" if found is None or found[1] is None else found[1].upper()


def has_names_only(text: str) -> bool:
    """Return whether every bind marker has a name of its own (``:name``)."""
    return _QUESTION.match(text) is None


def marker_names(text: str) -> set[str]:
    """Return the names that bind markers have of their own, as the server folds them.

    A name behind a colon in a literal may be among them.
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
