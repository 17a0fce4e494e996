"""Finding out whether a conditional statement was applied that ended in an error.

A conditional statement (``IF``) that ends in a timeout or with a lost connection may have been
applied or not. It must not be sent again: if the first one was applied, the second one finds its
row and reports "not applied". :func:`settle` finds out by a read at SERIAL::

    try:
        mine = (await session.execute(ACQUIRE, (name, me))).applied  # INSERT .. IF NOT EXISTS
    except cql.CQLError as error:
        mine = await settle(
            session, error, "SELECT holder FROM locks WHERE name = ?", (name,),
            applied=lambda row: row is not None and row.holder == me,
        )

Such a read completes an unfinished Paxos round, or makes sure that it can never be completed. So
its result is final once the coordinator of the statement has given up. A coordinator that has
answered with an error has given up. If there was no answer (RequestTimeout, ConnectionLost), the
coordinator may still be trying, with one ballot after the other, after a read that found nothing.
So "not applied" is believed only from a read that began ``grace`` seconds later; "applied" is
believed at once.

The caller has to take care of this:

- The row must identify its writer, by a value that no other writer uses, such as an id made for
  this operation. ``status = 'taken'`` says that somebody won, not who.
- Another writer may have written since. If it overwrites the mark, "not applied" may be wrong: keep
  the mark in a column that nobody else writes, or compare a version that only grows.
- A node that is stopped for longer than ``grace`` may execute the statement later.
"""

from __future__ import annotations

import inspect
import math
import random
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar, overload

import anyio

from cqlproto.enums import Consistency
from cqlproto_anyio._checks.values import number
from cqlproto_anyio._outcome import TRANSIENT
from cqlproto_anyio._settings.profile import DEFAULTS, Profile, overlaid
from cqlproto_anyio._statements.statement import Prepared
from cqlproto_anyio._text import read_statement
from cqlproto_anyio.exceptions import (
    CASWriteUnknown,
    CQLError,
    DatabaseError,
    MultipleRows,
    UsageError,
    WriteFailure,
    WriteTimeout,
)
from cqlproto_anyio.policies.backoff import backoff

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    from cqlproto.rows import Row
    from cqlproto_anyio._settings.profile import Options
    from cqlproto_anyio._statements.parameters import Parameters
    from cqlproto_anyio.executor import Executor, Target

__all__ = ["settle"]

R = TypeVar("R")

# How long a coordinator continues with a request whose client is gone: its limits for contended
# Paxos rounds (cas_contention_timeout, 1.8 s by default) and for the write (2 s), and a margin.
GRACE = 5.0

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
# The timeout of one read is this part of the whole, so that this many may hang.
_READINGS = 3

# Errors that may be gone a moment later; any other is a mistake in the read.
_TRANSIENT = (*TRANSIENT, CASWriteUnknown, WriteFailure, WriteTimeout)


@overload
async def settle(
    session: Executor,
    error: CQLError,
    query: str | Prepared[Any],
    parameters: Parameters = None,
    /,
    *,
    applied: Callable[[R | None], object],
    row: Target[R],
    grace: float = GRACE,
    **options: Unpack[Options],
) -> bool: ...
@overload
async def settle(
    session: Executor,
    error: CQLError,
    query: Prepared[R],
    parameters: Parameters = None,
    /,
    *,
    applied: Callable[[R | None], object],
    grace: float = GRACE,
    **options: Unpack[Options],
) -> bool: ...
@overload
async def settle(
    session: Executor,
    error: CQLError,
    query: str,
    parameters: Parameters = None,
    /,
    *,
    applied: Callable[[Row | None], object],
    grace: float = GRACE,
    **options: Unpack[Options],
) -> bool: ...


