"""The results of requests: a result with all its rows, or a page and the token of the next."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import TYPE_CHECKING, Any, Generic, SupportsIndex, TypeVar, overload

from cqlproto.cqltypes.fields import fields_of
from cqlproto.rows import Row
from cqlproto.rows.targets.scalars import is_single
from cqlproto_anyio.exceptions import (
    MultipleRows,
    PageTokenMismatch,
    ResultError,
    RowNotFound,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from uuid import UUID

    from cqlproto._events import ResponseReceived
    from cqlproto.messages.results import Column
    from cqlproto.wire import Unset
    from cqlproto_anyio.exceptions import CQLError

__all__ = ["Notes", "Page", "PageToken", "Result"]

R = TypeVar("R")

APPLIED = "[applied]"
_REQUIRED: Any = object()


class Notes:
    """The warnings and trace ids that came with several pages.

    Attributes:
        warnings: the warnings.
        tracing_ids: the ids of the traces.
    """

    __slots__ = ("tracing_ids", "warnings")

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.tracing_ids: list[UUID] = []

    def add(self, event: ResponseReceived) -> None:
        """Add the warnings and the trace id of the next page."""
        if event.notes is not None:
            tracing_id, warnings, _ = event.notes
            self.warnings += warnings
            if tracing_id is not None:
                self.tracing_ids.append(tracing_id)


class _Answer(Generic[R]):
    """The common base of results and pages."""

    __slots__ = ("_agreed", "_columns", "_event", "_failures", "_later", "host", "rows")
    # set only where there is something to tell, which is seldom
    _agreed: bool | None
    _failures: Sequence[CQLError]
    _later: Notes

    def __init__(
        self, rows: list[R], columns: Sequence[Column], event: ResponseReceived, host: str
    ) -> None:
        self.rows = rows
        self.host = host
        self._columns = columns
        self._event = event

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(column.name for column in self._columns)

    @property
    def column_types(self) -> tuple[str, ...]:
        """The CQL types of the columns, as text."""
        return tuple(str(column.type) for column in self._columns)

    @property
    def warnings(self) -> Sequence[str]:
        """The server's warnings, of all pages in order."""
        later = getattr(self, "_later", None)
        return self._event.warnings if later is None else later.warnings

    @property
    def tracing_ids(self) -> tuple[UUID, ...]:
        """The ids of the traces that ``trace=True`` asked for: one for each page, in order."""
        later = getattr(self, "_later", None)
        if later is not None:
            return tuple(later.tracing_ids)
        first = self._event.tracing_id
        return () if first is None else (first,)

    @property
    def tracing_id(self) -> UUID | None:
        """The id of the trace of the first page, if ``trace=True`` asked for one."""
        return self._event.tracing_id

    @property
    def payload(self) -> Mapping[str, bytes | None] | None:
        """The server's custom payload of the first page, or None."""
        return self._event.payload

    @property
    def attempts(self) -> Sequence[CQLError]:
        """The errors of the attempts that failed before this one succeeded."""
        return getattr(self, "_failures", ())

    @property
    def schema_agreed(self) -> bool | None:
        """Whether all nodes had the same schema when the call returned.

        None if the statement didn't change the schema, or if the nodes were not asked
        (``Config.schema_agreement_timeout=0``).
        """
        return getattr(self, "_agreed", None)

    def first(self) -> R | None:
        """Return the first row, or None if there is none."""
        return self.rows[0] if self.rows else None

    def scalars(self) -> list[Any]:
        """Return the first column of each row."""
        return [self._scalar(row) for row in self.rows]

    def _scalar(self, row: Any) -> Any:
        """Return the first column of a row of any row target."""
        kind = type(row)
        if kind is tuple or isinstance(row, Row):
            return tuple.__getitem__(row, 0)
        name = self._columns[0].name
        if kind is dict and name in row:
            return row[name]
        if is_single(row):  # of row=int and the like, the row is the column
            return row
        fields = fields_of(row)
        if fields is not None and name in fields[0]:  # by its alias, too
            return fields[1](fields[0][name])
        try:
            return getattr(row, name)
        except AttributeError:
            raise ResultError(
                f"a {kind.__name__} has no {name}, the first column: leave row= out, or pass"
                " row=tuple"
            ) from None

    def __iter__(self) -> Iterator[R]:
        return iter(self.rows)

    @overload
    def __getitem__(self, index: SupportsIndex) -> R: ...
    @overload
    def __getitem__(self, index: slice) -> list[R]: ...

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, str):
            raise TypeError(f"a result has rows, not columns: write result.one()[{index!r}]")
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __bool__(self) -> bool:
        # one reader would take "if result:" for "has rows", another one for "was applied"
        raise TypeError("a result is neither true nor false: ask for .rows, .first() or .applied")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self.rows)} rows from {self.host}>"


