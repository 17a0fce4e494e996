"""Disables sessions in forked child processes.

A child has copies of its parent's sockets. A byte written by the child would corrupt the parent's
frames, and a reply read by the child would be missing in the parent. Even removing a socket from
the child's event loop can remove it from the parent's, because Linux shares the list (epoll). So
the child touches nothing: ``forked()`` of each session is called, and the next use of a session
raises SessionClosed instead of hanging.

Forks are noticed if they go through :func:`os.fork` or call ``PyOS_AfterFork_Child``. On platforms
without fork this does nothing.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet

__all__ = ["Forkable", "watch"]


class Forkable(Protocol):
    """Something that must know of a fork."""

    def forked(self) -> None:
        """Called in the child, in its only thread, before anything else runs there.

        It must neither close nor write to anything that it shares with the parent.
        """


_watched: WeakSet[Forkable] = WeakSet()
_registered = False


def watch(session: Forkable, /) -> None:
    """Call ``session.forked()`` in every child of this process, for as long as it lives.

    Forks of the child call it as well. The object isn't kept alive.
    """
    global _registered
    _watched.add(session)
    # Once per process, as it can't be undone; a child inherits it.
    if not _registered and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_tell_all)
        _registered = True


def _tell_all() -> None:
    """Call ``forked()`` of each, whatever others raise."""
    error: Exception | None = None
    for session in list(_watched):
        try:
            session.forked()
        except Exception as exc:
            error = exc
    if error is not None:
        raise error  # the interpreter prints it and continues
