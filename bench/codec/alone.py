"""Runs one part of the benchmark as a command."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable

    Gate = tuple[str, float, float]

__all__ = ["main"]


def main(
    name: str,
    description: str,
    measure: Callable[[int, bool, Callable[[str], None]], dict[str, Any]],
    markdown: Callable[[dict[str, Any]], str],
    gates: Callable[[dict[str, Any]], list[Gate]],
) -> int:
    """Measure, print the tables and the gates. Return 1 if anything was left out."""
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=description)
    parser.add_argument("--quick", action="store_true", help="shorter samples, fewer cases")
    parser.add_argument("--rounds", type=int, help="samples of each contender (7; quick: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples to this file")
    given = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 190)
    with console.status(name) as status:

        def say(line: str) -> None:
            if line.startswith("PROBLEM"):
                console.print(line, style="bold red", markup=False, highlight=False)
            status.update(line)

        data = measure(given.rounds or (3 if given.quick else 7), given.quick, say)
    console.print(Markdown(markdown(data)))
    table = Table(title="gates", title_justify="left")
    table.add_column("what")
    table.add_column("limit", justify="right")
    table.add_column("measured", justify="right")
    for what, limit, measured in gates(data):
        style = "green" if measured <= limit else "bold red"
        table.add_row(what, f"{limit:.2f}", f"{measured:.3f}", style=style)
    console.print(table)
    if given.json:
        given.json.write_text(json.dumps(data, indent=1))
    return 1 if data["problems"] else 0
