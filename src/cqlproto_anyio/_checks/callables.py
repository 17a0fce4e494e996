"""What is done where code of the user's raises and no caller of its own is there to be told.

Hooks, policies, connectors and credential providers run in the session's tasks and in callbacks of
the event loop. What they raise, SystemExit and CancelledError included, fails what they were asked
for, and nothing else: it is logged here, and its place is taken by a default or by an error of the
one connection attempt.
"""

from __future__ import annotations

from contextlib import suppress

__all__ = ["Report", "contains", "described", "throwable"]


class Report:
    """Logs what a function of the user's raises: the first, second, fourth, eighth .. time, since
    one that fails each time would drown everything else in the log.

    Arguments:
        name: what to call it.
    """

    __slots__ = ("_failures", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        self._failures = 0

    def __call__(self, error: BaseException) -> None:
        """Log what was raised, with its traceback; never raises."""
        self._failures += 1
        if self._failures & (self._failures - 1) == 0:
            with suppress(BaseException):  # a filter or handler of the program's may raise as well
                import logging  # loaded by the first failure alone

                logging.getLogger("cqlproto_anyio").error(
                    "%s raised, %d times so far", self._name, self._failures, exc_info=error
                )


def described(error: BaseException) -> str:
    """Return an exception's class and text, for a message."""
    try:
        text = str(error)
    except BaseException:  # its own __str__ raises
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def throwable(error: BaseException) -> BaseException:
    """Return what can be raised in a task that waits: the error, but for what ends coroutines and
    generators without being seen by them."""
    if not isinstance(error, (GeneratorExit, StopIteration, StopAsyncIteration)):
        return error
    wrapped = RuntimeError(f"{type(error).__name__} was raised")
    wrapped.__cause__ = error
    return wrapped


def contains(error: BaseException, kind: type[BaseException]) -> bool:
    """Whether an error is of a kind, or a group that holds one."""
    if isinstance(error, BaseExceptionGroup):
        return any(contains(each, kind) for each in error.exceptions)
    return isinstance(error, kind)
