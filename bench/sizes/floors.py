"""The floors: the minimum work for the same result, in C or by the event loop alone.

A floor is not a goal. It separates the machine's cost of more data from the client's, see ``fit``.
"""

from __future__ import annotations

import marshal
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from bench.sizes.material import blob, chunks, values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.sizes.timing import Prepare, Run
    from cqlproto.compression import Compressor

__all__ = ["copying", "functions", "joining", "objects", "tasks"]


def objects(types: Sequence[str], count: int) -> Prepare:
    """Create as many objects as decoding ``count`` rows does, of about the same sizes.

    ``marshal`` doesn't support UUIDs and times. A list with a 128-bit integer replaces a UUID,
    because it has the same size and the garbage collector tracks it too; eight bytes replace a
    time.
    """
    rows = []
    for number in range(count):
        row: list[object] = []
        for name, value in zip(types, values(types, number % 1000), strict=True):
            if name == "uuid":
                row.append([value.int])
            elif name in ("timestamp", "date"):
                row.append(number.to_bytes(8, "big"))
            else:
                row.append(value)
        rows.append(tuple(row))
    data = marshal.dumps(rows)

    def prepare(times: int) -> Run:
        def run() -> None:
            for _ in range(times):
                marshal.loads(data)

        return run

    return prepare


def copying(codec: Compressor | None, size: int) -> Prepare:
    """Join the chunks of a body, decompress it if there is a codec, and slice the value out.

    Arguments:
        codec: the compression of the body, or None.
        size: the size of the uncompressed body, in bytes.
    """
    data = blob(size)
    parts = chunks(data if codec is None else codec.compress(data))

    def prepare(times: int) -> Run:
        def run() -> None:
            for _ in range(times):
                body = b"".join(parts)
                if codec is not None:
                    body = codec.decompress(body, size)
                body[16:]

        return run

    return prepare


def joining(codec: Compressor | None, size: int) -> Prepare:
    """Compress a value if there is a codec, and prepend a header."""
    value = blob(size)

    def prepare(times: int) -> Run:
        def run() -> None:
            for _ in range(times):
                b"".join((b"header", value if codec is None else codec.compress(value)))

        return run

    return prepare


def tasks(count: int) -> Prepare:
    """Start ``count`` tasks that each wait once, and wake all of them."""

    def prepare(times: int) -> Run:
        async def run() -> None:
            for _ in range(times):
                ready = anyio.Event()
                async with anyio.create_task_group() as group:
                    for _ in range(count):
                        group.start_soon(ready.wait)
                    await anyio.lowlevel.checkpoint()
                    ready.set()

        return run

    return prepare


def functions(count: int) -> Prepare:
    """Call ``count`` different functions; with many, none stays in the processor's caches."""
    source = "def function(x):\n" + "".join(
        f"    v{at} = x + {at}\n    w{at} = [v{at}, str(v{at}), (v{at}, x)]\n" for at in range(12)
    )
    made = []
    for _ in range(count):
        space: dict[str, object] = {}
        exec(compile(source, "<floor>", "exec"), space)
        made.append(space["function"])

    def prepare(times: int) -> Run:
        def run() -> None:
            for _ in range(times):
                for function in made:
                    function(1)  # type: ignore[operator]  # it came out of exec

        return run

    return prepare
