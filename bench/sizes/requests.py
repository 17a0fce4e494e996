"""From values to the bytes of a request: more bind markers, longer values."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from bench.sizes.decoding import COLUMNS, mixed_or_ints
from bench.sizes.floors import joining
from bench.sizes.material import Wire, binder, blob, metadata, values
from bench.sizes.timing import Series, complete, ladder, measure
from cqlproto import ProtocolVersion

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.sizes.timing import Plan, Prepare, Run

__all__ = ["marker_series", "request_series"]

BODIES = ladder(1 << 10, 16 << 20, 4)
_MOST = 32_000
"""The maximum number of requests in flight."""


def sending(wire: Wire, types: Sequence[str], row: Sequence[Any]) -> Prepare:
    """Return a function that binds and frames executions and takes the bytes to send."""
    packer = binder(types, metadata(()), wire.version)

    def prepare(count: int) -> Run:
        client = wire.connected()  # with all stream ids free

        def run() -> None:
            send_bound, data_to_send = client.send_bound, client.data_to_send
            for _ in range(count):
                send_bound(packer, row)
                data_to_send()

        return run

    return prepare


def marker_series(plan: Plan) -> Iterator[dict[str, Any]]:
    """Return the series of an EXECUTE with more bind markers."""
    wire = Wire(ProtocolVersion.V4)
    for kind in ("ints", "mixed types"):

        def make(size: int, kind: str = kind) -> Prepare:
            types = mixed_or_ints(kind, size)
            return sending(wire, types, values(types, 7))

        series = Series(
            f"markers bound, {kind}",
            "markers",
            f"bind and frame an EXECUTE, {kind}",
            plan.sizes(COLUMNS, 4),
            make,
            most=lambda _: _MOST,
        )
        yield complete(measure(series, plan))


def request_series(plan: Plan) -> Iterator[dict[str, Any]]:
    """Return the series of an EXECUTE with a longer blob, on every wire."""
    for version in (ProtocolVersion.V4, ProtocolVersion.V5):
        for codec in (None, "lz4"):
            wire = Wire(version, codec)

            def make(size: int, wire: Wire = wire) -> Prepare:
                return sending(wire, ("blob",), (blob(size),))

            series = Series(
                f"request body, {wire.name}",
                "requests",
                f"bind, frame and take the bytes, {wire.name}",
                plan.sizes(BODIES),
                make,
                most=lambda _: _MOST,
                floor=functools.partial(joining, wire.codec),
            )
            yield complete(measure(series, plan))
