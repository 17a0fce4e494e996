"""Packers written for one list of bind markers: a whole EXECUTE frame in few steps.

As in ``compile``, the source is made of templates and integer indexes alone. It handles values of
the usual classes (an ``int`` for an int, a ``str`` for a text, ..); null, UNSET, other classes and
numbers out of range are given to the plain loop of the binder, which knows what to do or what is
wrong. So whatever a compiled packer returns, the plain loop returns too. What an encoder has
refused is never tried again: it may have been an iterator.

Cells of fixed size are packed together: with the header and what stands before the values, with the
length of the next cell of variable size, with what stands behind the values.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from struct import error as StructError
from typing import TYPE_CHECKING, Any
from uuid import UUID

from cqlproto.cqltypes import encoder
from cqlproto.cqltypes.scalars import SCALARS
from cqlproto.exceptions import ValueConversionError
from cqlproto.wire import UNSET

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cqlproto.cqltypes import CQLType

__all__ = ["compiled_packer", "packer_source"]

# How many markers one function may have: unrolled code grows with them.
MAX_MARKERS = 250

_SOURCE = """\
def make_packer(
    version, opcode, before, after, structs, encoders, plain, named, UNSET, UUID, Unfit, Refused
):
{names}
    def frame(stream_id, values):
        if len(values) != {count}:
            return plain(stream_id, values)
        try:
            {targets}= values
            if (
                {check}
            ):{cells}
                return {frame}
        except Unfit:
            pass
        except Refused as refused:
            raise named(refused, values) from refused.__cause__
        return plain(stream_id, values)

    return frame
"""

# Per kind of marker the class of its usual values; that of integers is int. Kind "." stands for all
# types whose encoder is asked.
_CLASSES = {"T": "str", "B": "bytes", "U": "UUID", "?": "bool", "f": "float", "d": "float"}
_INTEGERS = "bhiq"
_KINDS = {"text": "T", "blob": "B", "uuid": "U", "boolean": "?"}


def _kind(cql_type: CQLType) -> str:
    name = str(cql_type)
    if name in _KINDS:
        return _KINDS[name]
    scalar = SCALARS.get(name)
    code = "" if scalar is None else scalar.code
    return code if code and code in f"{_INTEGERS}fd" else "."


class _Plan:
    """Which structs a shape needs, and the source that uses them.

    Arguments:
        shape: per marker its kind.
    """

    def __init__(self, shape: str) -> None:
        self.shape = shape
        self.formats: list[str] = []  # the first lacks what stands before, the last what is behind
        self._checks: list[str] = []
        self._cells: list[str] = []
        self._sizes: list[str] = []
        self._names: list[str] = []

    def source(self) -> str:
        """Return the source, and leave the formats of its structs in :attr:`formats`."""
        parts = [["version", "0", "stream_id", "opcode", "{size}", "before"]]
        self.formats = [""]
        pieces: list[str] = []
        for index, kind in enumerate(self.shape):
            self._check(index, kind)
            if kind in "TB.":
                self._variable(index, kind)
                parts[-1].append(f"len(c{index})")
                self.formats[-1] += "i"
                pieces += [self._struct(parts[-1]), f"c{index}"]
                parts.append([])
                self.formats.append("")
            else:
                self._number(index, kind, parts[-1])
        pieces.append(self._struct([*parts[-1], "after"]))
        size = " + ".join(["size", *self._sizes])
        frame = pieces[0] if len(pieces) == 1 else f"b''.join(({', '.join(pieces)}))"
        names = [f"    pack{n} = structs[{n}].pack" for n in range(len(self.formats))]
        names.append("    size = sum([each.size for each in structs]) - 9")
        return _SOURCE.format(
            names="\n".join([*names, *self._names]),
            count=len(self.shape),
            targets="".join(f"v{i}, " for i in range(len(self.shape))) or "() ",
            check="\n                and ".join(self._checks) or "True",
            cells="".join(f"\n{cell}" for cell in self._cells),
            frame=frame.replace("{size}", size),
        )

    def _struct(self, arguments: list[str]) -> str:
        return f"pack{len(self.formats) - 1}({', '.join(arguments)})"

    def _check(self, index: int, kind: str) -> None:
        if kind == ".":
            self._checks += [f"v{index} is not None", f"v{index} is not UNSET"]
        else:
            wanted = _CLASSES.get(kind, "int")
            self._checks.append(f"type(v{index}) is {wanted}")

    def _variable(self, index: int, kind: str) -> None:
        if kind == ".":
            self._names.append(f"    encode{index} = encoders[{index}]")
            made = f"encode{index}(v{index})"
        else:
            made = f"v{index}.encode()" if kind == "T" else f"v{index}"
        self._cells.append(f"                c{index} = {made}")
        self._sizes.append(f"len(c{index})")

    def _number(self, index: int, kind: str, arguments: list[str]) -> None:
        code = "16s" if kind == "U" else kind
        size = Struct(f">{code}").size
        value = f"v{index}.int.to_bytes(16, 'big')" if kind == "U" else f"v{index}"
        arguments += [str(size), value]
        self.formats[-1] += f"i{code}"


def packer_source(types: Sequence[CQLType]) -> str:
    """Return the source of the function that makes a packer for markers of these types."""
    return _Plan("".join(map(_kind, types))).source()


@lru_cache(maxsize=256)
def _maker(shape: str) -> tuple[Callable[..., Any], tuple[str, ...]]:
    plan = _Plan(shape)
    space: dict[str, Any] = {}
    exec(compile(plan.source(), f"<packer of {shape}>", "exec"), space)
    return space["make_packer"], tuple(plan.formats)


def compiled_packer(
    types: Sequence[CQLType],
    *,
    version: int,
    opcode: int,
    before: bytes,
    after: bytes,
    plain: Callable[[int, Sequence[Any]], bytes],
    named: Callable[[ValueConversionError, Sequence[Any]], ValueConversionError],
) -> Callable[[int, Sequence[Any]], bytes]:
    """Return a function from a stream id and values to a frame.

    Arguments:
        types: of the bind markers, in order.
        version: the version byte of the header.
        opcode: the opcode of the header.
        before: the body up to the values.
        after: the body behind them.
        plain: does the same, for values of other classes.
        named: adds the column to what an encoder raised.
    """
    if len(types) > MAX_MARKERS:
        return plain
    make_packer, formats = _maker("".join(map(_kind, types)))
    texts = list(formats)
    texts[0] = f"BBhBi{len(before)}s{texts[0]}"
    texts[-1] += f"{len(after)}s"
    structs = [Struct(f">{text}") for text in texts]
    encoders = [encoder(cql_type) for cql_type in types]
    packer: Callable[[int, Sequence[Any]], bytes] = make_packer(
        version,
        opcode,
        before,
        after,
        structs,
        encoders,
        plain,
        named,
        UNSET,
        UUID,
        (StructError, OverflowError, UnicodeEncodeError),
        ValueConversionError,
    )
    return packer
