"""The error of a bulk execution of which too many rows have failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cqlproto.exceptions import CQLError

if TYPE_CHECKING:
    from cqlproto_anyio.exceptions._failure import Failure

__all__ = ["BulkError"]


class BulkError(CQLError):
    """More rows of ``execute_many`` have failed than ``max_errors``.

    No more rows were started after that, and all rows that were started have ended:
    ``count + len(failures)`` rows were taken from the source. The first failure is ``__cause__``.

    Attributes:
        count: the number of rows that have succeeded.
        failures: the rows that have failed, in the order in which they did.
    """

    def __init__(self, count: int, failures: tuple[Failure[Any], ...], max_errors: int) -> None:
        first = failures[0]
        many = f"{len(failures):,} rows have" if len(failures) > 1 else "a row has"
        super().__init__(
            f"{many} failed, {count:,} have succeeded (max_errors={max_errors:,});"
            f" row {first.index:,}: {type(first.error).__name__}: {first.error}"
        )
        self.count = count
        self.failures = failures
        self.maybe_applied = count > 0 or any(
            getattr(each.error, "maybe_applied", False) for each in failures
        )
        self.__cause__ = first.error
