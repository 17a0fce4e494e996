"""The source of the packers that ``compiled`` compiles: templates, filled per list of bind markers.

A list of markers is reduced to its shape, one kind per marker. The source depends on the shape
alone: it contains nothing but templates, kinds and integer indexes, never names or values.
``compiled`` shows a packer and explains it.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from cqlproto.cqltypes import NativeType
from cqlproto.cqltypes.scalars import SCALARS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cqlproto.cqltypes import CQLType

__all__ = ["FIXED", "PackerSource", "kind_of", "packer_source", "width_of"]

_SOURCE = """\
def make_packer(
    start, opcode, before, after, whole, packs, encoders, cell_by_cell,
    plain, named, absent, stamp, behind, last,
    missing, lengths, pack_length, write_decimal, UNSET, by_position,
    Decimal, IPv4, IPv6, UUID, date, datetime, time, utc, epoch, day,
):
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

_CELL_BY_CELL = """\
def make_packer(
    version, opcode, before, after, singles, writers, pack_header,
    plain, named, absent, stamp, behind, last,
    missing, lengths, pack_length, write_decimal, UNSET, by_position,
    Decimal, IPv4, IPv6, UUID, date, datetime, time, utc, epoch, day,
):
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
            return cell_by_cell.frame(stream_id, values)"""

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

# Turns a datetime in UTC into the milliseconds of a timestamp.
_SINCE = """
            since = v{i} - epoch
            v{i} = since.days * 86400000 + since.seconds * 1000 + since.microseconds // 1000"""

_CELL_SINCE = """
            if type(v{i}) is datetime and v{i}.tzinfo is utc:
                since = v{i} - epoch
                v{i} = since.days * 86400000 + since.seconds * 1000 + since.microseconds // 1000"""

_ANY_CELL = """
            c{i} = (
                {usual}lengths[-1] if v{i} is None
                else lengths[absent(v{i})] if v{i} is UNSET else write{i}(v{i})
            )"""


class _Fixed(NamedTuple):
    """A kind of cell of fixed size.

    Attributes:
        code: its format character in ``struct``.
        check: the expression that is true for a value of the usual classes.
        value: the expression that is packed for such a value.
    """

    code: str
    check: str
    value: str = "v{i}"


class _Variable(NamedTuple):
    """A kind of cell whose size depends on the value.

    Attributes:
        check: the expression that is true for a value of the usual classes.
        value: the expression that returns the cell of such a value.
    """

    check: str
    value: str


# A larger int may not be exact as a float; the encoder decides.
_NUMBER = "(type(v{i}) is float or type(v{i}) is int and -{most} <= v{i} <= {most})"
_TIME = "((v{i}.hour * 60 + v{i}.minute) * 60 + v{i}.second) * 1000000000 + v{i}.microsecond * 1000"
_UUID = "v{i}.int.to_bytes(16, 'big')"
_VARINT = "v{i}.to_bytes((v{i} if v{i} >= 0 else ~v{i}).bit_length() // 8 + 1, 'big', signed=True)"

