"""Packers written for one list of bind markers: a whole EXECUTE frame in few steps.

As in ``compile``, the source is made of templates and integer indexes alone;
``python -m cqlproto.rows "int, text, uuid"`` shows it. Numbers and other cells of fixed size are
packed together: with the header and what stands before the values, with the length of the next cell
of variable size, with what stands behind the values. Where all cells are of fixed size, that is one
call for the whole frame. A timestamp that is made for each frame is packed with what stands
behind the values.

This is for values of the usual classes: an ``int`` for an int, a ``datetime`` in UTC for a
timestamp, .. A null among the cells of variable size makes no difference. Where a cell of fixed
size is null, UNSET or of another class, a second function, written for the same markers, takes the
cells one by one. What the encoder of a type refuses is named; what doesn't fit its struct is given
to the plain loop of the binder, which says what is wrong. So whatever a compiled packer returns,
the plain loop returns too. What an encoder has read is not read again, for it may be an iterator:
which column it was shows in the cells that were made before.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from cqlproto.cqltypes import NativeType
from cqlproto.cqltypes.scalars import SCALARS
from cqlproto.frames import HEADER
from cqlproto.rows.encoding.containers import binding_encoder
from cqlproto.rows.encoding.support import (
    by_position,
    length_of_absent,
    length_of_null,
    missing_cell,
    write_decimal,
)
from cqlproto.wire import UNSET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cqlproto.cqltypes import CQLType

__all__ = ["FRAMES_WHEN_KNOWN", "compiled_packer", "is_known", "packer_source"]

# How many markers one function may have: unrolled code grows with them.
MAX_MARKERS = 250

# For how many shapes the compiled code is kept.
MAX_SHAPES = 256

# So many frames are left to the plain loop before the second function is compiled: that costs as
# much as they would gain by it.
FRAMES_BEFORE_SECOND = 512

# As many where the code is there already and only its structs are to be made.
FRAMES_WHEN_KNOWN = 16

_pack_length = Struct(">i").pack
# The lengths of short cells as they are written; at -2 and -1 those of UNSET and null.
_LENGTHS = tuple(_pack_length(length) for length in (*range(256), -2, -1))

_SOURCE = """\
def make_packer(start, opcode, before, after, whole, packs, encoders, given, later):
    plain, named, missing, absent, lengths, pack_length, write_decimal, *given = given
    UNSET, by_position, Decimal, IPv4, IPv6, UUID, date, datetime, time, *given = given
    utc, epoch, day, stamp, behind, last = given
{names}
    def frame(stream_id, values):
        if type(values) is not tuple and type(values) is not list:
            values = by_position(values)
        if len(values) != {count}:
            return plain(stream_id, values)
        {targets}= values{check}
        try:{cells}
            return {frame}
        except Exception as error:
            raise named(error, values, missing(locals(), {variable}))

    return frame
"""

_SECOND = """\
def make_packer(version, opcode, before, after, singles, writers, pack_header, given):
    plain, named, missing, absent, lengths, pack_length, write_decimal, *given = given
    UNSET, by_position, Decimal, IPv4, IPv6, UUID, date, datetime, time, *given = given
    utc, epoch, day, stamp, behind, last = given
{names}
    def frame(stream_id, values):
        {targets}= values
        try:{cells}
            body = b''.join(({pieces}))
        except Exception as error:
            raise named(error, values, missing(locals(), {variable}))
        return pack_header(version, 0, stream_id, opcode, len(body)) + body

    return frame
"""

_CHECK = """
        if not (
            {check}
        ):
            return later.frame(stream_id, values)"""

_ABSENT = """
            if v{i} is None or v{i} is UNSET:
                c{i} = b''
                n{i} = absent(v{i})"""

_USUAL = """
            if {check}:
                c{i} = {value}
                n{i} = len(c{i})
                size += n{i}"""

_OTHER = """
            else:
                c{i} = encode{i}(v{i})
                n{i} = len(c{i})
                size += n{i}"""

# A datetime in UTC becomes the number that a timestamp is.
_SINCE = """
            since = v{i} - epoch
            v{i} = since.days * 86400000 + since.seconds * 1000 + since.microseconds // 1000"""

_SECOND_SINCE = """
            if type(v{i}) is datetime and v{i}.tzinfo is utc:
                since = v{i} - epoch
                v{i} = since.days * 86400000 + since.seconds * 1000 + since.microseconds // 1000"""

