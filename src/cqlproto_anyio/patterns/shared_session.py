"""One session for a whole program, opened by the first task that needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cqlproto_anyio.patterns._opening import Opening

if TYPE_CHECKING:
    from cqlproto_anyio.session import Session

__all__ = ["SharedSession"]


class SharedSession(Opening):
    """One session for an application: ``session = await shared.get()``, from any task.

    A session is a pool of connections already. This opens it when it is needed first, so that it
    can be made where no event loop runs, such as in a module.

    Guarantee: however many tasks call :meth:`get` at once, one connects. If that fails, it fails
    for all that have waited for it, and the next call tries again; a task that is cancelled fails
    for itself only. Closing waits for requests under way, and may be repeated.

    Not guaranteed: a task that has got the session may use it after it was closed, and gets
    SessionClosed from its requests. The session belongs to the event loop in which it was opened.

    Cost: nothing but the session. No table.

    Arguments:
        hosts: the contact points, as for :func:`~cqlproto_anyio.connect`.
        arguments: the keywords of ``connect``: ``port``, ``keyspace``, ``auth``, ``tls``,
            ``local_dc``, ``profile``, ``config``, ``wait``.

    Raises:
        ConfigError, TypeError: an argument is wrong.
    """

    async def __aenter__(self) -> Session:
        return await self.get()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