FIXED = {
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


def kind_of(cql_type: CQLType) -> str:
    """Return a key of the tables above, or "" for types whose encoder writes all cells."""
    if not isinstance(cql_type, NativeType):
        return ""
    name = cql_type.name
    return name if name in FIXED or name in _VARIABLE else SCALARS[name].code


def width_of(kind: str) -> int:
    return Struct(f">{FIXED[kind].code}").size


class PackerSource:
    """The sources of both packers for a shape, and the formats of the structs that they use.

    Arguments:
        shape: the kinds of the markers.
        stamped: whether each frame gets a timestamp of its own.

    Attributes:
        formats: one per struct: cells of fixed size, up to the length of the next cell of variable
            size. The body before and behind the values is added to the first and the last.
        fixed: whether all cells are of fixed size.
    """

    def __init__(self, shape: Sequence[str], stamped: bool) -> None:
        self.shape = shape
        self._stamped = stamped
        self._last = ["after", "stamp()", "behind"] if stamped else ["after"]
        self.formats = [""]
        self.fixed = all(kind in FIXED for kind in shape)
        self._arguments = [["start", "stream_id"]]
        if not self.fixed:
            self._arguments[0] += ["opcode", "size"]
        self._arguments[0].append("before")
        for index, kind in enumerate(shape):
            if kind not in FIXED:
                self._arguments[-1].append(f"n{index}")
                self.formats[-1] += "i"
                self._arguments.append([])
                self.formats.append("")
                continue
            if index:  # the length of the first cell is a part of ``before``
                self._arguments[-1].append(str(width_of(kind)))
                self.formats[-1] += "i"
            self._arguments[-1].append(FIXED[kind].value.format(i=index))
            self.formats[-1] += FIXED[kind].code

    def usual(self) -> str:
        """Return the source of the function that makes the packer."""
        indexes = range(len(self.shape))
        names = [f"    encode{i} = encoders[{i}]" for i in indexes if self.shape[i] not in FIXED]
        pieces = []
        variable = [f"c{i}" for i in indexes if self.shape[i] not in FIXED]
        for n, (text, arguments) in enumerate(zip(self.formats, self._arguments, strict=True)):
            if n == len(variable):
                arguments = [*arguments, *self._last]
            if n and (text == "i" or not (text or self._stamped)):
                pieces.append(_length(arguments[0]) if text else "after")
            else:
                names.append(f"    pack{n} = packs[{n}]")
                pieces.append(f"pack{n}({', '.join(arguments)})")
            pieces += variable[n : n + 1]
        checks = [FIXED[kind].check.format(i=i) for i, kind in self._fixed_cells()]
        cells = "" if self.fixed else "\n            size = whole"
        for i, kind in enumerate(self.shape):
            cells += self._cell(i, kind)
        return _SOURCE.format(
            names="".join(f"{name}\n" for name in names),
            count=len(self.shape),
            targets=self._targets(),
            check=_CHECK.format(check="\n            and ".join(checks)) if checks else "",
            cells=cells,
            variable=tuple(i for i in indexes if self.shape[i] not in FIXED),
            frame=pieces[0] if len(pieces) == 1 else f"b''.join(({', '.join(pieces)}))",
        )

    def _cell(self, i: int, kind: str) -> str:
        """Return the lines that make a cell, if it is more than an argument of a struct."""
        if kind == "timestamp":
            return _SINCE.format(i=i)
        if kind in FIXED:
            return ""
        if kind not in _VARIABLE:
            return _ABSENT.format(i=i) + _OTHER.format(i=i)
        check, value = (text.format(i=i) for text in _VARIABLE[kind])
        absent = _ABSENT.replace(" if ", " elif ", 1).format(i=i)
        return _USUAL.format(i=i, check=check, value=value) + absent + _OTHER.format(i=i)

    def cell_by_cell(self) -> str:
        """Return the source of the function that makes the cell-by-cell packer."""
        names = [f"    write{i} = writers[{i}]" for i in range(len(self.shape))]
        cells = []
        for i, kind in enumerate(self.shape):
            usual = ""
            if kind in FIXED:
                names.append(f"    single{i} = singles[{i}]")
                fixed = FIXED[kind]
                check = "type(v{i}) is int" if kind == "timestamp" else fixed.check
                usual = f"single{{i}}({width_of(kind)}, {fixed.value}) if {check} else ".format(i=i)
            if kind == "timestamp":
                cells.append(_CELL_SINCE.format(i=i))
            cells.append(_ANY_CELL.format(i=i, usual=usual))
        made = [f"c{i}" for i in range(len(self.shape))]
        return _CELL_BY_CELL.format(
            names="".join(f"{name}\n" for name in names),
            targets=self._targets(),
            cells="".join(cells),
            variable=tuple(range(len(self.shape))),
            pieces=", ".join(["before", *made, self._whole_last()]),
        )

    def _whole_last(self) -> str:
        """Return the expression for the body behind the values, as one piece."""
        return f"last({', '.join(self._last)})" if self._stamped else "after"

    def _targets(self) -> str:
        return "".join(f"v{i}, " for i in range(len(self.shape))) or "() "

    def _fixed_cells(self) -> Iterator[tuple[int, str]]:
        return ((i, kind) for i, kind in enumerate(self.shape) if kind in FIXED)


def _length(name: str) -> str:
    return f"lengths[{name}] if {name} < 256 else pack_length({name})"


def packer_source(types: Sequence[CQLType], *, stamped: bool = False) -> str:
    """Return the sources of the functions that make both packers for markers of these types.

    Arguments:
        types: the types of the bind markers, in order.
        stamped: whether each frame gets a timestamp of its own.
    """
    made = PackerSource([kind_of(cql_type) for cql_type in types], stamped)
    return f"{made.usual()}\n\n{made.cell_by_cell()}"
