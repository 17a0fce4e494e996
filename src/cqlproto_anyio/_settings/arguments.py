"""Checks of the arguments of :func:`connect`, and parsing of contact points."""

from __future__ import annotations

import math
from collections.abc import Iterable

from cqlproto_anyio._checks.values import checked_endpoint, integer, keyspace_name, number
from cqlproto_anyio._settings.profile import Profile
from cqlproto_anyio.config import Config
from cqlproto_anyio.endpoint import Endpoint
from cqlproto_anyio.exceptions import ConfigError

__all__ = ["check_arguments", "contact_points", "parse_endpoint"]


# What to pass instead of a value of the wrong type.
_EXPECTED = {
    "hosts": "pass a name or an address, or a list of them",
    "auth": 'pass cql.PlainAuth("name", password)',
    "tls": "pass True, or an ssl.SSLContext",
    "local_dc": "pass the name of a data centre",
    "profile": "pass cql.Profile(..)",
    "config": "pass cql.Config(..)",
}


def check_arguments(
    hosts: object,
    port: object,
    keyspace: object,
    auth: object,
    tls: object,
    local_dc: object,
    profile: object,
    config: object,
    wait: object = 0.0,
) -> None:
    """Raise ConfigError for an argument that :func:`connect` doesn't accept."""
    import ssl

    texts = (str, type(None))
    for name, value, fits in (
        ("hosts", hosts, isinstance(hosts, (Endpoint, Iterable)) and not _is_bytes(hosts)),
        ("auth", auth, auth is None or _makes_authenticators(auth)),
        ("tls", tls, isinstance(tls, (bool, ssl.SSLContext))),
        ("local_dc", local_dc, isinstance(local_dc, texts)),
        ("profile", profile, isinstance(profile, (Profile, type(None)))),
        ("config", config, isinstance(config, (Config, type(None)))),
    ):
        if not fits:
            shown = "the class" if isinstance(value, type) else "a"
            kind = value.__name__ if isinstance(value, type) else type(value).__name__
            raise ConfigError(f"{name} can't be {shown} {kind}: {_EXPECTED[name]}")
    integer("port", port, 1, 65_535, "a TCP port from 1 to 65535")
    if keyspace is not None:
        keyspace_name("keyspace", keyspace)
    number("wait", wait, 0.0, math.inf, "a number of seconds, at least 0")


def _makes_authenticators(value: object) -> bool:
    return hasattr(value, "authenticator") and not isinstance(value, type)


def _is_bytes(value: object) -> bool:
    return isinstance(value, (bytes, bytearray, memoryview))


def contact_points(hosts: str | Endpoint | Iterable[object], port: int) -> list[Endpoint]:
    """Return the contact points, without duplicates.

    Arguments:
        hosts: the first argument of :func:`connect`.
        port: the TCP port of those that don't name one.

    Raises:
        ConfigError: there are none, or one is invalid.
    """
    each = [hosts] if isinstance(hosts, (str, Endpoint)) else list(hosts)
    found: dict[Endpoint, None] = {}
    for item in each:
        if isinstance(item, Endpoint):
            found[checked_endpoint(item)] = None
        elif isinstance(item, str):
            found.update((parse_endpoint(name.strip(), port), None) for name in item.split(","))
        else:
            raise ConfigError(
                f"a contact point must be a str or an Endpoint, got a {type(item).__name__}"
            )
    if not found:
        raise ConfigError("hosts is empty: name at least one contact point")
    return list(found)


def parse_endpoint(name: str, port: int) -> Endpoint:
    """Parse ``host``, ``host:port``, ``::1`` or ``[::1]:port``.

    Raises:
        ConfigError: the text is none of these.
    """
    address, text = name, ""
    if "/" in name:
        raise ConfigError(f"a contact point must be host or host:port, got the URL {name!r}")
    if name.startswith("["):
        address, closed, text = name[1:].partition("]")
        if not closed or (text and not text.startswith(":")):
            raise ConfigError(f"a contact point must be [address]:port, got {name!r}")
        text = text[1:]
    elif name.count(":") == 1:
        address, _, text = name.partition(":")
    if text:
        if not text.isascii() or not text.isdigit():
            raise ConfigError(f"a contact point must be host or host:port, got {name!r}")
        port = int(text)
    if not address:
        raise ConfigError(f"a contact point must be host or host:port, got {name!r}")
    if not 0 < port < 65536:
        raise ConfigError(f"the port of a contact point must be 1 to 65535, got {name!r}")
    return Endpoint(address, port)
