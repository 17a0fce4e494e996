"""Writes the page on performance, and the figures that it is made from.

`performance.json` has every measured value. `performance.md` and its pictures are made from this
file alone, so they can be rendered again at any time; a test checks that they are up to date.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import re
from pathlib import Path
from typing import Any

from bench import figures, parts

ROOT = Path(__file__).parent.parent
PUBLISHED = ROOT / "docs"
SCRATCH = ROOT / "bench" / "results"
PICTURES = "performance"
_PACKAGES = (
    "cqlproto",
    "anyio",
    "trio",
    "uvloop",
    "lz4",
    "acsylla",
    "rsylla",
    "scyllapy",
    "coodie",
    "cassandra-driver",
)


def about(rounds: int) -> dict[str, Any]:
    """Return the environment of a part's figures, without host names or paths."""
    versions = {"Python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    for found in (ROOT / ".bench" / "scylla-driver").glob("scylla_driver-*.dist-info"):
        versions["scylla-driver"] = found.name.split("-")[1].removesuffix(".dist")
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "rounds": rounds,
        "machine": f"{_processor()}, {os.cpu_count()} CPUs, {platform.system()}",
        "versions": versions,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def load(folder: Path) -> dict[str, Any]:
    """Return the figures of earlier runs; empty if there are none."""
    path = folder / "performance.json"
    loaded: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"parts": {}}
    return loaded


def save(folder: Path, results: dict[str, Any]) -> None:
    """Write the figures, with each list of values on one line."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1)
    text = re.sub(r"\[\s+([-\d.e,\s]+?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text)
    (folder / "performance.json").write_text(text + "\n")


def render(folder: Path) -> Path:
    """Render the page and its pictures from the figures in the folder."""
    results = load(folder)
    pictures = folder / PICTURES
    pictures.mkdir(parents=True, exist_ok=True)
    names = set()
    for part in parts.MODULES:
        if part in results["parts"]:
            names.update(parts.plots(part, results["parts"][part]["data"], pictures))
    for old in pictures.iterdir():
        if old.name not in names:
            old.unlink()
    page = folder / "performance.md"
    page.write_text(markdown(results))
    return page


def gates(results: dict[str, Any]) -> list[parts.Gate]:
    """Return the gates of all parts, in the order of the parts."""
    return [
        gate
        for part in parts.MODULES
        if part in results["parts"]
        for gate in parts.gates(part, results["parts"][part]["data"])
    ]


def markdown(results: dict[str, Any]) -> str:
    """Return the page as Markdown."""
    blocks = [_INTRODUCTION, _gates(gates(results)), _HOW, _about(results)]
    for part in parts.MODULES:
        if part in results["parts"]:
            text = _linked(parts.markdown(part, results["parts"][part]["data"])).strip()
            title = "" if text.startswith("## ") else f"## {parts.TITLES[part]}\n\n"
            blocks.append(f"{title}{text}\n")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(blocks))


def _linked(text: str) -> str:
    """Return the text with the pictures' folder in links, which parts write with bare names."""
    return re.sub(r"(!\[[^\]]*\]\()([^)/:]+\))", rf"\g<1>{PICTURES}/\2", text)


def _gates(found: list[parts.Gate]) -> str:
    rows = [
        (
            gate.what,
            f"{'at least' if gate.higher else 'at most'} {gate.limit:g}",
            f"{gate.measured:.3g}",
            "met" if gate.met else "**not met**",
        )
        for gate in found
    ]
    met = sum(gate.met for gate in found)
    table = figures.table(("what", "limit", "measured", ""), rows)
    return f"## Gates\n\n{met} of {len(found)} are met.\n\n{table}"


def _about(results: dict[str, Any]) -> str:
    rows = [
        (part, found["about"]["date"], str(found["about"]["rounds"]), found["about"]["machine"])
        for part in parts.MODULES
        if (found := results["parts"].get(part))
    ]
    versions: dict[str, list[str]] = {}
    for part in parts.MODULES:
        found = results["parts"].get(part, {"about": {"versions": {}}})
        for name, version in found["about"]["versions"].items():
            seen = versions.setdefault(name, [])
            if version not in seen:
                seen.append(version)
    of_all = ", ".join(f"{name} {' / '.join(seen)}" for name, seen in versions.items())
    table = figures.table(("part", "date", "rounds", "machine"), rows, text_columns=4)
    return f"{table}\n{of_all}. Cassandra {results.get('cassandra', '?')}.\n"


_INTRODUCTION = """# Performance

The cost of this client, compared with the other Python clients of Cassandra. `make bench` writes
this page from the figures in `performance.json`, which is in the same folder of the sources. [What
is left](performance-notes.md) explains the figures, the gates that are not met, and what was tried.
"""
_HOW = """## How it was measured

Absolute figures belong to one machine: read the ratios. A figure is the median of its rounds, with
the least and the greatest value in parentheses. In each round, all clients take turns at one cell
(a kind of work with a number of requests in flight) before the next cell begins; their order
rotates. All clients do the same work with the same values on the same tables. Results are checked:
the keys of all rows read, and, once per cell, the contents of one row or of all scanned rows. All
clients use prepared statements, without TLS, compression or authentication, and each is used in the
way that is fastest for it.
"""
