"""Decoding replies: pages with more rows or columns, many column lists, bodies of up to 64 MiB.

Requests are put in flight beforehand, so that a sample begins with the received bytes. The bytes
come in chunks of 64 KiB, as from a socket.
"""

from __future__ import annotations

import builtins
import functools
import itertools
import sys
from typing import TYPE_CHECKING, Any

from bench.sizes.floors import copying, functions, objects
from bench.sizes.material import (
    FIXED,
    MIXED,
    TEXTS,
    Wire,
    binder,
    blob_body,
    chunks,
    metadata,
    row_content,
    rows_body,
)
from bench.sizes.timing import DEFAULT_LIMIT, Series, complete, ladder, measure
from cqlproto import ProtocolVersion, Row, decoder
from cqlproto._events import ResponseReceived
from cqlproto.messages import Rows
from cqlproto.rows import ROWS_BEFORE_COMPILING, decode_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from bench.sizes.timing import Plan, Prepare, Run
    from cqlproto.messages import ResultMetadata

__all__ = [
    "Receiving",
    "body_series",
    "column_series",
    "compile_series",
    "list_series",
    "mixed_or_ints",
    "page_series",
]

V4, V5 = ProtocolVersion.V4, ProtocolVersion.V5
PAGE = ladder(1, 50_000, 4)
COLUMNS = [*ladder(1, 128, 2), 200]
BODIES = ladder(1 << 10, 64 << 20, 4)
LISTS = ladder(1, 10_000, 4)
_COLUMN_ROWS = 100
_LIST_ROWS = 40
_MOST = 32_000
"""The maximum number of requests in flight."""
_AT_ONCE = 32 << 20
"""The maximum number of bytes of replies in a sample, unless a single reply is longer."""


class Receiving:
    """Receives and decodes the replies to a number of requests.

    Arguments:
        wire: version and compression.
        result: the metadata of the rows, known from PREPARED.
        body: the body of each reply.
        row_count: the expected number of rows in each reply.
        target: the row target.
    """

    def __init__(
        self, wire: Wire, result: ResultMetadata, body: bytes, row_count: int, target: Any = tuple
    ) -> None:
        self._wire = wire
        self._client = wire.connected()
        self._binder = binder((), result, wire.version)
        self._body = body
        self._row_count = row_count
        self._target = target
        self._kept: tuple[int, list[bytes]] = (0, [])
        compile_for(result, target)

    def __call__(self, count: int) -> Run:
        """Put ``count`` requests in flight; return a function that receives their replies."""
        client, target, row_count = self._client, self._target, self._row_count
        # Stream ids are reused after their replies, so they are the same in each sample.
        ids = sorted(client.send_bound(self._binder, ()) for _ in range(count))
        client.data_to_send()
        if self._kept[0] != count:
            replies = b"".join([self._wire.reply(stream_id, self._body) for stream_id in ids])
            self._kept = count, chunks(replies)
        received = self._kept[1]

        def run() -> None:
            receive, next_event = client.receive_data, client.next_event
            found = 0
            for chunk in received:
                receive(chunk)
                while (event := next_event()) is not None:
                    found += len(_decode(event, target))
            if found != count * row_count:
                raise RuntimeError(f"expected {count * row_count} rows, got {found}")

        return run


def decode_some(known: ResultMetadata, count: int, target: Any = tuple) -> None:
    """Decode ``count`` rows of these columns."""
    content = row_content([str(column.type) for column in known.columns], count)
    decode_rows(Rows.of(known, count, content), target)


def compile_for(known: ResultMetadata, target: Any = tuple) -> None:
    """Decode enough rows of these columns for their decoder to be compiled."""
    decode_some(known, ROWS_BEFORE_COMPILING + 1, target)


def _decode(event: Any, target: Any) -> list[Any]:
    assert type(event) is ResponseReceived
    message = event.message
    assert type(message) is Rows
    return decode_rows(message, target)


