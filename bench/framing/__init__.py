"""What the framing costs: frames, segments of v5, and a connection that takes responses apart.

``python -m bench.framing`` measures the bytes' way between a socket and the messages, with
bodies that nobody decodes, and at last the whole receiving of a response of one row. Clock,
processes and peers are those of ``bench.codec``.

The workers of the peers import this package too, so it imports nothing by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["gates", "markdown", "measure"]


def measure(rounds: int, quick: bool, say: Callable[[str], None]) -> dict[str, object]:
    """Cut and make frames and segments with everyone, in turns.

    Arguments:
        rounds: samples of each contender in each case.
        quick: shorter samples, and no frame of 16 MiB.
        say: takes lines on what is being done, and on problems.

    Returns:
        what :func:`markdown` and :func:`gates` take: plain values, fit for JSON, with every single
        sample. ``problems`` names whatever was left out.
    """
    from bench.framing import run

    return run.measure(run.Plan.of(rounds, quick), say)


def markdown(data: dict[str, Any]) -> str:
    """Return the tables, made of what :func:`measure` returned and nothing else."""
    from bench.framing import tables

    return tables.markdown(data)


def gates(data: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Return what is promised: each as a text, the limit, and what was measured.

    What couldn't be measured, for want of a peer, is not among them; ``problems`` names it.
    """
    from bench.framing import tables

    return tables.gates(data)
