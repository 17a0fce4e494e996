"""Errors of user code that has no caller to raise them to.

Hooks, policies, connectors and credential providers run in the session's tasks and in callbacks of
the event loop. Whatever they raise, SystemExit and CancelledError included, is logged and affects
only the operation they were called for: a default is used instead, or the one connection attempt
fails.
"""

from __future__ import annotations

from contextlib import suppress

__all__ = ["Report", "contains", "described", "throwable"]


class Report:
    """Logs the errors that a user's function raises.

    The first, second, fourth, eighth .. error is logged, so that a function that always fails
    doesn't flood the log.

    Arguments:
        name: the name of the function in the log.
    """

    __slots__ = ("_failures", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
        self._failures = 0

    def __call__(self, error: BaseException) -> None:
        """Log an error with its traceback; never raise."""
        self._failures += 1
        if self._failures & (self._failures - 1) == 0:
            with suppress(BaseException):  # a user's log filter or handler may raise
                import logging  # only if something fails: it takes time to import

                logging.getLogger("cqlproto_anyio").error(
                    "%s raised, %d times so far", self._name, self._failures, exc_info=error
                )


def described(error: BaseException) -> str:
    """Return the class and the text of an exception, for an error message."""
    try:
        text = str(error)
    except BaseException:  # its own __str__ raises
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def throwable(error: BaseException) -> BaseException:
    """Return an error that can be raised in a waiting task.

    GeneratorExit, StopIteration and StopAsyncIteration would end the task's coroutine or generator;
    they are wrapped in a RuntimeError.
    """
    if not isinstance(error, (GeneratorExit, StopIteration, StopAsyncIteration)):
        return error
    wrapped = RuntimeError(f"{type(error).__name__} was raised")
    wrapped.__cause__ = error
    return wrapped


def contains(error: BaseException, kind: type[BaseException]) -> bool:
    """Return whether an error is of a class, or a group with such an error in it."""
    if isinstance(error, BaseExceptionGroup):
        return any(contains(each, kind) for each in error.exceptions)
    return isinstance(error, kind)
