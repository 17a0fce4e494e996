"""Hints for common first mistakes: the names and markers of other libraries, missing parameters,
names in upper case.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["connect_keyword", "fold_hint", "option_keyword", "server_hint"]

_LITERALS = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\$\$.*?\$\$|--[^\n]*|//[^\n]*", re.S)
_FOREIGN = re.compile(r"%s|%\(\w+\)s|\$\d+")
_UNBOUND = re.compile(r"Invalid amount of bind variables|but 0 bound variables")
_UNKNOWN = re.compile(r"(?:Undefined column name|Unknown identifier|unconfigured table) \"?(\w+)")
# Longer texts are not searched for a mistake, since that would block the event loop.
_MAX_READ = 1 << 16


def server_hint(message: str, query: str | None) -> str | None:
    """Return a hint for an error of the server, or None.

    Arguments:
        message: the error's text.
        query: the statement, or None.
    """
    if "No keyspace has been specified" in message:
        return "pass keyspace= to connect(), or write keyspace.table"
    if _UNBOUND.search(message):
        return "the statement has bind markers: pass their values, execute(query, (value, ..))"
    if query is None or len(query) > _MAX_READ:
        return None
    unknown = _UNKNOWN.search(message)
    if unknown is not None:
        return _case_hint(unknown[1], query)
    if "line " in message and (foreign := _FOREIGN.search(_LITERALS.sub("''", query))):
        return f"write ? or :name for a value, not {foreign[0]}"
    return None


def _case_hint(name: str, query: str) -> str | None:
    """Return a hint for a name in upper case, which the server reads in lower case, or None."""
    for found in re.finditer(rf"\b{re.escape(name)}\b", query, re.I):
        if found[0] != name and query[max(found.start() - 1, 0)] != '"':
            return f'unquoted names are lower case: write "{found[0]}" in double quotes if it is so'
    return None


def fold_hint(missing: Iterable[str], names: Iterable[object]) -> str:
    """Return a hint if a marker's name and a given name differ only in upper and lower case."""
    given = {name.lower(): name for name in names if isinstance(name, str)}
    for name in missing:
        other = given.get(name)
        if other is not None and other != name:
            return (
                f"; the server folds :{other} to {name}: name it {name}, or write the marker in"
                f' double quotes, :"{other}"'
            )
    return ""


_BY_POSITION = "parameters go by position: execute(query, (1, 2))"
_OPTIONS: Mapping[str, str] = {
    "params": _BY_POSITION,
    "parameters": _BY_POSITION,
    "args": _BY_POSITION,
    "values": _BY_POSITION,
    "fetch_size": "page_size=",
    "consistency_level": "consistency=",
    "serial_consistency_level": "serial_consistency=",
    "retry_policy": "retry=",
    "execution_profile": "profile=",
    "is_idempotent": "idempotent=",
    "row_factory": "row=",
    "custom_payload": "payload=",
}


def option_keyword(name: str) -> str:
    """Return a hint for the name of an unknown option, or an empty string."""
    hint = _OPTIONS.get(name)
    return "" if hint is None else f": {'' if hint is _BY_POSITION else 'write '}{hint}"


_AUTH = "auth=cql.PlainAuth(name, password)"
_CONNECT: Mapping[str, str] = {
    "contact_points": "hosts, the first argument",
    "host": "hosts, the first argument",
    "addresses": "hosts, the first argument",
    "user": _AUTH,
    "username": _AUTH,
    "password": _AUTH,
    "auth_provider": _AUTH,
    "ssl": "tls=",
    "ssl_context": "tls=",
    "ssl_options": "tls=",
    "datacenter": "local_dc=",
    "local_datacenter": "local_dc=",
}


def connect_keyword(name: str, config: Iterable[str], profile: Iterable[str]) -> str:
    """Return a hint for an argument that ``connect`` doesn't have, or an empty string.

    Arguments:
        name: the argument.
        config: the fields of Config.
        profile: the fields of Profile.
    """
    if name in _CONNECT:
        return f": write {_CONNECT[name]}"
    if name in config:
        return f": write config=cql.Config({name}=..)"
    return f": write profile=cql.Profile({name}=..)" if name in profile else ""
