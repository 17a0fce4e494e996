"""Targets for texts: the client's analysis of statements, and page tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqlproto_anyio._text import administration, read_statement, tokens
from cqlproto_anyio.exceptions import PageTokenMismatch
from cqlproto_anyio.results import PageToken
from fuzz.checks import require

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOTHING = (" ", "/* USE ? IF */", "-- USE '\n", "//\r")
_VERBS = ("INSERT", "UPDATE", "DELETE", "BEGIN")
_RESERVED = {"ALTER", "CREATE", "DROP", "GRANT", "REVOKE", "TRUNCATE"}


def statements(data: bytes) -> None:
    """Statements: tokens are in the text, in order; comments between them change nothing."""
    text = data.decode(errors="replace")
    position = 0
    for kind, token in tokens(text):
        require(token, "an empty token", kind)
        found = text.find(token, position)
        require(found >= 0, "a token that is not there", token)
        position = found + len(token)
    said = read_statement(text)
    require(said.verb == said.verb.upper(), "a verb in lower case", said)
    require(not said.conditional or said.verb in _VERBS, "conditional without a verb", said)
    before = _NOTHING[len(data) % len(_NOTHING)]
    require(read_statement(before + text) == said, "a comment changes it", before, text)
    kind = administration(text)
    require(administration(before + text) == kind, "a comment changes its kind", before, text)
    words = {token.upper() for each, token in tokens(text) if each == "word"}
    require(kind or not words & _RESERVED, "administration is not found", text)
    require(words.issuperset(kind.split()), "administration that is not there", kind, text)


_TOKENS = PageToken("SELECT * FROM t WHERE a = ?", "ks", [b"cell", None])


def page_tokens(data: bytes) -> None:
    """Page tokens: only tokens that the client writes can be read, and round-trip."""
    written = _TOKENS.write(data)
    require(written is not None and _TOKENS.read(written) == data, "another state", written)
    try:
        state = _TOKENS.read(data.decode("latin-1"))
    except PageTokenMismatch:
        return
    require(_TOKENS.write(state) == data.decode("latin-1"), "a token that was not written", data)


def statement_seeds() -> Iterator[bytes]:
    """Statements of several kinds, with strings, names and comments."""
    yield b"SELECT * FROM t WHERE a = ? AND b = :b -- why\n ALLOW FILTERING"
    yield b"INSERT INTO \"T \"\"x\" (a) VALUES ('it''s', $$ do $ $$) IF NOT EXISTS // end"
    yield b"BEGIN BATCH UPDATE t SET a = 1.5e-3 WHERE k = 0xff IF EXISTS; APPLY BATCH /* * / */"
    yield b' ; use "Ks"'
    yield b'DELETE FROM t WHERE k = :"K"" k" /* open'


def token_seeds() -> Iterator[bytes]:
    """Page tokens, and the parts of one."""
    for state in (b"", b"\0\x10state", bytes(range(64))):
        written = _TOKENS.write(state)
        assert written is not None
        yield written.encode()
        yield state


STATEMENT_WORDS = (
    *[b"DROP ", b"CREATE ", b"OR REPLACE ", b"TRUNCATE ", b"ROLE "],
    *[b"USE ", b"SELECT ", b"INSERT ", b"BEGIN ", b" IF ", b"--", b"//", b"/*", b"*/", b"$$"],
    *[b"'", b"''", b'"', b'""', b":a", b':"', b"?", b";", b"\r", b"\n"],
)