_ONE_BY_ONE = """
            c{i} = (
                {usual}lengths[-1] if v{i} is None
                else lengths[absent(v{i})] if v{i} is UNSET else write{i}(v{i})
            )"""


class _Fixed(NamedTuple):
    """A kind of cell that has one size, for values of its usual classes.

    Attributes:
        code: what struct calls it.
        check: holds for such values.
        value: what struct is given for one.
    """

    code: str
    check: str
    value: str = "v{i}"


class _Variable(NamedTuple):
    """A kind of cell whose size depends on the value.

    Attributes:
        check: holds for values of its usual classes.
        value: the cell of one.
    """

    check: str
    value: str


# An int that is larger may be none of these numbers, which the encoder finds out.
_NUMBER = "(type(v{i}) is float or type(v{i}) is int and -{most} <= v{i} <= {most})"
_TIME = "((v{i}.hour * 60 + v{i}.minute) * 60 + v{i}.second) * 1000000000 + v{i}.microsecond * 1000"
_UUID = "v{i}.int.to_bytes(16, 'big')"
_VARINT = "v{i}.to_bytes((v{i} if v{i} >= 0 else ~v{i}).bit_length() // 8 + 1, 'big', signed=True)"

_FIXED = {
    **{code: _Fixed(code, "type(v{i}) is int") for code in "bhiq"},
    "f": _Fixed("f", _NUMBER.replace("{most}", str(1 << 24))),
    "d": _Fixed("d", _NUMBER.replace("{most}", str(1 << 53))),
    "boolean": _Fixed("?", "type(v{i}) is bool"),
    "date": _Fixed("I", "type(v{i}) is date", "v{i}.toordinal() + day"),
    "time": _Fixed("q", "type(v{i}) is time and v{i}.tzinfo is None", _TIME),
    "timestamp": _Fixed("q", "type(v{i}) is datetime and v{i}.tzinfo is utc"),
    "timeuuid": _Fixed("16s", "type(v{i}) is UUID and v{i}.int >> 76 & 15 == 1", _UUID),
    "uuid": _Fixed("16s", "type(v{i}) is UUID", _UUID),
}
_VARIABLE = {
    "ascii": _Variable("type(v{i}) is str", "v{i}.encode('ascii')"),
    "decimal": _Variable("type(v{i}) is Decimal", "write_decimal(v{i})"),
    "blob": _Variable("type(v{i}) is bytes or type(v{i}) is bytearray", "v{i}"),
    "inet": _Variable(
        "type(v{i}) is IPv4 or type(v{i}) is IPv6 and v{i}.scope_id is None", "v{i}.packed"
    ),
    "text": _Variable("type(v{i}) is str", "v{i}.encode()"),
    "varint": _Variable("type(v{i}) is int", _VARINT),
}


def _kind(cql_type: CQLType) -> str:
    """Return a key of the tables above, or "" for types whose encoder is asked."""
    if not isinstance(cql_type, NativeType):
        return ""
    name = cql_type.name
    return name if name in _FIXED or name in _VARIABLE else SCALARS[name].code


def _width(kind: str) -> int:
    return Struct(f">{_FIXED[kind].code}").size


