"""The generated loop over rows of variable size: it reads neighbouring columns together.

A *run* lies between two columns of variable size: it has columns of fixed size, each after its
length, and the length of the next column of variable size. One ``unpack_from`` reads a short cell
of variable size and the run after it; the run after the last such cell includes the head of the
next row. A run with an unexpected length, such as a null, is read again cell by cell.

Reading may go past the last row, so the body is padded with zeros. A position past the body's end,
after the loop, shows that the body was too short.
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

__all__ = ["SHORT", "RowLoop"]

# Cells of variable size that are shorter are read together with the run after them.
SHORT = 256


class Run(NamedTuple):
    """Adjacent columns of fixed size, maybe none, by index.

    Attributes:
        start: the first column.
        stop: one past the last column: a column of variable size, or the end of the row.
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


class RowLoop:
    """The source of the loop over the rows of one shape, and the formats that it reads by.

    Arguments:
        shape: the kinds of the columns.

    Attributes:
        head: the format of the struct that reads the first run of a row.
        head_targets: the names that this struct's values are assigned to.
        behind: for each column of variable size, by index, the format of the run after it.
        runs: the runs that may be read again, cell by cell.
        names: the lines that name what the loop uses; see :mod:`cqlproto.rows.decoding.support`.
        before: the lines before the loop over the rows.
        loop: the lines in the loop, except for the last, which makes the row.
    """

    def __init__(self, shape: str) -> None:
        self.shape = shape
        self.variable = [i for i, kind in enumerate(shape) if not is_fixed(kind)]
        self.behind: dict[int, str] = {}
        self.runs: list[Run] = []
        first = self.variable[0] if self.variable else len(shape)
        self._first = Run(0, first)
        self.head = f">{self._format(self._first)}"
        # The head of the next row is read before this row is made, so its names differ.
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
        """Return the lines that unpack the arguments of ``make_decoder``."""
        names = ['head = structs["head"]']
        names += [f"cell{i} = cells[{i}]" for i, kind in enumerate(self.shape) if kind == "."]
        names += [f"some{n} = some[{n}]" for n in range(len(self.runs))]
        for i in self.variable:
            names += [f"short{i}, fill{i} = short[{i}]", f"run{i} = structs[{i}]"]
        # The most bytes that are read past the end of the last row.
        longest = max(map(calcsize, (self.head, *self.behind.values())))
        return "\n".join([*names, f"padding = bytes({longest})"]) + "\n"

    def _closed(self, run: Run) -> bool:
        """Whether a column of variable size follows, whose length ends the run."""
        return run.stop < len(self.shape)

    def _targets(self, run: Run) -> list[str]:
        """Return the names that a run is unpacked to: lengths and, except for nulls, values."""
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
        """The lines for a column of variable size and the run after it."""
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
