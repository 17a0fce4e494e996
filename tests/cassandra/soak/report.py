"""The figures of all phases as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.cassandra.soak.terms import Figures

__all__ = ["table"]

_HEAD = (
    "fault", "loop", "requests", "failed", "retried", "speculated", "longest s", "read again",
    "lost", "wrong", "ghosts", "twice", "recovery s", "sockets", "tasks", "blocks", "MiB",
)  # fmt: skip


def _row(figures: Figures) -> tuple[str, ...]:
    before, after = figures.before, figures.after
    recovery = " ".join(f"{seconds:.1f}" for seconds in figures.recovery.values())
    return (
        figures.fault,
        figures.backend,
        str(figures.total),
        str(figures.failed),
        str(figures.retries),
        str(figures.speculative),
        f"{figures.longest:.2f}",
        str(figures.found),
        str(len(figures.lost)),
        str(len(figures.wrong)),
        str(len(figures.ghosts)),
        str(len(figures.twice)),
        recovery or "-",
        f"{before.sockets} {after.sockets - before.sockets:+d}",
        f"{before.tasks} {after.tasks - before.tasks:+d}",
        f"{after.blocks - before.blocks:+d}",
        f"{before.rss:.0f} {after.rss - before.rss:+.1f}",
    )


def table(all_figures: Sequence[Figures]) -> str:
    """Return a line for each phase and process, and then the errors that users would have seen."""
    rows = [_HEAD, *map(_row, all_figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines += ["", "errors that reached the user:"]
    lines += [
        f"  {figures.fault}, {figures.backend}: "
        + ", ".join(f"{count} x {name}" for name, count in sorted(figures.errors.items()))
        for figures in all_figures
        if figures.errors
    ]
    return "\n".join(lines)
