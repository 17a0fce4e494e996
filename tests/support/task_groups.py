"""Task groups for fixtures."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import TaskGroup


@asynccontextmanager
async def cancelled_at_end() -> AsyncIterator[TaskGroup]:
    """A task group that is cancelled at the end of the block.

    An error of the block is raised unchanged, not in an ExceptionGroup.
    """
    error: Exception | None = None
    async with anyio.create_task_group() as group:
        try:
            yield group
        except Exception as exc:
            error = exc
        group.cancel_scope.cancel()
    if error is not None:
        raise error
