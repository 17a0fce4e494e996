"""A lease that is held for the time of a block."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from cqlproto_anyio.exceptions import CQLError
from cqlproto_anyio.patterns._errors import LockLost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from cqlproto_anyio.patterns._lease import Lease

__all__ = ["Held"]

_RENEW_AT = 1 / 3  # the part of the ttl after which a lease is renewed


class Held:
    """A lease that is held for the time of a block, and renewed meanwhile: ``async with Held(..)``.

    If the lease is lost, the body is cancelled, and LockLost raised at the end of the block. The
    lease is released at the end, also if the body was cancelled, within a few seconds. Enter and
    leave the block in one task.

    Arguments:
        acquire: acquires the lease.
    """

    def __init__(self, acquire: Callable[[], Awaitable[Lease]]) -> None:
        self._acquire = acquire
        self._failure: CQLError | None = None

    async def __aenter__(self) -> Lease:
        self._lease = lease = await self._acquire()
        # nothing below waits, so the task can't be cancelled before the block is entered
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._keeping, self._body = anyio.CancelScope(), anyio.CancelScope()
        self._group.start_soon(self._keep)
        self._body.__enter__()
        return lease

    async def _keep(self) -> None:
        """Renew the lease until it is lost, released, or the block ends."""
        lease = self._lease
        with self._keeping:
            try:
                while not lease.released:
                    await anyio.sleep(max(0.0, lease.remaining - lease.ttl * (1 - _RENEW_AT)))
                    if not lease.released:
                        await lease.renew()
            except CQLError as exc:
                if not lease.released:
                    self._failure = exc
                    self._body.cancel()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        lease, failure = self._lease, self._failure
        if failure is None and not (lease.remaining or lease.released):
            failure = LockLost(lease.name, lease.fence, "it has expired")
        cancelled_by_us = bool(self._body.__exit__(kind, error, traceback))
        self._keeping.cancel()
        try:
            # The group gets no exception, which it would raise in an ExceptionGroup.
            await self._group.__aexit__(None, None, None)
        finally:
            if not lease.released:
                with suppress(CQLError):  # the lease ends with its TTL
                    await lease.release()
        if (error is None or cancelled_by_us) and failure is not None:
            if isinstance(failure, LockLost):
                raise failure
            raise LockLost(lease.name, lease.fence, "it could not be renewed") from failure
        return cancelled_by_us
