"""Requests of a database manager: retries, a breaker, counts, pages and typed parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from cqlproto.cqltypes import UNSET, encoder, parse_type
from cqlproto_anyio._text import read_statement
from cqlproto_anyio.exceptions import CQLError
from cqlproto_anyio.patterns._arguments import factor, integer, seconds
from cqlproto_anyio.patterns._breaker import CircuitBreaker
from cqlproto_anyio.patterns._codec import JSON
from cqlproto_anyio.patterns._errors import InvalidInput
from cqlproto_anyio.patterns._retry import Attempts, Backoff, may_retry
from cqlproto_anyio.patterns._writeerrors import CircuitOpen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cqlproto_anyio.executor import Executor

__all__ = [
    "LEFT_OUT",
    "DatabaseMetrics",
    "Dicts",
    "Health",
    "Pages",
    "Requests",
    "RetryConfig",
    "typed",
]

T = TypeVar("T")
Dicts = list[dict[str, Any]]

LEFT_OUT: Any = object()
_MOST_ROWS = 5000  # of a page


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """How often, and when, a request is tried again.

    Attributes:
        max_retries: how often, after the first attempt.
        initial_delay: the pause before the first retry, in seconds.
        max_delay: the longest pause, in seconds; the cap comes after the jitter.
        exponential_base: each pause is this many times the one before it.
        jitter: whether half of each pause is random.
    """

    max_retries: int = 3
    initial_delay: float = 1.0
    max_delay: float = 60.0
    exponential_base: float = 2.0
    jitter: bool = True

    def __post_init__(self) -> None:
        integer("max_retries", self.max_retries)
        seconds("initial_delay", self.initial_delay)
        seconds("max_delay", self.max_delay, least=0.001)
        factor("exponential_base", self.exponential_base)


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a node has answered, after how many seconds, and else the error."""

    healthy: bool
    latency: float
    error: str | None
    checked_at: datetime


@dataclass(frozen=True, slots=True)
class DatabaseMetrics:
    """Counts since the object was made.

    Attributes:
        total: the calls that have ended; those of the next three together. For ``iterate`` each
            page is a call.
        succeeded, failed: the calls that have returned; that have raised or were cancelled.
        rejected: the calls that the breaker has refused.
        retries: the attempts after the first.
        avg_latency: how long a call took on average, with its retries, in seconds.
    """

    total: int
    succeeded: int
    failed: int
    retries: int
    rejected: int
    avg_latency: float


class Requests:
    """Makes requests, each with retries and through a breaker, and counts them.

    Arguments:
        session: the executor.
        retry: the retries; None for none.
        breaker: the breaker; None for none.

    Raises:
        InvalidInput: an argument is wrong.
    """

    def __init__(
        self, session: Executor, retry: RetryConfig | None, breaker: CircuitBreaker | None
    ) -> None:
        if not isinstance(retry, RetryConfig | None):
            raise InvalidInput("retry", "a RetryConfig or None", retry)
        if not isinstance(breaker, CircuitBreaker | None):
            raise InvalidInput("breaker", "a CircuitBreaker or None", breaker)
        self.session = session
        self._retry = retry or RetryConfig(max_retries=0)
        self._breaker = breaker
        self.succeeded = self.failed = self.retries = self.rejected = 0
        self.elapsed = 0.0

    def metrics(self) -> DatabaseMetrics:
        total = self.succeeded + self.failed + self.rejected
        counts = (total, self.succeeded, self.failed, self.retries, self.rejected)
        return DatabaseMetrics(*counts, self.elapsed / (total or 1))

    async def measured(self, work: Callable[[], Awaitable[T]]) -> T:
        began = anyio.current_time()
        try:
            result = await work()
        except CircuitOpen:
            self.rejected += 1
            raise
        except BaseException:
            self.failed += 1
            raise
        else:
            self.succeeded += 1
            return result
        finally:
            self.elapsed += anyio.current_time() - began

    async def attempt(
        self, request: Callable[..., Awaitable[T]], timeout: float | None, idempotent: bool
    ) -> T:
        """Make a request, and again if it fails in a way that allows it."""
        failure: CQLError | None = None
        limited = timeout is not None and timeout is not LEFT_OUT
        config = self._retry
        pauses = Backoff(
            config.initial_delay,
            config.max_delay,
            config.exponential_base,
            0.5 if config.jitter else 0.0,
        )
        within = timeout if limited else None
        attempts = Attempts(most=1 + config.max_retries, within=within, backoff=pauses)
        options = {} if timeout is LEFT_OUT else {"timeout": timeout}
        async for number in attempts:
            self.retries += number > 1
            if limited:
                options["timeout"] = max(attempts.remaining, 0.001)
            try:
                if self._breaker is None:
                    return await request(**options)
                return await self._breaker.call(request, **options)
            except CircuitOpen:
                if failure is None:
                    raise
                break
            except CQLError as exc:
                if not may_retry(exc, idempotent=idempotent):
                    raise
                failure = exc
        assert failure is not None
        raise failure


class Pages:
    """The pages of a statement's rows, as dicts. Those of a write are one page."""

    def __init__(
        self,
        requests: Requests,
        query: str,
        parameters: Any,
        columns: list[str],
        timeout: float | None,
        options: dict[str, Any],
    ) -> None:
        self._requests = requests
        self._query, self._parameters = query, parameters
        self._columns = columns
        self._timeout = timeout
        self._options = options
        text = read_statement(query)
        self._reads = text.reads
        self._idempotent = bool(options.get("idempotent")) and not text.conditional
        self._token: str | None = None
        self._done = False
        self._size: int | None = None

    def limit(self, rows: int) -> None:
        """Read no more rows per page than are needed."""
        self._size = min(integer("size", rows, least=1), _MOST_ROWS)

    async def fetch(self) -> Dicts | None:
        if self._done:
            return None
        session = self._requests.session
        options = dict(self._options)
        if not self._reads:
            request: Any = session.execute
        else:
            request, options["token"] = session.page, self._token
            if self._size is not None:
                options["page_size"] = self._size
        ask = partial(request, self._query, self._parameters, row=dict, **options)
        found = await self._requests.attempt(ask, self._timeout, self._idempotent)
        self._token = getattr(found, "next_token", None)
        self._done = self._token is None
        for row in found.rows:
            for name in self._columns:
                if isinstance(row.get(name), str):
                    row[name] = JSON.load(f"column {name} of {self._query!r}", row[name].encode())
        return list(found.rows)

    async def collect(self, most: int | None) -> Dicts:
        rows: Dicts = []
        while most is None or len(rows) < most:
            page = await self.fetch()
            if page is None:
                break
            rows += page
        return rows[:most]


def typed(parameters: Any, types: Mapping[str, str]) -> tuple[Any, list[str]]:
    """Return the parameters as they are bound, and the columns that are JSON."""
    named = isinstance(parameters, Mapping)
    bound: Any = dict(parameters) if named else parameters
    for name, kind in types.items():
        given = named and parameters.get(name) not in (None, UNSET)
        if kind == "json":
            if given:
                bound[name] = JSON.dump(name, parameters[name]).decode()
            continue
        try:
            encode = encoder(parse_type(kind))
        except (CQLError, TypeError) as exc:
            what = f"'json' or a CQL type ({exc})"
            raise InvalidInput(f"parameter_types[{name!r}]", what, kind) from exc
        if given:
            try:
                encode(parameters[name])
            except CQLError as exc:
                what = f"a value of the CQL type {kind} ({exc})"
                raise InvalidInput(name, what, parameters[name]) from exc
    return bound, [name for name, kind in types.items() if kind == "json"]
