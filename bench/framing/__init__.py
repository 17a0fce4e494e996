"""The cost of framing: frames, v5 segments, and a connection that receives responses.

``python -m bench.framing`` measures the way between the bytes of a socket and the messages, without
decoding bodies, and then the complete receiving of a response of one row. Clock, processes and
peers are those of ``bench.codec``.

The workers of the peers import this package too, so this module imports nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["gates", "markdown", "measure"]


def measure(rounds: int, quick: bool, say: Callable[[str], None]) -> dict[str, object]:
    """Measure reading and writing of frames and segments by all contenders, in turns.

    Arguments:
        rounds: samples of each contender in each case.
        quick: shorter samples, and no frame of 16 MiB.
        say: called with each line on progress and problems.

    Returns:
        the data for :func:`markdown` and :func:`gates`, as JSON values, with all samples.
        ``problems`` lists everything that was left out.
    """
    from bench.framing import run

    return run.measure(run.Plan.of(rounds, quick), say)


def markdown(data: dict[str, Any]) -> str:
    """Return the tables, made only from the data of :func:`measure`."""
    from bench.framing import tables

    return tables.markdown(data)


def gates(data: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Return the gates: text, limit and measured value of each.

    Gates whose peer is missing are left out; ``problems`` lists the peer.
    """
    from bench.framing import tables

    return tables.gates(data)
