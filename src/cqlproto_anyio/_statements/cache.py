"""The cache of a session's prepared statements: the least recently used one goes first."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cqlproto_anyio._statements.statement import Statement

__all__ = ["Key", "StatementCache"]

Key = str | tuple[str | None, str]
"""A statement's text in the session's default keyspace; (keyspace, text) in any other.

The fast path of ``execute`` then makes no tuple.
"""

# Upper bound on the characters of all cached texts together. One text alone may have more.
_MAX_CHARACTERS = 16 * 1024 * 1024


class StatementCache:
    """A session's prepared statements, bounded by their number and by the length of their texts.

    Arguments:
        size: the maximum number of statements.

    Attributes:
        characters: the total length of the texts.
    """

    __slots__ = ("_size", "_statements", "characters")

    def __init__(self, size: int) -> None:
        self._size = size
        self.characters = 0
        self._statements: OrderedDict[Key, Statement] = OrderedDict()

    def __len__(self) -> int:
        return len(self._statements)

    def __iter__(self) -> Iterator[Statement]:
        return iter(tuple(self._statements.values()))

    def get(self, key: Key) -> Statement | None:
        """Return the statement, or None, and mark it as the most recently used."""
        statement = self._statements.get(key)
        if statement is not None:
            self._statements.move_to_end(key)
        return statement

    def put(self, key: Key, statement: Statement) -> None:
        """Add a statement; the least recently used ones are evicted beyond the bounds."""
        statements = self._statements
        if key not in statements:
            self.characters += len(statement.query)
        statements[key] = statement
        statements.move_to_end(key)
        while len(statements) > self._size or (
            self.characters > _MAX_CHARACTERS and len(statements) > 1
        ):
            _, evicted = statements.popitem(last=False)
            self.characters -= len(evicted.query)
