"""How fast rows are decoded and executions encoded, beside other drivers for Python.

``python -m bench.codec`` measures what lies between the body of a RESULT, as received, and a list
of rows, and what lies between a row of values and the frame of an EXECUTE. No socket, no event
loop, no server: see ``bench.codec.tasks`` for the clock, ``turns`` for the processes, ``shapes``
for the columns.

Everyone decodes the very same bytes and has to find the same values in them, and everyone's frames
are equal to the byte, before a clock runs. Metadata is left out of the results, and known from
PREPARED: with it in the body, cassandra-driver would parse it each time. (In operation it does so:
it never asks a server to leave it out. ``described`` are the bodies with it, on v4.)

The workers of the peers import this package too, so it imports nothing by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["gates", "markdown", "measure"]


def measure(rounds: int, quick: bool, say: Callable[[str], None]) -> dict[str, object]:
    """Decode and encode with everyone, in turns.

    Arguments:
        rounds: samples of each contender in each case.
        quick: shorter samples, and pages of 1 and 5,000 rows alone.
        say: takes lines on what is being done, and on problems.

    Returns:
        what :func:`markdown` and :func:`gates` take: plain values, fit for JSON, with every single
        sample. ``problems`` names whatever was left out.
    """
    from bench.codec import run

    return run.measure(run.Plan.of(rounds, quick), say)


def markdown(data: dict[str, Any]) -> str:
    """Return the tables, made of what :func:`measure` returned and nothing else."""
    from bench.codec import tables

    return tables.markdown(data)


def gates(data: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Return what is promised: each as a text, the limit, and what was measured.

    What couldn't be measured, for want of a peer, is not among them; ``problems`` names it.
    """
    from bench.codec import tables

    return tables.gates(data)