class _Plan:
    """The sources for a shape, and what structs they use.

    Arguments:
        shape: the kinds of the markers.
        stamped: whether each frame gets a timestamp of its own.

    Attributes:
        formats: of the structs. Each takes cells of fixed size up to a length; the first lacks what
            stands before, the last what is behind.
        fixed: whether all cells are of fixed size.
    """

    def __init__(self, shape: Sequence[str], stamped: bool) -> None:
        self.shape = shape
        self._stamped = stamped
        self._last = ["after", "stamp()", "behind"] if stamped else ["after"]
        self.formats = [""]
        self.fixed = all(kind in _FIXED for kind in shape)
        self._arguments = [["start", "stream_id"]]
        if not self.fixed:
            self._arguments[0] += ["opcode", "size"]
        self._arguments[0].append("before")
        for index, kind in enumerate(shape):
            if kind not in _FIXED:
                self._arguments[-1].append(f"n{index}")
                self.formats[-1] += "i"
                self._arguments.append([])
                self.formats.append("")
                continue
            if index:  # the first one's length is a part of what stands before
                self._arguments[-1].append(str(_width(kind)))
                self.formats[-1] += "i"
            self._arguments[-1].append(_FIXED[kind].value.format(i=index))
            self.formats[-1] += _FIXED[kind].code

    def source(self) -> str:
        """Return the source of what makes the packer."""
        indexes = range(len(self.shape))
        names = [f"    encode{i} = encoders[{i}]" for i in indexes if self.shape[i] not in _FIXED]
        pieces = []
        variable = [f"c{i}" for i in indexes if self.shape[i] not in _FIXED]
        for n, (text, arguments) in enumerate(zip(self.formats, self._arguments, strict=True)):
            if n == len(variable):
                arguments = [*arguments, *self._last]
            if n and (text == "i" or not (text or self._stamped)):
                pieces.append(_length(arguments[0]) if text else "after")
            else:
                names.append(f"    pack{n} = packs[{n}]")
                pieces.append(f"pack{n}({', '.join(arguments)})")
            pieces += variable[n : n + 1]
        checks = [_FIXED[kind].check.format(i=i) for i, kind in self._fixed_cells()]
        cells = "" if self.fixed else "\n            size = whole"
        for i, kind in enumerate(self.shape):
            cells += self._cell(i, kind)
        return _SOURCE.format(
            names="".join(f"{name}\n" for name in names),
            count=len(self.shape),
            targets=self._targets(),
            check=_CHECK.format(check="\n            and ".join(checks)) if checks else "",
            cells=cells,
            variable=tuple(i for i in indexes if self.shape[i] not in _FIXED),
            frame=pieces[0] if len(pieces) == 1 else f"b''.join(({', '.join(pieces)}))",
        )

    def _cell(self, i: int, kind: str) -> str:
        """How a cell is made that can't be an argument of its struct right away."""
        if kind == "timestamp":
            return _SINCE.format(i=i)
        if kind in _FIXED:
            return ""
        if kind not in _VARIABLE:
            return _ABSENT.format(i=i) + _OTHER.format(i=i)
        check, value = (text.format(i=i) for text in _VARIABLE[kind])
        absent = _ABSENT.replace(" if ", " elif ", 1).format(i=i)
        return _USUAL.format(i=i, check=check, value=value) + absent + _OTHER.format(i=i)

    def second_source(self) -> str:
        """Return the source of what makes the packer that takes the cells one by one."""
        names = [f"    write{i} = writers[{i}]" for i in range(len(self.shape))]
        cells = []
        for i, kind in enumerate(self.shape):
            usual = ""
            if kind in _FIXED:
                names.append(f"    single{i} = singles[{i}]")
                fixed = _FIXED[kind]
                check = "type(v{i}) is int" if kind == "timestamp" else fixed.check
                usual = f"single{{i}}({_width(kind)}, {fixed.value}) if {check} else ".format(i=i)
            if kind == "timestamp":
                cells.append(_SECOND_SINCE.format(i=i))
            cells.append(_ONE_BY_ONE.format(i=i, usual=usual))
        made = [f"c{i}" for i in range(len(self.shape))]
        return _SECOND.format(
            names="".join(f"{name}\n" for name in names),
            targets=self._targets(),
            cells="".join(cells),
            variable=tuple(range(len(self.shape))),
            pieces=", ".join(["before", *made, self._whole_last()]),
        )

    def _whole_last(self) -> str:
        """What stands behind the values, as one piece."""
        return f"last({', '.join(self._last)})" if self._stamped else "after"

    def _targets(self) -> str:
        return "".join(f"v{i}, " for i in range(len(self.shape))) or "() "

    def _fixed_cells(self) -> Iterator[tuple[int, str]]:
        return ((i, kind) for i, kind in enumerate(self.shape) if kind in _FIXED)


def _length(name: str) -> str:
    return f"lengths[{name}] if {name} < 256 else pack_length({name})"


def packer_source(types: Sequence[CQLType], *, stamped: bool = False) -> str:
    """Return the sources of what makes the two functions for markers of these types.

    Arguments:
        types: of the bind markers, in order.
        stamped: whether each frame gets a timestamp of its own.
    """
    plan = _Plan([_kind(cql_type) for cql_type in types], stamped)
    return f"{plan.source()}\n\n{plan.second_source()}"


