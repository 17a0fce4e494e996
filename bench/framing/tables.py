"""The tables and gates of the framing part."""

from __future__ import annotations

import statistics
from typing import Any

from bench.codec.figures import Samples, cell, contenders, ratios, table
from bench.codec.turns import CYTHON, OURS, PURE, SCYLLA

__all__ = ["gates", "markdown"]

_FRAMES = (
    "Microseconds for each frame, or segment; then multiples of cassandra-driver's time. Streams"
    " come in chunks of 64 KiB. When writing, cqlproto lets short frames share a segment; the"
    " others use a segment for each frame. All of them read shared segments.\n"
)
_RECEIVING = (
    "Microseconds for each response of one row, received by a connection. That of cassandra-driver"
    " decodes the row and calls a callback; that of cqlproto returns an event"
    " (*event*). For the comparison, the row is decoded as well (*with row*).\n"
)
_SEGMENT_LIMIT = 0.15
_SEGMENT_CASES = ("encode", "decode")
_SHORT = 200


def markdown(data: dict[str, Any]) -> str:
    """See :func:`bench.framing.markdown`."""
    samples = Samples(data["framing"], ("title",))
    plain, receiving = [], []
    for (title,) in samples.cases():
        base = samples.get(title, CYTHON, "")
        others = [samples.get(title, name, "") for name in (SCYLLA, PURE)]
        shares = [cell(ratios(other, base), 2) for other in others]
        own = samples.get(title, OURS, "")
        if own is not None:
            share = cell(ratios(own, base), 3)
            plain.append([title, cell(base), cell(own), share, *shares])
            continue
        events, rows = (samples.get(title, OURS, variant) for variant in ("events", "rows"))
        receiving.append(
            [title, cell(base), cell(events), cell(rows), cell(ratios(rows, base), 3), *shares]
        )
    peers = ["scylla-driver", "cassandra-driver pure"]
    return "\n".join(
        [
            contenders(data),
            "### Frames and segments\n",
            _FRAMES,
            table(["", "cassandra-driver, us", "cqlproto, us", "cqlproto", *peers], plain),
            "### Receiving a response\n",
            _RECEIVING,
            table(
                [
                    "",
                    "cassandra-driver, us",
                    "cqlproto event, us",
                    "cqlproto with row, us",
                    "cqlproto with row",
                    *peers,
                ],
                receiving,
            ),
        ]
    )


def gates(data: dict[str, Any]) -> list[tuple[str, float, float]]:
    """See :func:`bench.framing.gates`."""
    samples = Samples(data["framing"], ("work", "version", "lz4", "size", "frames"))
    found = []
    for work in _SEGMENT_CASES:
        case = (work, 5, False, _SHORT, 1)
        share = ratios(samples.get(*case, OURS, ""), samples.get(*case, CYTHON, ""))
        if share is not None:
            what = f"{work} a v5 segment of {_SHORT} bytes / cassandra-driver"
            found.append((what, _SEGMENT_LIMIT, statistics.median(share)))
    return found
