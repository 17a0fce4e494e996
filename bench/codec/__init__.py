"""Decoding of rows and encoding of EXECUTE, compared with other Python drivers.

``python -m bench.codec`` measures the way from the body of a RESULT to a list of rows, and from a
row of values to the frame of an EXECUTE. There is no socket, event loop or server. See
``bench.codec.tasks`` for the clock, ``turns`` for the processes, ``shapes`` for the columns.

All contenders decode the same bytes. Before the clock runs, their decoded values and their encoded
frames are checked to be equal. The results have no metadata; the contenders know it from PREPARED.
With metadata in the body, cassandra-driver would parse it each time (in operation it does, because
it never asks a server to skip metadata). ``described`` are bodies with metadata, on v4.

The workers of the peers import this package too, so this module imports nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["gates", "markdown", "measure"]


def measure(rounds: int, quick: bool, say: Callable[[str], None]) -> dict[str, object]:
    """Measure decoding and encoding of all contenders, in turns.

    Arguments:
        rounds: samples of each contender in each case.
        quick: shorter samples, and only pages of 1 and 5,000 rows.
        say: called with each line on progress and problems.

    Returns:
        the data for :func:`markdown` and :func:`gates`, as JSON values, with all samples.
        ``problems`` lists everything that was left out.
    """
    from bench.codec import run

    return run.measure(run.Plan.of(rounds, quick), say)


def markdown(data: dict[str, Any]) -> str:
    """Return the tables, made only from the data of :func:`measure`."""
    from bench.codec import tables

    return tables.markdown(data)


def gates(data: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Return the gates: text, limit and measured value of each.

    Gates whose peer is missing are left out; ``problems`` lists the peer.
    """
    from bench.codec import tables

    return tables.gates(data)
