"""The page about performance and the figures behind it.

`performance.json` has every single value; `performance.md` and its pictures are made of that file
and nothing else, so that they can be made again at any time and a test can see that they are.
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
    """What a part's figures belong to: no name of a machine, no path."""
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
    """The figures of earlier runs; none if there are none."""
    path = folder / "performance.json"
    loaded: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"parts": {}}
    return loaded


def save(folder: Path, results: dict[str, Any]) -> None:
    """Write the figures, each list of values on a line."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1)
    text = re.sub(r"\[\s+([-\d.e,\s]+?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text)
    (folder / "performance.json").write_text(text + "\n")


def render(folder: Path) -> Path:
    """Make the page and its pictures of the figures that are in the folder."""
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
    """The limits of all parts, in the order of the parts."""
    return [
        gate
        for part in parts.MODULES
        if part in results["parts"]
        for gate in parts.gates(part, results["parts"][part]["data"])
    ]


def markdown(results: dict[str, Any]) -> str:
    """The page."""
    blocks = [_INTRODUCTION, _gates(gates(results)), _HOW, _about(results)]
    for part in parts.MODULES:
        if part in results["parts"]:
            text = _linked(parts.markdown(part, results["parts"][part]["data"])).strip()
            title = "" if text.startswith("## ") else f"## {parts.TITLES[part]}\n\n"
            blocks.append(f"{title}{text}\n")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(blocks))


def _linked(text: str) -> str:
    """Pictures are in a folder of their own; parts give their bare names."""
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

What this client costs, measured beside the other Python clients of Cassandra. This page is written
by `make bench`, from the figures in `performance.json` beside it in the sources. Why they are what
they are, where a gate is not met, and what was tried is in [what is left](performance-notes.md).
"""
_HOW = """## How it was measured

Absolute figures belong to one machine: read the ratios. A figure is the median of its rounds, with
the least and the most in parentheses. In each round every client has its turn at one cell (what is
done, and with how many requests in flight) before the next one begins, and the order of the clients
moves on each time. All clients do the same work with the same values on the same tables, and each
result is checked: keys of all rows read, and contents of a row, or of all rows scanned, once a
cell. All use prepared statements, neither TLS nor compression nor authentication, and each is used
in the way that is best for it.
"""
