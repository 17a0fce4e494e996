"""Packers generated for one list of bind markers: a whole EXECUTE frame in a few calls.

The source is made of templates and integer indexes alone, never of names or values;
``python -m cqlproto.rows "int, text, uuid"`` prints it. Cells of fixed size are packed together by
one struct, with their neighbours: the header and the bytes before the values, the length of the
next cell of variable size, or the bytes after the values. If all cells have a fixed size, one
``pack`` makes the whole frame.

For ``int, text`` the packer is (without the parameters of ``make_packer``)::

    def frame(stream_id, values):
        if type(values) is not tuple and type(values) is not list:
            values = by_position(values)
        if len(values) != 2:
            return plain(stream_id, values)
        v0, v1, = values
        if not (
            type(v0) is int
        ):
            return cell_by_cell.frame(stream_id, values)
        try:
            size = whole
            if type(v1) is str:
                c1 = v1.encode()
                n1 = len(c1)
                size += n1
            elif v1 is None or v1 is UNSET:
                c1 = b''
                n1 = absent(v1)
            else:
                c1 = encode1(v1)
                n1 = len(c1)
                size += n1
            return b''.join((pack0(start, stream_id, opcode, size, before, v0, n1), c1, after))
        except Exception as error:
            raise named(error, values, missing(locals(), (1,)))

``v0`` and ``v1`` are the values, ``c1`` is a cell and ``n1`` its length. ``start`` is the version
and the flags of the header; ``before`` and ``after`` are the body around the values. ``pack0``
packs the header, ``before``, the int, and the length of the text. ``size`` starts as ``whole``, the
length of a body whose cells of variable size are empty. ``encode1`` is the encoder of the text's
type. :class:`_Parts` and ``_CONSTANTS`` describe the other names.

A packer serves values of the usual classes: an ``int`` for an int, a ``datetime`` in UTC for a
timestamp. A null in a cell of variable size makes no difference. If a cell of fixed size is null,
UNSET or of another class, a second function for the same markers, ``cell_by_cell``, packs the
cells one by one. Both return what the plain loop of the binder returns. An error of an encoder is
raised with the column's name. The encoder of a value is never called twice, since the value may be
an iterator: the cells that exist (``missing``) tell which column failed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from cqlproto.cqltypes.constructors import DATE_OFFSET, EPOCH, EPOCH_ORDINAL
from cqlproto.frames import HEADER
from cqlproto.rows.encoding.containers import binding_encoder
from cqlproto.rows.encoding.support import (
    by_position,
    length_of_absent,
    length_of_null,
    missing_cell,
    write_decimal,
)
from cqlproto.rows.encoding.templates import FIXED, PackerSource, kind_of, width_of
from cqlproto.wire import UNSET

if TYPE_CHECKING:
    from cqlproto.cqltypes import CQLType

__all__ = ["FRAMES_WHEN_KNOWN", "compiled_packer", "is_known"]

# Most markers of one function: unrolled code grows with them.
MAX_MARKERS = 250

# Most shapes whose compiled code is cached.
MAX_SHAPES = 256

# Frames that the plain loop packs before the cell-by-cell packer is compiled: compiling takes as
# long as these frames would save.
FRAMES_BEFORE_CELL_BY_CELL = 512

# The same if the code is compiled already and only the structs have to be made.
FRAMES_WHEN_KNOWN = 16

_pack_length = Struct(">i").pack
# Lengths as they are written, by length: of short cells, and of UNSET (-2) and null (-1).
_LENGTHS = tuple(_pack_length(length) for length in (*range(256), -2, -1))


class _Code:
    """The compiled code of one shape.

    Attributes:
        formats: as in :class:`PackerSource`.
        fixed: as in :class:`PackerSource`.
        make: makes a packer.
        make_cell_by_cell: makes a packer that packs cell by cell; None until it is needed.
    """

    __slots__ = ("_source", "fixed", "formats", "make", "make_cell_by_cell")

    def __init__(self, shape: Sequence[str], stamped: bool) -> None:
        self._source = PackerSource(shape, stamped)
        self.fixed = self._source.fixed
        self.formats = self._source.formats
        self.make = _compiled(self._source.usual())
        self.make_cell_by_cell: Callable[..., Any] | None = None

    def cell_by_cell(self) -> Callable[..., Any]:
        """Return :attr:`make_cell_by_cell`, compiled."""
        if self.make_cell_by_cell is None:
            self.make_cell_by_cell = _compiled(self._source.cell_by_cell())
        return self.make_cell_by_cell


def _compiled(source: str) -> Callable[..., Any]:
    space: dict[str, Any] = {}
    exec(compile(source, "<packer>", "exec"), space)
    make: Callable[..., Any] = space.pop("make_packer")
    return make


# By shape and by whether frames are stamped.
_codes: dict[tuple[tuple[str, ...], bool], _Code] = {}


def _code(shape: tuple[str, ...], stamped: bool) -> _Code:
    code = _codes.get((shape, stamped))
    if code is None:
        while len(_codes) >= MAX_SHAPES:
            del _codes[next(iter(_codes))]  # the oldest
        code = _codes[shape, stamped] = _Code(shape, stamped)
    return code


def is_known(types: Sequence[CQLType], *, stamped: bool = False) -> bool:
    """Whether the code for markers of these types is compiled, so that making a packer is cheap."""
    return len(types) <= MAX_MARKERS and (tuple(map(kind_of, types)), stamped) in _codes


class _CompiledLater:
    """A packer that is compiled after a number of frames, which the plain loop packs.

    Arguments:
        frames: the number of frames.
        plain: packs a frame by the plain loop.
        make: compiles the packer.

    Attributes:
        frame: takes a stream id and values, returns a frame.
    """

    __slots__ = ("_left", "_make", "_plain", "frame")

    #: Returns the frame for a stream id and values.
    frame: Callable[[int, Sequence[Any]], bytes]

    def __init__(
        self,
        frames: int,
        plain: Callable[[int, Sequence[Any]], bytes],
        make: Callable[[], Callable[[int, Sequence[Any]], bytes]],
    ) -> None:
        self._left = frames
        self._plain = plain
        self._make = make
        self.frame = self._early

    def _early(self, stream_id: int, values: Sequence[Any]) -> bytes:
        self._left -= 1
        if self._left < 0:
            self.frame = self._make()
        return self._plain(stream_id, values)


# The arguments of every ``make_packer`` that are the same for all packers.
_CONSTANTS: dict[str, Any] = {
    "missing": missing_cell,
    "lengths": _LENGTHS,
    "pack_length": _pack_length,
    "write_decimal": write_decimal,
    "UNSET": UNSET,
    "by_position": by_position,
    "Decimal": Decimal,
    "IPv4": IPv4Address,
    "IPv6": IPv6Address,
    "UUID": UUID,
    "date": date,
    "datetime": datetime,
    "time": time,
    "utc": UTC,
    "epoch": EPOCH,
    "day": DATE_OFFSET - EPOCH_ORDINAL,  # the difference of a date's cell and its ordinal
}


class _Parts(NamedTuple):
    """The arguments of both kinds of ``make_packer`` that depend on the statement.

    Attributes:
        plain: packs a frame by the plain loop.
        named: returns the error to raise, which names the column.
        absent: returns the length that is written for None or UNSET.
        stamp: returns the timestamp of a frame; None for frames without one.
        behind: the body behind the timestamp.
        last: packs the body behind the values.
    """

    plain: Callable[[int, Sequence[Any]], bytes]
    named: Callable[[Exception, Sequence[Any], int | None], Exception]
    absent: Callable[[object], int]
    stamp: Callable[[], int] | None
    behind: bytes
    last: Callable[..., bytes]


def _layout(
    code: _Code, shape: Sequence[str], before: bytes, last: str, version: int, opcode: int
) -> tuple[bytes, int, list[str]]:
    """Return the constant head of a frame, the body's least length, and the structs' formats.

    Arguments:
        code: the code of the shape.
        shape: the kinds of the markers.
        before: the body up to the values.
        last: the format of the body behind the values.
        version: the version byte of the header.
        opcode: the opcode of the header.
    """
    head = before
    if shape and shape[0] in FIXED:
        head += _pack_length(width_of(shape[0]))
    whole = len(head) + Struct(f">{''.join(code.formats)}{last}").size
    formats = list(code.formats)
    if code.fixed:  # opcode and length are constant as well
        head = HEADER.pack(version, 0, 0, opcode, whole)[4:] + head
        formats[0] = f"2sh{len(head)}s{formats[0]}"
    else:
        formats[0] = f"2shBi{len(head)}s{formats[0]}"
    formats[-1] += last
    return head, whole, formats


def compiled_packer(
    types: Sequence[CQLType],
    *,
    version: int,
    opcode: int,
    before: bytes,
    after: bytes,
    behind: bytes,
    timestamps: Callable[[], int] | None,
    has_unset: bool,
    writers: Sequence[Callable[[Any], bytes]],
    plain: Callable[[int, Sequence[Any]], bytes],
    named: Callable[[Exception, Sequence[Any], int | None], Exception],
) -> Callable[[int, Sequence[Any]], bytes]:
    """Return a function from a stream id and values to a frame.

    Arguments:
        types: the types of the bind markers, in order.
        version: the version byte of the header.
        opcode: the opcode of the header.
        before: the body up to the values.
        after: the body behind the values; up to the timestamp, if each frame has its own.
        behind: the body behind the timestamp; empty without one.
        timestamps: returns the timestamp of a frame, of 64 bits; None for frames without one.
        has_unset: whether the version has UNSET.
        writers: for each marker the function that writes a value as [bytes].
        plain: packs a frame by the plain loop, for any values.
        named: takes what was raised, the values and the index of the first column without a cell,
            and returns the error to raise, which names the column.
    """
    if len(types) > MAX_MARKERS:
        return plain
    shape = tuple(map(kind_of, types))
    code = _code(shape, timestamps is not None)
    # the format of the body behind the values
    last = f"{len(after)}s" if timestamps is None else f"{len(after)}sq{len(behind)}s"
    head, whole, formats = _layout(code, shape, before, last, version, opcode)
    parts = _Parts(
        plain=plain,
        named=named,
        absent=length_of_absent if has_unset else length_of_null,
        stamp=timestamps,
        behind=behind,
        last=Struct(f">{last}").pack,
    )

    def make_cell_by_cell() -> Callable[[int, Sequence[Any]], bytes]:
        singles = [Struct(f">i{FIXED[k].code}").pack if k in FIXED else None for k in shape]
        made: Callable[[int, Sequence[Any]], bytes] = code.cell_by_cell()(
            version=version,
            opcode=opcode,
            before=before,
            after=after,
            singles=singles,
            writers=writers,
            pack_header=HEADER.pack,
            **parts._asdict(),
            **_CONSTANTS,
        )
        return made

    is_compiled = code.make_cell_by_cell is not None
    packer: Callable[[int, Sequence[Any]], bytes] = code.make(
        start=bytes([version, 0]),
        opcode=opcode,
        before=head,
        after=after,
        whole=whole,
        packs=[Struct(f">{text}").pack for text in formats],
        encoders=[binding_encoder(cql_type) for cql_type in types],
        cell_by_cell=_CompiledLater(
            FRAMES_WHEN_KNOWN if is_compiled else FRAMES_BEFORE_CELL_BY_CELL,
            plain,
            make_cell_by_cell,
        ),
        **parts._asdict(),
        **_CONSTANTS,
    )
    return packer