class Result(_Answer[R]):
    """The whole result of a request.

    Attributes:
        rows: the rows, of all pages.
        host: the node that answered, as ``address:port``.
    """

    __slots__ = ("_outcome",)

    def __init__(
        self,
        rows: list[R],
        columns: Sequence[Column],
        event: ResponseReceived,
        host: str,
        outcome: tuple[Any, ...] | None = None,
    ) -> None:
        self.rows = rows
        self.host = host
        self._columns = columns
        self._event = event
        self._outcome = outcome

    def one(self) -> R:
        """Return the only row.

        Raises:
            RowNotFound: there is none.
            MultipleRows: there are several.
        """
        if len(self.rows) == 1:
            return self.rows[0]
        if not self.rows:
            raise RowNotFound("one row was expected, there is none")
        raise MultipleRows(f"one row was expected, there are {len(self.rows)}")

    def one_or_none(self) -> R | None:
        """Return the only row, or None if there is none.

        Raises:
            MultipleRows: there are several.
        """
        return self.one() if self.rows else None

    def scalar(self, default: Any = _REQUIRED) -> Any:
        """Return the first column of the only row; a null is None.

        Arguments:
            default: what to return where there is no row.

        Raises:
            RowNotFound: there is no row, and no default.
            MultipleRows: there are several.
        """
        if default is not _REQUIRED and not self.rows:
            return default
        return self._scalar(self.one())

    @property
    def applied(self) -> bool:
        """Whether a lightweight transaction took effect.

        Raises:
            ResultError: the statement was not a lightweight transaction.
        """
        if self._outcome is None:
            raise ResultError(
                "the result has no [applied]: only a statement with IF tells whether it was applied"
            )
        return bool(self._outcome[0])

    @property
    def existing(self) -> dict[str, Any] | None:
        """The row that kept a lightweight transaction from being applied, by column name.

        None if it was applied, or if there is no such row. Raises what :attr:`applied` raises.
        """
        if self.applied or self._outcome is None or len(self._columns) == 1:
            return None
        return dict(zip(self.columns[1:], self._outcome[1:], strict=True))


class Page(_Answer[R]):
    """One page of a result.

    Attributes:
        rows: the rows of this page; there may be none although more pages follow.
        next_token: the token to pass to :meth:`Session.page` for the next page; None after the last
            page. It is URL-safe text, and valid for the same query, parameters and keyspace only.
            It is neither secret nor signed: it protects from mistakes, not from a hostile client.
        host: the node that answered, as ``address:port``.
    """

    __slots__ = ("next_token",)

    def __init__(
        self,
        rows: list[R],
        columns: Sequence[Column],
        event: ResponseReceived,
        host: str,
        next_token: str | None,
    ) -> None:
        super().__init__(rows, columns, event, host)
        self.next_token = next_token


_DIGEST_SIZE = 12


class PageToken:
    """Writes and reads the page tokens of one query, its parameters and keyspace.

    Arguments:
        query: the text.
        keyspace: the session's keyspace.
        cells: the bound values, as sent.
    """

    __slots__ = ("_digest",)

    def __init__(
        self, query: str, keyspace: str | None, cells: Sequence[bytes | None | Unset]
    ) -> None:
        digest = hashlib.blake2b(digest_size=_DIGEST_SIZE, person=b"cqlproto.page.1")
        # a query that can't be encoded as UTF-8 is refused when it is sent, not here
        text = query.encode(errors="surrogatepass")
        for part in (text, (keyspace or "").encode(), *cells):
            if isinstance(part, bytes):
                digest.update(b"%d:" % len(part))
                digest.update(part)
            else:
                digest.update(b"-" if part is None else b"~")
        self._digest = digest

    def write(self, paging_state: bytes | None) -> str | None:
        """Return the token of the page that a paging state leads to."""
        if paging_state is None:
            return None
        digest = self._digest.copy()
        digest.update(b"=" + paging_state)
        return base64.urlsafe_b64encode(digest.digest() + paging_state).decode().rstrip("=")

    def read(self, token: str) -> bytes:
        """Return the paging state in a token.

        Raises:
            PageTokenMismatch: it is damaged, or was made for something else.
        """
        try:
            data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as exc:
            raise PageTokenMismatch("the page token is damaged") from exc
        paging_state = data[_DIGEST_SIZE:]
        # compared as text, since several texts decode to the same bytes
        if token != self.write(paging_state):
            raise PageTokenMismatch(
                "the page token is damaged, or belongs to another query, other parameters or"
                " keyspace"
            )
        return paging_state
