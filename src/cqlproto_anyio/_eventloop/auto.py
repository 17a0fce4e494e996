"""Finds the backend of the running event loop, and imports no other one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cqlproto_anyio._eventloop.backend import Backend

__all__ = ["current_backend"]


def current_backend() -> Backend:
    """Return the backend of the running event loop.

    Raises:
        RuntimeError: no event loop of a known kind is running.
    """
    trio = sys.modules.get("trio")  # a program that runs trio has imported it
    if trio is not None and trio.lowlevel.in_trio_task():
        from cqlproto_anyio._eventloop._trio import TrioBackend

        return TrioBackend()
    from cqlproto_anyio._eventloop._asyncio import AsyncioBackend

    try:
        return AsyncioBackend()
    except RuntimeError:
        raise RuntimeError("no event loop is running: use asyncio.run or trio.run") from None
