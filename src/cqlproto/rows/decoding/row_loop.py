"""The way through a page row by row, for rows whose size varies or that have nulls.

Neighbours are read together. What stands between two columns of variable size is a run: columns of
fixed size, their lengths before them, and the length of the next column that varies. One
``unpack_from`` reads the bytes of a short column and the run behind it; the run behind the last one
goes on to the next row's. A run in which a length isn't the usual is read again, cell by cell.

Reading may go past the last row, so the body has zeros put behind it; a position past its end at
the end shows that the body was too short.
"""

from __future__ import annotations

from itertools import pairwise
from struct import calcsize
from textwrap import indent
from typing import NamedTuple

from cqlproto.rows.decoding.shapes import (
    FORMATS,
    finished,
    is_fixed,
    read_names,
    targets,
    width_of,
    wrapped,
)

__all__ = ["SHORT", "RowPath"]

# Columns of variable size that are shorter are read together with the run behind them.
SHORT = 256


class Run(NamedTuple):
    """Columns of fixed size that stand next to each other, maybe none, and what follows them.

    Attributes:
        start: the first of them.
        stop: behind the last of them: the column of variable size, or the end of the row.
    """

    start: int
    stop: int


_LENGTH = """\
(n{i},) = length_at(body, p)
p += 4
"""

_CHECKED = """\
if {good_lengths}:
{good}else:
{bad}"""

_CHECKED_ONLY = """\
if {bad_lengths}:
{bad}"""

_VARIABLE = """\
if 0 <= n{i} < 256:
{read} = (short{i}[n{i}] or fill{i}(n{i}))(body, p)
    p += n{i}{plus}
{short}else:
    if n{i} < 0:
        v{i} = None
    else:
{long}        p += n{i}
{again} = run{i}(body, p)
{advance}"""


class RowPath:
    """The source of the row path of one shape, and what it needs.

    Arguments:
        shape: the kinds of the columns.

    Attributes:
        head: the format of the struct that reads the run that a row begins with.
        head_targets: the names of what this reads.
        behind: for each column of variable size, by index, the format of the run behind it.
        runs: the runs that are read again cell by cell if need be.
        names: the lines that name what the loop uses; see :mod:`cqlproto.rows.decoding.support`.
        before: the lines in front of the loop over the rows.
        loop: the lines in the loop, without what is made of a row.
    """

    def __init__(self, shape: str) -> None:
        self.shape = shape
        self.variable = [i for i, kind in enumerate(shape) if not is_fixed(kind)]
        self.behind: dict[int, str] = {}
        self.runs: list[Run] = []
        first = self.variable[0] if self.variable else len(shape)
        self._first = Run(0, first)
        self.head = f">{self._format(self._first)}"
        # The next row's head is read before this row is made, so it has names of its own.
        self._head_names = ("m", "h") if self.variable else ("n", "v")
        self.head_targets = self._targets(self._first)
        lines = [self._run(self._first)]
        for start, stop in pairwise([*self.variable, len(shape)]):
            lines.append(self._column(start, Run(start + 1, stop)))
        read = f"{targets(self.head_targets)} = head(body, p)\n"
        self.before = read if self.variable else ""
        self.loop = "".join(lines if self.variable else [read, *lines])
        self.names = self._names()

    def _names(self) -> str:
        """Return lines that take apart the arguments of the function around."""
        names = ['head = structs["head"]']
        names += [f"cell{i} = cells[{i}]" for i, kind in enumerate(self.shape) if kind == "."]
        names += [f"some{n} = some[{n}]" for n in range(len(self.runs))]
        for i in self.variable:
            names += [f"short{i}, fill{i} = short[{i}]", f"run{i} = structs[{i}]"]
        # Reading goes so far past the end of the last row.
        longest = max(map(calcsize, (self.head, *self.behind.values())))
        return "\n".join([*names, f"padding = bytes({longest})"]) + "\n"

    def _closed(self, run: Run) -> bool:
        """Whether the length of a column of variable size follows."""
        return run.stop < len(self.shape)

    def _targets(self, run: Run) -> list[str]:
        """Return the names of what a run is unpacked to: lengths and, but for nulls, values."""
        n, v = self._head_names if run.start == 0 else ("n", "v")
        names = []
        for i in range(run.start, run.stop):
            names += [f"{n}{i}", *read_names(self.shape[i], f"{v}{i}")]
        return [*names, f"{n}{run.stop}"] if self._closed(run) else names

    def _format(self, run: Run) -> str:
        cells = "".join(f"i{FORMATS[kind]}" for kind in self.shape[run.start : run.stop])
        return f"{cells}i" if self._closed(run) else cells

    def _run(self, run: Run) -> str:
        """The lines that check a run that was read, and finish its values.

        The position is that of the run if it is the head, and behind it otherwise.
        """
        size = calcsize(f">{self._format(run)}")
        is_head = run.start == 0
        n, v = self._head_names if is_head else ("n", "v")
        good = f"p += {size}\n" if is_head else ""
        for i in range(run.start, run.stop):
            good += finished(self.shape[i], i, f"{v}{i}")
        if n == "m":
            good += f"n{run.stop} = m{run.stop}\n"
        widths = [(f"{n}{i}", width_of(self.shape[i])) for i in range(run.start, run.stop)]
        if not widths:
            return good
        bad = "" if is_head else f"p -= {size}\n"
        values = [f"v{i}" for i in range(run.start, run.stop)]
        bad += f"{targets([*values, 'p'])} = some{len(self.runs)}(body, p)\n"
        self.runs.append(run)
        if self._closed(run):
            bad += _LENGTH.format(i=run.stop)
        elif self.variable:
            bad += f"{targets(self.head_targets)} = head(body, p)\n"
        return (_CHECKED if good else _CHECKED_ONLY).format(
            good_lengths=wrapped(" and ".join(f"{name} == {width}" for name, width in widths)),
            bad_lengths=wrapped(" or ".join(f"{name} != {width}" for name, width in widths)),
            good=indent(good, "    "),
            bad=indent(bad, "    "),
        )

    def _column(self, i: int, run: Run) -> str:
        """The lines for a column of variable size and the run behind it."""
        kind = self.shape[i]
        size = calcsize(f">{self._format(run)}")
        rest = self._targets(run)
        form = self._format(run)
        if not self._closed(run):
            rest += self.head_targets
            form += self.head[1:]
        self.behind[i] = f">{form}"
        long = finished(kind, i, f"body[p : p + n{i}]") or f"v{i} = body[p : p + n{i}]\n"
        column = _VARIABLE.format(
            i=i,
            read=indent(targets([f"v{i}", *rest]), " " * 4),
            plus=f" + {size}" if size else "",
            short=indent(finished(kind, i, f"v{i}"), "    "),
            long=indent(long, " " * 8),
            again=indent(targets(rest), " " * 4),
            advance=f"    p += {size}\n" if size else "",
        )
        return column + self._run(run)
