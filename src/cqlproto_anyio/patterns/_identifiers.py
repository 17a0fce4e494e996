"""Names of keyspaces, tables and columns: checked, quoted, and made from other names.

CQL can't bind an identifier, so it becomes part of a statement's text. Only letters, digits and
underscores pass, and the result is quoted, so its case counts and no word is reserved.
"""

from __future__ import annotations

import re

from cqlproto_anyio.patterns._errors import InvalidInput

__all__ = ["MAX_NAME", "decoded", "encoded", "identifier", "qualified", "quoted"]

MAX_NAME = 48
"""The longest name of a keyspace or table that a server accepts, in characters."""

_NAME = re.compile(r"[A-Za-z0-9_]+")
_SPECIAL = re.compile(r"[A-Z-]")
_ENCODABLE = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPE = re.compile(r"_(_|[0-9a-f]{2})")


def identifier(name: str, value: object, *, most: int = MAX_NAME) -> str:
    """Return a name of 1 to ``most`` letters, digits and underscores, without quotes.

    Arguments:
        name: the name of the argument.
        value: what was passed.
        most: the longest name, in characters.

    Raises:
        InvalidInput: the name is something else.
    """
    if isinstance(value, str) and len(value) <= most and _NAME.fullmatch(value):
        return str(value)
    raise InvalidInput(name, f"1 to {most} of the characters a-z, A-Z, 0-9 and _", value)


def quoted(name: str, value: object, *, most: int = MAX_NAME) -> str:
    """Return a checked name in double quotes, for a statement's text."""
    return f'"{identifier(name, value, most=most)}"'


def qualified(keyspace: object, table: object) -> str:
    """Return ``"keyspace"."table"``, checked and quoted."""
    return f"{quoted('keyspace', keyspace)}.{quoted('table', table)}"


def encoded(name: str, value: object, *, prefix: str = "") -> str:
    """Return a name of lower-case letters, digits and underscores for an id; no two ids share one.

    Lower-case letters and digits stay as they are, ``_`` is doubled, and every other character
    becomes ``_`` and its two hexadecimal digits: ``acme-Co`` becomes ``acme_2d_43o``. So ids that
    differ in case only have different names, also on file systems that ignore case.

    Arguments:
        name: the name of the argument.
        value: the id: letters, digits, ``_`` and ``-``.
        prefix: comes first, as it is.

    Raises:
        InvalidInput: the id has other characters, or its name is longer than 48 characters.
    """
    if not isinstance(value, str) or not _ENCODABLE.fullmatch(value):
        raise InvalidInput(name, "made of the characters a-z, A-Z, 0-9, _ and -", value)
    found = prefix + _SPECIAL.sub(lambda match: f"_{ord(match[0]):02x}", value.replace("_", "__"))
    if len(found) > MAX_NAME:
        raise InvalidInput(
            name, f"shorter: its name {found} has {len(found)} characters, {MAX_NAME} fit", value
        )
    return found


def decoded(found: str, *, prefix: str = "") -> str | None:
    """Return the id that :func:`encoded` made a name of; None if it made no such name."""
    if not found.startswith(prefix):
        return None
    value = _ESCAPE.sub(_character, found[len(prefix) :])
    try:
        return value if encoded("id", value, prefix=prefix) == found else None
    except InvalidInput:
        return None


def _character(escape: re.Match[str]) -> str:
    return "_" if escape[1] == "_" else chr(int(escape[1], 16))
