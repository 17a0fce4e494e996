"""The floors: the least that must be done for the same result, in C or by the event loop alone.

They are no goals. They tell what more data costs on this machine from what the client makes of it:
see ``fit``.
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
    """Make as many objects as decoding so many rows does, of about the same sizes.

    ``marshal`` knows no UUID and no times: a list of an integer of 128 bits stands for the one, for
    it is as large and the garbage collector looks at it too; eight bytes stand for the others.
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
    """Join the chunks of a body, decompress it if there is a codec, and take the value out of it.

    Arguments:
        codec: of the body, or None.
        size: of the body in bytes, decompressed.
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
    """Compress a value if there is a codec, and put a header before it."""
    value = blob(size)

    def prepare(times: int) -> Run:
        def run() -> None:
            for _ in range(times):
                b"".join((b"header", value if codec is None else codec.compress(value)))

        return run

    return prepare


def tasks(count: int) -> Prepare:
    """Start so many tasks that each wait once, and wake them all."""

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
    """Call so many different functions, none of them in the caches once there are many."""
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
