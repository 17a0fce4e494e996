"""Helpers for testing programs that use the protocol: proxies, drivers, servers.

Hypothesis strategies, which need the extra ``testing``:

- :func:`cql_types` and :func:`values_of`: types, and values of a type;
- :func:`requests` and :func:`responses`: messages of all kinds in a version;
  :func:`query_parameters`, :func:`columns`, :func:`errors` and :func:`server_events`: their parts;
- :func:`request_frames` and :func:`response_frames`: whole frames with flags and prefixes;
  :func:`segmented`: the segments of version 5 around frames;
- :func:`splits` and :func:`offsets`: ways to split bytes; :func:`every_split`: all splits in two;
- :func:`corrupted` and :func:`noise`: bytes with errors, and arbitrary bytes.

:class:`LinkedPair` and :func:`linked_pair` connect a client's and a server's end in memory and do
not need Hypothesis. Every name is imported on first use.

A test that a reader returns every frame of a client, however its bytes are split:

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
    # No submodule has one of these names: importing it would replace the function.
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
