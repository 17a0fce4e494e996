"""Helpers for tests of what speaks the protocol: a proxy, a driver, a server.

Strategies need the extra ``testing``, for Hypothesis:

- :func:`cql_types` and :func:`values_of`: types, and the values of a type;
- :func:`requests` and :func:`responses`: messages of every kind, as a version has them;
  :func:`query_parameters`, :func:`columns`, :func:`errors`, :func:`server_events` are of them;
- :func:`request_frames` and :func:`response_frames`: whole frames, with what stands around a
  message, and :func:`segmented`: the segments of version 5 around frames;
- :func:`splits`, :func:`offsets`: ways to cut bytes; :func:`every_split` goes through all of them;
- :func:`corrupted`, :func:`noise`: bytes that are wrong, a little or altogether.

:class:`LinkedPair` and :func:`linked_pair` carry bytes between a client's and a server's end, and
need no Hypothesis: what is here is imported when it is asked for.

A test that whatever a client may say reaches a server, in whatever pieces it comes:

    >>> from hypothesis import given, strategies as st
    >>> from cqlproto.enums import ProtocolVersion
    >>> from cqlproto.frames import FrameReader
    >>> from cqlproto.testing import request_frames, splits
    >>> @given(request_frames(ProtocolVersion.V4), st.data())
    ... def test_pieces_do_not_matter(sent, data):
    ...     reader = FrameReader(max_body=1 << 20, responses=False)
    ...     found = []
    ...     for piece in data.draw(splits(bytes(sent))):
    ...         reader.feed(piece)
    ...         while (frame := reader.read()) is not None:
    ...             found.append(frame)
    ...     assert found == [sent.frame]
    >>> test_pieces_do_not_matter()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cqlproto.testing.client_messages import query_parameters, requests
    from cqlproto.testing.frames import Framed, request_frames, response_frames, segmented
    from cqlproto.testing.linked import LinkedPair, linked_pair
    from cqlproto.testing.pieces import corrupted, every_split, noise, offsets, splits
    from cqlproto.testing.server_messages import columns, errors, responses, server_events
    from cqlproto.testing.values import cql_types, values_of

__all__ = [
    "Framed",
    "LinkedPair",
    "columns",
    "corrupted",
    "cql_types",
    "errors",
    "every_split",
    "linked_pair",
    "noise",
    "offsets",
    "query_parameters",
    "request_frames",
    "requests",
    "response_frames",
    "responses",
    "segmented",
    "server_events",
    "splits",
    "values_of",
]

_MODULES = {
    "frames": ("Framed", "request_frames", "response_frames", "segmented"),
    "linked": ("LinkedPair", "linked_pair"),
    "pieces": ("corrupted", "every_split", "noise", "offsets", "splits"),
    "client_messages": ("query_parameters", "requests"),
    "server_messages": ("columns", "errors", "responses", "server_events"),
    "values": ("cql_types", "values_of"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    # No submodule has the name of one of these, which it would hide once it was imported.
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_MODULE_OF[name]}")
    except ModuleNotFoundError as exc:
        if exc.name != "hypothesis":
            raise
        raise ImportError(
            f"{__name__}.{name} needs Hypothesis (the extra 'testing'): pip install hypothesis"
        ) from exc
    return getattr(module, name)
