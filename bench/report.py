"""Tables for the terminal, and the JSON file with every single measurement."""

from __future__ import annotations

import datetime
import json
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.rounds import Figure, Samples

RESULTS = Path(__file__).parent / "results"
PEERS = ("acsylla", "cassandra-driver")


def machine() -> dict[str, object]:
    """What the figures belong to."""
    return {
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
    }


def spread(figure: Figure, digits: int = 0) -> str:
    """`median (min - max)`."""
    values = (figure.median, min(figure.values), max(figure.values))
    median, least, most = (f"{value:,.{digits}f}" for value in values)
    return f"{median} ({least} - {most})"


def _ratios(own: float, samples: Sequence[Samples], value: str) -> list[str]:
    """The ratio of one median to that of each peer."""
    peers = {sample.client: getattr(sample, value).median for sample in samples}
    return [f"{own / peers[peer]:.2f}" if peer in peers else "-" for peer in PEERS]


def throughput(title: str, samples: Sequence[Samples], unit: str) -> Table:
    """Rates with their ratios to the peers (higher is better), and memory."""
    table = Table(title=title, title_justify="left")
    table.add_column("client", no_wrap=True)
    table.add_column("version", no_wrap=True)
    for column in (
        f"{unit}/s (min - max)",
        *(f"/ {peer}" for peer in PEERS),
        "CPU us",
        "peak MiB",
        "rise MiB",
    ):
        table.add_column(column, justify="right", no_wrap=True)
    for sample in samples:
        first, rate = sample.outcomes[0], sample.rate
        table.add_row(
            sample.client,
            f"{first.version}, {first.protocol}",
            spread(rate),
            *_ratios(rate.median, samples, "rate"),
            f"{sample.cpu.median:.2f}",
            f"{sample.peak.median:.0f}",
            f"{sample.rise.median:.1f}",
        )
    return table


def cpu(title: str, samples: Sequence[Samples]) -> Table:
    """Client CPU an operation with its ratios to the peers (lower is better)."""
    table = Table(title=title, title_justify="left")
    table.add_column("client")
    for column in (
        "CPU us (min - max)",
        *(f"/ {peer}" for peer in PEERS),
        "above bare us",
        "per second",
    ):
        table.add_column(column, justify="right")
    bare = {
        sample.client.partition("/")[2]: sample.cpu.median
        for sample in samples
        if sample.client.startswith("bare/")
    }
    for sample in samples:
        figure = sample.cpu
        family, _, backend = sample.client.partition("/")
        above = bare.get(backend.partition("/")[0]) if family == "cqlproto" else None
        table.add_row(
            sample.client,
            spread(figure, 2),
            *_ratios(figure.median, samples, "cpu"),
            f"{figure.median - above:.2f}" if above is not None else "",
            f"{sample.rate.median:,.0f}",
        )
    return table


def imports(base: Figure, above: Figure) -> Table:
    table = Table(title="import, ms: median (min - max)", title_justify="left")
    table.add_column("module")
    table.add_column("ms", justify="right")
    table.add_row("anyio and its asyncio backend", spread(base, 1))
    table.add_row("cqlproto_anyio on top", spread(above, 1))
    return table


def write(results: dict[str, object]) -> Path:
    """Write the results under a name of their own and as latest.json; returns the former."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(results, indent=1)
    path = RESULTS / f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}.json"
    path.write_text(text)
    (RESULTS / "latest.json").write_text(text)
    return path
