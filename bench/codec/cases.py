"""What a case is to a worker: a dict of plain values, and files in the folder that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["PAGE_SIZE", "STREAM", "load"]

STREAM = 1
"""The stream id of the EXECUTE that is made."""
PAGE_SIZE = 5_000


def load(case: dict[str, Any], name: str) -> bytes:
    """Return a file of a case; ``{shape}`` and the like in its name are those of the case."""
    return (Path(case["folder"]) / name.format_map(case)).read_bytes()