async def settle(
    session: Executor,
    error: CQLError,
    query: Any,
    parameters: Any = None,
    /,
    *,
    applied: Callable[[Any], object],
    row: Any = None,
    grace: float = GRACE,
    **options: Any,
) -> bool:
    """Return whether a conditional statement that ended in an error was applied.

    If the error says that nothing was written (a mistake in the statement, a refusal, a request
    that was never sent), this returns False without I/O.

    Arguments:
        session: the session that executed the statement, or another one on the same cluster.
        error: the error that the statement raised.
        query: a SELECT of the row that the statement would have changed; one row at most.
        parameters: its parameters.
        applied: a function that takes that row, or None if there is none, and returns whether the
            row has the caller's mark. Not a coroutine function.
        row: the class of the row, as for ``session.execute``.
        grace: for how long a statement without an answer may still be executed, in seconds from
            now. The row is read again until then, unless the mark is found. With 0 the first read
            decides.
        options: the options that the statement had. Its serial consistency is the consistency of
            the read (only LOCAL_SERIAL settles LOCAL_SERIAL), unless ``consistency`` is SERIAL or
            LOCAL_SERIAL itself. ``timeout`` is for how long reads may fail before this gives up, in
            seconds after the grace.

    Raises:
        CQLError: the same ``error`` that was given, because no read succeeded; a note on it says
            why. Or the error of a read that is wrong: InvalidQuery, ..
        UsageError: the statement has no condition, so no read can decide; or ``query`` is not a
            SELECT.
        MultipleRows: the read found several rows.
        TypeError, ConfigError: an argument is wrong.
    """
    grace = _check(error, query, applied, grace)
    given = overlaid(Profile(), options)
    profile = _profile(session, given)
    if not error.maybe_applied:
        return False
    timeout = profile.timeout
    reading: dict[str, Any] = dict(options)
    reading.pop("serial_consistency", None)
    reading["consistency"] = _level(error, profile, given)
    reading["idempotent"] = True
    if row is not None:
        reading["row"] = row
    if timeout is not None:
        reading["timeout"] = timeout / _READINGS
    if isinstance(error, DatabaseError):
        grace = 0.0
    final = anyio.current_time() + grace  # a read that begins later than this decides
    failure: CQLError | None = None
    with anyio.move_on_after(None if timeout is None else grace + timeout):
        for attempt in count(1):
            began = anyio.current_time()
            try:
                result = await session.execute(query, parameters, **reading)
            except _TRANSIENT as exc:
                failure = exc
            else:
                if _bears_mark(result.rows, applied):
                    return True
                if began >= final:
                    return False
            # reads at the same time make each other's Paxos rounds fail
            pause = backoff(_FIRST_PAUSE, attempt, _LONGEST_PAUSE)
            await anyio.sleep(pause * random.uniform(0.5, 1.0))
    reason = "no answer came" if failure is None else f"{type(failure).__name__}: {failure}"
    error.add_note(f"no read succeeded that could settle it: {reason}")
    raise error from error.__cause__ or failure


def _check(error: object, query: object, applied: object, grace: object) -> float:
    """Raise errors for mistakes that would otherwise be found only when a statement fails."""
    if not isinstance(error, CQLError):
        raise TypeError(f"error is a {type(error).__name__}, not a CQLError")
    if not callable(applied) or inspect.iscoroutinefunction(applied):
        raise TypeError("applied must be a synchronous callable that takes the row")
    seconds = number("grace", grace, 0.0, math.inf, "a number of seconds of at least 0")
    text = query.query if isinstance(query, Prepared) else query
    if not isinstance(text, str):
        raise TypeError(f"a query is a str or what prepare() returned, not a {type(text).__name__}")
    if read_statement(text).verb != "SELECT":
        raise UsageError("the query of settle() must be the SELECT of the row, not the statement")
    failed = getattr(error, "query", None)
    if isinstance(failed, str) and failed:
        write = read_statement(failed)
        # the text of a batch doesn't say whether its statements are conditional
        if not write.conditional and write.verb != "BEGIN":
            raise UsageError(
                f"the statement that failed has no condition (IF): whether a {write.verb} without"
                " one was applied can't be read back"
            )
    return seconds


def _profile(session: Executor, given: Profile) -> Profile:
    own = getattr(session, "profile", None)
    return overlaid(own if isinstance(own, Profile) else DEFAULTS, {"profile": given})


def _level(error: CQLError, profile: Profile, given: Profile) -> Consistency:
    """Return the serial consistency of the statement: of the options, the error, or the profile."""
    for level in (
        vars(given).get("consistency"),
        getattr(error, "consistency", None),
        profile.serial_consistency,
    ):
        if isinstance(level, Consistency) and level.is_serial:
            return level
    return Consistency.SERIAL


def _bears_mark(rows: list[Any], applied: Callable[[Any], object]) -> bool:
    if len(rows) > 1:
        raise MultipleRows(f"the query of settle() must find one row at most, got {len(rows)}")
    verdict = applied(rows[0] if rows else None)
    if inspect.isawaitable(verdict):
        if inspect.iscoroutine(verdict):
            verdict.close()
        raise TypeError("applied must return a bool, got an awaitable, which is always true")
    return bool(verdict)
