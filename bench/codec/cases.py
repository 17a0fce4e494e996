"""A case, as workers receive it: a dict of JSON values that names a folder of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["PAGE_SIZE", "STREAM", "load"]

STREAM = 1
"""The stream id of the EXECUTE."""
PAGE_SIZE = 5_000


def load(case: dict[str, Any], name: str) -> bytes:
    """Return the contents of a case's file; ``name`` may have fields such as ``{shape}``."""
    return (Path(case["folder"]) / name.format_map(case)).read_bytes()