def page_series(plan: Plan) -> Iterator[dict[str, Any]]:
    """Return the series of pages with more rows."""
    wire = Wire(V4)
    for kind, types in (("numbers, uuid", FIXED), ("with texts", TEXTS)):
        for target in (tuple, Row):

            def make(size: int, types: Sequence[str] = types, target: Any = target) -> Prepare:
                body = rows_body(len(types), size, row_content(types, size))
                return Receiving(wire, metadata(types), body, size, target)

            name = target.__name__.lower()
            yield complete(
                measure(
                    Series(
                        f"page of rows, {kind}, {name}",
                        "rows",
                        f"{kind}, row={target.__name__}",
                        plan.sizes(PAGE),
                        make,
                        most=lambda _: _MOST,
                        floor=functools.partial(objects, types),
                    ),
                    plan,
                )
            )


def mixed_or_ints(kind: str, count: int) -> tuple[str, ...]:
    return ("int",) * count if kind == "ints" else (MIXED * (count // len(MIXED) + 1))[:count]


def _objects_of_columns(kind: str, size: int) -> Prepare:
    return objects(mixed_or_ints(kind, size), _COLUMN_ROWS)


def column_series(plan: Plan) -> Iterator[dict[str, Any]]:
    """Return the series of a hundred rows with more columns."""
    wire = Wire(V4)
    for kind in ("ints", "mixed types"):

        def make(size: int, kind: str = kind) -> Prepare:
            types = mixed_or_ints(kind, size)
            body = rows_body(size, _COLUMN_ROWS, row_content(types, _COLUMN_ROWS))
            return Receiving(wire, metadata(types), body, _COLUMN_ROWS)

        yield complete(
            measure(
                Series(
                    f"columns decoded, {kind}",
                    "columns",
                    f"decode {_COLUMN_ROWS} rows, {kind}",
                    plan.sizes(COLUMNS, 4),
                    make,
                    most=lambda _: _MOST,
                    floor=functools.partial(_objects_of_columns, kind),
                ),
                plan,
            )
        )


def forget_compiled() -> None:
    """Clear the caches of compiled decoders, so that they are compiled again."""
    for name, module in list(sys.modules.items()):
        if name.startswith("cqlproto.rows"):
            for value in list(vars(module).values()):
                if isinstance(value, functools._lru_cache_wrapper):
                    value.cache_clear()


def compile_series(plan: Plan) -> Iterator[dict[str, Any]]:
    """Return the series of decoders with more columns: generate, compile, decode one row."""
    for kind in ("ints", "mixed types"):

        def make(size: int, kind: str = kind) -> Prepare:
            types = mixed_or_ints(kind, size)
            known = metadata(types)
            content = row_content(types, 1)
            page = Rows.of(known, 1, content)

            def prepare(count: int) -> Run:
                def run() -> None:
                    for _ in range(count):
                        forget_compiled()
                        if len(decoder(known.columns, tuple)(page)) != 1:
                            raise RuntimeError("not the row that was sent")

                return run

            prepare(1)()  # imports the modules that compile
            if _calls_of_compile(prepare(1)) == 0:
                raise RuntimeError(f"nothing was compiled for {size} columns")
            return prepare

        yield complete(
            measure(
                Series(
                    f"columns compiled, {kind}",
                    "columns-compiled",
                    f"write and compile a decoder, {kind}",
                    plan.sizes(COLUMNS, 4),
                    make,
                ),
                plan,
            )
        )


def _calls_of_compile(run: Run) -> int:
    """Return how often ``run`` calls the compiler."""
    calls = 0
    plain = builtins.compile

    def counting(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        return plain(*arguments, **options)

    builtins.compile = counting
    try:
        run()
    finally:
        builtins.compile = plain
    return calls


@functools.lru_cache(maxsize=1)
def _orders() -> list[tuple[str, ...]]:
    return list(itertools.permutations(MIXED[:8]))


def list_of_types(number: int) -> tuple[str, ...]:
    """Return eight types: always the same ones, no two numbers below 40,320 in the same order."""
    orders = _orders()
    return orders[number * 4027 % len(orders)]  # 4027 is prime: consecutive lists differ a lot


def new_list(number: int) -> tuple[ResultMetadata, Rows]:
    """Return a new column list and a page of its rows."""
    types = list_of_types(number)
    known = metadata(types, f"table_{number}")
    return known, Rows.of(known, _LIST_ROWS, row_content(types, _LIST_ROWS))


def decode_each(pages: Iterable[Rows]) -> None:
    """Decode the pages one after another."""
    for page in pages:
        if len(decode_rows(page, tuple)) != _LIST_ROWS:
            raise RuntimeError("not the rows that were sent")


def list_series(plan: Plan) -> Iterator[dict[str, Any]]:
    """Return the series of more column lists, decoded in turn."""
    sizes = plan.sizes(LISTS)
    everything = [new_list(number) for number in range(sizes[-1])]
    compiled = 0

    def first(size: int) -> Prepare:
        """Decode lists that are new."""
        chosen = everything[:size]
        pages = [page for _, page in chosen]

        def prepare(count: int) -> Run:
            def run() -> None:
                for _ in range(count):
                    for known, _ in chosen:
                        known.cache.clear()
                    decode_each(pages)

            return run

        return prepare

    def again(size: int) -> Prepare:
        """Decode lists whose decoders are compiled."""
        nonlocal compiled
        pages = [page for _, page in everything[:size]]
        for page in pages[compiled:]:
            decode_each([page] * (ROWS_BEFORE_COMPILING // _LIST_ROWS + 2))
        compiled = max(compiled, size)

        def prepare(count: int) -> Run:
            def run() -> None:
                for _ in range(count):
                    decode_each(pages)

            return run

        return prepare

    makers: tuple[tuple[str, Callable[[int], Prepare]], ...] = (
        ("met for the first time", first),
        ("compiled before", again),
    )
    for kind, make in makers:
        series = Series(
            f"column lists, {kind}",
            "lists",
            f"a page of each, {kind}",
            sizes,
            make,
            floor=functions,
        )
        yield complete(measure(series, plan))


BODY_TYPES = ("int", "bigint", "uuid", "text", "timestamp")


def body_of_rows(size: int) -> tuple[int, bytes]:
    """Return the number of rows that fit ``size`` bytes, and the body of a RESULT with them."""
    sample = len(row_content(BODY_TYPES, 1000)) / 1000
    count = max(1, int((size - 16) / sample))
    return count, rows_body(len(BODY_TYPES), count, row_content(BODY_TYPES, count))


def body_series(plan: Plan, *, given_back: bool = False) -> Iterator[dict[str, Any]]:
    """Return the series of longer response bodies: one blob, on every wire, and many rows.

    Arguments:
        plan: how much is measured.
        given_back: whether the process returns memory to the system; then there is one series,
            without a gate.
    """
    wires = [Wire(version, codec) for version in (V4, V5) for codec in (None, "lz4")]
    cases = [(wire, "one blob") for wire in wires]
    cases += [(wires[0], "many rows"), (wires[-1], "many rows")]
    for wire, kind in cases[:1] if given_back else cases:

        def make(size: int, wire: Wire = wire, kind: str = kind) -> Prepare:
            return body_received(size, wire, kind)

        name = f"{kind}, {wire.name}" + (", memory given back" if given_back else "")
        series = Series(
            f"response body, {name}",
            "bodies",
            name,
            plan.sizes(BODIES),
            make,
            most=lambda size: max(1, min(_MOST, _AT_ONCE // size)),
            floor=functools.partial(copying, wire.codec)
            if kind == "one blob"
            else _objects_of_body,
            limit=None if given_back else DEFAULT_LIMIT,
        )
        yield complete(measure(series, plan))


def _objects_of_body(size: int) -> Prepare:
    return objects(BODY_TYPES, body_of_rows(size)[0])


def body_received(size: int, wire: Wire, kind: str) -> Receiving:
    """Return the receiver of responses of ``size`` bytes."""
    if kind == "one blob":
        return Receiving(wire, metadata(("blob",)), blob_body(size), 1)
    count, body = body_of_rows(size)
    return Receiving(wire, metadata(BODY_TYPES), body, count)
