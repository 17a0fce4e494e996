"""What a fork does to sessions: in the child they are of no use any more, and say so.

A child has copies of its parent's sockets. A byte that it wrote would land in the middle of the
parent's frames, and a reply that it read would be missing there; even taking a socket out of the
event loop's list can take it out of the parent's, since Linux shares that list (epoll) between the
two. So the child touches nothing: each session is told by its ``forked()`` that it must not, and
the next use of it raises SessionClosed, where it would hang otherwise.

Processes that don't go through :func:`os.fork`, nor tell the interpreter of it
(``PyOS_AfterFork_Child``), go unnoticed. Where there is no fork, this does nothing.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet

__all__ = ["Forkable", "watch"]


class Forkable(Protocol):
    """What must know of a fork."""

    def forked(self) -> None:
        """Called in the child, in its only thread, before anything else runs there.

        It must neither close nor write to what it shares with the parent.
        """


_watched: WeakSet[Forkable] = WeakSet()
_registered = False


def watch(session: Forkable, /) -> None:
    """Call ``session.forked()`` in every child of this process, for as long as it lives.

    Children of children are told as well. It isn't kept alive by this.
    """
    global _registered
    _watched.add(session)
    # Once per process, as it can't be undone; a child inherits it.
    if not _registered and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_tell_all)
        _registered = True


def _tell_all() -> None:
    """Tell each of them, whatever becomes of the others."""
    error: Exception | None = None
    for session in list(_watched):
        try:
            session.forked()
        except Exception as exc:
            error = exc
    if error is not None:
        raise error  # the interpreter shows it and goes on