class _Code:
    """The compiled code of one shape.

    Attributes:
        formats: as in :class:`_Plan`.
        fixed: as in :class:`_Plan`.
        make: makes a packer.
        make_second: makes a packer that takes the cells one by one; None until it was needed.
    """

    __slots__ = ("_plan", "fixed", "formats", "make", "make_second")

    def __init__(self, shape: Sequence[str], stamped: bool) -> None:
        self._plan = _Plan(shape, stamped)
        self.fixed = self._plan.fixed
        self.formats = self._plan.formats
        self.make = _compiled(self._plan.source())
        self.make_second: Callable[..., Any] | None = None

    def second(self) -> Callable[..., Any]:
        """Return :attr:`make_second`, compiled."""
        if self.make_second is None:
            self.make_second = _compiled(self._plan.second_source())
        return self.make_second


def _compiled(source: str) -> Callable[..., Any]:
    space: dict[str, Any] = {}
    exec(compile(source, "<packer>", "exec"), space)
    make: Callable[..., Any] = space.pop("make_packer")
    return make


# By shape and whether frames are stamped.
_codes: dict[tuple[tuple[str, ...], bool], _Code] = {}


def _code(shape: tuple[str, ...], stamped: bool) -> _Code:
    code = _codes.get((shape, stamped))
    if code is None:
        while len(_codes) >= MAX_SHAPES:
            del _codes[next(iter(_codes))]  # the oldest
        code = _codes[shape, stamped] = _Code(shape, stamped)
    return code


def is_known(types: Sequence[CQLType], *, stamped: bool = False) -> bool:
    """Whether the code for markers of these types is there already, so that a packer is cheap."""
    return len(types) <= MAX_MARKERS and (tuple(map(_kind, types)), stamped) in _codes


class _Later:
    """The second function, which is compiled when it was needed often.

    Arguments:
        frames: how often.
        plain: does the same until then.
        make: compiles it.

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


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = (1 << 31) - date(1970, 1, 1).toordinal()
_VALUES = (Decimal, IPv4Address, IPv6Address, UUID, date, datetime, time, UTC, _EPOCH, _EPOCH_DAY)


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
        types: of the bind markers, in order.
        version: the version byte of the header.
        opcode: the opcode of the header.
        before: the body up to the values.
        after: the body behind them; up to the timestamp, where each frame has its own.
        behind: the body behind the timestamp; empty without one.
        timestamps: returns the timestamp of a frame, of 64 bits; None for frames without one.
        has_unset: whether the version has UNSET.
        writers: per marker what writes a value that is there, as [bytes].
        plain: does the same as the packer, for whatever values.
        named: from what was raised, the values and the first column without a cell, to what is to
            be raised: says which column it was.
    """
    if len(types) > MAX_MARKERS:
        return plain
    shape = tuple(map(_kind, types))
    code = _code(shape, timestamps is not None)
    absent = length_of_absent if has_unset else length_of_null
    tools = (_LENGTHS, _pack_length, write_decimal)
    # what stands behind the values, as struct has it
    last = f"{len(after)}s" if timestamps is None else f"{len(after)}sq{len(behind)}s"
    stamping = (timestamps, behind, Struct(f">{last}").pack)
    asking = (plain, named, missing_cell, absent)
    given = (*asking, *tools, UNSET, by_position, *_VALUES, *stamping)
    head = before
    if shape and shape[0] in _FIXED:
        head += _pack_length(_width(shape[0]))
    whole = len(head) + Struct(f">{''.join(code.formats)}{last}").size
    texts = list(code.formats)
    if code.fixed:
        head = HEADER.pack(version, 0, 0, opcode, whole)[4:] + head
        texts[0] = f"2sh{len(head)}s{texts[0]}"
    else:
        texts[0] = f"2shBi{len(head)}s{texts[0]}"
    texts[-1] += last

    def second() -> Callable[[int, Sequence[Any]], bytes]:
        singles = [Struct(f">i{_FIXED[k].code}").pack if k in _FIXED else None for k in shape]
        made: Callable[[int, Sequence[Any]], bytes] = code.second()(
            version, opcode, before, after, singles, writers, HEADER.pack, given
        )
        return made

    early = FRAMES_BEFORE_SECOND if code.make_second is None else FRAMES_WHEN_KNOWN
    packer: Callable[[int, Sequence[Any]], bytes] = code.make(
        bytes([version, 0]),
        opcode,
        head,
        after,
        whole,
        [Struct(f">{text}").pack for text in texts],
        [binding_encoder(cql_type) for cql_type in types],
        given,
        _Later(early, plain, second),
    )
    return packer
